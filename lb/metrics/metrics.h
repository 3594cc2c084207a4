/*
 * Purpose: the counters of each worker, made from one table.
 * Thread:  a struct metrics has one writer, its worker; anybody may sum.
 * Owns:    nothing: embedded in the worker.
 * Fails:   never.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <stdint.h>

/* enumerator, name (weir_NAME_total), help */
#define METRICS(X)                                                                                 \
    X(SESSIONS, "sessions", "Client connections accepted.")                                        \
    X(SESSIONS_ENDED, "sessions_ended", "Sessions that have ended, for whatever reason.")          \
    X(BYTES_IN, "bytes_in", "Bytes received from clients and delivered to servers.")               \
    X(BYTES_OUT, "bytes_out", "Bytes received from servers and delivered to clients.")             \
    X(BYTES_LOST, "bytes_lost", "Bytes taken from one side that the other never got.")             \
    X(CONNECT_FAILURES, "connect_failures", "Connects to servers that failed or timed out.")       \
    X(RETRIES, "retries", "Connects tried again on another server.")                               \
    X(QUEUED, "queued", "Sessions that had to wait for a server.")                                 \
    X(ACCEPT_ERRORS, "accept_errors", "Accepts that failed for want of descriptors or memory.")    \
    X(ACCEPT_PAUSES, "accept_pauses", "Times a listener stopped accepting for a while.")           \
    X(SPLICE_STARTS, "splice_starts", "Times a direction went from copy to splice.")               \
    X(SPLICE_REFUSED, "splice_refused", "Times no full pipe was to be had and copy went on.")      \
    X(LOOP_TURNS, "loop_turns", "Turns of the worker's loop.")

enum metric {
#define METRIC_ENUM(id, name, help) METRIC_##id,
    METRICS(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

struct metrics {
    _Alignas(CACHE_LINE) _Atomic uint64_t cell[METRIC_COUNT];
};

static inline void metrics_add(struct metrics *metrics, enum metric metric, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&metrics->cell[metric], memory_order_relaxed);
    atomic_store_explicit(&metrics->cell[metric], now + n, memory_order_relaxed);
}

static inline uint64_t metrics_get(const struct metrics *metrics, enum metric metric)
{
    return atomic_load_explicit(&metrics->cell[metric], memory_order_relaxed);
}

const char *metric_name(enum metric metric);
const char *metric_help(enum metric metric);
