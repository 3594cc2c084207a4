/*
 * Purpose: the surroundings of sessions, by hand: real loopback sockets on both ends, an injected
 *          clock, and a choice of servers that the test dictates.
 * Thread:  the test's.
 * Owns:    all of it, from world_open to world_close.
 * Fails:   as a cmocka assertion; what does not happen within PAIR_PATIENCE_MS is a hang.
 *
 * Include after <cmocka.h>. Sessions that ended keep their memory until world_close, so that a test
 * can look at them.
 */
#pragma once

#include "common/clock.h"
#include "lb/pool/build.h"
#include "lb/tcp/session.h"
#include "test/unit/lb/tcp/pair.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define WORLD_SERVERS 3
#define WORLD_START_MS UINT64_C(1000000)

struct world {
    struct poller poller;
    struct wheel wheel;
    struct pipe_pool pipes;
    struct metrics metrics;
    struct rate_meter refusal_lines;
    struct refusals *refusals;
    struct tcp *tcp;
    uint64_t now_ms;
    struct tcp_policy policy;
    struct pool_policy pool;
    struct server *server[WORLD_SERVERS];
    bool usable[WORLD_SERVERS];
    int listener[WORLD_SERVERS]; /* of the servers; -1: nobody listens */
    int entry;                   /* where clients come in */
    struct sockaddr_in entry_address;
    unsigned suspected[WORLD_SERVERS];
    unsigned starved;
    unsigned ended;
    unsigned descriptors; /* at the beginning */
};

/* One client, what weir makes of it, and the server's end of it. */
struct chain {
    int client;
    int server;
    struct session *session;
};

/* ---- what sessions ask for ---- */

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

    (void)key;
    assert_int_equal(pool, 0);
    for (size_t i = 0; i < WORLD_SERVERS; i++) {
        if (w->usable[i] && !world_was_tried(tried, w->server[i]->id) && server_enter(w->server[i]))
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

    for (size_t i = 0; i < WORLD_SERVERS; i++)
        w->suspected[i] += w->server[i] == server;
}

static inline void world_starved(void *owner)
{
    ((struct world *)owner)->starved++;
}

static inline void world_ended(void *owner, const struct tcp_policy *policy)
{
    struct world *w = owner;

    assert_ptr_equal(policy, &w->policy);
    w->ended++;
}

/* ---- beginning and end ---- */

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

static inline struct server *world_server(const char *name, const struct address *address)
{
    char text[16];
    struct config_server config = {.name = text, .weight = 100, .address.address = *address};

    snprintf(text, sizeof(text), "%s", name);
    struct server *server = server_new("web", &config, 1);
    assert_non_null(server);
    return server;
}

static inline void world_woken(void *owner)
{
    struct world *w = owner;

    tcp_set_now(w->tcp, w->now_ms);
}

static inline void world_add_server(struct world *w, size_t i)
{
    static const char *const names[WORLD_SERVERS] = {"a", "b", "c"};
    struct address address = {.length = sizeof(struct sockaddr_in)};

    w->listener[i] = pair_listen(&address.v4, 16, 0);
    w->server[i] = world_server(names[i], &address);
}

/* Options that the test has set in w->policy before are put on the entry. */
static inline void world_open_with(struct world *w, uint64_t start_ms, uint32_t session_limit)
{
    struct tcp_env env = {
        .poller = &w->poller,
        .wheel = &w->wheel,
        .pipes = &w->pipes,
        .metrics = &w->metrics,
        .session_limit = session_limit,
        .pool_count = 1,
        .owner = w,
        .pick = world_pick,
        .policy = world_pool_policy,
        .suspect = world_suspect,
        .starved = world_starved,
        .ended = world_ended,
    };

    w->descriptors = world_descriptors();
    w->now_ms = start_ms;
    wheel_init(&w->wheel, start_ms);
    pipe_pool_init(&w->pipes, 8, 0);
    assert_int_equal(poller_open(&w->poller), 0);
    poller_on_wake(&w->poller, world_woken, w);
    refusals_meter_init(&w->refusal_lines);
    assert_int_equal(refusals_new(&w->refusals, &w->wheel, &w->refusal_lines), 0);
    env.refusals = w->refusals;
    assert_int_equal(tcp_new(&w->tcp, &env, start_ms), 0);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        world_add_server(w, i);
    w->usable[0] = true;
    w->entry = pair_listen(&w->entry_address, 16, 0);
    assert_int_equal(tcp_listener_options(w->entry, &w->policy), 0);
}

static inline void world_init(struct world *w)
{
    *w = (struct world){
        .policy = {.listener = "front",
                   .log_sample = 1,
                   .pool_name = "web",
                   .splice = CONFIG_SPLICE_AUTO,
                   .idle_timeout_ms = 60000,
                   .half_close_timeout_ms = 5000,
                   .reset_flush_timeout_ms = 2000},
        .pool = {.connect_timeout_ms = 1000, .retries = 2, .when_empty = CONFIG_EMPTY_HOLD},
    };
}

static inline void world_open(struct world *w)
{
    world_init(w);
    world_open_with(w, WORLD_START_MS, 100);
}

static inline void world_hang_up(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Every session must have ended: nothing may be left of any. */
static inline void world_close(struct world *w)
{
    assert_int_equal(tcp_sessions(w->tcp), 0);
    refusals_free(&w->refusals);
    assert_int_equal(w->wheel.count, 0);
    assert_int_equal(w->pipes.taken, 0);
    assert_false(poller_has_tasks(&w->poller));
    assert_int_equal(metrics_get(&w->metrics, METRIC_SESSIONS),
                     metrics_get(&w->metrics, METRIC_SESSIONS_ENDED));
    tcp_free(&w->tcp);
    pipe_pool_deinit(&w->pipes);
    poller_close(&w->poller);
    for (size_t i = 0; i < WORLD_SERVERS; i++) {
        assert_int_equal(atomic_load(&w->server[i]->live.load), 0);
        assert_int_equal(atomic_load(&w->server[i]->references), 1);
        server_put(&w->server[i]);
        world_hang_up(&w->listener[i]);
    }
    world_hang_up(&w->entry);
    assert_int_equal(world_descriptors(), w->descriptors);
}

/* ---- time and events ---- */

/* A turn of the worker's loop, but for tcp_reap. */
static inline void world_turn(struct world *w, int wait_ms)
{
    poller_wait(&w->poller, wait_ms);
    poller_run_tasks(&w->poller);
    wheel_advance(&w->wheel, w->now_ms);
}

static inline void world_pass(struct world *w, uint64_t span_ms)
{
    w->now_ms += span_ms;
    tcp_set_now(w->tcp, w->now_ms);
    wheel_advance(&w->wheel, w->now_ms);
}

/* Turns until `condition`; the clock of the sessions stands still. */
#define WORLD_UNTIL(world, condition)                                                              \
    for (uint64_t until_ms = clock_now_ms() + PAIR_PATIENCE_MS; !(condition);) {                   \
        if (clock_now_ms() > until_ms)                                                             \
            fail_msg("in vain: %s", #condition);                                                   \
        world_turn(world, 1);                                                                      \
    }

/* All that is under way has arrived: a few turns bring nothing more. */
static inline void world_settle(struct world *w)
{
    for (int quiet = 0; quiet < 5; quiet++) {
        uint64_t before =
            metrics_get(&w->metrics, METRIC_BYTES_IN) + metrics_get(&w->metrics, METRIC_BYTES_OUT);
        world_turn(w, 1);
        if (metrics_get(&w->metrics, METRIC_BYTES_IN) +
                metrics_get(&w->metrics, METRIC_BYTES_OUT) !=
            before)
            quiet = -1;
    }
}

/* ---- clients and servers ---- */

static inline struct session *world_newest(struct world *w)
{
    struct session *newest = NULL;

    for (uint32_t i = 0; i < w->tcp->sessions.span; i++) {
        struct session *session = slab_at(&w->tcp->sessions, i);
        if (session != NULL && (newest == NULL || session->id > newest->id))
            newest = session;
    }
    BUG_ON(newest == NULL);
    return newest;
}

/* A client's end of a new connection, which waits in the entry's queue. */
static inline int world_dial(struct world *w, int rcvbuf)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    pair_option(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf);
    pair_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&w->entry_address, sizeof(w->entry_address)),
                     0);
    assert_int_equal(ioctl(fd, FIONBIO, &(int){1}), 0);
    return fd;
}

/* Takes the client at the head of the entry's queue in. */
static inline void world_take_in(struct world *w)
{
    union inet_address address = {0};
    socklen_t length = sizeof(address);

    pair_wait(w->entry, POLLIN);
    int fd = accept4(w->entry, &address.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    tcp_accept(w->tcp, &w->policy, fd, &address);
}

static inline struct chain world_client(struct world *w)
{
    struct chain chain = {.server = -1};

    chain.client = world_dial(w, 0);
    world_take_in(w);
    chain.session = world_newest(w);
    return chain;
}

/* The server's end of a connect that weir made to server `i`. */
static inline int world_served(struct world *w, size_t i)
{
    int fd = -1;

    WORLD_UNTIL(w, (fd = accept4(w->listener[i], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
    return fd;
}

/* A client, a session that relays, and server `i`, which is the one that will be picked. */
static inline struct chain world_chain(struct world *w, size_t i)
{
    struct chain chain = world_client(w);

    chain.server = world_served(w, i);
    WORLD_UNTIL(w, chain.session->state == SESSION_RELAYING);
    return chain;
}

static inline void chain_hang_up(struct chain *chain)
{
    world_hang_up(&chain->client);
    world_hang_up(&chain->server);
}

static inline void chain_reset(int *fd)
{
    pair_reset(*fd);
    *fd = -1;
}

/* A byte each way, so that the session is one that a server has touched. */
static inline void chain_greet(struct world *w, struct chain *chain)
{
    char byte = 0;

    assert_int_equal(send(chain->client, "?", 1, MSG_NOSIGNAL), 1);
    WORLD_UNTIL(w, recv(chain->server, &byte, 1, MSG_DONTWAIT) == 1);
    assert_int_equal(byte, '?');
    assert_int_equal(send(chain->server, "!", 1, MSG_NOSIGNAL), 1);
    WORLD_UNTIL(w, recv(chain->client, &byte, 1, MSG_DONTWAIT) == 1);
    assert_int_equal(byte, '!');
}

/* What the socket sees next: a FIN (0), a RST or another error (its errno). */
static inline int world_sees(struct world *w, int fd)
{
    char byte;
    ssize_t got = -1;

    errno = EAGAIN;
    WORLD_UNTIL(w, (got = recv(fd, &byte, 1, MSG_DONTWAIT)) >= 0 || errno != EAGAIN);
    if (got > 0)
        fail_msg("a byte where the end should be");
    return got == 0 ? 0 : errno;
}

static inline void assert_ended(const struct session *session, enum session_end_reason reason)
{
    assert_int_equal(session->state, SESSION_ENDED);
    assert_string_equal(session_end_word((enum session_end_reason)session->reason),
                        session_end_word(reason));
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

/* Nobody listens at server `i` any more: a connect is refused. */
static inline void world_refuse(struct world *w, size_t i)
{
    world_hang_up(&w->listener[i]);
}

/* Server `i` answers no SYN: its backlog of one is full. */
static inline void world_swallow_syns(struct world *w, size_t i, int filler[2])
{
    struct sockaddr_in address = w->server[i]->address.v4;

    assert_int_equal(listen(w->listener[i], 0), 0);
    for (int n = 0; n < 2; n++) {
        filler[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(filler[n] >= 0);
        assert_int_equal(connect(filler[n], (struct sockaddr *)&address, sizeof(address)), -1);
        assert_int_equal(errno, EINPROGRESS);
    }
    pair_wait(filler[0], POLLOUT);
}

static inline void world_answer_syns(int filler[2])
{
    world_hang_up(&filler[0]);
    world_hang_up(&filler[1]);
}

/* The usual end of a test: both sides say FIN, and both see one. */
static inline void chain_finish(struct world *w, struct chain *chain)
{
    assert_int_equal(shutdown(chain->client, SHUT_WR), 0);
    assert_int_equal(world_sees(w, chain->server), 0);
    assert_int_equal(shutdown(chain->server, SHUT_WR), 0);
    assert_int_equal(world_sees(w, chain->client), 0);
    WORLD_UNTIL(w, chain->session->state == SESSION_ENDED);
    assert_ended(chain->session, SESSION_END_DONE);
    chain_hang_up(chain);
}
