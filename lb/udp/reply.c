/*
 * Purpose: from servers to clients: what the servers' sockets hold, gathered over all events of a
 *          turn, and sent from the listener's socket in as few calls as it takes.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   what cannot be passed on is dropped and counted.
 *
 * Replies stay in the tray until they are flushed: when it is full, when the run queue comes to it,
 * and before flows of this turn are freed, at the latest.
 */
#include "lb/udp/private.h"

#include <errno.h>
#include <netinet/udp.h>

/* Messages in one call, and calls before others have their turn. */
#define AT_ONCE 32
#define CALLS 4

/* A flow with so many replies is a stream: the kernel may join what comes (one more call). */
#define STREAM_AFTER 16

void reply_flush(struct udp *udp)
{
    if (udp->out.used == 0)
        return;
    for (uint32_t i = 0; i < udp->port_count; i++)
        outbox_flush(&udp->port[i]->replies);
    udp->out.used = 0;
}

void reply_flush_task(struct poller_task *task)
{
    reply_flush(container_of(task, struct udp, flush));
}

/* ---- one reply, or a train of them ---- */

/* How many more datagrams the client may get for what it has asked; UINT32_MAX: no cap. */
static uint32_t allowance(const struct flow *flow, const struct train *train)
{
    const struct udp_policy *policy = flow->port->policy;
    uint64_t most = UINT32_MAX;

    if (policy->max_replies > 0) {
        uint64_t cap = flow->datagrams_in * policy->max_replies;
        most = cap > flow->datagrams_out ? cap - flow->datagrams_out : 0;
    }
    if (policy->max_reply_bytes > 0) {
        uint64_t cap = flow->datagrams_in * policy->max_reply_bytes;
        uint64_t left = cap > flow->bytes_out ? cap - flow->bytes_out : 0;
        if (left < train->length)
            most = MIN(most, left / MAX(train->segment, 1u));
    }
    return (uint32_t)MIN(most, (uint64_t)UINT32_MAX);
}

static void pass(struct flow *flow, const struct train *train)
{
    struct udp *udp = flow->port->udp;
    struct destination to = {&flow->client, &flow->local};
    uint32_t count = train_count(train);

    flow->datagrams_out += count;
    flow->bytes_out += train->length;
    flow->owed -= count;
    flow->activity_ms = udp->now_ms;
    cell_add(&flow->server->cell[udp->env.worker].bytes_out, train->length);
    metrics_add(udp->env.metrics, METRIC_BYTES_OUT, train->length);
    outbox_add(&flow->port->replies, train, flow, &to, flow->gso_below);
    poller_queue(udp->env.poller, &udp->flush);
}

static void reply(struct flow *flow, struct train *train)
{
    uint32_t count = train_count(train);
    uint32_t most = allowance(flow, train);
    struct train part = *train;

    if (most < count) {
        drop(flow->port->udp, METRIC_DROP_AMPLIFICATION, count - most);
        if (most == 0)
            return;
        part = train_cut(train, most);
    }
    pass(flow, &part);
    if (flow->port->policy->responses > 0 && flow->owed <= 0)
        flow_end(flow, FLOW_END_DONE);
}

static void take(struct upstream *upstream, uint32_t slot)
{
    struct udp *udp = upstream->udp;
    struct train train;
    struct local local;

    if (!tray_get(&udp->out, slot, &train, &local)) {
        drop(udp, METRIC_DROP_TOO_LARGE, 1);
        return;
    }
    if (train.segment < train.length) {
        metrics_add(udp->env.metrics, METRIC_GRO_RECEIVED, 1);
        metrics_add(udp->env.metrics, METRIC_GRO_DATAGRAMS, train_count(&train));
    }
    if (upstream->flow == NULL)
        drop(udp, METRIC_DROP_LATE, train_count(&train));
    else
        reply(upstream->flow, &train);
}

/* ---- a server's socket ---- */

/* A stream: its datagrams are joined by the kernel from now on, and may queue up further. */
static void become_stream(struct upstream *upstream)
{
    int on = 1;
    int rcvbuf = upstream->flow->port->policy->rcvbuf;

    upstream->gro = true;
    (void)setsockopt(upstream->fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
    if (rcvbuf > 0)
        (void)setsockopt(upstream->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
}

/* True: the socket may hold more. */
static bool receive(struct upstream *upstream)
{
    struct udp *udp = upstream->udp;
    uint32_t first, most;
    int count;

    if (udp->out.used == BATCH)
        reply_flush(udp);
    first = udp->out.used;
    most = MIN((uint32_t)AT_ONCE, BATCH - first);
    count = tray_receive(&udp->out, upstream->fd, most);
    metrics_add(udp->env.metrics, METRIC_UDP_RECEIVES, 1);
    if (count < 0) {
        if (drop_is_refusal(-count) && upstream->flow != NULL)
            flow_refused(upstream->flow);
        return count != -EAGAIN;
    }
    for (uint32_t i = 0; i < (uint32_t)count; i++)
        take(upstream, first + i);
    return (uint32_t)count == most;
}

static void run(struct upstream *upstream)
{
    struct udp *udp = upstream->udp;

    for (int i = 0; i < CALLS; i++) {
        bool more = receive(upstream);
        if (upstream->fd < 0)
            return;
        if (upstream->flow != NULL && !upstream->gro &&
            upstream->flow->datagrams_out > STREAM_AFTER)
            become_stream(upstream);
        if (!more)
            return;
    }
    poller_queue(udp->env.poller, &upstream->task);
}

void reply_event(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct upstream *upstream = slab_find(&((struct udp *)owner)->upstreams, index, generation);

    (void)events;
    if (upstream != NULL && upstream->fd >= 0)
        run(upstream);
}

void reply_task(struct poller_task *task)
{
    run(container_of(task, struct upstream, task));
}
