/*
 * Purpose: names in the log who was refused: each source in its turn, however loud the others are.
 * Thread:  the worker's; the meter of lines is shared by all.
 * Owns:    its table and its timer. What a refusal points at but the client must outlive it.
 * Fails:   refusals_new with -ENOMEM.
 *
 * A source, at a listener, is named when it is refused and not again for ten seconds, with how
 * often since. Lines are few, REFUSALS_SECOND in any second over all workers: who finds none left
 * waits, first come first served. The table is of fixed size. A source that was named keeps its
 * place for its ten seconds; one that finds all taken is not named, and a later line counts what
 * was refused so (`others`).
 */
#pragma once

#include "common/network.h"
#include "common/rate.h"
#include "common/wheel.h"

#include <stdbool.h>

#define REFUSALS_AGAIN_MS 10000
#define REFUSALS_SECOND 10
/* More than can be named in those ten seconds, so that some are left for those who wait. */
#define REFUSALS_PLACES 256

struct refusals;

/* The rate of lines, of all workers together. */
void refusals_meter_init(struct rate_meter *lines);

must_check int refusals_new(struct refusals **out, struct wheel *wheel, struct rate_meter *lines);
/* What was not told by then is not told. */
void refusals_free(struct refusals **refusals);

struct refusal {
    const char *listener; /* its name, and by its address which one it is */
    const union inet_address *client;
    struct network source; /* that the client belongs to */
    const char *why;
    bool is_spared; /* dry_run let it in */
};

/* It was refused so often just now: a client once, or by a number of datagrams. */
void refusals_note(struct refusals *refusals, const struct refusal *refusal, uint32_t count,
                   uint64_t now_ms);
