/*
 * Purpose: items 0 … count-1 with a key each, the least on top; any key can be changed. Among equal
 *          keys the one that was set first is on top.
 * Thread:  the owner's.
 * Owns:    its arrays.
 * Fails:   heap_init returns -ENOMEM.
 *
 * Private to lb/sched. Keys are compared like serial numbers (RFC 1982): they may run past 2^64 and
 * begin anew, as long as any two of them are less than 2^63 apart.
 */
#pragma once

#include "common/base.h"

#include <stdint.h>

struct heap {
    uint32_t count;
    uint64_t sets; /* heap_set calls so far */
    struct heap_node {
        uint64_t key;
        uint64_t set; /* the number of the call that made the key */
        uint32_t item;
    } * node;       /* a binary heap: the children of n are 2n+1 and 2n+2 */
    uint32_t *slot; /* where each item's node is */
};

/* All keys are 0 at first. */
must_check int heap_init(struct heap *heap, uint32_t count);
/* Also after a failed heap_init, and for a zeroed struct. */
void heap_deinit(struct heap *heap);

void heap_set(struct heap *heap, uint32_t item, uint64_t key);

static inline uint64_t heap_key(const struct heap *heap, uint32_t item)
{
    return heap->node[heap->slot[item]].key;
}

/* The item with the least key; count > 0. */
static inline uint32_t heap_top(const struct heap *heap)
{
    return heap->node[0].item;
}

static inline uint64_t heap_top_key(const struct heap *heap)
{
    return heap->node[0].key;
}
