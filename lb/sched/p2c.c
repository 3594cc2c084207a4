/*
 * Purpose: the kind "p2c": the less loaded of two random choices (Mitzenmacher 2001). Workers that
 *          know little of one another do not all run to the same server, as with the least of all.
 * Thread:  see kind.h.
 * Owns:    the circle of weights.
 * Fails:   build without memory.
 *
 * How it keeps to the weights. The choices are two points of the circle of weights: the first
 * anywhere, the second at a random distance, at least as far as no server's arc reaches. So each
 * choice alone is by weight, the two are never one server (unless it has more than half of the
 * weight), and either order of a pair is equally likely: while loads are equal the first choice
 * stands and the shares are the weights.
 *
 * "Equal" needs care. To compare (load + 1) / weight gives an idle pool to its heaviest server
 * alone, and load / weight gives the lighter ones too much. So think of a server of weight 3 beside
 * one of weight 1 as three slots beside one, its sessions laid evenly on the slots: a choice is a
 * choice of slots, and the load of one slot is a third of the server's, rounded up or down at
 * random in proportion. Then nothing sets slots apart, and shares stay with the weights at any load
 * (docs/schedulers.md has the measurements).
 */
#include "lb/sched/weighted.h"

/* Pairs to draw before all servers are looked at. */
#define PAIRS (SCHED_TRIES / 2)

struct p2c {
    struct sched sched;
    struct weighted weighted;
    uint64_t gap;  /* the least distance of the two points */
    uint64_t span; /* how much more it may be: to as much on the other side */
};

static const struct p2c *p2c_of(const struct sched *sched)
{
    return container_of(sched, const struct p2c, sched);
}

static int p2c_build(struct sched *sched, const struct sched_member *members, uint32_t count,
                     const struct sched *before)
{
    (void)members;
    (void)count;
    (void)before;
    struct p2c *p2c = container_of(sched, struct p2c, sched);
    int error = weighted_init(&p2c->weighted, sched);
    if (error == 0 && sched->count > 0) {
        p2c->gap = weighted_gap(&p2c->weighted);
        p2c->span = UINT64_C(0) - 2 * p2c->gap; /* of 2^64 */
    }
    return error;
}

static void p2c_destroy(struct sched *sched)
{
    weighted_deinit(&container_of(sched, struct p2c, sched)->weighted);
}

/* The sessions on one of a server's slots, when `unit` is the weight of a slot. */
static uint64_t slot_load(const struct sched_candidate *candidate, uint32_t unit,
                          struct random_state *random)
{
    uint64_t product = (uint64_t)sched_load(candidate) * unit;
    uint64_t load = product / candidate->weight;
    uint64_t rest = product % candidate->weight;
    if (rest > 0 && weighted_scale(random_next(random), candidate->weight) < rest)
        load++;
    return load;
}

static bool is_busier(const struct sched_candidate *first, const struct sched_candidate *second,
                      struct random_state *random)
{
    uint32_t unit = MIN(first->weight, second->weight);
    return slot_load(first, unit, random) > slot_load(second, unit, random);
}

/* The one of two positions to pick, or SCHED_NONE when neither is to be had without a doubt. */
static uint32_t choose(const struct sched *sched, uint32_t first, uint32_t second,
                       struct random_state *random, const struct sched_tried *tried)
{
    const struct sched_candidate *candidate = sched->candidate;
    bool second_may = sched_judge(&candidate[second], tried) == SCHED_YES;
    if (sched_judge(&candidate[first], tried) != SCHED_YES)
        return second_may ? second : SCHED_NONE;
    if (second_may && is_busier(&candidate[first], &candidate[second], random))
        return second;
    return first;
}

static uint32_t p2c_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                         const struct sched_tried *tried)
{
    (void)key;
    const struct p2c *p2c = p2c_of(sched);
    uint32_t first = 0;
    for (unsigned i = 0; i < PAIRS; i++) {
        uint64_t point = random_next(&cursor->random);
        uint64_t distance = p2c->gap + weighted_scale(random_next(&cursor->random), p2c->span);
        first = weighted_at(&p2c->weighted, point);
        uint32_t second = weighted_at(&p2c->weighted, point + distance);
        uint32_t choice = choose(sched, first, second, &cursor->random, tried);
        if (choice != SCHED_NONE)
            return choice;
    }
    return sched_scan(sched, first, tried);
}

const struct sched_ops sched_p2c = {
    .size = sizeof(struct p2c),
    .cursor_size = sizeof(struct sched_cursor),
    .build = p2c_build,
    .destroy = p2c_destroy,
    .pick = p2c_pick,
};
