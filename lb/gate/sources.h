/*
 * Purpose: how many sessions each source has, and how fast it makes them: the table of a gate.
 * Thread:  sources_new, sources_free: control. The rest: any number at once, none waits.
 * Owns:    the table is one allocation; a ticket is the number of an entry.
 * Fails:   sources_new with -ENOMEM, or -EINVAL for a table above 2^30.
 *
 * Private to lb/gate.
 */
#pragma once

#include "lb/gate/gate.h"

#define SOURCES_WAYS 8
#define SOURCES_MAX_LIMIT 1048572u
#define SOURCES_RATE_LIMIT 1000000u

struct sources;

/* Not both `max` and `rate` are 0; see gate.h for all three. */
must_check int sources_new(struct sources **out, uint32_t table, uint32_t max, uint32_t rate);
void sources_free(struct sources **sources);

struct sources_answer {
    enum gate_verdict verdict;
    uint32_t granted; /* of those asked for */
    uint32_t ticket;  /* GATE_NO_TICKET: nothing to give back */
    bool untracked;
    uint32_t evicted; /* others that were forgotten for it */
};

/*
 * May `count` events of a source happen at once? Of several the first `granted` may, and the
 * verdict is GATE_ADMITTED when that is all of them; an untracked source is granted all. With a
 * `max` the count is at most 1; 0 is sources_adopt. The tag stands for the source: a hash of 64
 * bits, whose low ones choose the place.
 */
struct sources_answer sources_charge(struct sources *sources, uint64_t tag, uint64_t now_us,
                                     uint32_t count);

static inline struct sources_answer sources_enter(struct sources *sources, uint64_t tag,
                                                  uint64_t now_us)
{
    return sources_charge(sources, tag, now_us, 1);
}

/* A session that is there already, no event, is counted whatever the limits; beyond
 * SOURCES_MAX_LIMIT it is untracked. Requires: a `max`. */
static inline struct sources_answer sources_adopt(struct sources *sources, uint64_t tag,
                                                  uint64_t now_us)
{
    return sources_charge(sources, tag, now_us, 0);
}

void sources_leave(struct sources *sources, uint32_t ticket);

/* Entries in use, and the sessions of them all: exact when no other thread is at it. */
uint32_t sources_count(const struct sources *sources);
uint64_t sources_sessions(const struct sources *sources);
