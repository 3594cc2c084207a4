/*
 * Purpose: a small site for tests of workers and control: a configuration of one listener, one pool
 *          and one server, the server's listening socket, and real clients on loopback.
 * Thread:  the test's.
 * Owns:    the server's socket, and whatever descriptors site_keep was given.
 * Fails:   as a cmocka assertion; what does not happen within PAIR_PATIENCE_MS is a hang.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/clock.h"
#include "common/loop.h"
#include "config/config.h"
#include "lb/listener.h"
#include "lb/pool/pool.h"
#include "test/unit/lb/tcp/pair.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

struct site {
    struct config config;
    struct config_pool pool;
    struct config_server server;
    struct config_listener entry;
    struct sockaddr_in entry_address;
    struct listener *listeners;
    int server_fd; /* where the server listens */
    int *kept;     /* closed by site_close */
    size_t kept_count;
    unsigned descriptors; /* at the beginning */
};

static inline unsigned site_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count - 3; /* ".", ".." and the folder itself */
}

/* What libuv opens once for the whole process, and room for some thousand descriptors. */
static inline void site_warm_up(void)
{
    struct rlimit limit;
    uv_loop_t loop;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    loop_close(&loop);
}

static inline void site_take_address(struct config_address *out, const struct sockaddr_in *from)
{
    out->address.v4 = *from;
    out->address.length = sizeof(*from);
}

/* A listening socket at a port that UDP has free too: tests may want both protocols there. */
static inline int site_take_port(struct sockaddr_in *out)
{
    for (;;) {
        int fd = pair_listen(out, 1024, 0);
        int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int failed = bind(probe, (struct sockaddr *)out, sizeof(*out));
        close(probe);
        if (!failed)
            return fd;
        close(fd);
    }
}

static inline void site_open(struct site *site, int64_t workers)
{
    site_warm_up();
    *site = (struct site){.descriptors = site_descriptors()};
    site->server = (struct config_server){.name = "a", .weight = 100};
    struct sockaddr_in address;
    site->server_fd = site_take_port(&address);
    site_take_address(&site->server.address, &address);
    site->pool = (struct config_pool){
        .name = "web",
        .scheduler = "round-robin",
        .connect_timeout = 5000,
        .retries = 0,
        .drain_deadline = 60000,
        .health = {.type = "none"},
        .servers = &site->server,
        .server_count = 1,
    };
    /* Free again, and nobody else's for a while. */
    close(site_take_port(&site->entry_address));
    site->entry = (struct config_listener){
        .name = "front",
        .pool = "web",
        .backlog = 1024,
        .idle_timeout = 60000,
        .half_close_timeout = 5000,
        .reset_flush_timeout = 2000,
        .log_sample = 1,
    };
    site_take_address(&site->entry.bind, &site->entry_address);
    site->config = (struct config){
        .weir = {.workers = workers, .shutdown_deadline = 60000},
        .pools = &site->pool,
        .pool_count = 1,
        .listeners = &site->entry,
        .listener_count = 1,
    };
}

static inline void site_listen(struct site *site)
{
    char error[512] = "";

    if (listeners_open(&site->config, &site->listeners, error, sizeof(error)) != 0)
        fail_msg("%s", error);
}

static inline void site_keep(struct site *site, int fd)
{
    int *more = realloc(site->kept, (site->kept_count + 1) * sizeof(*more));

    assert_non_null(more);
    site->kept = more;
    site->kept[site->kept_count++] = fd;
}

static inline void site_hang_up(struct site *site)
{
    while (site->kept_count > 0)
        close(site->kept[--site->kept_count]);
    free(site->kept);
    site->kept = NULL;
}

/* Everything of the test's own must have been given back. */
static inline void site_close(struct site *site)
{
    site_hang_up(site);
    listeners_close(&site->listeners, site->config.listener_count);
    close(site->server_fd);
    assert_int_equal(site_descriptors(), site->descriptors);
}

/* ---- clients ---- */

static inline int site_try_dial(const struct site *site)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&site->entry_address, sizeof(site->entry_address)) ==
        0)
        return fd;
    close(fd);
    return -1;
}

/* A client whose connection stands, as far as the kernel goes. */
static inline int site_dial(struct site *site)
{
    int fd = site_try_dial(site);

    assert_true(fd >= 0);
    site_keep(site, fd);
    return fd;
}

/* The server's end of a session. */
static inline int site_serve(struct site *site)
{
    int fd = pair_accept(site->server_fd);

    site_keep(site, fd);
    return fd;
}

/* A byte goes from one end to the other. */
static inline void site_pass(int from, int to)
{
    char byte = 'x';

    assert_int_equal(send(from, &byte, 1, MSG_NOSIGNAL), 1);
    byte = 0;
    pair_wait(to, POLLIN);
    assert_int_equal(recv(to, &byte, 1, 0), 1);
    assert_int_equal(byte, 'x');
}

/* A client, and a server that has answered it. */
static inline void site_session(struct site *site, int *out_client, int *out_server)
{
    *out_client = site_dial(site);
    *out_server = site_serve(site);
    site_pass(*out_client, *out_server);
    site_pass(*out_server, *out_client);
}

static inline void site_expect_reset(int fd)
{
    char byte;

    pair_wait(fd, POLLIN);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

/* ---- the loop ---- */

static inline void site_look(uv_timer_t *timer)
{
    (void)timer;
}

/* Turns of the loop until `condition`; looked at each millisecond too, for another thread that
 * makes it true does not wake this one. */
#define SITE_UNTIL(loop, condition)                                                                \
    do {                                                                                           \
        uint64_t until_ms_ = clock_now_ms() + PAIR_PATIENCE_MS;                                    \
        uv_timer_t look_;                                                                          \
        uv_timer_init((loop), &look_);                                                             \
        uv_timer_start(&look_, site_look, 1, 1);                                                   \
        while (!(condition)) {                                                                     \
            if (clock_now_ms() > until_ms_)                                                        \
                fail_msg("in vain: %s", #condition);                                               \
            uv_run((loop), UV_RUN_ONCE);                                                           \
        }                                                                                          \
        uv_close((uv_handle_t *)&look_, NULL);                                                     \
        uv_run((loop), UV_RUN_NOWAIT);                                                             \
    } while (0)
