/*
 * Purpose: the life of a flow, from a client's first datagram to the one door out.
 * Thread:  the worker's.
 * Owns:    see udp.h.
 * Fails:   see udp.h.
 *
 * One timer per flow, and a lazy one: datagrams only store a stamp, and expiry looks at it. A flow
 * that ends keeps its memory until udp_reap, because the batches of this turn may still hold it.
 */
#include "common/clock.h"
#include "common/quota.h"
#include "lb/udp/private.h"

#include <errno.h>
#include <stdlib.h>

/* A settled flow that has been silent for less is not given up for a newcomer. */
#define EVICT_SILENT_MS 1000
/* So many settled flows are looked at for one that is. */
#define EVICT_LOOKS 8

/* ---- time ---- */

static uint64_t silence_allowed(const struct flow *flow)
{
    uint64_t idle = flow->port->policy->idle_timeout_ms;

    return flow->port->udp->draining ? MIN(idle, (uint64_t)DRAIN_QUIET_MS) : idle;
}

void flow_set_timer(struct flow *flow)
{
    wheel_set(flow->port->udp->env.wheel, &flow->timer, flow->activity_ms + silence_allowed(flow));
}

static void on_timer(struct wheel_timer *timer, uint64_t now_ms)
{
    struct flow *flow = container_of(timer, struct flow, timer);
    struct udp *udp = flow->port->udp;

    udp->now_ms = now_ms;
    if (flow->activity_ms + silence_allowed(flow) > now_ms) {
        upstream_look(flow->upstream);
        flow_set_timer(flow);
    } else if (udp->draining) {
        flow_end(flow, FLOW_END_SHUTDOWN);
    } else {
        flow_end(flow, FLOW_END_IDLE_TIMEOUT);
    }
}

/* ---- room ---- */

static bool reserve(struct udp_port *port)
{
    struct udp_shared *shared = port->udp->env.shared;

    if (!quota_take(&shared->flows, shared->flow_limit))
        return false;
    if (quota_take(port->flows, port->limit))
        return true;
    quota_give(&shared->flows);
    return false;
}

static void unreserve(struct udp_port *port)
{
    quota_give(&port->udp->env.shared->flows);
    quota_give(port->flows);
}

/*
 * Who must go for a newcomer: the oldest that has not sent a second datagram (of a flood, all), or
 * else one that has long been silent. NULL: nobody.
 */
static struct flow *victim_of(struct udp_port *port)
{
    if (!list_empty(&port->fresh))
        return list_first(&port->fresh, struct flow, order);
    for (int i = 0; i < EVICT_LOOKS && !list_empty(&port->settled); i++) {
        struct flow *flow = list_first(&port->settled, struct flow, order);
        if (flow->activity_ms + EVICT_SILENT_MS <= port->udp->now_ms)
            return flow;
        list_del(&flow->order);
        list_add_tail(&port->settled, &flow->order);
    }
    return NULL;
}

static uint32_t flows_of(const struct udp_port *port)
{
    return atomic_load_explicit(port->flows, memory_order_relaxed);
}

/* When the process is full, the listener that has most flows pays: a flood of one would otherwise
 * leave no room for clients of the others. */
static struct flow *find_victim(struct udp_port *port)
{
    struct udp *udp = port->udp;
    struct udp_port *largest = port;
    struct flow *victim;

    for (uint32_t i = 0; i < udp->port_count && flows_of(port) < port->limit; i++) {
        if (flows_of(udp->port[i]) > flows_of(largest))
            largest = udp->port[i];
    }
    victim = victim_of(largest);
    return victim == NULL && largest != port ? victim_of(port) : victim;
}

static bool make_room(struct udp_port *port)
{
    struct flow *victim;

    if (reserve(port))
        return true;
    victim = find_victim(port);
    if (victim == NULL)
        return false;
    if (victim->first != PARCEL_NONE)
        request_send(victim);
    metrics_add(port->udp->env.metrics, METRIC_FLOWS_EVICTED, 1);
    flow_end(victim, FLOW_END_EVICTED);
    return reserve(port);
}

/* ---- servers ---- */

struct server *flow_choose(const struct udp_port *port, const union inet_address *client,
                           const struct sched_tried *tried)
{
    const struct udp_env *env = &port->udp->env;
    uint32_t pool = port->policy->pool;
    uint64_t key = inet_address_hash(client, env->policy(env->owner, pool)->hash_port, 0);

    return env->pick(env->owner, pool, key, tried);
}

void flow_give_back(struct server *server)
{
    (void)server_leave(server);
    server_put(&server);
}

static bool is_suspect(const struct server *server)
{
    return atomic_load_explicit(&server->live.suspect, memory_order_relaxed) != 0;
}

bool flow_must_move(const struct flow *flow, bool *out_is_deserted)
{
    *out_is_deserted = atomic_load_explicit(&flow->server->deserted, memory_order_relaxed);
    return *out_is_deserted || is_suspect(flow->server);
}

static void join_server(struct flow *flow, struct server *server, struct upstream *upstream)
{
    flow->server = server;
    flow->upstream = upstream;
    cell_add(&server->cell[flow->port->udp->env.worker].flows, 1);
}

static void leave_server(struct flow *flow)
{
    cell_add(&flow->server->cell[flow->port->udp->env.worker].flows_left, 1);
    (void)server_leave(flow->server);
    server_put(&flow->server);
}

/* Not the client itself: what it answers would come back to it. */
bool flow_is_from(const struct server *server, const union inet_address *sender,
                  const struct told *told)
{
    union inet_address folded = *sender;

    inet_address_fold(&folded);
    return inet_address_equal(&folded, &server->address.inet) ||
           (told != NULL && inet_address_equal(&told->client, &server->address.inet));
}

static bool may_move_to(const struct flow *flow, const struct server *server, bool even_to_suspect)
{
    return (even_to_suspect || !is_suspect(server)) &&
           !flow_is_from(server, &flow->client, told_of(flow));
}

bool flow_move(struct flow *flow, bool even_to_suspect)
{
    struct udp *udp = flow->port->udp;
    union inet_address client = flow_client(flow);
    struct sched_tried tried = {0};
    struct upstream *upstream;
    struct server *next;

    sched_tried_add(&tried, flow->server->id);
    next = flow_choose(flow->port, &client, &tried);
    if (next == NULL)
        return false;
    if (!may_move_to(flow, next, even_to_suspect) ||
        upstream_take(udp, flow, next, &upstream) < 0) {
        flow_give_back(next);
        return false;
    }
    upstream_close(flow->upstream);
    leave_server(flow);
    join_server(flow, next, upstream);
    flow->moves++;
    greet_again(flow);
    /* What the other one owed will not come; what is about to be sent will be answered. */
    flow->owed = (int64_t)udp->sending * flow->port->policy->responses;
    metrics_add(udp->env.metrics, METRIC_FLOWS_MOVED, 1);
    return true;
}

void flow_refused(struct flow *flow)
{
    struct udp *udp = flow->port->udp;

    cell_add(&flow->server->cell[udp->env.worker].refused, 1);
    drop(udp, METRIC_DROP_REFUSED, 1);
    greet_again(flow); /* who comes up there knows nothing of it */
    udp->env.suspect(udp->env.owner, flow->server);
}

/* ---- beginning ---- */

void flow_free(struct flow *flow)
{
    free(flow->told);
    slab_put(&flow->port->udp->flows, flow);
}

static void on_new(struct flow *flow, struct udp_port *port, const struct flow_key *key,
                   uint64_t hash)
{
    struct udp *udp = port->udp;

    flow->state = FLOW_ACTIVE;
    flow->first = PARCEL_NONE;
    flow->hash = hash;
    flow->port = port;
    flow->id = udp->next_id++ << 8 | udp->env.worker;
    flow->started_us = clock_now_us();
    flow->activity_ms = udp->now_ms;
    flow->gso_below = UINT32_MAX;
    flow->client = *key->sender;
    flow->local = *key->local;
    list_init(&flow->touched);
    list_init(&flow->order);
    wheel_timer_init(&flow->timer, on_timer);
    greet_init(flow);
}

struct flow *flow_begin(struct udp_port *port, const struct flow_key *key, uint64_t hash,
                        struct server *server, enum metric *out_why)
{
    struct udp *udp = port->udp;
    struct flow *flow = NULL;
    struct upstream *upstream;
    uint32_t ticket;
    int failed = 0;

    if (!admit_flow(port, key->told != NULL ? &key->told->client : key->sender, &ticket)) {
        *out_why = METRIC_DROP_DENIED;
        return NULL;
    }
    if (!make_room(port)) {
        gate_leave(port->policy->gate, ticket);
        *out_why = METRIC_DROP_FLOW_LIMIT;
        return NULL;
    }
    *out_why = METRIC_DROP_NO_RESOURCES;
    flow = slab_take(&udp->flows);
    if (flow == NULL)
        goto fail;
    on_new(flow, port, key, hash);
    flow->ticket = ticket;
    failed = key->told != NULL ? told_keep(flow, key->told) : 0;
    if (failed < 0)
        goto fail;
    failed = upstream_take(udp, flow, server, &upstream);
    if (failed < 0)
        goto fail;
    join_server(flow, server, upstream);
    udp->live++;
    list_add_tail(&port->fresh, &flow->order);
    table_add(flow);
    flow_set_timer(flow);
    metrics_add(udp->env.metrics, METRIC_FLOWS, 1);
    return flow;
fail:
    if (failed == -EAFNOSUPPORT)
        *out_why = METRIC_DROP_NO_SOURCE;
    /* No way to it: others have their turn until a probe has spoken. */
    if (drop_is_refusal(-failed)) {
        *out_why = METRIC_DROP_REFUSED;
        cell_add(&server->cell[udp->env.worker].connect_failures, 1);
        udp->env.suspect(udp->env.owner, server);
    }
    if (flow != NULL)
        flow_free(flow);
    gate_leave(port->policy->gate, ticket);
    unreserve(port);
    return NULL;
}

void flow_requested(struct flow *flow, uint32_t count, uint32_t bytes)
{
    struct udp *udp = flow->port->udp;

    flow->datagrams_in += count;
    flow->bytes_in += bytes;
    flow->owed += (int64_t)count * flow->port->policy->responses;
    flow->activity_ms = udp->now_ms;
    cell_add(&flow->server->cell[udp->env.worker].bytes_in, bytes);
    metrics_add(udp->env.metrics, METRIC_BYTES_IN, bytes);
    if (flow->settled || flow->datagrams_in < 2)
        return;
    flow->settled = true;
    list_del(&flow->order);
    list_add_tail(&flow->port->settled, &flow->order);
}

void flow_spend(struct flow *flow)
{
    flow->state = FLOW_SPENT;
    table_remove(flow);
}

/* ---- the end ---- */

static void count_end(const struct flow *flow, enum flow_end_reason reason)
{
    const struct udp_env *env = &flow->port->udp->env;
    enum server_drain_end how = DRAIN_END_SELF;

    if (reason == FLOW_END_DRAIN_QUIET)
        how = DRAIN_END_QUIET;
    else if (reason == FLOW_END_DRAIN_DEADLINE || reason == FLOW_END_SERVER_DOWN)
        how = DRAIN_END_DEADLINE;
    metrics_add(env->metrics, METRIC_FLOWS_ENDED, 1);
    server_drained(flow->server, env->worker, how);
}

void flow_end(struct flow *flow, enum flow_end_reason reason)
{
    struct udp *udp = flow->port->udp;

    if (flow->state == FLOW_ENDED)
        return;
    flow->reason = (uint8_t)reason;
    count_end(flow, reason);
    flow_access_line(flow);
    table_remove(flow);
    told_forget(flow);
    flow->state = FLOW_ENDED;
    if (reason == FLOW_END_DONE)
        upstream_rest(flow->upstream, flow->port->policy->quarantine_ms);
    else
        upstream_close(flow->upstream);
    flow->upstream = NULL;
    leave_server(flow);
    wheel_cancel(udp->env.wheel, &flow->timer);
    list_del(&flow->touched);
    list_del(&flow->order);
    list_add_tail(&udp->ended, &flow->order);
    gate_leave(flow->port->policy->gate, flow->ticket);
    unreserve(flow->port);
    udp->live--;
}
