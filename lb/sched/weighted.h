/*
 * Purpose: a random candidate by weight: the candidates lie on a circle of 2^64 points, each on an
 *          arc as long as its weight.
 * Thread:  init, deinit: control. The rest any: it is const.
 * Owns:    its arrays.
 * Fails:   weighted_init returns -ENOMEM.
 *
 * Private to lb/sched.
 */
#pragma once

#include "lb/sched/kind.h"

struct weighted {
    uint32_t count;
    uint64_t total;  /* of the weights */
    uint64_t *end;   /* the sum of the weights up to and with each candidate */
    uint32_t *guide; /* whose arc each count-th part of the circle begins on, and the last one */
};

must_check int weighted_init(struct weighted *weighted, const struct sched *sched);
/* Also after a failed weighted_init, and for a zeroed struct. */
void weighted_deinit(struct weighted *weighted);

/* The position of the candidate whose arc `point` lies on; there is at least one candidate. */
uint32_t weighted_at(const struct weighted *weighted, uint64_t point);

/* Two points that are this far apart, both ways round, are not on one arc. At most half the circle.
 */
uint64_t weighted_gap(const struct weighted *weighted);

/* Uniform in [0, bound) for a uniform `random` (biased by bound / 2^64 at most). */
static inline uint64_t weighted_scale(uint64_t random, uint64_t bound)
{
    return (uint64_t)((unsigned __int128)random * bound >> 64);
}
