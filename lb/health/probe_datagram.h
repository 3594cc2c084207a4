/*
 * Purpose: the datagram socket of a probe: sends one datagram (IPv4, IPv6), takes what comes back,
 *          closes and tells the verdict.
 * Thread:  control.
 * Owns:    the descriptor and the watcher, from send until `done`.
 * Fails:   send returns a negative errno when our own machine lacks something; all else is a
 *          verdict.
 *
 * Private to lb/health: what the kinds of probe that speak in datagrams have in common.
 */
#pragma once

#include "lb/health/probe.h"

struct probe_datagram;
/* A datagram from the server, whole. The probe may be finished from within. */
typedef void probe_reply_fn(struct probe_datagram *datagram, const uint8_t *bytes, size_t size);

/* First member of such a kind's own struct. */
struct probe_datagram {
    struct probe probe;
    uv_poll_t poll;
    probe_reply_fn *on_reply;
    int fd; /* -1 from probe_datagram_finish on */
    enum probe_verdict verdict;
    char detail[PROBE_DETAIL_MAX];
};

/*
 * Sends from a fresh socket. Replies, and ICMP errors, which end the probe, come from the loop,
 * never from within.
 */
must_check int probe_datagram_send(struct probe_datagram *datagram, const void *bytes, size_t size,
                                   probe_reply_fn *on_reply);

/* Takes what has come by now, and the loop has not told yet. */
void probe_datagram_receive(struct probe_datagram *datagram);

/* Closes; the probe's `done` follows from the loop. Only the first verdict counts. */
void probe_datagram_finish(struct probe_datagram *datagram, enum probe_verdict verdict,
                           const char *detail);

/* probe_kind.stop */
void probe_datagram_stop(struct probe *probe, enum probe_verdict why, const char *detail);
