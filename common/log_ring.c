/*
 * Purpose: see log_ring.h.
 * Thread:  one producer, one consumer.
 * Owns:    the ring.
 * Fails:   see log_ring.h.
 *
 * `head` counts the bytes ever pushed, `tail` those ever popped; both run freely and wrap with
 * size_t. Each side keeps the other's position as it last saw it and asks again only when that does
 * not suffice, so that while the ring is neither full nor empty no cache line travels for it.
 *
 *      data:  [ . . . . l i n e \n l i n e \n . . . ]
 *                       ^tail & mask          ^head & mask
 */
#include "common/log_ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct log_ring {
    size_t mask;
    _Alignas(CACHE_LINE) atomic_size_t head; /* the producer writes this line */
    size_t tail_seen;
    _Alignas(CACHE_LINE) atomic_size_t tail; /* and the consumer this one */
    _Alignas(CACHE_LINE) char data[];
};

struct log_ring *log_ring_new(size_t size)
{
    BUG_ON(size < CACHE_LINE || (size & (size - 1)) != 0);
    struct log_ring *ring = aligned_alloc(CACHE_LINE, sizeof(*ring) + size);
    if (!ring)
        return NULL;
    ring->mask = size - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->tail_seen = 0;
    return ring;
}

void log_ring_free(struct log_ring **ring)
{
    free(*ring);
    *ring = NULL;
}

static bool has_room(struct log_ring *ring, size_t head, size_t length)
{
    size_t size = ring->mask + 1;
    if (size - (head - ring->tail_seen) >= length)
        return true;
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return size - (head - ring->tail_seen) >= length;
}

bool log_ring_push(struct log_ring *ring, const char *line, size_t length)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (!has_room(ring, head, length))
        return false;
    size_t at = head & ring->mask;
    size_t first = MIN(length, ring->mask + 1 - at);
    memcpy(ring->data + at, line, first);
    memcpy(ring->data, line + first, length - first);
    atomic_store(&ring->head, head + length);
    return true;
}

bool log_ring_empty(const struct log_ring *ring)
{
    return atomic_load(&ring->head) == atomic_load_explicit(&ring->tail, memory_order_acquire);
}

size_t log_ring_pop(struct log_ring *ring, char *out, size_t room)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t there = atomic_load_explicit(&ring->head, memory_order_acquire) - tail;
    size_t taken = MIN(there, room);
    size_t at = tail & ring->mask;
    size_t first = MIN(taken, ring->mask + 1 - at);
    memcpy(out, ring->data + at, first);
    memcpy(out + first, ring->data, taken - first);
    if (taken < there) {
        const char *last = memrchr(out, '\n', taken);
        taken = last ? (size_t)(last + 1 - out) : 0;
    }
    atomic_store_explicit(&ring->tail, tail + taken, memory_order_release);
    return taken;
}

uint64_t log_ring_discard(struct log_ring *ring)
{
    char lines[1 << 12];
    uint64_t count = 0;
    for (size_t n = log_ring_pop(ring, lines, sizeof(lines)); n > 0;
         n = log_ring_pop(ring, lines, sizeof(lines)))
        count += log_lines_in(lines, n);
    return count;
}

uint64_t log_lines_in(const char *bytes, size_t length)
{
    uint64_t count = 0;
    const char *end = bytes + length;
    for (const char *at = bytes; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        count++;
    return count;
}
