/*
 * Purpose: from clients to servers: a batch off a listener's socket, sorted by flow, and sent.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   what cannot be passed on is dropped and counted.
 *
 * Edge-triggered: a batch that came back short has emptied the socket; a listener that stops on its
 * budget stands in the run queue. Within a flow the order of datagrams is kept.
 */
#include "common/clock.h"
#include "common/log.h"
#include "lb/udp/private.h"

#include <errno.h>

/* Batches before others have their turn. */
#define BATCHES 4

/* After this the receive queue is asked what it had to drop. */
#define LOOK_AFTER_MS 1000

/* ---- sorting ---- */

/* Folded: that of the sender, or the one it told. */
static union inet_address client_of(const struct arrival *arrival)
{
    union inet_address client = *arrival->sender;

    if (arrival->told != NULL)
        return arrival->told->client;
    inet_address_fold(&client);
    return client;
}

static struct flow_key key_of(const struct arrival *arrival)
{
    return (struct flow_key){
        .sender = arrival->sender, .told = arrival->told, .local = &arrival->local};
}

void request_drop(const struct arrival *arrival, enum metric why, const char *phrase)
{
    struct udp_port *port = arrival->port;
    union inet_address client = client_of(arrival);
    union inet_address sender = *arrival->sender;
    char text[ADDRESS_TEXT_MAX], via[ADDRESS_TEXT_MAX];

    drop(port->udp, why, train_count(&arrival->train));
    /* The gate's are told of by source. */
    if (why == METRIC_DROP_DENIED || !log_is_due(&port->told_ms, port->udp->now_ms))
        return;
    inet_address_fold(&sender);
    log_warn("datagrams are dropped; this is one of them",
             LOG_S("listener", port->policy->listener),
             LOG_S("client", inet_address_format(&client, text)),
             LOG_S("via", arrival->told != NULL ? inet_address_format(&sender, via) : NULL),
             LOG_S("counter", metric_name(why)), LOG_S("why", phrase));
}

/* NULL: the datagrams are to be dropped for the reason. Owns `server`. */
static struct flow *begin(const struct arrival *arrival, const struct flow_key *key, uint64_t hash,
                          struct server *server, enum metric *out_why)
{
    struct flow *flow = NULL;

    *out_why = METRIC_DROP_LOOP;
    if (!flow_is_from(server, arrival->sender, arrival->told))
        flow = flow_begin(arrival->port, key, hash, server, out_why);
    if (flow == NULL)
        flow_give_back(server);
    return flow;
}

/* Who may not begin a flow, whatever the servers. */
static bool is_refused(const struct arrival *arrival, enum metric *out_why)
{
    struct udp *udp = arrival->port->udp;

    if (udp->draining) {
        *out_why = METRIC_DROP_STOPPING;
        return true;
    }
    if (arrival->port->crowded) {
        *out_why = METRIC_DROP_CROWDED;
        return true;
    }
    if (!upstream_is_own(udp, arrival->sender) &&
        (arrival->told == NULL || !upstream_is_own(udp, &arrival->told->client)))
        return false;
    *out_why = METRIC_DROP_LOOP;
    return true;
}

static struct server *choose(const struct arrival *arrival)
{
    static const struct sched_tried none;
    union inet_address client = client_of(arrival);

    return flow_choose(arrival->port, &client, &none);
}

/* Each datagram chooses, and the flow is that of the client and the server chosen. */
static struct flow *find_per_packet(const struct arrival *arrival, enum metric *out_why)
{
    struct server *server = choose(arrival);
    struct flow_key key = key_of(arrival);
    struct flow *flow;
    uint64_t hash;

    *out_why = METRIC_DROP_NO_SERVER;
    if (server == NULL)
        return NULL;
    key.server_id = server->id;
    hash = table_hash(arrival->port, &key);
    flow = table_find(arrival->port, &key, hash);
    if (flow == NULL && !is_refused(arrival, out_why))
        return begin(arrival, &key, hash, server, out_why);
    flow_give_back(server);
    return flow;
}

static struct flow *find(const struct arrival *arrival, enum metric *out_why)
{
    struct flow_key key = key_of(arrival);
    uint64_t hash = table_hash(arrival->port, &key);
    struct flow *flow = table_find(arrival->port, &key, hash);
    struct server *server;

    if (flow != NULL || is_refused(arrival, out_why))
        return flow;
    *out_why = METRIC_DROP_NO_SERVER;
    server = choose(arrival);
    return server != NULL ? begin(arrival, &key, hash, server, out_why) : NULL;
}

/* How many more datagrams the flow takes from its client. */
static uint32_t room_of(const struct flow *flow)
{
    const struct udp_policy *policy = flow->port->policy;

    if (policy->per_packet)
        return 1;
    return policy->requests == 0 ? UINT32_MAX : (uint32_t)(policy->requests - flow->datagrams_in);
}

static void put_parcel(struct udp *udp, struct list *touched, struct flow *flow,
                       const struct train *train)
{
    uint16_t index = (uint16_t)udp->parcels++;

    udp->parcel[index] = (struct parcel){*train, PARCEL_NONE};
    if (flow->first == PARCEL_NONE) {
        flow->first = index;
        list_add_tail(touched, &flow->touched);
    } else {
        udp->parcel[flow->last].next = index;
    }
    flow->last = index;
}

static void send_touched(struct udp *udp, struct list *touched)
{
    while (!list_empty(touched))
        request_send(list_first(touched, struct flow, touched));
    udp->parcels = 0;
}

/* One message: to its flow whole, unless the flow has not room for all of it. */
void request_sort(struct arrival *arrival, struct list *touched)
{
    struct udp *udp = arrival->port->udp;
    bool last = !admit_train(arrival);

    while (!last) {
        struct train part = arrival->train;
        enum metric why;
        struct flow *flow;

        if (udp->parcels == PARCELS)
            send_touched(udp, touched);
        udp->arriving = train_count(&part);
        flow = arrival->port->policy->per_packet ? find_per_packet(arrival, &why)
                                                 : find(arrival, &why);
        if (flow == NULL) {
            request_drop(arrival, why, metric_help(why));
            return;
        }
        if (flow->told != NULL)
            told_was_last(flow);
        last = room_of(flow) >= train_count(&part);
        if (!last)
            part = train_cut(&arrival->train, room_of(flow));
        flow_requested(flow, train_count(&part), part.length);
        put_parcel(udp, touched, flow, &part);
        if (room_of(flow) == 0)
            flow_spend(flow);
    }
}

/* ---- sending ---- */

static uint16_t take_parcels(struct flow *flow)
{
    uint16_t first = flow->first;

    flow->first = PARCEL_NONE;
    list_del(&flow->touched);
    return first;
}

static uint32_t count_parcels(const struct udp *udp, uint16_t at)
{
    uint32_t count = 0;

    for (; at != PARCEL_NONE; at = udp->parcel[at].next)
        count += train_count(&udp->parcel[at].train);
    return count;
}

static void drop_parcels(struct udp *udp, uint16_t at, enum metric why)
{
    for (; at != PARCEL_NONE; at = udp->parcel[at].next)
        drop(udp, why, train_count(&udp->parcel[at].train));
}

void request_send(struct flow *flow)
{
    struct udp *udp = flow->port->udp;
    uint16_t at = take_parcels(flow);
    bool is_deserted;

    udp->sending = count_parcels(udp, at);
    if (flow_must_move(flow, &is_deserted) && !flow->port->policy->per_packet &&
        !flow_move(flow, is_deserted) && is_deserted) {
        drop_parcels(udp, at, METRIC_DROP_NO_SERVER);
        return;
    }
    if (!greet_start(flow)) {
        drop_parcels(udp, at, METRIC_DROP_TOO_LARGE);
        return;
    }
    udp->requests.fd = flow->upstream->fd;
    for (; at != PARCEL_NONE; at = udp->parcel[at].next)
        greet_add(flow, &udp->parcel[at].train);
    outbox_flush(&udp->requests);
    greet_stop(flow);
}

int request_failed(void *owner, void *stream, int error)
{
    struct flow *flow = stream;

    (void)owner;
    /* Of this datagram, or of an earlier one that met a narrow path (ICMP): once more will tell. */
    if (error == EMSGSIZE)
        return flow->upstream->fd;
    if (!drop_is_refusal(error))
        return -1;
    /* The error is of an earlier datagram; this one has not been sent. */
    flow_refused(flow);
    /* Before the old socket is closed: without an answer from here the batch stays with it. */
    if (!greet_resume(flow))
        return -1;
    if (!flow->port->policy->per_packet)
        (void)flow_move(flow, false);
    return flow->upstream->fd;
}

/* ---- receiving ---- */

static void take(struct udp_port *port, uint32_t slot, struct list *touched)
{
    struct udp *udp = port->udp;
    struct arrival arrival = {.port = port, .sender = &udp->in.from[slot]};

    if (!tray_get(&udp->in, slot, &arrival.train, &arrival.local)) {
        drop(udp, METRIC_DROP_TOO_LARGE, 1);
        return;
    }
    if (arrival.train.segment < arrival.train.length) {
        metrics_add(udp->env.metrics, METRIC_GRO_RECEIVED, 1);
        metrics_add(udp->env.metrics, METRIC_GRO_DATAGRAMS, train_count(&arrival.train));
    }
    if (inet_address_port(arrival.sender) == 0)
        drop(udp, METRIC_DROP_SOURCE, train_count(&arrival.train));
    else if (port->policy->proxy_in != CONFIG_PROXY_OFF)
        told_take(&arrival, touched);
    else
        request_sort(&arrival, touched);
}

/* True: the socket may hold more. */
static bool receive(struct udp_port *port)
{
    struct udp *udp = port->udp;
    struct list touched;
    int count;

    udp->in.used = 0;
    count = tray_receive(&udp->in, port->fd, BATCH);
    metrics_add(udp->env.metrics, METRIC_UDP_RECEIVES, 1);
    if (count < 0)
        return count != -EAGAIN;
    list_init(&touched);
    for (uint32_t slot = 0; slot < (uint32_t)count; slot++)
        take(port, slot, &touched);
    send_touched(udp, &touched);
    return count == BATCH;
}

/*
 * To begin a flow takes thirty times as long as to pass a datagram on. A flood of newcomers would
 * fill the queue, and the kernel would drop whatever comes next, known clients' too. So what is
 * beyond a quarter of it is theirs alone: room for as long as another process may keep us waiting.
 * Where there are none (DNS) newcomers may have it all.
 */
static bool is_crowded(const struct udp_port *port)
{
    uint32_t memory[SK_MEMINFO_VARS];

    return !list_empty(&port->settled) && drop_read_memory(port->fd, memory) == 0 &&
           memory[SK_MEMINFO_RMEM_ALLOC] > memory[SK_MEMINFO_RCVBUF] / 4;
}

static void run(struct udp_port *port)
{
    struct udp *udp = port->udp;

    if (!wheel_is_set(&port->look))
        wheel_set(udp->env.wheel, &port->look, udp->now_ms + LOOK_AFTER_MS);
    for (int i = 0; i < BATCHES; i++) {
        if (!receive(port)) {
            port->crowded = false;
            return;
        }
    }
    port->crowded = is_crowded(port);
    poller_queue(udp->env.poller, &port->task);
}

void request_event(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct udp *udp = owner;

    (void)generation;
    (void)events;
    run(udp->port[index]);
}

void request_task(struct poller_task *task)
{
    run(container_of(task, struct udp_port, task));
}

/* ---- the receive queue ---- */

void request_look(struct wheel_timer *timer, uint64_t now_ms)
{
    struct udp_port *port = container_of(timer, struct udp_port, look);
    uint32_t memory[SK_MEMINFO_VARS];
    uint32_t more;

    (void)now_ms;
    if (drop_read_memory(port->fd, memory) < 0)
        return;
    more = drop_overflows(port->udp, memory, &port->overflows);
    if (more == 0)
        return;
    log_warn("a listener's receive queue was full; a larger udp_rcvbuf (and net.core.rmem_max) "
             "holds more",
             LOG_S("listener", port->policy->listener), LOG_U("dropped", more),
             LOG_U("rcvbuf", memory[SK_MEMINFO_RCVBUF]));
}
