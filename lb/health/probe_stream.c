/*
 * Purpose: the socket of probe_stream.h.
 * Thread:  control.
 * Owns:    see probe_stream.h.
 * Fails:   see probe_stream.h.
 *
 *      open --> connecting --> connected: the kind's --> finished: closing --> done
 *                   |                                       ^
 *                   +-------------- refused ----------------+
 *
 * Also what is known at once goes through the loop (a Unix socket connects or refuses within
 * connect(2)): a verdict from within start would find its caller half way.
 *
 * The socket is closed with SO_LINGER 0, so with RST, unless the server has closed before. The side
 * that closes first keeps the port in TIME_WAIT for a minute (tcp(7)), and that is a prober whose
 * whole business is to connect and go: a hundred servers probed twice a second would hold 12,000
 * local ports, and some firewall's table as well. Nothing is lost by it: what the server still had
 * to say is of no use.
 */
#include "lb/health/probe_stream.h"

#include "common/text.h"
#include "lb/health/probe_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct probe_stream *stream_of(uv_poll_t *poll)
{
    return container_of(poll, struct probe_stream, poll);
}

/* ---- The end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct probe_stream *stream = stream_of((uv_poll_t *)handle);
    struct probe *probe = &stream->probe;
    probe->done(probe, stream->verdict, stream->detail, uv_now(probe->loop));
}

static void close_socket(const struct probe_stream *stream)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    /* It cannot fail on a socket; if it did there would be a TIME_WAIT and no more. */
    if (!stream->peer_closed)
        (void)setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(stream->fd);
}

void probe_stream_finish(struct probe_stream *stream, enum probe_verdict verdict,
                         const char *detail)
{
    if (stream->fd < 0)
        return;
    struct text text;
    text_init(&text, stream->detail, sizeof(stream->detail));
    text_add(&text, detail);
    stream->verdict = verdict;

    uv_close((uv_handle_t *)&stream->poll, on_closed);
    close_socket(stream);
    stream->fd = -1;
    if (stream->release != NULL)
        stream->release(stream);
}

/* "connect to 10.0.0.2:80: connection refused" */
static void finish_unconnected(struct probe_stream *stream, enum probe_verdict verdict,
                               const char *what)
{
    char address[ADDRESS_TEXT_MAX];
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_addf(&text, "connect to %s: %s", address_format(&stream->probe.address, address), what);
    probe_stream_finish(stream, verdict, detail);
}

void probe_stream_stop(struct probe *probe, enum probe_verdict why, const char *detail)
{
    struct probe_stream *stream = (struct probe_stream *)probe;
    if (stream->connected)
        probe_stream_finish(stream, why, detail);
    else
        finish_unconnected(stream, why, detail);
}

/* ---- Connecting ---- */

static int connect_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return errno;
    return error == 0 && probe_socket_meets_itself(fd) ? ECONNREFUSED : error;
}

/* libuv reports a refused connect as UV_EBADF: the socket knows better. */
static void on_writable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct probe_stream *stream = stream_of(poll);
    int error = connect_error(stream->fd);
    if (error != 0) {
        finish_unconnected(stream, PROBE_FAIL, uv_strerror(-error));
        return;
    }
    stream->connected = true;
    stream->on_connected(stream);
}

static void watch(struct probe_stream *stream, int events, uv_poll_cb callback)
{
    /* uv_poll_start(3) only fails on a handle that is closing. */
    int rc = uv_poll_start(&stream->poll, events, callback);
    BUG_ON(rc < 0);
}

int probe_stream_open(struct probe_stream *stream, probe_stream_fn *on_connected,
                      probe_stream_fn *release)
{
    int error = 0;
    int fd = probe_socket_open(&stream->probe, SOCK_STREAM, &error);
    if (fd < 0)
        return fd;
    int rc = uv_poll_init(stream->probe.loop, &stream->poll, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    stream->fd = fd;
    stream->on_connected = on_connected;
    stream->release = release;
    stream->connected = false;
    stream->peer_closed = false;
    if (error == EAGAIN)
        finish_unconnected(stream, PROBE_FAIL, "its queue is full");
    else if (error != 0 && error != EINPROGRESS)
        finish_unconnected(stream, PROBE_FAIL, uv_strerror(-error));
    else
        watch(stream, UV_WRITABLE, on_writable);
    return 0;
}

/* ---- Connected ---- */

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct probe_stream *stream = stream_of(poll);
    stream->on_event(stream);
}

void probe_stream_watch(struct probe_stream *stream, int events, probe_stream_fn *on_event)
{
    stream->on_event = on_event;
    watch(stream, events, on_ready);
}
