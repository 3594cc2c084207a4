/*
 * Purpose: flows, their sockets and their listeners, for the files of lb/udp.
 * Thread:  the worker's.
 * Owns:    see udp.h.
 * Fails:   see udp.h.
 */
#pragma once

#include "common/list.h"
#include "common/proxy_header.h"
#include "common/slab.h"
#include "lb/udp/batch.h"
#include "lb/udp/udp.h"

#include <linux/sock_diag.h>

/* Sockets at rest, by server: enough that those of one server are found at once. */
#define SPARE_BINS 256

/* Our addresses towards servers: those of some pools with as many as can be, and elsewhere a
 * machine has few. A further one takes the place of the oldest. */
#define OWN_ADDRESSES (4 * CONFIG_SOURCES_MAX)
_Static_assert(OWN_ADDRESSES <= UINT8_MAX + 1, "upstream.own has eight bits");

/* Trains of one batch that are on their way to their flows. */
#define PARCELS 256
#define PARCEL_NONE UINT16_MAX

/* A socket connected to a server: it serves a flow, or rests. */
struct upstream {
    struct slab_node node; /* first */
    int fd;                /* -1: closed; the memory goes at the next udp_reap */
    uint32_t server_id;    /* whom it is connected to */
    uint32_t gso_below;    /* datagrams of so many bytes or more cannot be cut from one message */
    uint32_t overflows;    /* of the receive queue, as last seen */
    uint16_t port;         /* ours */
    uint8_t own;           /* our address: an index of udp->own, until one takes its place there */
    bool gro;
    bool fragment;
    bool transparent; /* bound to its client's address: of no use to another */
    uint8_t source;   /* whose port it has, of `ports` */
    struct udp *udp;
    struct ports *ports;      /* with a reference; NULL: none of theirs */
    struct flow *flow;        /* NULL: at rest */
    struct list link;         /* a bin of spare ones, or udp->closed */
    struct wheel_timer timer; /* of its rest */
    struct poller_task task;  /* more to receive */
};

/* What a PROXY header tells of a client. Addresses are folded. */
struct told {
    union inet_address client, destination;
    struct proxy_tlv_view tlvs;
};

/* The same for the life of a flow, with the bytes that its TLVs are in. */
struct kept_told {
    struct told told;
    struct flow *flow;
    struct kept_told *chain; /* of the bucket, while it is the last that the sender has told */
    uint64_t hash;           /* of the sender */
    bool is_last;
    uint8_t bytes[];
};

/* Which of the datagrams to its server have a PROXY header. */
enum greeting {
    GREET_NONE,
    GREET_EACH,
    GREET_NEXT, /* the first that its server is to get */
    GREET_DONE, /* that one has gone */
};

struct flow {
    struct slab_node node; /* first */
    uint8_t state;         /* enum flow_state */
    uint8_t reason;        /* enum flow_end_reason, once ended */
    bool settled;          /* the client has sent a second datagram */
    uint8_t greeting;      /* enum greeting */
    uint16_t first, last;  /* parcels of this batch */
    uint32_t moves;
    uint64_t hash;
    struct flow *chain; /* of the table's bucket */
    struct udp_port *port;
    struct server *server; /* with a reference and a slot */
    struct upstream *upstream;
    struct list order;   /* among the port's fresh or settled ones, or the ended */
    struct list touched; /* among those with parcels */
    struct wheel_timer timer;
    uint64_t id;
    uint64_t started_us;
    uint64_t activity_ms;
    uint64_t datagrams_in, datagrams_out;
    uint64_t bytes_in, bytes_out;
    int64_t owed;              /* replies, while `responses` says how many a request has */
    uint32_t gso_below;        /* as upstream's, towards the client */
    uint32_t ticket;           /* of the gate */
    union inet_address client; /* as received: mapped on a socket of both families */
    struct local local;
    struct kept_told
        *told; /* NULL: `client` is the client; else it passes on what the client says */
};
_Static_assert(sizeof(struct flow) <= 256, "docs/udp.md says how large a flow is");

/* A listener's socket on this worker. */
struct udp_port {
    struct udp *udp;
    const struct udp_policy *policy;
    int fd;
    union inet_address bound; /* folded */
    uint32_t index;
    uint32_t limit;
    _Atomic uint32_t *flows;  /* of the listener, on all workers */
    bool crowded;             /* more waits than is kept up with: no newcomers */
    struct list fresh;        /* flows with one client datagram, oldest first */
    struct list settled;      /* the others, by their last move to the end */
    struct poller_task task;  /* more to receive */
    struct wheel_timer look;  /* after the receive queue */
    struct wheel_timer again; /* the set had no room for it */
    uint32_t overflows;       /* of the receive queue, as last seen */
    uint64_t told_ms;         /* when the log last told of a drop */
    struct outbox replies;
};

struct parcel {
    struct train train;
    uint16_t next;
};

struct udp {
    struct udp_env env;
    uint64_t now_ms;
    uint64_t next_id;
    uint64_t seed; /* of the table's hash */
    uint32_t live; /* flows: the others wait for udp_reap */
    bool draining;
    unsigned kind_port, kind_upstream; /* of poller tokens */
    struct slab flows;
    struct slab upstreams;
    uint32_t resting;
    struct list ended;
    struct list closed;
    struct list spare[SPARE_BINS];
    struct flow **bucket;
    uint64_t bucket_mask;
    struct kept_told *
        *teller; /* buckets of senders, by what they told last; NULL: none is believed */
    struct udp_port **port;
    uint32_t port_count;
    uint64_t no_port_told_ms; /* when the log last told of a server for which there was no port */
    struct in6_addr own[OWN_ADDRESSES];
    uint32_t own_count;
    uint64_t
        no_port_until_ms[2]; /* IPv4, IPv6: whoever may have any port of ours has none until then */
    struct tray in;          /* from clients */
    struct tray out;         /* from servers, until `flush` */
    struct poller_task flush;
    struct outbox requests;
    uint32_t arriving; /* datagrams of the message that is looked at */
    uint32_t sending;  /* datagrams of the flow that request_send is at */
    struct parcel parcel[PARCELS];
    uint32_t parcels;
    uint8_t header[DATAGRAM_MAX]; /* what greet.c writes */
};

/* Datagrams of one sender that came together. */
struct arrival {
    struct udp_port *port;
    const union inet_address *sender; /* as received */
    const struct told *told;          /* NULL: the sender is the client */
    struct local local;
    struct train train;
};

/* ---- table.c: who is who ---- */

struct flow_key {
    const union inet_address *sender; /* as received */
    const struct told *told;          /* NULL: the sender is the client */
    const struct local *local;
    uint32_t server_id; /* of a per-packet flow; else 0 */
};
uint64_t table_hash(const struct udp_port *port, const struct flow_key *key);
struct flow *table_find(const struct udp_port *port, const struct flow_key *key, uint64_t hash);
void table_add(struct flow *flow);
/* Harmless for a flow that is not in it. */
void table_remove(struct flow *flow);

/* ---- flow.c: the life of a flow ---- */

/* A flow for a client that has none, on the server given or one of its own choice. NULL: its
 * datagrams are to be dropped, for the reason `out_why`. `server` is the caller's on failure. */
struct flow *flow_begin(struct udp_port *port, const struct flow_key *key, uint64_t hash,
                        struct server *server, enum metric *out_why);
/* The one door out. Idempotent; the memory goes at the next udp_reap. */
void flow_end(struct flow *flow, enum flow_end_reason reason);
/* The memory of one that has ended, or has not begun. */
void flow_free(struct flow *flow);
/* The client has sent `count` datagrams of `bytes` bytes in all. */
void flow_requested(struct flow *flow, uint32_t count, uint32_t bytes);
/* It takes no more of its client's datagrams, who gets another flow. */
void flow_spend(struct flow *flow);
/* Its server is suspect, or deserted: no place to stay for a flow that another could serve. */
bool flow_must_move(const struct flow *flow, bool *out_is_deserted);
/* To another server, to a suspect one only if allowed: two such would play ball with it. False, and
 * nothing changed, when none is to be had. */
bool flow_move(struct flow *flow, bool even_to_suspect);
/* The server's machine has refused a datagram: one that was sent earlier. */
void flow_refused(struct flow *flow);
/* Is it the server itself that sends, or speaks through the sender? */
bool flow_is_from(const struct server *server, const union inet_address *sender,
                  const struct told *told);
/* A server of the listener's pool, with a slot and a reference; or NULL. */
struct server *flow_choose(const struct udp_port *port, const union inet_address *client,
                           const struct sched_tried *tried);
/* What flow_choose took. */
void flow_give_back(struct server *server);
/* Sets the timer anew, after `draining` has changed. */
void flow_set_timer(struct flow *flow);

/* ---- upstream.c: sockets to servers ---- */

/* A socket connected to the server, for the flow. Or a negative errno; -EAFNOSUPPORT: the pool's
 * source is "client", and this client's address cannot be one to that server. */
must_check int upstream_take(struct udp *udp, struct flow *flow, struct server *server,
                             struct upstream **out);
/* The flow needs it no more and nothing is to come: it rests, and serves another one later. */
void upstream_rest(struct upstream *upstream, uint64_t quarantine_ms);
void upstream_close(struct upstream *upstream);
/* What the receive queue had to drop is counted: now and then, and at the end. */
void upstream_look(struct upstream *upstream);
/* Ends the rest of all. */
void upstream_close_spare(struct udp *udp);
/* True for an address and port of one of our own sockets to servers, but for those that are bound
 * to a client's address. */
bool upstream_is_own(const struct udp *udp, const union inet_address *client);

/* ---- reply.c: from servers to clients ---- */
void reply_event(void *owner, uint32_t index, uint32_t generation, uint32_t events);
void reply_task(struct poller_task *task);
void reply_flush(struct udp *udp);
/* The poller_task of it. */
void reply_flush_task(struct poller_task *task);

/* ---- request.c: from clients to servers ---- */
void request_event(void *owner, uint32_t index, uint32_t generation, uint32_t events);
void request_task(struct poller_task *task);
/* What the receive queue had to drop is counted. */
void request_look(struct wheel_timer *timer, uint64_t now_ms);
/* To their flow, or flows. */
void request_sort(struct arrival *arrival, struct list *touched);
/* Counts them, and tells of them at a bounded rate. */
void request_drop(const struct arrival *arrival, enum metric why, const char *phrase);
/* Sends what the flow has got in this batch. */
void request_send(struct flow *flow);
int request_failed(void *owner, void *stream, int error);

/* ---- admit.c: who may come in ---- */

/* May the client of `udp->arriving` begin a flow? False: it is refused, and told of. Else
 * *out_ticket is the gate's. */
must_check bool admit_flow(struct udp_port *port, const union inet_address *client,
                           uint32_t *out_ticket);
/* Those of a sender that no PROXY header is believed of, where one is required. */
void admit_refuse_sender(struct udp_port *port, const union inet_address *sender,
                         uint32_t datagrams);

/* Cuts the train down to what its source may send now: its first datagrams, for those behind are
 * the later ones. The others are dropped and told of. False: that is all of them. */
must_check bool admit_train(struct arrival *arrival);

/* ---- told.c: clients that PROXY headers tell of ---- */

/* Cuts off the headers of those who are believed, and sorts what is left. For a listener that has
 * proxy_protocol. */
void told_take(struct arrival *arrival, struct list *touched);
/* How many datagrams the train begins with that do, or do not, begin as a header. */
uint32_t told_count(const struct train *train, bool is_headed);
bool told_is_same(const struct told *a, const struct told *b);
/* A copy for the flow, or a negative errno. */
must_check int told_keep(struct flow *flow, const struct told *told);
/* What the sender says without a header is of this flow's client from now on. */
void told_was_last(struct flow *flow);
/* No more: the flow ends. */
void told_forget(struct flow *flow);
/* NULL: none was kept. */
const struct told *told_of(const struct flow *flow);

/* ---- greet.c: PROXY headers for servers ---- */

/* For a new flow, as its pool will have it. */
void greet_init(struct flow *flow);
/* Its server, or the program that was there, has not heard of it yet. */
void greet_again(struct flow *flow);
/* Then its server knows by the socket whose the other datagrams are. */
bool greet_tells_once(const struct flow *flow);
/* Do servers get what the client's own header carried? */
bool greet_passes_on(const struct flow *flow);
/* Before and after all that request_send adds and sends. False: the header is larger than any
 * datagram. */
must_check bool greet_start(struct flow *flow);
void greet_stop(struct flow *flow);
/* As outbox_add of the requests. */
void greet_add(struct flow *flow, const struct train *train);
/* What is sent from here on goes to one who may not have heard of it. False as above. */
must_check bool greet_resume(struct flow *flow);

/* ---- drop.c: why not ---- */
void drop(struct udp *udp, enum metric why, uint32_t datagrams);
/* What a socket holds, by SK_MEMINFO_…; 0 or a negative errno. */
must_check int drop_read_memory(int fd, uint32_t memory[SK_MEMINFO_VARS]);
/* Counts what its receive queue had to drop since `seen`, and returns it. */
uint32_t drop_overflows(struct udp *udp, const uint32_t memory[SK_MEMINFO_VARS], uint32_t *seen);
/* For an errno of a send. */
enum metric drop_reason(int error);
/* True for what ICMP tells of a server (icmp(7)): it is not there. */
bool drop_is_refusal(int error);
/* True for what a socket that connects meets when no local port is left for it. */
bool drop_is_no_port(int error);

/* ---- access.c ---- */
void flow_access_line(const struct flow *flow);
/* The client's address, folded: that of the sender, or the one it told. */
union inet_address flow_client(const struct flow *flow);
