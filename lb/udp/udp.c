/*
 * Purpose: a worker's UDP as a whole: its listeners, its memory, its beginning and end.
 * Thread:  the worker's.
 * Owns:    see udp.h.
 * Fails:   see udp.h.
 */
#include "lb/udp/udp.h"

#include "common/random.h"
#include "lb/udp/private.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

/* Buckets of the table: one for each flow there can be, within reason. */
#define BUCKETS_LEAST 1024u
#define BUCKETS_MOST (4u << 20)

/* A listener that the epoll set could not take is tried again after this. */
#define WATCH_AGAIN_MS 100

/* ---- a flow's datagrams that were not sent ---- */

static void lost(void *owner, void *stream, int error, uint32_t datagrams)
{
    (void)stream;
    drop(owner, drop_reason(error), datagrams);
}

static void uncut_request(void *owner, void *stream, uint32_t segment)
{
    const struct flow *flow = stream;

    (void)owner;
    flow->upstream->gso_below = segment;
}

static int reply_failed(void *owner, void *stream, int error)
{
    (void)owner;
    (void)stream;
    (void)error;
    return -1;
}

static void uncut_reply(void *owner, void *stream, uint32_t segment)
{
    struct flow *flow = stream;

    (void)owner;
    flow->gso_below = segment;
}

/* ---- listeners ---- */

static int switch_on(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Beyond net.core.rmem_max where weir still has the right to it; else as far as that goes. */
static int set_buffer(int fd, int forced, int option, int bytes)
{
    if (bytes == 0 || switch_on(fd, SOL_SOCKET, forced, bytes) == 0)
        return 0;
    return switch_on(fd, SOL_SOCKET, option, bytes);
}

int udp_listener_options(int fd, const struct udp_policy *policy)
{
    int family = 0;
    socklen_t length = sizeof(family);
    int failed = 0;
    bool is_v6;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) < 0)
        return -errno;
    is_v6 = family == AF_INET6;
    if (policy->wildcard)
        failed = is_v6 ? switch_on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                       : switch_on(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (failed == 0 && !policy->fragment)
        failed = switch_on(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (failed == 0 && !policy->fragment && is_v6)
        failed = switch_on(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    if (failed == 0)
        failed = set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, policy->rcvbuf);
    if (failed == 0)
        failed = set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, policy->sndbuf);
    if (failed == 0)
        (void)switch_on(fd, SOL_UDP, UDP_GRO, 1); /* without it datagrams come one by one */
    return failed;
}

static void watch(struct udp_port *port)
{
    struct udp *udp = port->udp;
    uint64_t token = poller_token(udp->kind_port, port->index, 0);

    if (poller_add(udp->env.poller, port->fd, EPOLLIN | EPOLLET, token) < 0)
        wheel_set(udp->env.wheel, &port->again, udp->now_ms + WATCH_AGAIN_MS);
}

static void on_again(struct wheel_timer *timer, uint64_t now_ms)
{
    struct udp_port *port = container_of(timer, struct udp_port, again);

    port->udp->now_ms = now_ms;
    watch(port);
}

/* Where it is bound, for the headers that tell servers. */
static void note_bound(struct udp_port *port)
{
    socklen_t length = sizeof(port->bound);

    (void)getsockname(port->fd, &port->bound.any, &length);
    inet_address_fold(&port->bound);
}

/* Room for senders that are believed, on the first listener that has some. */
static int make_tellers(struct udp *udp, const struct udp_policy *policy)
{
    if (policy->proxy_in == CONFIG_PROXY_OFF || udp->teller != NULL)
        return 0;
    udp->teller = calloc(udp->bucket_mask + 1, sizeof(struct kept_told *));
    return udp->teller != NULL ? 0 : -ENOMEM;
}

static int grow_ports(struct udp *udp)
{
    struct udp_port **more = realloc(udp->port, (udp->port_count + 1) * sizeof(struct udp_port *));

    if (more == NULL)
        return -ENOMEM;
    udp->port = more;
    return 0;
}

int udp_add_listener(struct udp *udp, const struct udp_policy *policy, int fd,
                     _Atomic uint32_t *flows, uint32_t limit)
{
    struct udp_port *port = calloc(1, sizeof(*port));

    if (port == NULL || make_tellers(udp, policy) < 0 || grow_ports(udp) < 0) {
        free(port);
        return -ENOMEM;
    }
    port->udp = udp;
    port->policy = policy;
    port->fd = fd;
    port->index = udp->port_count;
    port->limit = limit;
    port->flows = flows;
    note_bound(port);
    list_init(&port->fresh);
    list_init(&port->settled);
    poller_task_init(&port->task, request_task);
    wheel_timer_init(&port->look, request_look);
    wheel_timer_init(&port->again, on_again);
    port->replies.fd = fd;
    port->replies.metrics = udp->env.metrics;
    port->replies.sent = METRIC_DATAGRAMS_OUT;
    port->replies.owner = udp;
    port->replies.failed = reply_failed;
    port->replies.lost = lost;
    port->replies.uncut = uncut_reply;
    port->replies.no_gso = !outbox_can_join(fd);
    udp->requests.no_gso = port->replies.no_gso;
    udp->port[udp->port_count++] = port;
    return 0;
}

void udp_start(struct udp *udp)
{
    for (uint32_t i = 0; i < udp->port_count; i++)
        watch(udp->port[i]);
}

static void free_port(struct udp_port *port)
{
    wheel_cancel(port->udp->env.wheel, &port->look);
    wheel_cancel(port->udp->env.wheel, &port->again);
    poller_unqueue(&port->task);
    close(port->fd);
    free(port);
}

/* ---- all of it ---- */

static int make_table(struct udp *udp)
{
    uint64_t wanted = MIN(MAX(udp->env.shared->flow_limit, BUCKETS_LEAST), BUCKETS_MOST);
    uint64_t buckets = BUCKETS_LEAST;

    while (buckets < wanted)
        buckets *= 2;
    udp->bucket = calloc(buckets, sizeof(struct flow *));
    udp->bucket_mask = buckets - 1;
    return udp->bucket != NULL ? 0 : -ENOMEM;
}

static void init_parts(struct udp *udp, const struct udp_env *env, uint64_t now_ms)
{
    udp->env = *env;
    udp->now_ms = now_ms;
    udp->next_id = 1;
    udp->seed = random_seed();
    slab_init(&udp->flows, sizeof(struct flow), UINT32_MAX);
    slab_init(&udp->upstreams, sizeof(struct upstream), UINT32_MAX);
    list_init(&udp->ended);
    list_init(&udp->closed);
    for (int i = 0; i < SPARE_BINS; i++)
        list_init(&udp->spare[i]);
    poller_task_init(&udp->flush, reply_flush_task);
    udp->requests.metrics = env->metrics;
    udp->requests.sent = METRIC_DATAGRAMS_IN;
    udp->requests.owner = udp;
    udp->requests.failed = request_failed;
    udp->requests.lost = lost;
    udp->requests.uncut = uncut_request;
    udp->kind_port = poller_kind(env->poller, request_event, udp);
    udp->kind_upstream = poller_kind(env->poller, reply_event, udp);
}

int udp_new(struct udp **out, const struct udp_env *env, uint64_t now_ms)
{
    struct udp *udp = calloc(1, sizeof(*udp));

    if (udp == NULL)
        return -ENOMEM;
    init_parts(udp, env, now_ms);
    if (make_table(udp) < 0 || tray_open(&udp->in) < 0 || tray_open(&udp->out) < 0) {
        udp_free(&udp);
        return -ENOMEM;
    }
    *out = udp;
    return 0;
}

void udp_free(struct udp **udp)
{
    struct udp *old = *udp;

    if (old == NULL)
        return;
    BUG_ON(old->live > 0);
    upstream_close_spare(old);
    udp_reap(old);
    poller_unqueue(&old->flush);
    for (uint32_t i = 0; i < old->port_count; i++)
        free_port(old->port[i]);
    slab_deinit(&old->flows);
    slab_deinit(&old->upstreams);
    tray_close(&old->in);
    tray_close(&old->out);
    free(old->port);
    free(old->bucket);
    free(old->teller);
    free(old);
    *udp = NULL;
}

void udp_set_now(struct udp *udp, uint64_t now_ms)
{
    udp->now_ms = now_ms;
}

void udp_reap(struct udp *udp)
{
    /* Replies that wait point at their flows. */
    if (!list_empty(&udp->ended))
        reply_flush(udp);
    while (!list_empty(&udp->ended)) {
        struct flow *flow = list_first(&udp->ended, struct flow, order);
        list_del(&flow->order);
        flow_free(flow);
    }
    while (!list_empty(&udp->closed)) {
        struct upstream *upstream = list_first(&udp->closed, struct upstream, link);
        list_del(&upstream->link);
        slab_put(&udp->upstreams, upstream);
    }
}

void udp_drain_all(struct udp *udp)
{
    udp->draining = true;
    upstream_close_spare(udp);
    for (uint32_t i = 0; i < udp->flows.span; i++) {
        struct flow *flow = slab_at(&udp->flows, i);
        if (flow != NULL && flow->state != FLOW_ENDED)
            flow_set_timer(flow);
    }
}

uint32_t udp_flows(const struct udp *udp)
{
    return udp->live;
}
