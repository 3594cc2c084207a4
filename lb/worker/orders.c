/*
 * What control orders and asks, as mail; and the walks over sessions and flows that take more than
 * one slice.
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

/* One after the other: flows when the sessions are through. True when both are. */
static bool walk_drain(struct worker *worker, uint64_t until_us)
{
    if (worker->drain_cursor != UINT32_MAX)
        tcp_drain(worker->tcp, &worker->drain_cursor, DRAIN_PACE, until_us);
    if (worker->drain_cursor != UINT32_MAX)
        return false;
    if (worker->udp != NULL && worker->flow_drain_cursor != UINT32_MAX)
        udp_drain(worker->udp, &worker->flow_drain_cursor, DRAIN_PACE, until_us);
    return worker->udp == NULL || worker->flow_drain_cursor == UINT32_MAX;
}

static uint32_t carried(const struct worker *worker)
{
    return tcp_sessions(worker->tcp) + (worker->udp != NULL ? udp_flows(worker->udp) : 0);
}

void worker_drain_tick(struct wheel_timer *timer, uint64_t now_ms)
{
    struct worker *worker = container_of(timer, struct worker, drain_timer);

    if (!walk_drain(worker, clock_now_us() + SLICE_US)) {
        wheel_set(&worker->wheel, timer, now_ms + 1);
        return;
    }
    worker->drain_cursor = 0;
    worker->flow_drain_cursor = 0;
    /* With nothing to look after the worker sleeps: nothing new comes to a server that drains. */
    if (worker->view != NULL && worker->view->draining > 0 && carried(worker) > 0)
        wheel_set(&worker->wheel, timer, now_ms + DRAIN_TICK_MS);
}

static bool walk_end(struct worker *worker, uint64_t until_us)
{
    static const struct traffic_filter all;

    if (worker->end_cursor != UINT32_MAX)
        tcp_kill(worker->tcp, &all, SESSION_END_SHUTDOWN, &worker->end_cursor, until_us);
    if (worker->end_cursor != UINT32_MAX)
        return false;
    if (worker->udp != NULL && worker->flow_end_cursor != UINT32_MAX)
        udp_kill(worker->udp, &all, FLOW_END_SHUTDOWN, &worker->flow_end_cursor, until_us);
    return worker->udp == NULL || worker->flow_end_cursor == UINT32_MAX;
}

void worker_end_tick(struct wheel_timer *timer, uint64_t now_ms)
{
    struct worker *worker = container_of(timer, struct worker, end_timer);

    if (!walk_end(worker, clock_now_us() + SLICE_US))
        wheel_set(&worker->wheel, timer, now_ms + 1);
}

static void deliver_answer(struct mail *mail, void *owner)
{
    struct worker_query *query = container_of(mail, struct worker_query, mail);

    (void)owner;
    query->done(query);
}

static void ask_sessions(struct worker *worker, struct worker_query *query, uint64_t until_us)
{
    query->count = query->kill ? tcp_kill(worker->tcp, &query->filter, SESSION_END_KILLED,
                                          &query->cursor, until_us)
                               : tcp_list(worker->tcp, &query->filter, &query->cursor,
                                          query->row.session, WORKER_QUERY_ROWS, until_us);
}

static void ask_flows(struct worker *worker, struct worker_query *query, uint64_t until_us)
{
    query->count = 0;
    if (worker->udp == NULL)
        query->cursor = UINT32_MAX;
    else if (query->kill)
        query->count =
            udp_kill(worker->udp, &query->filter, FLOW_END_KILLED, &query->cursor, until_us);
    else
        query->count = udp_list(worker->udp, &query->filter, &query->cursor, query->row.flow,
                                WORKER_QUERY_ROWS, until_us);
}

static void deliver_query(struct mail *mail, void *owner)
{
    struct worker *worker = owner;
    struct worker_query *query = container_of(mail, struct worker_query, mail);
    uint64_t until_us = clock_now_us() + SLICE_US;

    worker_begin_turn(worker);
    if (query->kind == TRAFFIC_FLOWS)
        ask_flows(worker, query, until_us);
    else
        ask_sessions(worker, query, until_us);
    mailbox_post(worker->options.control, &query->mail, deliver_answer);
}

void worker_ask(struct worker *worker, struct worker_query *query)
{
    mailbox_post(&worker->mailbox, &query->mail, deliver_query);
}

static void deliver_passed(struct mail *mail, void *owner)
{
    struct worker_pass *pass = container_of(mail, struct worker_pass, mail);

    (void)owner;
    pass->done(pass);
}

/* Between two callbacks of the worker: that is all it is for. */
static void deliver_pass(struct mail *mail, void *owner)
{
    struct worker *worker = owner;

    mailbox_post(worker->options.control, mail, deliver_passed);
}

void worker_pass(struct worker *worker, struct worker_pass *pass)
{
    mailbox_post(&worker->mailbox, &pass->mail, deliver_pass);
}

/* ---- the end ---- */

struct order_mail {
    struct mail mail;
    struct worker *worker;
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

    if (order == NULL || carried(worker) > 0)
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
    if (worker->udp != NULL)
        udp_drain_all(worker->udp);
}

static void deliver_end(struct mail *mail, void *owner)
{
    struct worker *worker = owner;
    struct order_mail *order = container_of(mail, struct order_mail, mail);

    worker_begin_turn(worker);
    worker->end_cursor = 0;
    worker->flow_end_cursor = 0;
    wheel_set(&worker->wheel, &worker->end_timer, worker->wheel.now_ms);
    free(order);
}

static void deliver_stop(struct mail *mail, void *owner)
{
    struct worker *worker = owner;

    (void)mail;
    worker_begin_turn(worker);
    acceptor_stop(worker->acceptor);
    worker->end_cursor = 0;
    worker->flow_end_cursor = 0;
    while (!walk_end(worker, UINT64_MAX))
        continue;
    free(worker->drain); /* who stops a worker does not wait to hear that it is idle */
    worker->drain = NULL;
    wheel_cancel(&worker->wheel, &worker->view_timer);
    wheel_cancel(&worker->wheel, &worker->drain_timer);
    wheel_cancel(&worker->wheel, &worker->end_timer);
    mailbox_close(&worker->mailbox);
}

static int post_order(struct worker *worker, mail_fn *deliver)
{
    struct order_mail *order = new_order(worker);

    if (order == NULL)
        return -ENOMEM;
    mailbox_post(&worker->mailbox, &order->mail, deliver);
    return 0;
}

int worker_drain(struct worker *worker)
{
    return post_order(worker, deliver_drain);
}

int worker_end_all(struct worker *worker)
{
    return post_order(worker, deliver_end);
}

void worker_stop(struct worker **worker)
{
    /* Part of the worker, so that stopping cannot fail for want of memory. */
    mailbox_post(&(*worker)->mailbox, &(*worker)->stop, deliver_stop);
    worker_join(worker);
}
