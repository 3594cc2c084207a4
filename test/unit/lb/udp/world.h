/*
 * Purpose: the surroundings of flows, by hand: real loopback sockets on both ends, an injected
 *          clock, and a choice of servers that the test dictates.
 * Thread:  the test's, which stays on one processor: what it sends over loopback arrives in order.
 * Owns:    all of it, from world_open to world_close.
 * Fails:   as a cmocka assertion; what does not happen within PEER_PATIENCE_MS is a hang.
 *
 * Include after <cmocka.h>. A turn is the worker's, but for its end: flows that ended keep their
 * memory, so that a test can look at them, until world_reap, or for a turn when `reaps` is set.
 */
#pragma once

#include "common/clock.h"
#include "lb/pool/build.h"
#include "lb/udp/private.h"
#include "test/unit/lb/udp/peer.h"

#include <dirent.h>
#include <stdio.h>

#define WORLD_SERVERS 3
#define WORLD_START_MS UINT64_C(1000000)

/* Longer than any rest of a socket. */
#define WORLD_REST_MS 60000

struct world {
    struct poller poller;
    struct wheel wheel;
    struct metrics metrics;
    struct rate_meter refusal_lines;
    struct refusals *refusals;
    struct udp_shared shared;
    struct udp *udp;
    uint64_t now_ms;
    bool reaps;
    struct udp_policy policy;
    struct pool_policy pool;
    uint32_t rest_limit;
    uint32_t limit;         /* of the listener */
    _Atomic uint32_t flows; /* of the listener */
    struct server *server[WORLD_SERVERS];
    bool usable[WORLD_SERVERS];
    bool rotates; /* each choice is another server's */
    size_t chosen;
    int socket[WORLD_SERVERS]; /* of the servers; -1: nobody is there */
    union inet_address entry;  /* where clients send to */
    unsigned suspected[WORLD_SERVERS];
    uint64_t last_key;
    int fence[2];
    unsigned descriptors; /* at the beginning */
};

/* ---- what flows ask for ---- */

static inline bool world_was_tried(const struct sched_tried *tried, uint32_t id)
{
    for (uint32_t i = 0; i < tried->count; i++) {
        if (tried->id[i] == id)
            return true;
    }
    return false;
}

static inline struct server *world_pick(void *owner, uint32_t pool, uint64_t key,
                                        const struct sched_tried *tried)
{
    struct world *w = owner;

    assert_int_equal(pool, 0);
    w->last_key = key;
    for (size_t n = 0; n < WORLD_SERVERS; n++) {
        size_t i = w->rotates ? (w->chosen + 1 + n) % WORLD_SERVERS : n;
        if (!w->usable[i] || world_was_tried(tried, w->server[i]->id) ||
            !server_enter(w->server[i]))
            continue;
        w->chosen = i;
        return server_take(w->server[i]);
    }
    return NULL;
}

static inline const struct pool_policy *world_pool_policy(void *owner, uint32_t pool)
{
    struct world *w = owner;

    assert_int_equal(pool, 0);
    return &w->pool;
}

static inline void world_suspect(void *owner, struct server *server)
{
    struct world *w = owner;

    atomic_store(&server->live.suspect, 1);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        w->suspected[i] += w->server[i] == server;
}

static inline unsigned world_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* ---- beginning and end ---- */

static inline void world_add_server(struct world *w, size_t i)
{
    static const char *const names[WORLD_SERVERS] = {"a", "b", "c"};
    char name[16];
    struct config_server config = {.name = name, .weight = 100};

    snprintf(name, sizeof(name), "%s", names[i]);
    w->socket[i] = peer_socket("127.0.0.1:0");
    config.address.address.inet = peer_name(w->socket[i]);
    config.address.address.length = sizeof(struct sockaddr_in);
    w->server[i] = server_new("dns", &config, 1);
    assert_non_null(w->server[i]);
}

static inline void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->descriptors = world_descriptors();
    w->now_ms = WORLD_START_MS;
    w->policy = (struct udp_policy){.listener = "front",
                                    .pool_name = "dns",
                                    .idle_timeout_ms = 60000,
                                    .quarantine_ms = 2000,
                                    .log_sample = 1,
                                    .fragment = true};
    w->shared.flow_limit = 1000;
    w->rest_limit = 100;
    w->limit = 1000;
    w->usable[0] = true;
}

static inline void world_woken(void *owner)
{
    struct world *w = owner;

    udp_set_now(w->udp, w->now_ms);
}

/* All but listeners, which come between this and world_start. */
static inline void world_prepare(struct world *w)
{
    struct udp_env env = {
        .poller = &w->poller,
        .wheel = &w->wheel,
        .metrics = &w->metrics,
        .shared = &w->shared,
        .rest_limit = w->rest_limit,
        .owner = w,
        .pick = world_pick,
        .policy = world_pool_policy,
        .suspect = world_suspect,
    };

    peer_pin();
    wheel_init(&w->wheel, w->now_ms);
    assert_int_equal(poller_open(&w->poller), 0);
    poller_on_wake(&w->poller, world_woken, w);
    refusals_meter_init(&w->refusal_lines);
    assert_int_equal(refusals_new(&w->refusals, &w->wheel, &w->refusal_lines), 0);
    env.refusals = w->refusals;
    assert_int_equal(udp_new(&w->udp, &env, w->now_ms), 0);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        world_add_server(w, i);
    w->fence[0] = peer_socket("127.0.0.1:0");
    w->fence[1] = peer_socket("127.0.0.1:0");
}

/* A listener; returns its address, and a wildcard one's as that of loopback. */
static inline union inet_address world_listen(struct world *w, struct udp_policy *policy,
                                              const char *text, _Atomic uint32_t *flows,
                                              uint32_t limit)
{
    struct address bound = {.inet = endpoint_of(text)};
    int fd = socket(bound.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    union inet_address address;

    assert_true(fd >= 0);
    policy->wildcard = address_is_wildcard(&bound);
    if (bound.any.sa_family == AF_INET6)
        peer_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    assert_int_equal(bind(fd, &bound.any, peer_length(&bound.inet)), 0);
    assert_int_equal(udp_listener_options(fd, policy), 0);
    assert_int_equal(udp_add_listener(w->udp, policy, fd, flows, limit), 0);
    address = peer_name(fd);
    if (policy->wildcard && bound.any.sa_family == AF_INET)
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (policy->wildcard)
        address.v6.sin6_addr = in6addr_loopback;
    return address;
}

static inline void world_open_at(struct world *w, const char *text)
{
    world_prepare(w);
    w->entry = world_listen(w, &w->policy, text, &w->flows, w->limit);
    udp_start(w->udp);
}

static inline void world_open(struct world *w)
{
    world_init(w);
    world_open_at(w, "127.0.0.1:0");
}

static inline uint64_t world_metric(const struct world *w, enum metric which)
{
    return metrics_get(&w->metrics, which);
}

static inline uint64_t world_cell(_Atomic uint64_t *counter)
{
    return atomic_load(counter);
}

static inline uint32_t world_load(const struct world *w, size_t i)
{
    return atomic_load(&w->server[i]->live.load);
}

static inline void world_pass(struct world *w, uint64_t span_ms)
{
    w->now_ms += span_ms;
    udp_set_now(w->udp, w->now_ms);
    wheel_advance(&w->wheel, w->now_ms);
}

static inline void world_reap(struct world *w)
{
    udp_reap(w->udp);
}

static inline void world_kill_all(struct world *w)
{
    static const struct traffic_filter all;
    uint32_t cursor = 0;

    udp_kill(w->udp, &all, FLOW_END_KILLED, &cursor, UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
}

static inline void world_close_server(struct world *w, size_t i)
{
    assert_int_equal(world_load(w, i), 0);
    assert_int_equal(world_cell(&w->server[i]->cell[0].flows),
                     world_cell(&w->server[i]->cell[0].flows_left));
    assert_int_equal(atomic_load(&w->server[i]->references), 1);
    server_put(&w->server[i]);
    peer_hang_up(&w->socket[i]);
}

/* Flows that are left are killed, sockets have their rest; nothing of any may remain. */
static inline void world_close(struct world *w)
{
    world_kill_all(w);
    world_pass(w, WORLD_REST_MS);
    world_pass(w, WORLD_REST_MS);
    world_reap(w);
    assert_int_equal(udp_flows(w->udp), 0);
    assert_int_equal(w->udp->flows.used, 0);
    assert_int_equal(w->udp->upstreams.used, 0);
    assert_int_equal(w->udp->resting, 0);
    refusals_free(&w->refusals);
    assert_int_equal(w->wheel.count, 0);
    assert_int_equal(atomic_load(&w->shared.flows), 0);
    assert_int_equal(atomic_load(&w->flows), 0);
    for (size_t port = 0; port < ARRAY_LEN(w->shared.own_port); port++)
        assert_int_equal(atomic_load(&w->shared.own_port[port]), 0);
    assert_int_equal(world_metric(w, METRIC_FLOWS), world_metric(w, METRIC_FLOWS_ENDED));
    udp_free(&w->udp);
    assert_false(poller_has_tasks(&w->poller));
    poller_close(&w->poller);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        world_close_server(w, i);
    peer_hang_up(&w->fence[0]);
    peer_hang_up(&w->fence[1]);
    assert_int_equal(world_descriptors(), w->descriptors);
}

/* ---- time and events ---- */

static inline void world_turn(struct world *w, int wait_ms)
{
    poller_wait(&w->poller, wait_ms);
    poller_run_tasks(&w->poller);
    wheel_advance(&w->wheel, w->now_ms);
    if (w->reaps)
        world_reap(w);
}

/* Turns until `condition`; the clock of the flows stands still. */
#define WORLD_UNTIL(world, condition)                                                              \
    for (uint64_t until_ms = clock_now_ms() + PEER_PATIENCE_MS; !(condition);) {                   \
        if (clock_now_ms() > until_ms)                                                             \
            fail_msg("in vain: %s", #condition);                                                   \
        world_turn(world, 1);                                                                      \
    }

/* What has been sent before has arrived. */
static inline void world_fence(struct world *w)
{
    union inet_address to = peer_name(w->fence[1]);
    struct pollfd wait = {.fd = w->fence[1], .events = POLLIN};
    char byte = 0;

    assert_int_equal(sendto(w->fence[0], &byte, 1, 0, &to.any, peer_length(&to)), 1);
    assert_int_equal(poll(&wait, 1, PEER_PATIENCE_MS), 1);
    assert_int_equal(recv(w->fence[1], &byte, 1, 0), 1);
}

/* All that is under way has arrived: a few turns bring nothing more. */
static inline void world_settle(struct world *w)
{
    for (int quiet = 0; quiet < 3; quiet++) {
        uint64_t before = world_metric(w, METRIC_UDP_RECEIVES);
        world_fence(w);
        world_turn(w, 0);
        if (world_metric(w, METRIC_UDP_RECEIVES) != before || poller_has_tasks(&w->poller))
            quiet = -1;
    }
}

/* ---- clients and servers ---- */

static inline int world_client(void)
{
    return peer_socket("127.0.0.1:0");
}

static inline void world_say(struct world *w, int client, const char *text)
{
    peer_send(client, text, strlen(text), &w->entry);
}

/* The next datagram of the socket: its length, and whom it is from. */
static inline size_t world_read(struct world *w, int fd, void *bytes, size_t size,
                                union inet_address *from)
{
    union inet_address sender;
    socklen_t length = sizeof(sender);
    ssize_t got = -1;

    memset(&sender, 0, sizeof(sender));
    WORLD_UNTIL(w, (got = recvfrom(fd, bytes, size, MSG_DONTWAIT, &sender.any, &length)) >= 0);
    if (from != NULL)
        *from = sender;
    return (size_t)got;
}

static inline union inet_address world_hear(struct world *w, int fd, const char *text)
{
    union inet_address from;
    char heard[256];
    size_t length = world_read(w, fd, heard, sizeof(heard) - 1, &from);

    heard[length] = '\0';
    assert_string_equal(heard, text);
    return from;
}

/* Nothing is there, and nothing comes. */
static inline void world_silence(struct world *w, int fd)
{
    char byte;

    world_settle(w);
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

/* A client's request, which comes to server `i`; returns the address that weir asks from. */
static inline union inet_address world_ask(struct world *w, int client, size_t i, const char *text)
{
    world_say(w, client, text);
    return world_hear(w, w->socket[i], text);
}

/* Server `i` answers, and the client hears it from the address that it sent to. */
static inline void world_answer(struct world *w, size_t i, const union inet_address *to, int client,
                                const char *text)
{
    union inet_address from;

    peer_send(w->socket[i], text, strlen(text), to);
    from = world_hear(w, client, text);
    assert_true(inet_address_equal(&from, &w->entry));
}

static inline struct flow *world_newest(struct world *w)
{
    struct flow *newest = NULL;

    for (uint32_t i = 0; i < w->udp->flows.span; i++) {
        struct flow *flow = slab_at(&w->udp->flows, i);
        if (flow != NULL && (newest == NULL || flow->id > newest->id))
            newest = flow;
    }
    BUG_ON(newest == NULL);
    return newest;
}

static inline void assert_flow_ended(const struct flow *flow, enum flow_end_reason reason)
{
    assert_string_equal(flow_state_name((enum flow_state)flow->state), "ended");
    assert_string_equal(flow_end_word((enum flow_end_reason)flow->reason), flow_end_word(reason));
}

/* Nobody is at server `i` any more: its machine refuses what comes (ICMP). */
static inline void world_refuse(struct world *w, size_t i)
{
    peer_hang_up(&w->socket[i]);
}

/* ---- many at once ---- */

/* Datagrams are there, of `segment` bytes each and the last of what is left over. */
static inline union inet_address world_hear_train(struct world *w, int fd, const uint8_t *bytes,
                                                  size_t length, size_t segment)
{
    static uint8_t heard[65536];
    union inet_address from = {0};

    for (size_t at = 0; at < length; at += segment) {
        size_t want = MIN(segment, length - at);
        assert_int_equal(world_read(w, fd, heard, sizeof(heard), &from), want);
        assert_memory_equal(heard, bytes + at, want);
    }
    return from;
}
