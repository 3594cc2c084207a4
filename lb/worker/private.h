/*
 * Purpose: the worker's insides, for the files of lb/worker.
 * Thread:  the worker's, but for what is marked.
 * Owns:    see worker.h.
 * Fails:   see worker.h.
 */
#pragma once

#include "common/mailbox.h"
#include "common/pipe.h"
#include "common/poller.h"
#include "common/random.h"
#include "common/wheel.h"
#include "lb/worker/acceptor.h"
#include "lb/worker/worker.h"

struct order_mail;

struct worker {
    struct worker_options options;
    uv_thread_t thread;
    uv_loop_t loop;
    struct mailbox mailbox;
    struct mail stop; /* the last one */
    struct poller poller;
    bool has_mail; /* the libuv loop is to run in this turn */
    struct wheel wheel;
    struct pipe_pool pipes;
    struct metrics metrics;
    struct refusals *refusals;
    struct tcp *tcp;
    struct udp *udp; /* NULL: no listener of that kind */
    struct acceptor *acceptor;
    struct view *view;
    struct sched_cursor **cursor; /* one per pool of the view */
    struct view *wanted;          /* memory was short for it */
    struct wheel_timer view_timer;
    struct random_state random;
    _Atomic uint64_t longest_turn_us; /* control reads and clears it */
    uint64_t turn_us;                 /* when this turn began to work; 0 between turns */
    struct wheel_timer drain_timer;
    uint32_t drain_cursor;
    struct wheel_timer end_timer; /* ends all sessions, a slice at a time */
    uint32_t end_cursor;
    uint32_t flow_drain_cursor, flow_end_cursor; /* the same for flows */
    bool draining;                               /* accepts no more */
    struct order_mail *drain; /* what `idle` is told with; NULL before and after */
};

/* BUG unless the caller is the worker's own thread. */
void worker_here(const struct worker *worker);

/* What the loop hands out begins with this: it reads the clock. Mail may come before the set's
 * events. */
void worker_begin_turn(struct worker *worker);

/* ---- choice.c: struct tcp_env's questions ---- */
struct server *worker_pick(void *owner, uint32_t pool, uint64_t key,
                           const struct sched_tried *tried);
const struct pool_policy *worker_policy(void *owner, uint32_t pool);
void worker_suspect(void *owner, struct server *server);
void worker_free_view(struct worker *worker);
void worker_view_tick(struct wheel_timer *timer, uint64_t now_ms);

/* ---- orders.c ---- */
void worker_drain_tick(struct wheel_timer *timer, uint64_t now_ms);
void worker_end_tick(struct wheel_timer *timer, uint64_t now_ms);
/* Tells control, once, that a draining worker has neither session nor flow left. */
void worker_tell_idle(struct worker *worker);

/* ---- worker.c ---- */
/* On control: waits for the thread and frees all. */
void worker_join(struct worker **worker);
