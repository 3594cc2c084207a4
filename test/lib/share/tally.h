/*
 * Purpose: counts what became of datagrams, and tells it as one line of JSON.
 * Thread:  the one that has the tally.
 * Owns:    nothing but itself: a struct to be zeroed.
 * Fails:   never.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "test/lib/share/udp.h"

enum {
    TALLY_LOSSES = 1000,
    TALLY_NAMES = 16,
    /* Latencies are exact below 128 us, then in 64 steps for each doubling, up to an hour. */
    LATENCY_STEPS = 64,
    LATENCY_BUCKETS = 27 * LATENCY_STEPS,
};

/* field, meaning: in the order in which they are told */
#define TALLY_COUNTS(X)                                                                            \
    X(sent, "datagrams, those included that could not be sent")                                    \
    X(exchanges, "answered in time, by the right reply")                                           \
    X(lost, "not answered within the timeout")                                                     \
    X(late, "of those lost: the reply came after the timeout")                                     \
    X(twice, "replies to what was answered already, or lost long ago")                             \
    X(foreign, "replies to another flow, client or run")                                           \
    X(damaged, "replies that are not what was sent")                                               \
    X(astray, "replies from another address than was addressed")                                   \
    X(trains, "replies that came several as one (UDP_GRO)")                                        \
    X(errors, "datagrams that could not be sent")

struct tally {
#define TALLY_FIELD(name, help) uint64_t name;
    TALLY_COUNTS(TALLY_FIELD)
#undef TALLY_FIELD
    uint64_t begin_us, end_us; /* of sending, monotonic; end 0: not yet */
    uint64_t wall_us;          /* since 1970, at the begin */
    uint64_t latency[LATENCY_BUCKETS];
    struct {
        char text[NAME_LEN_MAX + 1];
        uint64_t exchanges;
    } names[TALLY_NAMES];
    struct {
        uint32_t flow;
        uint64_t seq;
        uint64_t sent_us; /* monotonic */
    } losses[TALLY_LOSSES];
};

void tally_begin(struct tally *tally);

void tally_exchange(struct tally *tally, uint64_t latency_us);

/* A server's; beyond so many others they are not told apart. */
void tally_name(struct tally *tally, const char *name, size_t len);

void tally_loss(struct tally *tally, uint32_t flow, uint64_t seq, uint64_t sent_us);

void tally_print(const struct tally *tally, const char *mode);

/* The meaning of each count, for a help text. */
void tally_help(void);
