/*
 * Purpose: pools and their servers: what is known of each, what workers count on them, and the
 *          immutable view that workers schedule from.
 * Thread:  struct pools and all its verbs: control. struct server, struct pool_view and struct view
 *          may be read by any thread that holds a reference; server_enter and server_leave by any
 *          worker.
 * Owns:    pools own their members; servers and views are reference counted, and the last reference
 *          frees. A configuration is borrowed and must outlive its pools.
 * Fails:   pools_new without memory; searches return NULL.
 *
 * Identity of a server is (pool, name, address). Its id is unique for the life of the process.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"
#include "common/network.h"
#include "config/config.h"
#include "lb/ports/ports.h"
#include "lb/sched/sched.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- what any thread may touch ---- */

/* How sessions of a draining server came to their end. */
enum server_drain_end { DRAIN_END_SELF, DRAIN_END_QUIET, DRAIN_END_DEADLINE, DRAIN_ENDS };

/* Who set the deadline of a draining server: sessions that it resets say so in their end reason. */
enum server_drain_cause { DRAIN_CAUSE_OPERATOR, DRAIN_CAUSE_DOWN, DRAIN_CAUSES };

/* One worker's counters of one server: one writer, relaxed, summed on demand. */
struct server_cell {
    _Alignas(CACHE_LINE) _Atomic uint64_t sessions; /* connected ones */
    _Atomic uint64_t flows;                         /* begun, or moved here */
    _Atomic uint64_t flows_left;                    /* ended, or moved away */
    _Atomic uint64_t bytes_in;                      /* from clients */
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t connect_failures;
    _Atomic uint64_t resets;  /* sessions that ended by the server's reset */
    _Atomic uint64_t refused; /* datagrams that the server's machine refused (ICMP) */
    _Atomic uint64_t no_port; /* connects for which this machine had no port left */
    _Atomic uint64_t drain_ends[DRAIN_ENDS];
};

/* The one writer's addition: no locked instruction. */
static inline void cell_add(_Atomic uint64_t *cell, uint64_t n)
{
    uint64_t now = atomic_load_explicit(cell, memory_order_relaxed);
    atomic_store_explicit(cell, now + n, memory_order_relaxed);
}

struct server {
    _Atomic uint32_t references;
    uint32_t id;
    uint32_t worker_count;
    char pool[CONFIG_NAME_MAX + 1];
    char name[CONFIG_NAME_MAX + 1];
    struct address address;
    char address_text[ADDRESS_TEXT_MAX];
    /* What its sockets are bound to, where the pool has a list of that; else NULL. */
    struct ports *ports[PORTS_PROTOCOLS];
    /*
     * When sessions still there are reset; 0 while not draining. Monotonic milliseconds. Stored
     * last and with release: who loads it with acquire and finds it set sees the other two.
     */
    _Atomic uint64_t drain_deadline_ms;
    _Atomic uint64_t drain_quiet_ms; /* from when on a quiet session is ended */
    _Atomic uint32_t drain_cause;    /* enum server_drain_cause */
    /* Its flows go elsewhere with their next datagram: down or in maintenance, and not to be kept.
     */
    _Atomic bool deserted;
    /* Takes no new session, whatever the view says that a worker still has: an operator's word
     * holds from the reply on, not from the next view on. */
    _Atomic bool closed;
    _Alignas(CACHE_LINE) struct sched_live live;
    struct server_cell cell[]; /* one per worker */
};

struct server *server_take(struct server *server);
void server_put(struct server **server);

/* Takes a slot; false (and nothing taken) when max_connections of them are taken, or it is closed.
 */
must_check bool server_enter(struct server *server);
/* Gives the slot back; true when none had been free, so that somebody may wait for it. */
bool server_leave(struct server *server);

/* No local port was left for a socket to it: counts it for the worker, and tells of it once a
 * second, by *told_ms. */
void server_lacks_port(struct server *server, uint32_t worker, uint64_t *told_ms, uint64_t now_ms);

/* What a session needs to know of its pool. Values, so that a view outlives a configuration. */
struct pool_policy {
    uint64_t connect_timeout_ms;
    uint32_t retries;
    enum config_when_empty when_empty;
    enum config_send_proxy send_proxy;
    enum config_send_proxy_udp send_proxy_udp;
    uint32_t send_proxy_tlvs; /* enum config_tlv */
    bool hash_port;           /* the key of hash schedulers includes the client's port */
    bool source_client;       /* its servers are connected to from the client's own address */
};

/* One pool as workers see it. Immutable; shared by all views until something of the pool changes.
 */
struct pool_view {
    _Atomic uint32_t references;
    uint32_t version; /* another number for each picture of this pool */
    char name[CONFIG_NAME_MAX + 1];
    struct pool_policy policy;
    struct sched *sched;
    uint32_t usable; /* servers that take new sessions */
    uint32_t count;
    struct server *server[]; /* index = the scheduler's member */
};

struct view {
    _Atomic uint32_t references;
    uint32_t
        draining; /* servers with a drain deadline: workers look at their sessions now and then */
    uint32_t count;
    struct pool_view *pool[]; /* index = that of the configuration */
};

struct view *view_take(struct view *view);
void view_put(struct view **view);

/* ---- which sessions or flows ---- */

/* A quiet session or flow of a draining server is one that has been silent for so long. */
#define DRAIN_QUIET_MS 1000

/* What is set must match; zero and "" match all. */
struct traffic_filter {
    uint64_t id;
    char listener[CONFIG_NAME_MAX + 1];
    char pool[CONFIG_NAME_MAX + 1];
    char server[CONFIG_NAME_MAX + 1];
    char client[ADDRESS_TEXT_MAX]; /* an address, with or without its port */
    bool is_within;                /* the client is of this network */
    struct network within;
    bool is_denied; /* and would not be let in now; for who knows the listener to see to */
};

/* `server` is NULL while there is none. */
bool traffic_matches(const struct traffic_filter *filter, uint64_t id, const char *listener,
                     const char *pool, const struct server *server,
                     const union inet_address *client);

/* What a draining server's sessions and flows meet now. */
enum drain_step { DRAIN_STEP_NONE, DRAIN_STEP_QUIET, DRAIN_STEP_DEADLINE };
enum drain_step server_drain_step(const struct server *server, uint64_t now_ms,
                                  enum server_drain_cause *out_cause);
/* One of them has ended: counted if the server drains. */
void server_drained(struct server *server, uint32_t worker, enum server_drain_end how);

/* ---- control's own ---- */

enum server_admin { SERVER_ENABLED, SERVER_DRAIN, SERVER_MAINTENANCE };
const char *server_admin_name(enum server_admin admin);

enum health_state { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };
const char *health_state_name(enum health_state state);

/* The end of the sessions of a server that an operator or its health asked for. */
struct pool_drain {
    uint64_t quiet_ms;
    uint64_t deadline_ms; /* 0: none */
};

/* What control knows of one server. Read freely; change by the verbs below. */
struct pool_member {
    struct pool *pool;
    struct server *server;
    const struct config_server *config;
    uint32_t weight; /* at run time */
    enum server_admin admin;
    enum health_state health;
    char reason[256];        /* why it is as it is: of the last change of health or admin */
    char health_reason[256]; /* the last of its health: it counts again when an operator lets go */
    uint64_t changed_at_ms;
    struct pool_drain drain[DRAIN_CAUSES]; /* each cause's own: the sooner one is in force */
    uint64_t drain_started_ms;             /* 0: not draining */
    uint64_t drain_base[DRAIN_ENDS];       /* the counters when the drain began */
    struct health_target *target;          /* control's; opaque here */
};

struct pool {
    const struct config_pool *config;
    uint32_t index;
    bool dirty; /* differs from the last view */
    size_t member_count;
    struct pool_member *member;
};

struct pools {
    uint32_t worker_count;
    struct ports_book ports;
    size_t count;
    struct pool *pool;
    struct view *current; /* a reference */
    uint32_t versions;
};

must_check int pools_new(struct pools **out, const struct config *config, uint32_t worker_count);
void pools_free(struct pools **pools);

struct pool *pools_find(struct pools *pools, const char *name);
struct pool_member *pool_find_member(struct pool *pool, const char *name);

/* May a new session go to it (backups: when they are called)? If not, *why_not in words. */
bool pool_member_usable(const struct pool_member *member, const char **why_not);

void pool_member_set_weight(struct pool_member *member, uint32_t weight);

/*
 * Admin state. SERVER_DRAIN: no new sessions; those it has end by themselves, from half the
 * deadline on at quiet moments, at the deadline by reset. SERVER_MAINTENANCE: no new sessions and
 * no probes; what it has is treated as the pool's on_down says. SERVER_ENABLED ends either; what
 * going down had begun goes on. deadline_ms is a span; only for SERVER_DRAIN.
 */
void pool_member_set_admin(struct pool_member *member, enum server_admin admin,
                           uint64_t deadline_ms, uint64_t now_ms);

/* Down starts what on_down says; up ends a drain that down had begun. Clears the suspect mark. */
void pool_member_set_health(struct pool_member *member, enum health_state health,
                            const char *reason, uint64_t now_ms);

/*
 * The present view, built anew where a pool is dirty; the caller gets a
 * reference. When memory is short the view is the old one and pools
 * stay dirty: call again.
 */
struct view *pools_view(struct pools *pools);
bool pools_dirty(const struct pools *pools);

/* `load` is sessions and flows under way, those connecting included; `flows_now` are the flows. */
struct server_totals {
    uint64_t sessions, flows, bytes_in, bytes_out, connect_failures, resets, refused, no_port;
    uint64_t drain_ends[DRAIN_ENDS];
    uint32_t load, flows_now;
};
void server_totals(const struct server *server, struct server_totals *out);
