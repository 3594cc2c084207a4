/*
 * What control orders and asks, as mail; and the walks over sessions that take more than one slice.
 */
#include "lb/worker/private.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>

/* One slice of a walk over the sessions. */
#define SLICE_US 1000

/* Draining servers are looked after this often; so many quiet sessions are closed each time. */
#define DRAIN_TICK_MS 100
#define DRAIN_PACE 32

/* ---- slices ---- */

void worker_drain_tick(struct wheel_timer *timer, uint64_t now_ms)
{
    struct worker *worker = container_of(timer, struct worker, drain_timer);

    tcp_drain(worker->tcp, &worker->drain_cursor, DRAIN_PACE, clock_now_us() + SLICE_US);
    if (worker->drain_cursor != UINT32_MAX) {
        wheel_set(&worker->wheel, timer, now_ms + 1);
        return;
    }
    worker->drain_cursor = 0;
    /* Without a session the worker sleeps: none comes to a server that drains. */
    if (worker->view != NULL && worker->view->draining > 0 && tcp_sessions(worker->tcp) > 0)
        wheel_set(&worker->wheel, timer, now_ms + DRAIN_TICK_MS);
}

void worker_end_tick(struct wheel_timer *timer, uint64_t now_ms)
{
    static const struct traffic_filter all;
    struct worker *worker = container_of(timer, struct worker, end_timer);

    tcp_kill(worker->tcp, &all, worker->end_reason, &worker->end_cursor, clock_now_us() + SLICE_US);
    if (worker->end_cursor != UINT32_MAX)
        wheel_set(&worker->wheel, timer, now_ms + 1);
}

static void deliver_answer(struct mail *mail, void *owner)
{
    struct worker_query *query = container_of(mail, struct worker_query, mail);

    (void)owner;
    query->done(query);
}

static void deliver_query(struct mail *mail, void *owner)
{
    struct worker *worker = owner;
    struct worker_query *query = container_of(mail, struct worker_query, mail);
    uint64_t until = clock_now_us() + SLICE_US;

    worker_begin_turn(worker);
    query->count = query->kill ? tcp_kill(worker->tcp, &query->filter, SESSION_END_KILLED,
                                          &query->cursor, until)
                               : tcp_list(worker->tcp, &query->filter, &query->cursor,
                                          query->row.session, WORKER_QUERY_ROWS, until);
    mailbox_post(worker->options.control, &query->mail, deliver_answer);
}

void worker_ask(struct worker *worker, struct worker_query *query)
{
    mailbox_post(&worker->mailbox, &query->mail, deliver_query);
}

/* ---- the end ---- */

struct order_mail {
    struct mail mail;
    struct worker *worker;
    enum session_end_reason reason;
    void (*idle)(void *control, struct worker *worker);
};

static struct order_mail *new_order(struct worker *worker)
{
    struct order_mail *order = calloc(1, sizeof(*order));

    if (order != NULL)
        order->worker = worker;
    return order;
}

static void deliver_idle(struct mail *mail, void *owner)
{
    struct order_mail *order = container_of(mail, struct order_mail, mail);

    order->idle(owner, order->worker);
    free(order);
}

void worker_tell_idle(struct worker *worker)
{
    struct order_mail *order = worker->drain;

    if (order == NULL || tcp_sessions(worker->tcp) > 0)
        return;
    worker->drain = NULL;
    order->idle = worker->options.idle;
    mailbox_post(worker->options.control, &order->mail, deliver_idle);
}

/* The order is kept: it goes back as the answer, which so cannot fail for want of memory. */
static void deliver_drain(struct mail *mail, void *owner)
{
    struct worker *worker = owner;
    struct order_mail *order = container_of(mail, struct order_mail, mail);

    worker_begin_turn(worker);
    if (worker->draining) {
        free(order);
        return;
    }
    worker->draining = true;
    worker->drain = order;
    acceptor_stop(worker->acceptor);
}

static void deliver_end(struct mail *mail, void *owner)
{
    struct worker *worker = owner;
    struct order_mail *order = container_of(mail, struct order_mail, mail);

    worker_begin_turn(worker);
    worker->end_reason = order->reason;
    worker->end_cursor = 0;
    wheel_set(&worker->wheel, &worker->end_timer, worker->wheel.now_ms);
    free(order);
}

static void deliver_stop(struct mail *mail, void *owner)
{
    static const struct traffic_filter all;
    struct worker *worker = owner;
    uint32_t cursor = 0;

    (void)mail;
    worker_begin_turn(worker);
    acceptor_stop(worker->acceptor);
    while (cursor != UINT32_MAX)
        tcp_kill(worker->tcp, &all, SESSION_END_SHUTDOWN, &cursor, UINT64_MAX);
    wheel_cancel(&worker->wheel, &worker->view_timer);
    wheel_cancel(&worker->wheel, &worker->drain_timer);
    wheel_cancel(&worker->wheel, &worker->end_timer);
    worker_close_handles(worker);
}

static int post_order(struct worker *worker, mail_fn *deliver, enum session_end_reason reason)
{
    struct order_mail *order = new_order(worker);

    if (order == NULL)
        return -ENOMEM;
    order->reason = reason;
    mailbox_post(&worker->mailbox, &order->mail, deliver);
    return 0;
}

int worker_drain(struct worker *worker)
{
    return post_order(worker, deliver_drain, SESSION_END_DONE);
}

int worker_end_sessions(struct worker *worker, enum session_end_reason reason)
{
    return post_order(worker, deliver_end, reason);
}

void worker_stop(struct worker **worker)
{
    /* Part of the worker, so that stopping cannot fail for want of memory. */
    mailbox_post(&(*worker)->mailbox, &(*worker)->stop, deliver_stop);
    worker_join(worker);
}
