/*
 * Purpose: the stream socket of a probe: connects it (IPv4, IPv6, Unix), watches it, closes it and
 *          tells the verdict.
 * Thread:  control.
 * Owns:    the descriptor and the watcher, from open until `done`.
 * Fails:   open returns a negative errno when our own machine lacks something; all else is a
 *          verdict.
 *
 * Private to lb/health: what the kinds of probe that speak over a stream have in common.
 */
#pragma once

#include "lb/health/probe.h"

struct probe_stream;
typedef void probe_stream_fn(struct probe_stream *stream);

/* First member of such a kind's own struct. */
struct probe_stream {
    struct probe probe;
    uv_poll_t poll;
    probe_stream_fn *on_connected;
    probe_stream_fn *on_event;
    probe_stream_fn *release;
    int fd; /* -1 from probe_stream_finish on */
    bool connected;
    bool peer_closed; /* set by a kind that has read the end of the stream */
    enum probe_verdict verdict;
    char detail[PROBE_DETAIL_MAX];
};

/*
 * Begins to connect; `on_connected` comes from the loop, never from within. `release` (or NULL)
 * gives up what the kind holds: it is called once when the probe is finished, in whatever way.
 */
must_check int probe_stream_open(struct probe_stream *stream, probe_stream_fn *on_connected,
                                 probe_stream_fn *release);

/*
 * Has `on_event` called from now on when the socket is ready for `events` (UV_READABLE,
 * UV_WRITABLE) or has failed: the next call on it tells how.
 */
void probe_stream_watch(struct probe_stream *stream, int events, probe_stream_fn *on_event);

/* Closes; the probe's `done` follows from the loop. Only the first verdict counts. */
void probe_stream_finish(struct probe_stream *stream, enum probe_verdict verdict,
                         const char *detail);

/* probe_kind.stop */
void probe_stream_stop(struct probe *probe, enum probe_verdict why, const char *detail);
