/*
 * Purpose: the kind "least-connections": the server with the least (load + 1) / weight.
 * Thread:  see kind.h.
 * Owns:    a cursor owns its heap.
 * Fails:   begin without memory.
 *
 * Up to SCAN servers all are looked at, and those that are level take turns. Above, each cursor has
 * a heap of what the loads were when last read. Loads change behind its back, so
 *  - one that seems least is read again, and is picked only if it still is. This mends loads that
 * have risen;
 *  - each pick reads a few others too, one after the other through the pool. This finds those that
 * have fallen, before long. docs/schedulers.md says how far from the true least that is.
 */
#include "lb/sched/heap.h"
#include "lb/sched/kind.h"

#include <errno.h>

#define SCAN 64u
#define REFRESH 32u

/* The key of a server that is full or suspect. */
#define PARKED ((uint64_t)INT64_MAX)

struct least_connections_cursor {
    struct sched_cursor cursor;
    uint32_t next;    /* where the scan begins; which one is read anew next */
    struct heap heap; /* items are positions; empty for a pool that is scanned */
};

static uint32_t after(const struct sched *sched, uint32_t position)
{
    return position + 1 == sched->count ? 0 : position + 1;
}

/* ---- by scan ---- */

/* A load of 2^32 - 1 and a weight of 2^32 - 1 still make a product below 2^64. */
static bool is_less(const struct sched_candidate *a, const struct sched_candidate *b)
{
    return ((uint64_t)sched_load(a) + 1) * b->weight < ((uint64_t)sched_load(b) + 1) * a->weight;
}

/* The least of all, the suspect ones last; among equals the first from `start` on. */
static uint32_t scan(const struct sched *sched, uint32_t start, const struct sched_tried *tried)
{
    const struct sched_candidate *candidate = sched->candidate;
    uint32_t least = SCHED_NONE;
    enum sched_verdict best = SCHED_NO;
    for (uint32_t i = 0, at = start; i < sched->count; i++, at = after(sched, at)) {
        enum sched_verdict verdict = sched_judge(&candidate[at], tried);
        if (verdict == SCHED_NO || verdict < best)
            continue;
        if (verdict > best || is_less(&candidate[at], &candidate[least])) {
            best = verdict;
            least = at;
        }
    }
    return least;
}

/* ---- by heap ---- */

static uint64_t load_key(const struct sched_candidate *candidate, uint32_t load)
{
    return (((uint64_t)load + 1) << 30) / candidate->weight;
}

/* Reads a server anew. */
static uint64_t refresh(struct heap *heap, const struct sched *sched, uint32_t position)
{
    static const struct sched_tried none;
    const struct sched_candidate *candidate = &sched->candidate[position];
    bool may = sched_judge(candidate, &none) == SCHED_YES;
    uint64_t key = may ? load_key(candidate, sched_load(candidate)) : PARKED;
    if (key != heap_key(heap, position))
        heap_set(heap, position, key);
    return key;
}

static void refresh_some(struct least_connections_cursor *cursor, const struct sched *sched)
{
    for (unsigned i = 0; i < REFRESH; i++) {
        refresh(&cursor->heap, sched, cursor->next);
        cursor->next = after(sched, cursor->next);
    }
}

static bool is_tried(const struct sched_tried *tried, uint32_t id)
{
    for (uint32_t i = 0; i < tried->count; i++) {
        if (tried->id[i] == id)
            return true;
    }
    return false;
}

/*
 * The first that is still what the heap says; else, after some tries, the least of those just read:
 * many risen loads at once (a worker that had long been idle) are not worth reading all of them
 * now. `aside` gets the tried ones, which have to step aside for this pick only.
 */
static uint32_t search(struct heap *heap, const struct sched *sched,
                       const struct sched_tried *tried, struct sched_tried *aside)
{
    uint32_t least = SCHED_NONE;
    for (unsigned i = 0; i < SCHED_TRIES + aside->count && heap_top_key(heap) != PARKED; i++) {
        uint32_t top = heap_top(heap);
        uint64_t seen = heap_top_key(heap);
        if (is_tried(tried, sched->candidate[top].id)) {
            aside->id[aside->count++] = top;
            heap_set(heap, top, PARKED);
            continue;
        }
        uint64_t key = refresh(heap, sched, top);
        if (key <= seen)
            return top;
        if (key != PARKED && (least == SCHED_NONE || key < heap_key(heap, least)))
            least = top;
    }
    return least;
}

static uint32_t pick_from_heap(struct least_connections_cursor *cursor, const struct sched *sched,
                               const struct sched_tried *tried)
{
    struct heap *heap = &cursor->heap;
    struct sched_tried aside = {.count = 0};
    refresh_some(cursor, sched);
    uint32_t found = search(heap, sched, tried, &aside);
    for (uint32_t i = 0; i < aside.count; i++)
        refresh(heap, sched, aside.id[i]);
    if (found == SCHED_NONE)
        found = scan(sched, cursor->next, tried);
    if (found != SCHED_NONE) {
        const struct sched_candidate *candidate = &sched->candidate[found];
        heap_set(heap, found, load_key(candidate, sched_load(candidate) + 1));
    }
    return found;
}

/* ---- the kind ---- */

static int least_connections_begin(struct sched_cursor *base, const struct sched_cursor *before)
{
    (void)before; /* the loads say all there is to know */
    struct least_connections_cursor *cursor =
        container_of(base, struct least_connections_cursor, cursor);
    const struct sched *sched = base->sched;
    if (sched->count == 0)
        return 0;
    cursor->next = random_below(&base->random, sched->count);
    if (sched->count <= SCAN)
        return 0;
    int error = heap_init(&cursor->heap, sched->count);
    for (uint32_t i = 0; error == 0 && i < sched->count; i++)
        refresh(&cursor->heap, sched, i);
    return error;
}

static void least_connections_end(struct sched_cursor *base)
{
    heap_deinit(&container_of(base, struct least_connections_cursor, cursor)->heap);
}

static uint32_t least_connections_pick(const struct sched *sched, struct sched_cursor *base,
                                       uint64_t key, const struct sched_tried *tried)
{
    (void)key;
    struct least_connections_cursor *cursor =
        container_of(base, struct least_connections_cursor, cursor);
    if (cursor->heap.count > 0)
        return pick_from_heap(cursor, sched, tried);

    uint32_t least = scan(sched, cursor->next, tried);
    if (least != SCHED_NONE)
        cursor->next = after(sched, least);
    return least;
}

const struct sched_ops sched_least_connections = {
    .size = sizeof(struct sched),
    .cursor_size = sizeof(struct least_connections_cursor),
    .begin = least_connections_begin,
    .end = least_connections_end,
    .pick = least_connections_pick,
};
