/*
 * Purpose: the probe kind "tcp": it passes when the server's address accepts a connection.
 * Thread:  control.
 * Owns:    a probe_stream.
 * Fails:   see probe_stream.h.
 *
 * It says that something listens, and no more: the kernel completes handshakes also for a process
 * that is stopped, until its queue is full.
 */
#include "lb/health/probe_stream.h"

static void tcp_connected(struct probe_stream *stream)
{
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
