/*
 * Purpose: PROXY headers of version 2 in front of what flows send to their servers.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   a header that no datagram has room for is not sent, nor is what it belongs to.
 *
 *      NEXT → (the kernel has taken a datagram with the header) → DONE
 *        ↑                                                         │
 *        └── (the flow has moved, or its server was not there) ────┘
 *
 * Of a flow that has told its server once, a datagram that begins as a header does has one put in
 * front of it all the same: the receiver would otherwise believe what a client says of itself, or
 * refuse a line of version 1.
 */
#include "lb/udp/private.h"

#include <stdio.h>
#include <string.h>

/* An id in decimal digits. */
#define ID_TEXT 24

static const struct pool_policy *pool_policy(const struct flow *flow)
{
    const struct udp_env *env = &flow->port->udp->env;

    return env->policy(env->owner, flow->port->policy->pool);
}

void greet_init(struct flow *flow)
{
    const struct pool_policy *policy = pool_policy(flow);

    flow->greeting = GREET_NONE;
    if (policy->send_proxy == CONFIG_SEND_PROXY_V2)
        flow->greeting =
            policy->send_proxy_udp == CONFIG_SEND_PROXY_FIRST ? GREET_NEXT : GREET_EACH;
}

void greet_again(struct flow *flow)
{
    if (flow->greeting == GREET_DONE)
        flow->greeting = GREET_NEXT;
}

bool greet_tells_once(const struct flow *flow)
{
    return flow->greeting == GREET_NEXT || flow->greeting == GREET_DONE;
}

bool greet_passes_on(const struct flow *flow)
{
    return flow->greeting != GREET_NONE &&
           (pool_policy(flow)->send_proxy_tlvs & CONFIG_TLV_RECEIVED) != 0;
}

/* ---- the header ---- */

/* What the client has used, folded. */
static union inet_address destination(const struct flow *flow)
{
    const struct udp_port *port = flow->port;
    union inet_address used = port->bound;

    if (flow->told != NULL)
        return flow->told->told.destination;
    if (!port->policy->wildcard)
        return used;
    used = (union inet_address){.v6 = {.sin6_family = AF_INET6,
                                       .sin6_port = htons(inet_address_port(&port->bound)),
                                       .sin6_addr = flow->local.address}};
    inet_address_fold(&used);
    return used;
}

static bool write_header(struct flow *flow, struct iovec *out)
{
    struct udp *udp = flow->port->udp;
    uint32_t tlvs = pool_policy(flow)->send_proxy_tlvs;
    char id[ID_TEXT];
    struct proxy_write header = {
        .version = 2,
        .source = flow_client(flow),
        .destination = destination(flow),
        .type = SOCK_DGRAM,
        .crc32c = (tlvs & CONFIG_TLV_CRC32C) != 0,
    };
    int length = snprintf(id, sizeof(id), "%llu", (unsigned long long)flow->id);

    if (tlvs & CONFIG_TLV_UNIQUE_ID)
        header.unique_id = (struct proxy_tlv_view){(const uint8_t *)id, (size_t)length};
    if (flow->told != NULL && tlvs & CONFIG_TLV_RECEIVED)
        header.extra = flow->told->told.tlvs;
    out->iov_base = udp->header;
    out->iov_len = proxy_header_write(&header, udp->header, sizeof(udp->header));
    return out->iov_len > 0;
}

/* ---- datagrams ---- */

bool greet_start(struct flow *flow)
{
    struct outbox *outbox = &flow->port->udp->requests;

    if (flow->greeting == GREET_EACH)
        return write_header(flow, &outbox->prefix);
    return greet_resume(flow);
}

bool greet_resume(struct flow *flow)
{
    return flow->greeting != GREET_NEXT || write_header(flow, &flow->port->udp->requests.lead);
}

void greet_stop(struct flow *flow)
{
    struct outbox *outbox = &flow->port->udp->requests;

    if (flow->greeting == GREET_NEXT && outbox->lead.iov_len == 0)
        flow->greeting = GREET_DONE;
    outbox->lead.iov_len = 0;
    outbox->prefix.iov_len = 0;
}

static void add(struct flow *flow, const struct train *train, bool looks)
{
    static const struct destination connected;
    struct outbox *outbox = &flow->port->udp->requests;

    if (looks && !write_header(flow, &outbox->prefix)) {
        drop(flow->port->udp, METRIC_DROP_TOO_LARGE, train_count(train));
        return;
    }
    outbox_add(outbox, train, flow, &connected, flow->upstream->gso_below);
    if (looks)
        outbox->prefix.iov_len = 0;
}

void greet_add(struct flow *flow, const struct train *train)
{
    struct train rest = *train;
    bool is_last = false;

    if (!greet_tells_once(flow)) {
        add(flow, train, false);
        return;
    }
    while (!is_last) {
        uint32_t plain = told_count(&rest, false);
        uint32_t count = plain > 0 ? plain : told_count(&rest, true);
        struct train part = rest;

        is_last = count == train_count(&rest);
        if (!is_last)
            part = train_cut(&rest, count);
        add(flow, &part, plain == 0);
    }
}
