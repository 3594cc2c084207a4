/*
 * Purpose: the circle of weighted.h.
 * Thread:  see weighted.h.
 * Owns:    its arrays.
 * Fails:   see weighted.h.
 *
 * The circle is cut into as many equal parts as there are candidates, and a guide says where the
 * search for a point of each part begins (Chen and Asau 1974): two steps on average whatever the
 * weights, and the bisection keeps the worst case at log n.
 */
#include "lb/sched/weighted.h"

#include <errno.h>
#include <stdlib.h>

#define HALF_CIRCLE (UINT64_C(1) << 63)

/* The first point of part `index` of `count`. */
static uint64_t part_begin(uint32_t index, uint32_t count)
{
    return (uint64_t)((((unsigned __int128)index << 64) + count - 1) / count);
}

static void make_guide(struct weighted *weighted)
{
    uint32_t position = 0;
    for (uint32_t i = 0; i < weighted->count; i++) {
        uint64_t sum = weighted_scale(part_begin(i, weighted->count), weighted->total);
        while (weighted->end[position] <= sum)
            position++;
        weighted->guide[i] = position;
    }
    weighted->guide[weighted->count] = weighted->count > 0 ? weighted->count - 1 : 0;
}

int weighted_init(struct weighted *weighted, const struct sched *sched)
{
    *weighted = (struct weighted){
        .count = sched->count,
        .end = calloc(MAX(sched->count, 1u), sizeof(*weighted->end)),
        .guide = calloc((size_t)sched->count + 1, sizeof(*weighted->guide)),
    };
    if (weighted->end == NULL || weighted->guide == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < sched->count; i++) {
        weighted->total += sched->candidate[i].weight;
        weighted->end[i] = weighted->total;
    }
    make_guide(weighted);
    return 0;
}

void weighted_deinit(struct weighted *weighted)
{
    free(weighted->end);
    free(weighted->guide);
    *weighted = (struct weighted){0};
}

uint32_t weighted_at(const struct weighted *weighted, uint64_t point)
{
    uint64_t sum = weighted_scale(point, weighted->total);
    uint64_t part = weighted_scale(point, weighted->count);
    uint32_t low = weighted->guide[part];
    uint32_t high = weighted->guide[part + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (weighted->end[middle] <= sum)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t weighted_gap(const struct weighted *weighted)
{
    uint64_t heaviest = 0;
    for (uint32_t i = 0; i < weighted->count; i++) {
        uint64_t begin = i == 0 ? 0 : weighted->end[i - 1];
        heaviest = MAX(heaviest, weighted->end[i] - begin);
    }
    if (heaviest >= weighted->total - heaviest)
        return HALF_CIRCLE;
    unsigned __int128 points = (unsigned __int128)heaviest << 64;
    return (uint64_t)((points + weighted->total - 1) / weighted->total);
}
