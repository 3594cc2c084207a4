/*
 * Purpose: flows: a client's address on a listener, the socket to the server that serves it, and
 *          the datagrams that pass between them.
 * Thread:  the worker that received the flow's first datagram, for the flow's whole life; struct
 *          udp_shared: all workers.
 * Owns:    a struct udp owns its listening sockets from udp_add_listener on, its flows, and the
 *          sockets to servers, those at rest included; a flow owns one reference to its server and
 *          that server's slot.
 * Fails:   a datagram that cannot be passed on is dropped and counted by its reason; a flow ends
 *          through one door, flow_end, with a reason from the table below.
 *
 *      first datagram → active ⇄ (its server refuses, or is down: moved to another one)
 *                          ↓
 *                        spent          has sent all its `requests`; waits for replies only
 *                          ↓
 *                        ended → its socket rests, and serves another flow later
 *
 * A flow is found by (sender's address, listener, the local address that the sender used, and the
 * client that a PROXY header told), in a table per worker with a keyed hash. Datagrams are received
 * and sent in batches, and those of one flow and size as one with UDP_SEGMENT (GSO) and UDP_GRO,
 * udp(7).
 *
 * Knows no thread and no configuration: the loop, the clock and the choice of a server come in
 * through struct udp_env, so a test drives flows by hand.
 */
#pragma once

#include "common/address.h"
#include "common/poller.h"
#include "common/wheel.h"
#include "lb/gate/gate.h"
#include "lb/metrics/metrics.h"
#include "lb/pool/pool.h"
#include "lb/refusals/refusals.h"

/* enumerator, the word in the access line and as metric label, who ended it, meaning */
#define FLOW_ENDS(X)                                                                               \
    X(DONE, "done", "server", "every reply that was owed has come")                                \
    X(IDLE_TIMEOUT, "idle-timeout", "weir", "no datagram passed for udp_idle_timeout")             \
    X(EVICTED, "evicted", "weir",                                                                  \
      "max_flows was reached, and another client came while this one sent no second datagram or "  \
      "was silent")                                                                                \
    X(KILLED, "killed", "operator", "kill flow")                                                   \
    X(SERVER_DOWN, "server-down", "weir",                                                          \
      "the server went down: on_down is kill, or the drain deadline came")                         \
    X(DRAIN_QUIET, "drain-quiet", "weir", "ended at a quiet moment of a draining server")          \
    X(DRAIN_DEADLINE, "drain-deadline", "weir", "still there at the drain deadline")               \
    X(SHUTDOWN, "shutdown", "weir", "weir ended, and the flow was silent or out of time")

enum flow_end_reason {
#define FLOW_END_ENUM(id, word, by, help) FLOW_END_##id,
    FLOW_ENDS(FLOW_END_ENUM)
#undef FLOW_END_ENUM
        FLOW_END_COUNT
};
const char *flow_end_word(enum flow_end_reason reason);
/* Who ended it: "server", "operator" or "weir". */
const char *flow_end_by(enum flow_end_reason reason);

enum flow_state { FLOW_ACTIVE, FLOW_SPENT, FLOW_ENDED, FLOW_STATES };
const char *flow_state_name(enum flow_state state);

/* What a listener prescribes to its flows. Immutable; outlives them. */
struct udp_policy {
    char listener[CONFIG_NAME_MAX + 1];
    char pool_name[CONFIG_NAME_MAX + 1];
    uint32_t pool; /* index in the view */
    uint64_t idle_timeout_ms;
    uint64_t quarantine_ms;   /* rest of a socket between two flows */
    uint32_t responses;       /* replies that end a request; 0: not known */
    uint32_t requests;        /* datagrams until the client gets another flow; 0: no end */
    uint32_t max_replies;     /* for each request; 0: no cap */
    uint64_t max_reply_bytes; /* for each request; 0: no cap */
    uint32_t log_sample;      /* one flow in so many gets an access line; at least 1 */
    int rcvbuf, sndbuf;       /* bytes; 0: the system's */
    bool per_packet;          /* each datagram goes to a server of its own choice */
    bool fragment;            /* false: DF is set, and what is too large is dropped */
    bool wildcard;            /* bound to no address: which one a client used is asked for */
    bool log_access;
    struct gate *gate; /* NULL: everybody may come in, for ever */
    enum config_proxy_in proxy_in;
    const struct config_networks *proxy_from; /* who sends PROXY headers */
};

/* What the workers have in common. Zeroed, but for the limit. */
struct udp_shared {
    uint32_t flow_limit; /* of the process */
    _Atomic uint32_t flows;
    /* How many of our sockets to servers have each local port: what comes from one of them is a
     * loop. */
    _Atomic uint16_t own_port[65536];
};

struct flow;
struct udp;

struct udp_env {
    struct poller *poller;
    struct wheel *wheel;
    struct metrics *metrics;
    struct refusals *refusals;
    struct udp_shared *shared;
    uint32_t worker;     /* index: the low 8 bits of each flow id, and the servers' counter cell */
    uint32_t rest_limit; /* sockets at rest, of this worker */
    void *owner;
    /* A server of the pool with a slot taken and a reference for the flow; NULL when none is
     * usable.
     */
    struct server *(*pick)(void *owner, uint32_t pool, uint64_t key,
                           const struct sched_tried *tried);
    const struct pool_policy *(*policy)(void *owner, uint32_t pool);
    /* The server refused a datagram (ICMP). */
    void (*suspect)(void *owner, struct server *server);
};

must_check int udp_new(struct udp **out, const struct udp_env *env, uint64_t now_ms);
/* BUG when a flow is left. Closes the listening sockets and those at rest. */
void udp_free(struct udp **udp);

/* The time of this turn of the loop, for every stamp; before any other call of the turn. */
void udp_set_now(struct udp *udp, uint64_t now_ms);

/* Frees the flows that ended since the last call: at the end of each turn, when no event is left.
 */
void udp_reap(struct udp *udp);

/* Socket options of a listener, once, before bind: what comes in between would lack its address. */
must_check int udp_listener_options(int fd, const struct udp_policy *policy);

/*
 * Takes over a bound, non-blocking socket that carries the options; on failure it stays the
 * caller's. `flows` counts those of the listener on all workers, `limit` is their most.
 */
must_check int udp_add_listener(struct udp *udp, const struct udp_policy *policy, int fd,
                                _Atomic uint32_t *flows, uint32_t limit);

/* Receives from now on. */
void udp_start(struct udp *udp);

/* No new flows: what comes from unknown clients is dropped; a flow ends once it is silent for
 * DRAIN_QUIET_MS. */
void udp_drain_all(struct udp *udp);

uint32_t udp_flows(const struct udp *udp);

/* ---- looking at flows, in slices: the twins of lb/tcp's ---- */

struct flow_info {
    uint64_t id;
    char listener[CONFIG_NAME_MAX + 1];
    char pool[CONFIG_NAME_MAX + 1];
    char server[CONFIG_NAME_MAX + 1];
    union inet_address client;
    enum flow_state state;
    uint64_t age_ms, idle_ms;
    uint64_t datagrams_in, datagrams_out;
    uint64_t bytes_in, bytes_out;
};

/*
 * Walks from *cursor (0 at first) and copies matching flows until `most` are found or `until_us`
 * (of clock_now_us) has come. Returns how many; *cursor is UINT32_MAX after the last.
 */
uint32_t udp_list(struct udp *udp, const struct traffic_filter *filter, uint32_t *cursor,
                  struct flow_info *out, uint32_t most, uint64_t until_us);

/* The same walk, ending each match. Returns how many. */
uint32_t udp_kill(struct udp *udp, const struct traffic_filter *filter, enum flow_end_reason reason,
                  uint32_t *cursor, uint64_t until_us);

/* One slice of looking after draining servers, as tcp_drain. */
uint32_t udp_drain(struct udp *udp, uint32_t *cursor, uint32_t paced, uint64_t until_us);
