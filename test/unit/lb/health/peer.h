/*
 * Purpose: a probe of a real kind and the server that it meets, on one libuv loop.
 * Thread:  the test's.
 * Owns:    a struct bench owns its loop, its probe and its server; bench_end closes all of it.
 * Fails:   as a cmocka assertion; a test that hangs is ended by a timer that does nothing else.
 *
 * The server plays a script: what it sends, in pieces, and how it ends.
 */
#pragma once

#include "common/loop.h"
#include "lb/health/probe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HANG_MS 30000

enum peer_end { PEER_HOLDS, PEER_CLOSES, PEER_RESETS };

struct script {
    bool at_once;              /* not only when a request has come */
    const char *const *pieces; /* each written by itself; NULL ends them; NULL: none */
    enum peer_end end;
};

struct bench {
    uv_loop_t loop;
    uv_timer_t guard;
    unsigned descriptors; /* before */

    /* The server. */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_udp_t udp; /* see datagram.h */
    } listener;
    bool listens;
    struct script script;
    struct address address;
    char path[64]; /* of a Unix socket */
    void (*on_accept)(struct bench *bench);
    unsigned accepted;
    union inet_address client; /* who was accepted last, but for a Unix socket */
    char request[8192];
    size_t request_size;
    int client_end; /* how the client's side ended: UV_EOF, UV_ECONNRESET; 0: not yet */

    /* The probe. */
    struct config_health settings;
    struct probe *probe;
    void (*on_done)(struct bench *bench);
    unsigned done;
    enum probe_verdict verdict;
    char detail[PROBE_DETAIL_MAX];
};

/* ---- The server ---- */

struct peer_connection {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_write_t write;
    struct bench *bench;
    const char *const *next;
    char buffer[4096];
};

static inline void peer_freed(uv_handle_t *handle)
{
    free(handle->data);
}

static inline void peer_close(struct peer_connection *connection)
{
    if (!uv_is_closing(&connection->socket.handle))
        uv_close(&connection->socket.handle, peer_freed);
}

static inline void peer_reset(struct peer_connection *connection)
{
    int fd;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(uv_fileno(&connection->socket.handle, &fd), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    peer_close(connection);
}

static inline void peer_play(struct peer_connection *connection);

static inline void peer_written(uv_write_t *write, int status)
{
    struct peer_connection *connection = write->data;
    if (status == 0)
        peer_play(connection);
}

static inline void peer_play(struct peer_connection *connection)
{
    if (connection->next != NULL && *connection->next != NULL) {
        const char *piece = *connection->next++;
        uv_buf_t buffer = uv_buf_init((char *)piece, (unsigned)strlen(piece));
        connection->write.data = connection;
        assert_int_equal(
            uv_write(&connection->write, &connection->socket.stream, &buffer, 1, peer_written), 0);
        return;
    }
    if (connection->bench->script.end == PEER_RESETS)
        peer_reset(connection);
    else if (connection->bench->script.end == PEER_CLOSES)
        peer_close(connection);
}

static inline void peer_buffer(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct peer_connection *connection = handle->data;
    (void)size;
    *out = uv_buf_init(connection->buffer, sizeof(connection->buffer));
}

static inline bool peer_has_request(const struct bench *bench)
{
    return memmem(bench->request, bench->request_size, "\r\n\r\n", 4) != NULL;
}

static inline void peer_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    struct peer_connection *connection = stream->data;
    struct bench *bench = connection->bench;
    if (got < 0) {
        bench->client_end = (int)got;
        peer_close(connection);
        return;
    }
    assert_true((size_t)got < sizeof(bench->request) - bench->request_size);
    memcpy(bench->request + bench->request_size, buffer->base, (size_t)got);
    bench->request_size += (size_t)got;
    if (!bench->script.at_once && peer_has_request(bench))
        peer_play(connection);
}

static inline void peer_accept(uv_stream_t *listener, int status)
{
    struct bench *bench = listener->data;
    struct peer_connection *connection = calloc(1, sizeof(*connection));
    assert_int_equal(status, 0);
    assert_non_null(connection);
    connection->bench = bench;
    connection->next = bench->script.pieces;
    connection->socket.handle.data = connection;
    if (listener->type == UV_TCP)
        assert_int_equal(uv_tcp_init(&bench->loop, &connection->socket.tcp), 0);
    else
        assert_int_equal(uv_pipe_init(&bench->loop, &connection->socket.pipe, 0), 0);
    assert_int_equal(uv_accept(listener, &connection->socket.stream), 0);
    bench->accepted++;
    if (address_is_inet(&bench->address)) {
        int length = sizeof(bench->client);
        /* Who has reset by now has no name any more. */
        (void)uv_tcp_getpeername(&connection->socket.tcp, &bench->client.any, &length);
    }
    assert_int_equal(uv_read_start(&connection->socket.stream, peer_buffer, peer_read), 0);
    if (bench->on_accept != NULL)
        bench->on_accept(bench);
    if (bench->script.at_once)
        peer_play(connection);
}

/* "127.0.0.1:0" and the like get a port; a Unix socket gets a name of its own. */
static inline void bench_address(struct bench *bench, const char *text)
{
    const char *why;
    if (strcmp(text, "unix") == 0) {
        snprintf(bench->path, sizeof(bench->path), "unix:/tmp/weir-test-probe-%d", (int)getpid());
        text = bench->path;
    }
    assert_int_equal(address_parse(&bench->address, text, &why), 0);
}

static inline void bench_listen_inet(struct bench *bench)
{
    uv_tcp_t *tcp = &bench->listener.tcp;
    int length = sizeof(bench->address.v6);
    assert_int_equal(uv_tcp_init(&bench->loop, tcp), 0);
    assert_int_equal(uv_tcp_bind(tcp, &bench->address.any, 0), 0);
    assert_int_equal(uv_tcp_getsockname(tcp, &bench->address.any, &length), 0);
}

static inline void bench_listen(struct bench *bench, const char *address, struct script script)
{
    bench_address(bench, address);
    bench->script = script;
    bench->listens = true;
    if (address_is_inet(&bench->address)) {
        bench_listen_inet(bench);
    } else {
        unlink(bench->address.un.sun_path);
        assert_int_equal(uv_pipe_init(&bench->loop, &bench->listener.pipe, 0), 0);
        assert_int_equal(uv_pipe_bind(&bench->listener.pipe, bench->address.un.sun_path), 0);
    }
    bench->listener.handle.data = bench;
    assert_int_equal(uv_listen(&bench->listener.stream, 16, peer_accept), 0);
}

/* ---- The probe ---- */

static inline void bench_done(struct probe *probe, enum probe_verdict verdict, const char *detail,
                              uint64_t now_ms)
{
    struct bench *bench = probe->owner;
    assert_int_equal(now_ms, uv_now(&bench->loop));
    bench->done++;
    bench->verdict = verdict;
    snprintf(bench->detail, sizeof(bench->detail), "%s", detail);
    if (bench->on_done != NULL)
        bench->on_done(bench);
}

/* The settings and the address of the bench must be what they are to be. */
static inline void bench_make_probe(struct bench *bench, const char *kind_name)
{
    const struct probe_kind *kind = probe_kind_find(kind_name);
    assert_non_null(kind);
    bench->probe = calloc(1, kind->size);
    assert_non_null(bench->probe);
    *bench->probe = (struct probe){.kind = kind,
                                   .settings = &bench->settings,
                                   .address = bench->address,
                                   .loop = &bench->loop,
                                   .done = bench_done,
                                   .owner = bench};
}

static inline void bench_start(struct bench *bench, const char *kind_name)
{
    if (bench->probe == NULL)
        bench_make_probe(bench, kind_name);
    unsigned done = bench->done;
    assert_int_equal(bench->probe->kind->start(bench->probe), 0);
    assert_int_equal(bench->done, done);
}

static inline void bench_stop(struct bench *bench, enum probe_verdict why, const char *detail)
{
    unsigned done = bench->done;
    bench->probe->kind->stop(bench->probe, why, detail);
    assert_int_equal(bench->done, done);
}

/* The deadline of the schedule, at a moment of the test's choice. */
static inline void bench_deadline(struct bench *bench)
{
    bench_stop(bench, PROBE_FAIL, "no answer within 1000 ms");
}

static inline void bench_run(struct bench *bench, const char *kind_name)
{
    unsigned done = bench->done;
    bench_start(bench, kind_name);
    while (bench->done == done)
        uv_run(&bench->loop, UV_RUN_ONCE);
    assert_int_equal(bench->done, done + 1);
}

static inline void assert_verdict(const struct bench *bench, enum probe_verdict verdict,
                                  const char *detail)
{
    assert_string_equal(bench->detail, detail);
    assert_int_equal(bench->verdict, verdict);
}

/* ---- Begin and end ---- */

static inline unsigned count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    unsigned count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static inline void on_hang(uv_timer_t *timer)
{
    (void)timer;
    fprintf(stderr, "the test hangs\n");
    abort();
}

/* The first loop of a process opens a pipe for signals that is never closed. */
static inline void warm_up_libuv(void)
{
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static inline void bench_begin(struct bench *bench)
{
    static char path[] = "/", status[] = "200-399", name[] = "www.example.org", none[] = "";
    memset(bench, 0, sizeof(*bench));
    bench->settings = (struct config_health){
        .timeout = 1000,
        .path = path,
        .host = none,
        .status = status,
        .body = none,
        .send = none,
        .expect = none,
        .dns_name = name,
        .dns_address = none,
    };
    warm_up_libuv();
    bench->descriptors = count_descriptors();
    assert_int_equal(uv_loop_init(&bench->loop), 0);
    assert_int_equal(uv_timer_init(&bench->loop, &bench->guard), 0);
    assert_int_equal(uv_timer_start(&bench->guard, on_hang, HANG_MS, 0), 0);
    uv_unref((uv_handle_t *)&bench->guard);
}

/* Until the server has seen how the client's side ended. */
static inline void bench_run_to_client_end(struct bench *bench)
{
    while (bench->client_end == 0)
        uv_run(&bench->loop, UV_RUN_ONCE);
}

static inline void bench_close_connection(uv_handle_t *handle, void *arg)
{
    struct bench *bench = arg;
    if (uv_is_closing(handle))
        return;
    bool own = handle == (uv_handle_t *)&bench->guard || handle == &bench->listener.handle;
    uv_close(handle, own ? NULL : peer_freed);
}

/* Only what the server accepted may still be open: a probe must have closed all of its own. */
static inline void bench_end(struct bench *bench)
{
    uv_walk(&bench->loop, bench_close_connection, bench);
    loop_close(&bench->loop);
    free(bench->probe);
    if (bench->listens && !address_is_inet(&bench->address))
        unlink(bench->address.un.sun_path);
    assert_int_equal(count_descriptors(), bench->descriptors);
}
