/*
 * Purpose: takes clients off a worker's listening sockets, as many and as fast as the limits allow,
 *          and pauses when they, or this machine's descriptors or memory, are used up.
 * Thread:  the worker's.
 * Owns:    the worker's one socket of each listener, from acceptor_new on.
 * Fails:   acceptor_new without memory. Running out is a state, not an error: see acceptor_release.
 *
 * Listening sockets are level-triggered: an edge-triggered one with a queue left gives no event
 * when it is taken up again. A paused listener is out of the set; the wheel puts it back.
 *
 * A rate is shared by all workers. When it is used up a listener that has a client waiting claims
 * its turn and rests until then, so that workers and listeners are served in the order in which
 * they came. A client counts as taken when its connection is, even if the gate then refuses it:
 * what a rate protects is what each one costs. One that could not be taken counts for nothing,
 * unless another listener or worker came for its turn meanwhile. A listener at its limit, or weir
 * at its own, asks for no turn.
 */
#pragma once

#include "common/poller.h"
#include "common/wheel.h"
#include "lb/listener.h"
#include "lb/tcp/tcp.h"

struct acceptor;

struct acceptor_options {
    uint32_t worker;
    struct poller *poller;
    struct wheel *wheel;
    struct metrics *metrics;
    struct tcp *tcp;
    struct listener *listeners;
    size_t listener_count;
    uint32_t session_limit;           /* of the process */
    _Atomic uint32_t *sessions_total; /* on all workers */
    struct rate_meter *session_rate;  /* of all listeners and workers */
};

must_check int acceptor_new(struct acceptor **out, const struct acceptor_options *options);
void acceptor_free(struct acceptor **acceptor);

/* Listens for clients from now on. */
void acceptor_start(struct acceptor *acceptor);

/* Takes what the kernel has queued (it would be reset), whatever the rates, then closes the
 * sockets. Idempotent. */
void acceptor_stop(struct acceptor *acceptor);

/* Another client would find no descriptor or memory on its way: all wait in the queues for a while.
 */
void acceptor_pause(struct acceptor *acceptor);

/* A session is over: its slot is free, and a listener that waited for one goes on. */
void acceptor_release(struct acceptor *acceptor, const struct tcp_policy *policy);
