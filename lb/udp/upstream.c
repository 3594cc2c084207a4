/*
 * Purpose: sockets connected to servers: opened for a flow, at rest between two, closed.
 * Thread:  the worker's.
 * Owns:    the descriptors.
 * Fails:   upstream_take returns a negative errno; the rest cannot.
 *
 *      fresh → serves a flow → quarantined → spare → serves another flow of the same server
 *                   ↓               ↓           ↓
 *                closed          closed       closed
 *
 * A flow of one exchange (DNS) would cost a socket, a connect and a close. So a socket whose flow
 * got every reply it was owed rests for a while, in which late copies of replies are read and
 * counted, and then serves another flow. Only of the same server: a socket that connects again
 * keeps the source address of its first connect (net/ipv4/datagram.c), and it need not connect at
 * all. One whose flow is still owed a reply is closed: the reply must not find another client. And
 * so is one that is bound to its client's address, which no flow of another client could use, and
 * one whose flow tells of its client once: if the header of the next were lost, the server would
 * take the rest of it for the client before. A spare one gives way, too, when its local port is the
 * one that a new socket lacks.
 */
#include "lb/udp/private.h"

#include "common/log.h"
#include "lb/source/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A spare socket that no flow wanted for so long is closed. */
#define SPARE_MS 10000
/* So many spare ones are looked at for one of the right server. */
#define SPARE_LOOKS 8
/* The kernel found no port, which cost it a look at all of them: it is not asked for so long. */
#define NO_PORT_MS 100
/* What waits in a spare socket before it is rather thrown away. */
#define STALE_MOST 64

/* ---- our own addresses ---- */

/* OWN_ADDRESSES: it is none. */
static uint32_t find_own(const struct udp *udp, const struct in6_addr *address)
{
    uint32_t count = MIN(udp->own_count, (uint32_t)OWN_ADDRESSES);

    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(&udp->own[i], address, sizeof(*address)) == 0)
            return i;
    }
    return OWN_ADDRESSES;
}

bool upstream_is_own(const struct udp *udp, const union inet_address *client)
{
    const _Atomic uint16_t *count = &udp->env.shared->own_port[inet_address_port(client)];
    struct in6_addr address;

    if (atomic_load_explicit(count, memory_order_relaxed) == 0)
        return false;
    address = network_map(client);
    return find_own(udp, &address) < OWN_ADDRESSES;
}

/*
 * Before its first datagram leaves: that may be back at once. Not of a socket that is bound to its
 * client's address: the client may well use that port too, and would be taken for weir.
 */
static void note_own(struct upstream *upstream)
{
    struct udp *udp = upstream->udp;
    union inet_address own = {0};
    socklen_t length = sizeof(own);
    struct in6_addr address;
    uint32_t index;

    if (getsockname(upstream->fd, &own.any, &length) < 0)
        return;
    address = network_map(&own);
    index = find_own(udp, &address);
    if (index == OWN_ADDRESSES) {
        index = udp->own_count++ % OWN_ADDRESSES;
        udp->own[index] = address;
    }
    upstream->own = (uint8_t)index;
    upstream->port = inet_address_port(&own);
    atomic_fetch_add_explicit(&udp->env.shared->own_port[upstream->port], 1, memory_order_relaxed);
}

/* ---- opening and closing ---- */

static int open_socket(const struct server *server, const struct source *from, bool fragment)
{
    const struct address *address = &server->address;
    int probe = IP_PMTUDISC_PROBE;
    bool is_v6 = address->any.sa_family == AF_INET6;
    int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failed = 0;

    if (fd < 0)
        return -errno;
    if (!fragment &&
        setsockopt(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                   is_v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &probe, sizeof(probe)) < 0)
        failed = -errno;
    failed = failed ? failed : source_connect(fd, from, address);
    if (!failed)
        return fd;
    close(fd);
    return failed;
}

static void put_memory(struct upstream *upstream)
{
    upstream->fd = -1;
    list_del(&upstream->link);
    list_add_tail(&upstream->udp->closed, &upstream->link);
}

void upstream_look(struct upstream *upstream)
{
    uint32_t memory[SK_MEMINFO_VARS];

    if (drop_read_memory(upstream->fd, memory) == 0)
        (void)drop_overflows(upstream->udp, memory, &upstream->overflows);
}

void upstream_close(struct upstream *upstream)
{
    struct udp *udp = upstream->udp;

    if (upstream->gro) /* a stream: few datagrams fill no queue */
        upstream_look(upstream);
    if (upstream->port != 0)
        atomic_fetch_sub_explicit(&udp->env.shared->own_port[upstream->port], 1,
                                  memory_order_relaxed);
    wheel_cancel(udp->env.wheel, &upstream->timer);
    poller_unqueue(&upstream->task);
    if (upstream->flow == NULL)
        udp->resting--;
    upstream->flow = NULL;
    udp->no_port_until_ms[0] = udp->no_port_until_ms[1] = 0;
    close(upstream->fd);
    if (upstream->ports != NULL)
        ports_give(upstream->ports, upstream->source);
    ports_put(&upstream->ports);
    put_memory(upstream);
}

static bool is_from_client(const struct flow *flow)
{
    const struct udp_env *env = &flow->port->udp->env;

    return env->policy(env->owner, flow->port->policy->pool)->source_client;
}

static void lack_port(struct udp *udp, struct server *server)
{
    metrics_add(udp->env.metrics, METRIC_NO_PORT, 1);
    server_lacks_port(server, udp->env.worker, &udp->no_port_told_ms, udp->now_ms);
}

/* ---- a descriptor for the upstream: 0 or a negative errno ---- */

/* From one address after the other, while they have no port. *out_asked: the kernel said so. */
static int open_from_list(struct upstream *upstream, struct server *server, bool *out_asked)
{
    struct ports *ports = server->ports[PORTS_UDP];
    uint64_t now = upstream->udp->now_ms;
    uint64_t tried = 0;
    uint8_t i;

    upstream->fd = -EADDRNOTAVAIL;
    while (drop_is_no_port(-upstream->fd) && (i = ports_take(ports, tried, now)) != PORTS_NONE) {
        const struct source source = {.address = *ports_source(ports, i)};
        upstream->fd = open_socket(server, &source, upstream->fragment);
        tried |= UINT64_C(1) << i;
        if (drop_is_no_port(-upstream->fd)) {
            ports_refuse(ports, i, now);
        } else if (upstream->fd < 0) {
            ports_give(ports, i);
        } else {
            upstream->ports = ports_ref(ports);
            upstream->source = i;
        }
    }
    *out_asked = tried != 0;
    return MIN(upstream->fd, 0);
}

/* From where the kernel likes. That it had no port stands for a moment, as of a list's address. */
static int open_from_any(struct upstream *upstream, struct server *server, bool *out_asked)
{
    struct udp *udp = upstream->udp;
    uint64_t *until = &udp->no_port_until_ms[server->address.any.sa_family == AF_INET6];

    *out_asked = *until <= udp->now_ms;
    if (!*out_asked)
        return -EAGAIN;
    upstream->fd = open_socket(server, &(struct source){0}, upstream->fragment);
    if (upstream->fd == -EAGAIN)
        *until = udp->now_ms + NO_PORT_MS;
    return MIN(upstream->fd, 0);
}

static int open_from_client(struct upstream *upstream, struct server *server)
{
    union inet_address client = flow_client(upstream->flow);
    struct source source;

    if (!source_of_client(&server->address, &client, &source))
        return -EAFNOSUPPORT;
    upstream->transparent = true;
    upstream->fd = open_socket(server, &source, upstream->fragment);
    return MIN(upstream->fd, 0);
}

/* *out_asked: the kernel has looked for a port just now that another socket of ours may have. */
static int try_to_open(struct upstream *upstream, struct server *server, bool *out_asked)
{
    *out_asked = false;
    if (is_from_client(upstream->flow))
        return open_from_client(upstream, server);
    if (server->ports[PORTS_UDP] != NULL)
        return open_from_list(upstream, server, out_asked);
    return open_from_any(upstream, server, out_asked);
}

/* ---- spare sockets give way ---- */

/*
 * Of each of our own addresses: a port of it, given back, is one for a socket to the server. Of
 * which address in the server's list it is one, then; without a list 0. PORTS_NONE: it is none.
 */
static void find_useful(const struct udp *udp, const struct server *server,
                        uint8_t out[OWN_ADDRESSES])
{
    const struct ports *ports = server->ports[PORTS_UDP];

    for (uint32_t i = 0; i < MIN(udp->own_count, (uint32_t)OWN_ADDRESSES); i++) {
        union inet_address own = {
            .v6 = {.sin6_family = AF_INET6, .sin6_addr = udp->own[i]},
        };
        inet_address_fold(&own);
        /* An IPv6 socket that is bound to no address needs a port that is free in both families. */
        bool fits = server->address.any.sa_family == AF_INET6 || own.any.sa_family == AF_INET;
        out[i] = ports != NULL ? ports_find(ports, &own) : fits ? 0 : PORTS_NONE;
    }
}

/* Closes one whose quarantine is over, and whose port helps. False: there is none. */
static bool close_a_spare(struct udp *udp, struct server *server)
{
    uint8_t useful[OWN_ADDRESSES];

    find_useful(udp, server, useful);
    for (size_t i = 0; i < SPARE_BINS; i++) {
        list_for_each (node, &udp->spare[i]) {
            struct upstream *spare = list_entry(node, struct upstream, link);
            uint8_t index = useful[spare->own];
            if (index == PORTS_NONE)
                continue;
            upstream_close(spare);
            if (server->ports[PORTS_UDP] != NULL)
                ports_freed(server->ports[PORTS_UDP], index);
            return true;
        }
    }
    return false;
}

/* One spare socket for a datagram, and none while the kernel need not be asked. */
static int open_descriptor(struct upstream *upstream, struct server *server)
{
    bool has_list = server->ports[PORTS_UDP] != NULL;
    bool asked;
    int failed = try_to_open(upstream, server, &asked);

    /* Without a list EADDRNOTAVAIL is no want of ports: there is no address for the server. */
    if (asked && drop_is_no_port(-failed) && (has_list || failed != -EADDRNOTAVAIL) &&
        close_a_spare(upstream->udp, server))
        failed = try_to_open(upstream, server, &asked);
    if (drop_is_no_port(-failed))
        lack_port(upstream->udp, server);
    return failed;
}

static void on_rested(struct wheel_timer *timer, uint64_t now_ms);

static int open_upstream(struct udp *udp, struct flow *flow, struct server *server,
                         struct upstream **out)
{
    struct upstream *upstream = slab_take(&udp->upstreams);
    int failed;

    if (upstream == NULL)
        return -ENOMEM;
    upstream->udp = udp;
    upstream->server_id = server->id;
    upstream->gso_below = UINT32_MAX;
    upstream->fragment = flow->port->policy->fragment;
    upstream->flow = flow;
    list_init(&upstream->link);
    poller_task_init(&upstream->task, reply_task);
    wheel_timer_init(&upstream->timer, on_rested);
    failed = open_descriptor(upstream, server);
    if (failed < 0) {
        slab_put(&udp->upstreams, upstream);
        return failed;
    }
    failed = poller_add(
        udp->env.poller, upstream->fd, EPOLLIN | EPOLLET,
        poller_token(udp->kind_upstream, upstream->node.index, upstream->node.generation));
    if (failed < 0) {
        upstream_close(upstream);
        return failed;
    }
    if (!upstream->transparent)
        note_own(upstream);
    *out = upstream;
    return 0;
}

/* ---- rest ---- */

/* The first rest is the quarantine; the second, as a spare one, ends with the socket. */
static void on_rested(struct wheel_timer *timer, uint64_t now_ms)
{
    struct upstream *upstream = container_of(timer, struct upstream, timer);
    struct udp *udp = upstream->udp;

    if (!list_empty(&upstream->link)) {
        upstream_close(upstream);
        return;
    }
    list_add_tail(&udp->spare[upstream->server_id % SPARE_BINS], &upstream->link);
    wheel_set(udp->env.wheel, timer, now_ms + SPARE_MS);
}

void upstream_rest(struct upstream *upstream, uint64_t quarantine_ms)
{
    struct udp *udp = upstream->udp;

    if (upstream->transparent || greet_tells_once(upstream->flow) ||
        udp->resting >= udp->env.rest_limit || udp->draining) {
        upstream_close(upstream);
        return;
    }
    udp->resting++;
    upstream->flow = NULL;
    wheel_set(udp->env.wheel, &upstream->timer, udp->now_ms + quarantine_ms);
}

/* Reads what came during the rest. False: more than is worth it, or the socket is of no use. */
static bool empty_socket(struct upstream *upstream)
{
    char byte;

    for (int i = 0; i < STALE_MOST; i++) {
        if (recv(upstream->fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0)
            drop(upstream->udp, METRIC_DROP_LATE, 1);
        else if (errno == EAGAIN)
            return true;
        else if (!drop_is_refusal(errno))
            return false;
    }
    return false;
}

static struct upstream *find_spare(struct udp *udp, const struct server *server, bool fragment)
{
    struct list *bin = &udp->spare[server->id % SPARE_BINS];
    struct list *at = bin->next;

    for (int i = 0; i < SPARE_LOOKS && at != bin; i++, at = at->next) {
        struct upstream *upstream = container_of(at, struct upstream, link);
        if (upstream->server_id == server->id && upstream->fragment == fragment)
            return upstream;
    }
    return NULL;
}

int upstream_take(struct udp *udp, struct flow *flow, struct server *server, struct upstream **out)
{
    struct upstream *spare = NULL;

    if (!is_from_client(flow) && !greet_tells_once(flow))
        spare = find_spare(udp, server, flow->port->policy->fragment);
    if (spare == NULL)
        return open_upstream(udp, flow, server, out);
    if (!empty_socket(spare)) {
        upstream_close(spare);
        return open_upstream(udp, flow, server, out);
    }
    wheel_cancel(udp->env.wheel, &spare->timer);
    list_del(&spare->link);
    spare->flow = flow;
    udp->resting--;
    metrics_add(udp->env.metrics, METRIC_SOCKETS_REUSED, 1);
    *out = spare;
    return 0;
}

void upstream_close_spare(struct udp *udp)
{
    for (uint32_t i = 0; i < udp->upstreams.span; i++) {
        struct upstream *upstream = slab_at(&udp->upstreams, i);
        if (upstream != NULL && upstream->fd >= 0 && upstream->flow == NULL)
            upstream_close(upstream);
    }
}
