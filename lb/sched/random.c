/*
 * Purpose: the kind "random": each pick by weight alone, for pools without state worth looking at.
 * Thread:  see kind.h.
 * Owns:    the circle of weights.
 * Fails:   build without memory.
 */
#include "lb/sched/weighted.h"

struct random_kind {
    struct sched sched;
    struct weighted weighted;
};

static const struct random_kind *kind_of(const struct sched *sched)
{
    return container_of(sched, const struct random_kind, sched);
}

static int random_build(struct sched *sched, const struct sched_member *members, uint32_t count,
                        const struct sched *before)
{
    (void)members;
    (void)count;
    (void)before;
    return weighted_init(&container_of(sched, struct random_kind, sched)->weighted, sched);
}

static void random_destroy(struct sched *sched)
{
    weighted_deinit(&container_of(sched, struct random_kind, sched)->weighted);
}

static uint32_t random_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                            const struct sched_tried *tried)
{
    (void)key;
    uint32_t position = 0;
    for (unsigned i = 0; i < SCHED_TRIES; i++) {
        position = weighted_at(&kind_of(sched)->weighted, random_next(&cursor->random));
        if (sched_judge(&sched->candidate[position], tried) == SCHED_YES)
            return position;
    }
    /* From the last draw on: where all are suspect, that draw stands and the weights hold. */
    return sched_scan(sched, position, tried);
}

const struct sched_ops sched_random = {
    .size = sizeof(struct random_kind),
    .cursor_size = sizeof(struct sched_cursor),
    .build = random_build,
    .destroy = random_destroy,
    .pick = random_pick,
};
