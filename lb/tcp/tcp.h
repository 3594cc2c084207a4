/*
 * Purpose: sessions: a client's connection, the server's connection, and what passes between them.
 * Thread:  the worker that accepted the session, for the session's whole life.
 * Owns:    a struct tcp owns its sessions; a session owns its two sockets, what a direction holds,
 *          one reference to its server and that server's slot.
 * Fails:   tcp_accept always disposes of the descriptor. Everything else ends through one door,
 *          session_end, with a reason from the table below.
 *
 *   accepted → (preread) → picking ⇄ queued
 *                            ↓ ↑
 *                        connecting → relaying → half-closed → ended
 *                                          ↘         ↓        ↗
 *                                              resetting      a side was reset; what it sent
 *                                                             before is still being delivered
 *
 * Knows no thread and reads no configuration: the loop, the clock and the choice of a server come
 * in through struct tcp_env, so a test drives sessions by hand. A policy borrows the listener's
 * networks and routes as the configuration has them.
 */
#pragma once

#include "common/address.h"
#include "common/pipe.h"
#include "common/poller.h"
#include "common/slab.h"
#include "common/wheel.h"
#include "lb/gate/gate.h"
#include "lb/metrics/metrics.h"
#include "lb/pool/pool.h"
#include "lb/refusals/refusals.h"

/* enumerator, the word in the access line, in `show` and as metric label, who ended it, meaning */
#define SESSION_ENDS(X)                                                                            \
    X(DONE, "done", "both", "both sides finished and every byte was delivered")                    \
    X(CLIENT_RESET, "client-reset", "client", "the client reset its connection")                   \
    X(SERVER_RESET, "server-reset", "server", "the server reset its connection")                   \
    X(CLIENT_LOST, "client-lost", "client",                                                        \
      "the client stopped answering (keepalive, retransmission)")                                  \
    X(SERVER_LOST, "server-lost", "server",                                                        \
      "the server stopped answering (keepalive, retransmission)")                                  \
    X(CLIENT_GONE, "client-gone", "client", "the client left before a server was connected")       \
    X(PREREAD_TIMEOUT, "preread-timeout", "client",                                                \
      "what it sends first was not whole within preread_timeout")                                  \
    X(PREREAD_WRONG, "preread-wrong", "client",                                                    \
      "its PROXY header or ClientHello was malformed, missing or beyond preread_max")              \
    X(REFUSED, "refused", "weir", "allow, deny, a limit of its source, or no route for it")        \
    X(CONNECT_FAILED, "connect-failed", "server", "no server accepted within the retries")         \
    X(CONNECT_TIMEOUT, "connect-timeout", "server",                                                \
      "the last server tried did not answer in time")                                              \
    X(NO_SERVER, "no-server", "weir", "no server was usable, or none became free in time")         \
    X(NO_SOURCE, "no-source", "weir",                                                              \
      "source is \"client\", and the server cannot be connected to from its address")              \
    X(NO_RESOURCES, "no-resources", "weir", "this machine lacked descriptors, memory or ports")    \
    X(IDLE_TIMEOUT, "idle-timeout", "weir", "no byte passed for idle_timeout")                     \
    X(HALF_CLOSE_TIMEOUT, "half-close-timeout", "weir",                                            \
      "one side had finished, the other was silent for half_close_timeout")                        \
    X(KILLED, "killed", "operator", "kill session")                                                \
    X(SERVER_DOWN, "server-down", "weir",                                                          \
      "the server went down: on_down is kill, or the drain deadline came")                         \
    X(DRAIN_QUIET, "drain-quiet", "weir", "ended at a quiet moment of a draining server")          \
    X(DRAIN_DEADLINE, "drain-deadline", "weir", "still there at the drain deadline")               \
    X(SHUTDOWN, "shutdown", "weir", "still there at the shutdown deadline")

enum session_end_reason {
#define SESSION_END_ENUM(id, word, by, help) SESSION_END_##id,
    SESSION_ENDS(SESSION_END_ENUM)
#undef SESSION_END_ENUM
        SESSION_END_COUNT
};
const char *session_end_word(enum session_end_reason reason);
/* Who ended it: "client", "server", "both", "operator" or "weir". */
const char *session_end_by(enum session_end_reason reason);

enum session_state {
    SESSION_PREREAD, /* what the client sends first decides */
    SESSION_PICKING,
    SESSION_QUEUED,
    SESSION_CONNECTING,
    SESSION_RELAYING,
    SESSION_HALF_CLOSED,
    SESSION_RESETTING,
    SESSION_ENDED,
    SESSION_STATES
};
const char *session_state_name(enum session_state state);

/* What a listener prescribes to its sessions. Immutable; outlives them. */
struct tcp_policy {
    char listener[CONFIG_NAME_MAX + 1];
    char pool_name[CONFIG_NAME_MAX + 1];
    uint32_t pool; /* index in the view */
    enum config_splice splice;
    uint64_t idle_timeout_ms;
    uint64_t half_close_timeout_ms;
    uint64_t reset_flush_timeout_ms;
    int rcvbuf, sndbuf; /* bytes; 0: autotuned */
    int notsent_lowat;
    int keepalive_idle_s, keepalive_interval_s, keepalive_count; /* idle 0: none */
    int user_timeout_ms;
    uint32_t log_sample; /* one session in so many gets an access line; at least 1 */
    bool log_access;
    /* who comes in, and by what it says first */
    struct gate *gate;         /* NULL: everybody may, and no rule will change that */
    enum config_refuse refuse; /* how the others are turned away */
    enum config_proxy_in proxy_in;
    const struct config_networks *proxy_from; /* who sends PROXY headers */
    uint64_t preread_timeout_ms;
    uint32_t preread_max; /* bytes */
    const struct config_route *routes;
    size_t route_count;
    bool refuse_unrouted;
};

struct session;
struct tcp;

struct tcp_env {
    struct poller *poller;
    struct wheel *wheel;
    struct pipe_pool *pipes;
    struct metrics *metrics;
    struct refusals *refusals;
    uint32_t worker; /* index: the low 8 bits of each session id, and the servers' counter cell */
    uint32_t session_limit;
    uint32_t pool_count;
    void *owner;
    /* A server of the pool with a slot taken and a reference for the session; NULL when none is
     * usable. */
    struct server *(*pick)(void *owner, uint32_t pool, uint64_t key,
                           const struct sched_tried *tried);
    const struct pool_policy *(*policy)(void *owner, uint32_t pool);
    /* A connect to the server failed. */
    void (*suspect)(void *owner, struct server *server);
    /* A session found no descriptor or memory on its way to a server: the next client would fare no
     * better. */
    void (*starved)(void *owner);
    /* A session that tcp_accept took is over and its descriptors are closed. Called once for each.
     */
    void (*ended)(void *owner, const struct tcp_policy *policy);
};

must_check int tcp_new(struct tcp **out, const struct tcp_env *env, uint64_t now_ms);
/* BUG when a session is left. */
void tcp_free(struct tcp **tcp);

/* The time of this turn of the loop, for every stamp; before any other call of the turn. */
void tcp_set_now(struct tcp *tcp, uint64_t now_ms);

/* Frees the sessions that ended since the last call: at the end of each turn, when no event is
 * left. */
void tcp_reap(struct tcp *tcp);

/* Takes over an accepted, non-blocking socket whose listener already carries `policy`'s options. */
void tcp_accept(struct tcp *tcp, const struct tcp_policy *policy, int fd,
                const union inet_address *client);

/* Socket options that accepted sockets inherit, put on the listener once. */
must_check int tcp_listener_options(int fd, const struct tcp_policy *policy);

/* The view has changed or a slot is free: the pool's queued sessions pick again, first come first
 * served. */
void tcp_wake_queued(struct tcp *tcp, uint32_t pool);

uint32_t tcp_sessions(const struct tcp *tcp);

/* ---- looking at sessions, in slices ---- */

struct session_info {
    uint64_t id;
    char listener[CONFIG_NAME_MAX + 1];
    char pool[CONFIG_NAME_MAX + 1];
    char server[CONFIG_NAME_MAX + 1]; /* "" while there is none */
    union inet_address client;
    enum session_state state;
    const char *engine; /* "copy" or "splice", that of the busier direction */
    uint64_t age_ms, idle_ms;
    uint64_t bytes_in, bytes_out;
};

/*
 * Walks from *cursor (0 at first) and copies matching sessions until `most` are found or `until_us`
 * (of clock_now_us) has come. Returns how many; *cursor is UINT32_MAX after the last.
 */
uint32_t tcp_list(struct tcp *tcp, const struct traffic_filter *filter, uint32_t *cursor,
                  struct session_info *out, uint32_t most, uint64_t until_us);

/* The same walk, ending each match with a reset of both sides. Returns how many. */
uint32_t tcp_kill(struct tcp *tcp, const struct traffic_filter *filter,
                  enum session_end_reason reason, uint32_t *cursor, uint64_t until_us);

/*
 * One slice of looking after draining servers: past the deadline sessions are reset; in the quiet
 * phase one that has been silent for DRAIN_QUIET_MS with nothing in flight is closed on both sides,
 * at most `paced` of them.
 */
uint32_t tcp_drain(struct tcp *tcp, uint32_t *cursor, uint32_t paced, uint64_t until_us);

/* ---- hand-over ---- */

/*
 * All of a session, explicit and flat. Descriptors travel beside it; they are out of epoll when
 * export returns. A session that had no server yet (or was still connecting) passes as client only:
 * server[0] is 0, and `data` is what was read of the client, from its first byte on.
 */
struct session_record {
    uint64_t id;
    uint32_t state;               /* enum session_state */
    int32_t client_fd, server_fd; /* -1: none */
    union inet_address client;
    /* Who sent its PROXY header, and the address that it told the client had used; AF_UNSPEC:
     * nobody, or the header is among the bytes. What else it told (TLVs) stays behind. */
    union inet_address via, destination;
    char listener[CONFIG_NAME_MAX + 1];
    char pool[CONFIG_NAME_MAX + 1];
    char server[CONFIG_NAME_MAX + 1];
    int32_t error[2];                         /* latched errno of client and server */
    uint8_t eof[2], finished[2], fin_sent[2]; /* client→server, server→client */
    uint64_t bytes[2];
    uint64_t lost;
    uint64_t age_us, connect_us, idle_ms, deadline_left_ms;
    uint32_t tries;
    uint8_t admitted; /* the gate has let it in: it is not asked again */
    uint32_t held[2]; /* bytes read and not yet delivered, in `data` one after the other */
    uint8_t *data;    /* malloc'd, the caller's to free; NULL when nothing is held */
};

/*
 * Takes the session out of this process: it ends here without a line, a count or a packet.
 * -ENOMEM leaves it as it was.
 */
must_check int session_export(struct session *session, struct session_record *out);

/*
 * Goes on where the record says. Owns the descriptors on success; on failure all is the caller's
 * still, and nobody is told. Requires: `server`, with a reference and a slot, if the record has a
 * server_fd, and NULL if it has none.
 */
must_check int session_import(struct tcp *tcp, const struct tcp_policy *policy,
                              struct server *server, const struct session_record *record);

/* The live session of an id, or NULL; walks all. */
struct session *tcp_find(struct tcp *tcp, uint64_t id);
