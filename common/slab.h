/*
 * Purpose: objects of one size, found by a number that stops working when its object is put back.
 * Thread:  the thread that owns the slab.
 * Owns:    the memory of all objects; chunks are kept until deinit.
 * Fails:   slab_take returns NULL at the limit or without memory.
 *
 * Every object begins with a struct slab_node. (index, generation) names one life of one object:
 * epoll events, messages and records carry that pair and look the object up, so none of them can
 * reach an object that has ended or a later one in the same place.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

struct slab_node {
    uint32_t index;
    uint32_t generation; /* 24 bits, never 0; odd while the object is taken */
};

#define SLAB_GENERATION_MASK 0xffffffu

struct slab {
    char **chunk;
    size_t chunk_count;
    size_t object_size;
    uint32_t limit;
    uint32_t used;
    uint32_t span;       /* every taken object's index is below this */
    uint32_t free_first; /* index of the first free object, UINT32_MAX when none */
};

/* object_size includes the node and is rounded up to 64 bytes; at most `limit` objects at once. */
void slab_init(struct slab *slab, size_t object_size, uint32_t limit);

/* BUG when an object is still taken. */
void slab_deinit(struct slab *slab);

/* The object is zeroed behind its node. */
must_check void *slab_take(struct slab *slab);
void slab_put(struct slab *slab, void *object);

/* NULL unless that very life of the object is still going on. */
void *slab_find(const struct slab *slab, uint32_t index, uint32_t generation);

/* The live object at an index, or NULL: for walking `0 <= index < span` in slices. */
void *slab_at(const struct slab *slab, uint32_t index);
