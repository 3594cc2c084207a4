/*
 * Purpose: the slab of slab.h.
 * Thread:  the owner's.
 * Owns:    the chunks.
 * Fails:   see slab.h.
 *
 * Chunks never move, so pointers to taken objects hold. The free list is last-in first-out, for a
 * warm cache, and runs through the nodes: while an object is free, its node's index names the next
 * free one. So all that lies behind the node of a free object is untouched, and with
 * AddressSanitizer it is poisoned: using an object after slab_put is told like a use after free(3).
 */
#include "common/slab.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_OBJECTS 128u
#define NONE UINT32_MAX
#define FIRST_GENERATION 2u

static bool is_taken(const struct slab_node *node)
{
    return (node->generation & 1) != 0;
}

static struct slab_node *node_at(const struct slab *slab, uint32_t index)
{
    char *chunk = slab->chunk[index / CHUNK_OBJECTS];
    return (struct slab_node *)(void *)(chunk + index % CHUNK_OBJECTS * slab->object_size);
}

void slab_init(struct slab *slab, size_t object_size, uint32_t limit)
{
    BUG_ON(object_size < sizeof(struct slab_node));
    *slab = (struct slab){
        .object_size = (object_size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE,
        .limit = limit,
        .free_first = NONE,
    };
}

void slab_deinit(struct slab *slab)
{
    BUG_ON(slab->used > 0);
    for (size_t i = 0; i < slab->chunk_count; i++) {
        ASAN_UNPOISON_MEMORY_REGION(slab->chunk[i], CHUNK_OBJECTS * slab->object_size);
        free(slab->chunk[i]);
    }
    free(slab->chunk);
    *slab = (struct slab){.free_first = NONE};
}

static bool add_chunk(struct slab *slab)
{
    char **table = realloc(slab->chunk, (slab->chunk_count + 1) * sizeof(*table));
    if (table == NULL)
        return false;
    slab->chunk = table;

    size_t size = CHUNK_OBJECTS * slab->object_size;
    char *chunk = aligned_alloc(CACHE_LINE, size);
    if (chunk == NULL)
        return false;
    ASAN_POISON_MEMORY_REGION(chunk, size);
    slab->chunk[slab->chunk_count++] = chunk;
    return true;
}

/* Makes the object at `span`, free and on no list; NULL at the limit or without memory. */
static struct slab_node *add_object(struct slab *slab)
{
    if (slab->span == slab->limit)
        return NULL;
    if (slab->span == slab->chunk_count * CHUNK_OBJECTS && !add_chunk(slab))
        return NULL;
    struct slab_node *node = node_at(slab, slab->span);
    ASAN_UNPOISON_MEMORY_REGION(node, sizeof(*node));
    *node = (struct slab_node){.index = slab->span++, .generation = FIRST_GENERATION};
    return node;
}

/* Takes the first object off the free list; there must be one. */
static struct slab_node *reuse_object(struct slab *slab)
{
    uint32_t index = slab->free_first;
    struct slab_node *node = node_at(slab, index);
    slab->free_first = node->index;
    node->index = index;
    return node;
}

void *slab_take(struct slab *slab)
{
    struct slab_node *node = slab->free_first == NONE ? add_object(slab) : reuse_object(slab);
    if (node == NULL)
        return NULL;
    node->generation++; /* even to odd, which cannot leave 24 bits */
    slab->used++;
    ASAN_UNPOISON_MEMORY_REGION(node, slab->object_size);
    memset(node + 1, 0, slab->object_size - sizeof(*node));
    return node;
}

void slab_put(struct slab *slab, void *object)
{
    struct slab_node *node = object;
    BUG_ON(!is_taken(node) || node->index >= slab->span || node_at(slab, node->index) != node);

    uint32_t index = node->index;
    node->index = slab->free_first;
    slab->free_first = index;
    node->generation = (node->generation + 1) & SLAB_GENERATION_MASK;
    if (node->generation == 0)
        node->generation = FIRST_GENERATION;
    slab->used--;
    ASAN_POISON_MEMORY_REGION(node + 1, slab->object_size - sizeof(*node));
}

void *slab_find(const struct slab *slab, uint32_t index, uint32_t generation)
{
    struct slab_node *node = slab_at(slab, index);
    return node != NULL && node->generation == generation ? node : NULL;
}

void *slab_at(const struct slab *slab, uint32_t index)
{
    if (index >= slab->span)
        return NULL;
    struct slab_node *node = node_at(slab, index);
    return is_taken(node) ? node : NULL;
}
