/*
 * Purpose: the table of flows: chains in buckets, as many as there can be flows.
 * Thread:  the worker's.
 * Owns:    nothing: flows are the slab's.
 * Fails:   never.
 *
 * Clients choose the ports that the hash is made of, so it is keyed by a secret of this process:
 * nobody can have his flows fall into one bucket.
 */
#include "lb/udp/private.h"

#include <string.h>

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

uint64_t table_hash(const struct udp_port *port, const struct flow_key *key)
{
    uint64_t seed = port->udp->seed;
    uint64_t hash = inet_address_hash(key->sender, true, seed);
    uint64_t local[2];

    if (key->told != NULL)
        hash = mix(mix(hash, inet_address_hash(&key->told->client, true, seed)),
                   inet_address_hash(&key->told->destination, true, seed));
    hash = mix(hash, (uint64_t)port->index << 32 | key->server_id);
    if (!port->policy->wildcard)
        return hash;
    memcpy(local, &key->local->address, sizeof(local));
    return mix(mix(hash, local[0]), local[1]);
}

static bool is_it(const struct flow *flow, const struct udp_port *port, const struct flow_key *key)
{
    if (flow->port != port || !inet_address_equal(&flow->client, key->sender))
        return false;
    if (!told_is_same(told_of(flow), key->told))
        return false;
    if (key->server_id != 0 && flow->server->id != key->server_id)
        return false;
    return memcmp(&flow->local.address, &key->local->address, sizeof(flow->local.address)) == 0;
}

struct flow *table_find(const struct udp_port *port, const struct flow_key *key, uint64_t hash)
{
    struct flow *flow = port->udp->bucket[hash & port->udp->bucket_mask];

    while (flow != NULL && (flow->hash != hash || !is_it(flow, port, key)))
        flow = flow->chain;
    return flow;
}

void table_add(struct flow *flow)
{
    struct udp *udp = flow->port->udp;
    struct flow **bucket = &udp->bucket[flow->hash & udp->bucket_mask];

    flow->chain = *bucket;
    *bucket = flow;
}

void table_remove(struct flow *flow)
{
    struct udp *udp = flow->port->udp;
    struct flow **at = &udp->bucket[flow->hash & udp->bucket_mask];

    while (*at != NULL && *at != flow)
        at = &(*at)->chain;
    if (*at == flow)
        *at = flow->chain;
}
