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
    X(SESSIONS_REFUSED, "sessions_refused", "Client connections refused: access, limits, routes.") \
    X(SESSIONS_SPARED, "sessions_spared", "Client connections that dry_run alone has let in.")     \
    X(PREREAD_TIMEOUTS, "preread_timeouts", "Clients whose first bytes were not whole in time.")   \
    X(PREREAD_WRONG, "preread_wrong", "Clients whose PROXY header or ClientHello was wrong.")      \
    X(BYTES_IN, "bytes_in", "Bytes received from clients and delivered to servers.")               \
    X(BYTES_OUT, "bytes_out", "Bytes received from servers and delivered to clients.")             \
    X(BYTES_LOST, "bytes_lost", "Bytes taken from one side that the other never got.")             \
    X(CONNECT_FAILURES, "connect_failures", "Connects to servers that failed or timed out.")       \
    X(NO_PORT, "no_port", "Connects to servers for which no local port was left.")                 \
    X(RETRIES, "retries", "Connects tried again on another server.")                               \
    X(QUEUED, "queued", "Sessions that had to wait for a server.")                                 \
    X(ACCEPT_ERRORS, "accept_errors", "Accepts that failed for want of descriptors or memory.")    \
    X(ACCEPT_PAUSES, "accept_pauses", "Times a listener stopped accepting for a while.")           \
    X(ACCEPT_RATE_PAUSES, "accept_rate_pauses", "Times a listener waited for a session_rate.")     \
    X(SPLICE_STARTS, "splice_starts", "Times a direction went from copy to splice.")               \
    X(SPLICE_REFUSED, "splice_refused", "Times no full pipe was to be had and copy went on.")      \
    X(FLOWS, "flows", "UDP flows begun.")                                                          \
    X(FLOWS_ENDED, "flows_ended", "UDP flows that have ended, for whatever reason.")               \
    X(FLOWS_MOVED, "flows_moved", "Times a flow went on to another server.")                       \
    X(FLOWS_EVICTED, "flows_evicted", "UDP flows that ended to make room for another client.")     \
    X(SOCKETS_REUSED, "udp_sockets_reused", "Flows served by a socket that had served another.")   \
    X(DATAGRAMS_IN, "datagrams_in", "Datagrams from clients sent to servers.")                     \
    X(DATAGRAMS_OUT, "datagrams_out", "Datagrams from servers sent to clients.")                   \
    X(UDP_RECEIVES, "udp_receives", "System calls that received datagrams.")                       \
    X(UDP_SENDS, "udp_sends", "System calls that sent datagrams.")                                 \
    X(GRO_RECEIVED, "udp_gro_received", "Messages in which the kernel had joined datagrams.")      \
    X(GRO_DATAGRAMS, "udp_gro_datagrams", "Datagrams that came in such messages.")                 \
    X(GSO_SENT, "udp_gso_sent", "Messages that the kernel was to cut into datagrams.")             \
    X(GSO_DATAGRAMS, "udp_gso_datagrams", "Datagrams that left in such messages.")                 \
    X(DROP_TOO_LARGE, "udp_dropped_too_large", "Too large for the path and not to be cut.")        \
    X(DROP_SEND_QUEUE, "udp_dropped_send_queue", "The socket or device took no more.")             \
    X(DROP_SEND_ERROR, "udp_dropped_send_error", "The kernel refused to send it.")                 \
    X(DROP_REFUSED, "udp_dropped_refused", "The server's machine refused the flow's datagrams.")   \
    X(DROP_FLOW_LIMIT, "udp_dropped_flow_limit", "No room for a new flow.")                        \
    X(DROP_CROWDED, "udp_dropped_crowded",                                                         \
      "A new client's, while too much waited for known ones.")                                     \
    X(DROP_NO_SERVER, "udp_dropped_no_server", "No server was usable.")                            \
    X(DROP_NO_SOURCE, "udp_dropped_no_source",                                                     \
      "From a client that cannot be the source: of another family, or out of reach.")              \
    X(DROP_NO_RESOURCES, "udp_dropped_no_resources", "No descriptor, memory or port for a flow.")  \
    X(DROP_AMPLIFICATION, "udp_dropped_amplification", "A reply beyond what a request allows.")    \
    X(DROP_LOOP, "udp_dropped_loop", "It came from weir itself, or from the server it went to.")   \
    X(DROP_DENIED, "udp_dropped_denied", "From a new client that may not come in: allow, limits.") \
    X(DROP_HEADER_WRONG, "udp_dropped_header_wrong", "Its PROXY header was malformed.")            \
    X(DROP_HEADER_MISSING, "udp_dropped_header_missing",                                           \
      "It had no PROXY header, and none had told of its client.")                                  \
    X(DROP_RATE, "udp_dropped_rate", "Beyond source_datagram_rate of its source.")                 \
    X(DROP_LATE, "udp_dropped_late", "A reply whose flow had ended.")                              \
    X(DROP_SOURCE, "udp_dropped_source", "Its source address cannot be replied to.")               \
    X(DROP_STOPPING, "udp_dropped_stopping", "From a new client while weir was stopping.")         \
    X(DROP_RECEIVE_QUEUE, "udp_dropped_receive_queue", "A socket's receive queue was full.")       \
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
