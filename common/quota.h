/*
 * Purpose: a number of places that several threads take and give back.
 * Thread:  any.
 * Owns:    nothing: a quota is an atomic count, embedded.
 * Fails:   quota_take returns false when all are taken.
 *
 * While a thread finds that all are taken the count is too high for a moment: a place may be
 * refused that becomes free just then, but never are more taken than there are.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One place more, unless `limit` of them are taken. */
must_check static inline bool quota_take(_Atomic uint32_t *count, uint32_t limit)
{
    if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) < limit)
        return true;
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return false;
}

/* By a look: a moment later it may be otherwise. */
static inline bool quota_is_used_up(const _Atomic uint32_t *count, uint32_t limit)
{
    return atomic_load_explicit(count, memory_order_relaxed) >= limit;
}

static inline void quota_give(_Atomic uint32_t *count)
{
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
}
