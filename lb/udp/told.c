/*
 * Purpose: clients that the PROXY headers of trusted senders tell of.
 * Thread:  the worker's.
 * Owns:    what was told, for as long as its flow has memory.
 * Fails:   a datagram with a malformed header, or without one that it needs, is dropped and
 * counted.
 *
 * A header tells of the datagram that it begins, and of those without one that the sender sends
 * next: each sender stands in a table by the flow of the client that it told last, for as long as
 * that flow lives. A sender may tell of many clients in turn, each of which has a flow of its own.
 * LOCAL speaks of its own datagram alone, and ends what was told before.
 */
#include "common/network.h"
#include "lb/udp/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct told *told_of(const struct flow *flow)
{
    return flow->told != NULL ? &flow->told->told : NULL;
}

bool told_is_same(const struct told *a, const struct told *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return inet_address_equal(&a->client, &b->client) &&
           inet_address_equal(&a->destination, &b->destination);
}

/* ---- who has told what last ---- */

static uint64_t hash_sender(const struct udp_port *port, const union inet_address *sender,
                            const struct local *local)
{
    struct flow_key key = {.sender = sender, .local = local};

    return table_hash(port, &key);
}

static struct kept_told **bucket_of(const struct udp *udp, uint64_t hash)
{
    return &udp->teller[hash & udp->bucket_mask];
}

static struct kept_told *find_last(const struct udp_port *port, const union inet_address *sender,
                                   const struct local *local, uint64_t hash)
{
    struct kept_told *at = *bucket_of(port->udp, hash);

    for (; at != NULL; at = at->chain) {
        if (at->hash == hash && at->flow->port == port &&
            inet_address_equal(&at->flow->client, sender) &&
            memcmp(&at->flow->local.address, &local->address, sizeof(local->address)) == 0)
            return at;
    }
    return NULL;
}

static struct kept_told *last_of(const struct arrival *arrival)
{
    uint64_t hash = hash_sender(arrival->port, arrival->sender, &arrival->local);

    return find_last(arrival->port, arrival->sender, &arrival->local, hash);
}

static void remove_last(const struct udp *udp, struct kept_told *kept)
{
    struct kept_told **at = bucket_of(udp, kept->hash);

    while (*at != kept)
        at = &(*at)->chain;
    *at = kept->chain;
    kept->is_last = false;
}

int told_keep(struct flow *flow, const struct told *told)
{
    size_t length = greet_passes_on(flow) ? told->tlvs.length : 0;
    struct kept_told *kept = malloc(sizeof(*kept) + length);

    if (kept == NULL)
        return -ENOMEM;
    *kept = (struct kept_told){
        .told = *told,
        .flow = flow,
        .hash = hash_sender(flow->port, &flow->client, &flow->local),
    };
    kept->told.tlvs = (struct proxy_tlv_view){kept->bytes, length};
    if (length > 0)
        memcpy(kept->bytes, told->tlvs.bytes, length);
    flow->told = kept;
    return 0;
}

void told_was_last(struct flow *flow)
{
    const struct udp *udp = flow->port->udp;
    struct kept_told *kept = flow->told;
    struct kept_told *before;

    if (kept->is_last)
        return;
    before = find_last(flow->port, &flow->client, &flow->local, kept->hash);
    if (before != NULL)
        remove_last(udp, before);
    kept->chain = *bucket_of(udp, kept->hash);
    *bucket_of(udp, kept->hash) = kept;
    kept->is_last = true;
}

void told_forget(struct flow *flow)
{
    if (flow->told != NULL && flow->told->is_last)
        remove_last(flow->port->udp, flow->told);
}

/* ---- headers ---- */

/* False: *out_why says what is wrong with it. */
static bool read_header(const struct train *datagram, struct proxy_header *out,
                        const char **out_why)
{
    switch (proxy_header_read(datagram->bytes, datagram->length, out, out_why)) {
    case PROXY_WHOLE:
        break;
    case PROXY_PARTIAL:
        *out_why = "the datagram ends before its PROXY header does";
        return false;
    case PROXY_NONE:
    case PROXY_WRONG:
        return false;
    }
    *out_why = out->version != 2 ? "a PROXY header of version 1 cannot speak of datagrams"
                                 : "the PROXY header speaks of a stream";
    return out->version == 2 && out->type != SOCK_STREAM;
}

static void strip(struct train *datagram, size_t length)
{
    datagram->bytes += length;
    datagram->length -= (uint32_t)length;
    datagram->segment = datagram->length;
}

/* Whoever is refused next must not leave his word to the one before him. */
static void end_other(const struct arrival *arrival)
{
    struct kept_told *last = last_of(arrival);

    if (last != NULL && !told_is_same(&last->told, arrival->told))
        remove_last(arrival->port->udp, last);
}

static void take_headed(struct arrival *arrival, struct list *touched)
{
    struct proxy_header header;
    const char *why = "";
    struct told told;

    if (!read_header(&arrival->train, &header, &why)) {
        request_drop(arrival, METRIC_DROP_HEADER_WRONG, why);
        return;
    }
    strip(&arrival->train, header.length);
    if (!header.local) {
        told = (struct told){header.source, header.destination, header.tlvs};
        inet_address_fold(&told.client);
        inet_address_fold(&told.destination);
        arrival->told = &told;
    }
    end_other(arrival);
    request_sort(arrival, touched);
}

static void take_plain(struct arrival *arrival, struct list *touched)
{
    const struct kept_told *last = last_of(arrival);

    if (last != NULL)
        arrival->told = &last->told;
    else if (arrival->port->policy->proxy_in == CONFIG_PROXY_REQUIRED) {
        request_drop(arrival, METRIC_DROP_HEADER_MISSING, metric_help(METRIC_DROP_HEADER_MISSING));
        return;
    }
    request_sort(arrival, touched);
}

/* ---- trains ---- */

uint32_t told_count(const struct train *train, bool is_headed)
{
    uint32_t count = 0;

    for (size_t at = 0; count < train_count(train); at += train->segment, count++) {
        size_t length = MIN(train->length - at, train->segment);
        if (proxy_header_begins(train->bytes + at, length) != is_headed)
            break;
    }
    return count;
}

static void take_from_sender(const struct arrival *arrival, struct list *touched)
{
    struct train rest = arrival->train;
    bool is_last = false;

    while (!is_last) {
        uint32_t plain = told_count(&rest, false);
        uint32_t count = MAX(plain, 1u);
        struct arrival part = *arrival;

        is_last = count == train_count(&rest);
        part.train = is_last ? rest : train_cut(&rest, count);
        if (plain > 0)
            take_plain(&part, touched);
        else
            take_headed(&part, touched);
    }
}

void told_take(struct arrival *arrival, struct list *touched)
{
    const struct udp_policy *policy = arrival->port->policy;
    const struct config_networks *from = policy->proxy_from;

    if (network_any_has(from->network, from->count, arrival->sender))
        take_from_sender(arrival, touched);
    else if (policy->proxy_in == CONFIG_PROXY_OPTIONAL)
        request_sort(arrival, touched);
    else
        admit_refuse_sender(arrival->port, arrival->sender, train_count(&arrival->train));
}
