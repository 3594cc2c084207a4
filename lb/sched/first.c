/*
 * Purpose: the kind "first": fill one server before the next, or keep the next for emergencies.
 * Thread:  see kind.h.
 * Owns:    nothing.
 * Fails:   never.
 *
 * The order is the promise, so the servers that are passed over (full, suspect, tried) are looked
 * at each time: a pick costs as many looks as there are such servers at the front.
 */
#include "lb/sched/kind.h"

static uint32_t first_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                           const struct sched_tried *tried)
{
    (void)cursor;
    (void)key;
    return sched_scan(sched, 0, tried);
}

const struct sched_ops sched_first = {
    .size = sizeof(struct sched),
    .cursor_size = sizeof(struct sched_cursor),
    .pick = first_pick,
};
