/*
 * Purpose: what the kinds of scheduler are made of, and what they have in common.
 * Thread:  build, destroy: control. begin, end, pick: a worker, with its own cursor.
 * Owns:    sched.c owns both structs and the candidates; a kind what its build and begin made.
 * Fails:   build and begin return a negative errno; destroy and end undo what there is of them.
 *
 * Private to lb/sched. To add a kind: one row here, and a file that defines its ops.
 */
#pragma once

#include "common/random.h"
#include "lb/sched/sched.h"

/* name, symbol of the ops (sched_…), help */
#define SCHED_KINDS(ROW)                                                                           \
    ROW("round-robin", round_robin, "each server in turn, spread evenly by weight")                \
    ROW("least-connections", least_connections, "the server with the least load for its weight")   \
    ROW("p2c", p2c, "the less loaded of two random choices by weight")                             \
    ROW("maglev", maglev, "the client's address decides; a change moves few other clients")        \
    ROW("random", random, "a random choice by weight")                                             \
    ROW("first", first, "the first usable server in the order of the configuration")

/* How often a kind may meet a server that cannot be picked before it looks at all of them. */
#define SCHED_TRIES 16

/* A member that is usable and has weight. What is neither costs no pick anything. */
struct sched_candidate {
    struct sched_live *live;
    uint32_t id;
    uint32_t weight;
    uint32_t member; /* its index for the caller */
};

/* First member of every kind's own struct; const for workers. */
struct sched {
    const struct sched_kind *kind;
    uint32_t count;
    struct sched_candidate *candidate; /* in the order of the members */
};

/* First member of every kind's own cursor. */
struct sched_cursor {
    const struct sched_ops *ops;
    const struct sched *sched; /* may be gone in a cursor that is `before` another */
    struct random_state random;
};

struct sched_ops {
    size_t size;        /* of the kind's own struct, zeroed and with its candidates before build */
    size_t cursor_size; /* likewise of its cursor */

    /* `members` are all, the unusable too. `before` is of the same kind, or NULL. May be NULL. */
    int (*build)(struct sched *sched, const struct sched_member *members, uint32_t count,
                 const struct sched *before);
    void (*destroy)(struct sched *sched);

    /* `before` is of the same kind, or NULL. May be NULL. */
    int (*begin)(struct sched_cursor *cursor, const struct sched_cursor *before);
    void (*end)(struct sched_cursor *cursor);

    /* The position of a candidate, or SCHED_NONE. There is at least one. */
    uint32_t (*pick)(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                     const struct sched_tried *tried);
};

#define SCHED_DECLARE(name, symbol, help) extern const struct sched_ops sched_##symbol;
SCHED_KINDS(SCHED_DECLARE)
#undef SCHED_DECLARE

enum sched_verdict { SCHED_NO, SCHED_DOUBT, SCHED_YES };

static inline uint32_t sched_load(const struct sched_candidate *candidate)
{
    return atomic_load_explicit(&candidate->live->load, memory_order_relaxed);
}

/* May it be picked now: no (full or tried), only for want of a better one (suspect), yes. */
static inline enum sched_verdict sched_judge(const struct sched_candidate *candidate,
                                             const struct sched_tried *tried)
{
    uint32_t limit = atomic_load_explicit(&candidate->live->limit, memory_order_relaxed);
    if (limit > 0 && sched_load(candidate) >= limit)
        return SCHED_NO;
    for (uint32_t i = 0; i < tried->count; i++) {
        if (tried->id[i] == candidate->id)
            return SCHED_NO;
    }
    bool suspect = atomic_load_explicit(&candidate->live->suspect, memory_order_relaxed) != 0;
    return suspect ? SCHED_DOUBT : SCHED_YES;
}

/*
 * The first candidate from `start` on, round the end, that may be picked; a suspect one when there
 * is no better. The way out when guesses failed: it costs a look at each, and misses none.
 */
uint32_t sched_scan(const struct sched *sched, uint32_t start, const struct sched_tried *tried);
