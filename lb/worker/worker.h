/*
 * Purpose: one thread, one libuv loop, one epoll set; its listening sockets, sessions and flows.
 * Thread:  all verbs: control. They post to the worker's mailbox and return.
 * Owns:    the thread and all that lives on it. A posted query belongs to the worker until it comes
 *          back.
 * Fails:   worker_start with one sentence in `error`.
 */
#pragma once

#include "common/base.h"
#include "common/mailbox.h"
#include "lb/listener.h"
#include "lb/metrics/metrics.h"
#include "lb/pool/pool.h"
#include "lb/tcp/tcp.h"
#include "lb/udp/udp.h"

#define WORKERS_MAX 256 /* the low byte of a session id */

struct worker;

struct worker_options {
    uint32_t index;
    uint32_t session_limit;           /* of the whole process */
    _Atomic uint32_t *sessions_total; /* on all workers */
    struct rate_meter *session_rate;  /* of new ones, on all workers */
    struct rate_meter *refusal_lines; /* of the log, of all workers */
    uint32_t pipe_limit;              /* of this worker */
    uint32_t rest_limit;              /* sockets of ended flows, of this worker */
    struct udp_shared *udp;           /* of all workers */
    struct listener *listeners;
    size_t listener_count;
    uint32_t pool_count; /* of every view */
    struct mailbox *control;
    /* On control's thread: a connect to the server failed on some worker; comes with a reference.
     */
    void (*suspect)(void *control, struct server *server);
    /* On control's thread: the worker accepts no more and has no session and no flow left. */
    void (*idle)(void *control, struct worker *worker);
};

/* Starts the thread; it accepts only after its first view. */
must_check int worker_start(struct worker **out, const struct worker_options *options, char *error,
                            size_t error_size);

/*
 * Orders: each returns -ENOMEM when not even the message could be made, and changes nothing then.
 */

/* Schedules from the view from now on; takes a reference of its own. */
must_check int worker_set_view(struct worker *worker, struct view *view);

/* Accepts what is queued, closes the listening sockets of TCP, begins no more flows; `idle` follows
 * when the last session and the last flow have ended. */
must_check int worker_drain(struct worker *worker);

/* Ends what is left at the shutdown deadline, in slices. */
must_check int worker_end_all(struct worker *worker);

/* Resets what is left, ends the thread, waits for it and frees everything. */
void worker_stop(struct worker **worker);

const struct metrics *worker_metrics(const struct worker *worker);
/* The longest turn of the loop since the last call, in microseconds. */
uint64_t worker_longest_turn_us(struct worker *worker);

/* What a question is about. */
enum traffic_kind { TRAFFIC_SESSIONS, TRAFFIC_FLOWS };

#define WORKER_QUERY_ROWS 128
union traffic_rows {
    struct session_info session[WORKER_QUERY_ROWS];
    struct flow_info flow[WORKER_QUERY_ROWS];
};

/*
 * A question about sessions or flows, answered in slices of at most 1 ms. Comes back through `done`
 * on control's thread with `count` rows; post it again while `cursor` is not UINT32_MAX.
 */
struct worker_query {
    struct mail mail;
    struct worker *worker;
    void (*done)(struct worker_query *query);
    enum traffic_kind kind;
    struct traffic_filter filter;
    bool kill; /* end the matches instead of listing them */
    uint32_t cursor;
    uint32_t count; /* rows, or how many were ended */
    union traffic_rows row;
};
void worker_ask(struct worker *worker, struct worker_query *query);

/*
 * Goes to the worker and comes back through `done` on control's thread: what the worker looked at
 * before it came, without a reference, it does not look at any more.
 */
struct worker_pass {
    struct mail mail;
    void (*done)(struct worker_pass *pass);
};
void worker_pass(struct worker *worker, struct worker_pass *pass);
