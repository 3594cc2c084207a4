/*
 * Purpose: the heap of heap.h (Williams 1964).
 * Thread:  the owner's.
 * Owns:    its arrays.
 * Fails:   see heap.h.
 *
 * A node that moves is held in hand while the others shift by one place, and is put down once.
 */
#include "lb/sched/heap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

int heap_init(struct heap *heap, uint32_t count)
{
    *heap = (struct heap){
        .count = count,
        .node = calloc(MAX(count, 1u), sizeof(*heap->node)),
        .slot = calloc(MAX(count, 1u), sizeof(*heap->slot)),
    };
    if (heap->node == NULL || heap->slot == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        heap->node[i].item = i;
        heap->slot[i] = i;
    }
    return 0;
}

void heap_deinit(struct heap *heap)
{
    free(heap->node);
    free(heap->slot);
    *heap = (struct heap){0};
}

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key == b->key ? a->set < b->set : (int64_t)(a->key - b->key) < 0;
}

static void put(struct heap *heap, uint32_t slot, struct heap_node node)
{
    heap->node[slot] = node;
    heap->slot[node.item] = slot;
}

/* The place for `node`, whose own is `slot`, towards the top. */
static uint32_t rise(struct heap *heap, uint32_t slot, struct heap_node node)
{
    while (slot > 0) {
        uint32_t parent = (slot - 1) / 2;
        if (!before(&node, &heap->node[parent]))
            break;
        put(heap, slot, heap->node[parent]);
        slot = parent;
    }
    return slot;
}

/* The same away from the top. */
static uint32_t sink(struct heap *heap, uint32_t slot, struct heap_node node)
{
    for (;;) {
        size_t child = (size_t)slot * 2 + 1;
        if (child >= heap->count)
            return slot;
        if (child + 1 < heap->count && before(&heap->node[child + 1], &heap->node[child]))
            child++;
        if (!before(&heap->node[child], &node))
            return slot;
        put(heap, slot, heap->node[child]);
        slot = (uint32_t)child;
    }
}

void heap_set(struct heap *heap, uint32_t item, uint64_t key)
{
    struct heap_node node = {.key = key, .set = ++heap->sets, .item = item};
    uint32_t slot = heap->slot[item];
    bool less = before(&node, &heap->node[slot]);
    put(heap, less ? rise(heap, slot, node) : sink(heap, slot, node), node);
}
