/*
 * Purpose: the probe kind "tcp": it passes when the server's address accepts a connection.
 * Thread:  control.
 * Owns:    a probe_stream.
 * Fails:   see probe_stream.h.
 *
 * It says that something listens, and no more: the kernel completes handshakes also for a process
 * that is stopped, until its queue is full.
 */
#include "lb/health/probe_socket.h"
#include "lb/health/probe_stream.h"

#include <errno.h>
#include <sys/socket.h>

static void tcp_connected(struct probe_stream *stream)
{
    uint8_t greeting[PROBE_GREETING_MAX];
    size_t size = probe_socket_greeting(stream->probe.settings->proxy_version, greeting);

    /* A socket that has just connected takes so little whole, or has failed. */
    if (size > 0 && send(stream->fd, greeting, size, MSG_NOSIGNAL) < 0)
        probe_stream_finish(stream, PROBE_FAIL, uv_strerror(-errno));
    else
        probe_stream_finish(stream, PROBE_PASS, "connected");
}

static int tcp_start(struct probe *probe)
{
    return probe_stream_open((struct probe_stream *)probe, tcp_connected, NULL);
}

const struct probe_kind probe_tcp = {
    .size = sizeof(struct probe_stream),
    .start = tcp_start,
    .stop = probe_stream_stop,
};
