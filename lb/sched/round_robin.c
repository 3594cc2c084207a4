/*
 * Purpose: the kind "round-robin": each server in turn, as often as its weight says, evenly spread.
 * Thread:  see kind.h.
 * Owns:    the turns; a cursor owns its heap and what it must know to be continued.
 * Fails:   build and begin without memory.
 *
 * Stride scheduling (Waldspurger and Weihl 1995). In an imagined time a server of weight w has a
 * turn every SPAN / w, and who is due first is next: a heap by due time in each cursor. Nobody is
 * due later than a stride from now (its own or the mean one, whichever is longer), and who cannot
 * be picked is left behind for a round or two at most, so the time may wrap.
 *
 *      weights 5, 1, 1    a . a . . a . a . . a . .    so the picks are a a b a a c a
 *                         . . . b . . . . . c . . .
 *
 * Where in its stride a server begins, its phase, makes the picks smooth: servers of one weight
 * share out the stride among them in order, and different weights are shifted against each other by
 * the golden ratio, so that no two groups keep falling together.
 */
#include "lb/sched/heap.h"
#include "lb/sched/kind.h"

#include <errno.h>
#include <stdlib.h>

/* The time in which a server of weight 1 has one turn. */
#define SPAN (UINT64_C(1) << 48)

/* A candidate's part in the rotation. */
struct turn {
    uint32_t id;
    uint32_t weight;
    uint64_t stride;
    uint64_t phase; /* below the stride */
};

struct round_robin {
    struct sched sched;
    uint64_t mean_stride;
    struct turn *turn; /* by position */
    uint32_t *by_id;   /* positions in the order of ids, so that two cursors can be merged */
};

struct round_robin_cursor {
    struct sched_cursor cursor;
    struct heap due; /* items are positions */
    uint64_t now;    /* when the server that was picked last had been due */
    /* What the cursor that continues this one must know when the scheduler is gone; by id. */
    struct known {
        uint32_t id;
        uint32_t weight;
        uint32_t position;
    } * known;
};

static const struct round_robin *round_robin_of(const struct sched *sched)
{
    return container_of(sched, const struct round_robin, sched);
}

/* ---- the turns ---- */

static int compare_weight(const void *a, const void *b, void *turns)
{
    const struct turn *turn = turns;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (turn[x].weight != turn[y].weight)
        return turn[x].weight > turn[y].weight ? -1 : 1;
    return x < y ? -1 : 1;
}

static int compare_id(const void *a, const void *b, void *turns)
{
    const struct turn *turn = turns;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return turn[x].id < turn[y].id ? -1 : 1;
}

/* Shares out a stride among the `count` positions of the `group`-th weight. */
static void set_phases(struct turn *turn, const uint32_t *positions, uint32_t count, uint32_t group)
{
    const uint32_t golden = 0x9e37; /* of 2^16 */
    uint64_t part = turn[positions[0]].stride / count;
    uint64_t shift = (part >> 16) * (group * golden & 0xffff);
    for (uint32_t i = 0; i < count; i++)
        turn[positions[i]].phase = i * part + shift;
}

/* Leaves `order`, which holds all positions, sorted by weight. */
static void spread(struct turn *turn, uint32_t *order, uint32_t count)
{
    qsort_r(order, count, sizeof(*order), compare_weight, turn);
    uint32_t group = 0;
    for (uint32_t begin = 0, end; begin < count; begin = end, group++) {
        end = begin + 1;
        while (end < count && turn[order[end]].weight == turn[order[begin]].weight)
            end++;
        set_phases(turn, &order[begin], end - begin, group);
    }
}

static int round_robin_build(struct sched *sched, const struct sched_member *members,
                             uint32_t count, const struct sched *before)
{
    (void)members;
    (void)count;
    (void)before;
    struct round_robin *robin = container_of(sched, struct round_robin, sched);
    robin->turn = calloc(MAX(sched->count, 1u), sizeof(*robin->turn));
    robin->by_id = calloc(MAX(sched->count, 1u), sizeof(*robin->by_id));
    if (robin->turn == NULL || robin->by_id == NULL)
        return -ENOMEM;

    uint64_t total = 0;
    for (uint32_t i = 0; i < sched->count; i++) {
        uint32_t weight = sched->candidate[i].weight;
        robin->turn[i] =
            (struct turn){.id = sched->candidate[i].id, .weight = weight, .stride = SPAN / weight};
        robin->by_id[i] = i;
        total += weight;
    }
    robin->mean_stride = sched->count == 0 ? 0 : SPAN / (total / sched->count);
    spread(robin->turn, robin->by_id, sched->count);
    qsort_r(robin->by_id, sched->count, sizeof(*robin->by_id), compare_id, robin->turn);
    return 0;
}

static void round_robin_destroy(struct sched *sched)
{
    struct round_robin *robin = container_of(sched, struct round_robin, sched);
    free(robin->turn);
    free(robin->by_id);
}

/* ---- cursors ---- */

/* Times are compared like the heap's keys. */
static bool is_past(uint64_t time, uint64_t now)
{
    return (int64_t)(time - now) < 0;
}

/* Turns that were missed are not made up for. */
static uint64_t due_from_now(const struct round_robin_cursor *cursor, uint32_t position)
{
    uint64_t due = heap_key(&cursor->due, position);
    return is_past(due, cursor->now) ? cursor->now : due;
}

/* How far off a turn is now that was `distance` off then: the same part of its stride. */
static uint64_t rescale(uint64_t distance, uint32_t old_weight, uint32_t weight)
{
    return MIN(distance, SPAN / old_weight) * old_weight / weight;
}

/* Who is not in `before` keeps the phase that begin gave it. */
static void carry_on(struct round_robin_cursor *cursor, const struct round_robin *robin,
                     const struct round_robin_cursor *before)
{
    uint32_t count = robin->sched.count, old_count = before->due.count;
    for (uint32_t i = 0, k = 0; i < count && k < old_count;) {
        const struct turn *turn = &robin->turn[robin->by_id[i]];
        const struct known *known = &before->known[k];
        if (known->id == turn->id) {
            uint64_t distance = due_from_now(before, known->position) - before->now;
            heap_set(&cursor->due, robin->by_id[i], rescale(distance, known->weight, turn->weight));
        }
        i += turn->id <= known->id;
        k += known->id <= turn->id;
    }
}

/* As if all had begun at their phases, some time ago. */
static void start(struct round_robin_cursor *cursor, const struct round_robin *robin)
{
    uint64_t ago = random_next(&cursor->cursor.random) % SPAN;
    for (uint32_t i = 0; i < robin->sched.count; i++) {
        const struct turn *turn = &robin->turn[i];
        heap_set(&cursor->due, i, (turn->phase + SPAN - ago) % turn->stride);
    }
}

static int round_robin_begin(struct sched_cursor *base, const struct sched_cursor *before)
{
    struct round_robin_cursor *cursor = container_of(base, struct round_robin_cursor, cursor);
    const struct round_robin *robin = round_robin_of(base->sched);
    uint32_t count = robin->sched.count;

    cursor->known = calloc(MAX(count, 1u), sizeof(*cursor->known));
    if (cursor->known == NULL || heap_init(&cursor->due, count) != 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t position = robin->by_id[i];
        const struct turn *turn = &robin->turn[position];
        cursor->known[i] = (struct known){turn->id, turn->weight, position};
    }
    start(cursor, robin);
    if (before != NULL)
        carry_on(cursor, robin, container_of(before, const struct round_robin_cursor, cursor));
    return 0;
}

static void round_robin_end(struct sched_cursor *base)
{
    struct round_robin_cursor *cursor = container_of(base, struct round_robin_cursor, cursor);
    heap_deinit(&cursor->due);
    free(cursor->known);
}

/* ---- picks ---- */

/* The turns that were passed over in one pick. */
struct passed {
    uint32_t count;
    uint32_t position[SCHED_TRIES];
    uint64_t due[SCHED_TRIES];
};

static void take_turn(struct round_robin_cursor *cursor, const struct turn *turn, uint32_t position)
{
    cursor->now = due_from_now(cursor, position);
    heap_set(&cursor->due, position, cursor->now + turn[position].stride);
}

/*
 * The server on top loses its turn. It comes again after a mean stride at the earliest: a heavy one
 * would else be on top again at once, many times over.
 */
static void pass_over(struct passed *passed, struct round_robin_cursor *cursor,
                      const struct round_robin *robin)
{
    uint32_t top = heap_top(&cursor->due);
    passed->position[passed->count] = top;
    passed->due[passed->count++] = heap_top_key(&cursor->due);
    heap_set(&cursor->due, top,
             due_from_now(cursor, top) + MAX(robin->turn[top].stride, robin->mean_stride));
}

static void give_back(const struct passed *passed, struct heap *due)
{
    for (uint32_t i = passed->count; i > 0; i--)
        heap_set(due, passed->position[i - 1], passed->due[i - 1]);
}

/* Who is due first of those that are judged so, or SCHED_NONE. */
static uint32_t earliest(const struct sched *sched, const struct heap *due,
                         const struct sched_tried *tried, enum sched_verdict verdict)
{
    uint32_t found = SCHED_NONE;
    for (uint32_t i = 0; i < sched->count; i++) {
        if (sched_judge(&sched->candidate[i], tried) != verdict)
            continue;
        if (found == SCHED_NONE || is_past(heap_key(due, i), heap_key(due, found)))
            found = i;
    }
    return found;
}

/* When nothing but suspect servers is left, they have their turns as ever: none may be lost. */
static uint32_t search(const struct sched *sched, struct heap *due, const struct passed *passed,
                       const struct sched_tried *tried)
{
    uint32_t found = earliest(sched, due, tried, SCHED_YES);
    if (found != SCHED_NONE)
        return found;
    give_back(passed, due);
    return earliest(sched, due, tried, SCHED_DOUBT);
}

static uint32_t round_robin_pick(const struct sched *sched, struct sched_cursor *base, uint64_t key,
                                 const struct sched_tried *tried)
{
    (void)key;
    const struct round_robin *robin = round_robin_of(sched);
    struct round_robin_cursor *cursor = container_of(base, struct round_robin_cursor, cursor);
    struct passed passed = {.count = 0};
    uint32_t found = heap_top(&cursor->due);
    while (sched_judge(&sched->candidate[found], tried) != SCHED_YES) {
        pass_over(&passed, cursor, robin);
        if (passed.count == MIN(sched->count, SCHED_TRIES)) {
            found = search(sched, &cursor->due, &passed, tried);
            break;
        }
        found = heap_top(&cursor->due);
    }
    if (found != SCHED_NONE)
        take_turn(cursor, robin->turn, found);
    return found;
}

const struct sched_ops sched_round_robin = {
    .size = sizeof(struct round_robin),
    .cursor_size = sizeof(struct round_robin_cursor),
    .build = round_robin_build,
    .destroy = round_robin_destroy,
    .begin = round_robin_begin,
    .end = round_robin_end,
    .pick = round_robin_pick,
};
