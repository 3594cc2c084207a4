/*
 * Purpose: what the two halves of lb/ports make for each other.
 * Thread:  any.
 * Owns:    see ports.h.
 * Fails:   never.
 */
#pragma once

#include "lb/ports/ports.h"

static inline uint32_t ports_figure(const _Atomic uint32_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

void ports_tally_put(struct ports_tally *tally);
