/*
 * Purpose: the session itself, for the files of lb/tcp: state machine, relay, looking, hand-over.
 * Thread:  the worker's.
 * Owns:    see tcp.h.
 * Fails:   see tcp.h.
 *
 * Private to lb/tcp. A direction is named by the side it comes from: direction[CLIENT] carries what
 * the client sent towards the server.
 */
#pragma once

#include "lb/source/source.h"
#include "lb/tcp/client_hello.h"
#include "lb/tcp/engine.h"
#include "lb/tcp/tcp.h"

enum { CLIENT, SERVER };

struct side {
    int fd;        /* -1: none */
    int error;     /* the first one seen, by whichever call; the kernel tells it once */
    bool readable; /* edges not yet used up */
    bool writable;
    bool hup;    /* FIN or RST is in: a short read proves nothing any more */
    bool urgent; /* an urgent mark is in: splice would stop at it for ever */
};

/* What is remembered of a client's first bytes, for a session that had to read them. */
struct preread {
    uint8_t *bytes; /* as they came, the header included; NULL once a server has them */
    uint32_t size, used;
    uint32_t start;                 /* behind the PROXY header: from here on it is the server's */
    bool header_done;               /* read, or known not to be there */
    bool admitted;                  /* whom it tells was let in by another process */
    const char *why;                /* it is wrong: one phrase */
    bool told;                      /* it told the client's address and the one that it used */
    union inet_address peer;        /* who is really connected */
    union inet_address destination; /* if told */
    /* For the header that a server gets, as far as its pool asks for it: */
    uint8_t *tlvs; /* of the client's header */
    uint32_t tlv_length;
    struct client_hello *hello;
    const struct config_route *route;
};

struct session {
    struct slab_node node; /* first */
    uint8_t state;         /* enum session_state; written by session_set_state alone */
    uint8_t failed;        /* the side that was reset, while RESETTING */
    uint8_t reason; /* enum session_end_reason: of the last failed try; once ended, its own */
    uint8_t tries;
    uint32_t connect_us;
    struct list link; /* on the pool's queue, or among the ended */
    struct poller_task task;
    struct wheel_timer timer;
    struct tcp *tcp;
    const struct tcp_policy *policy;
    struct server *server; /* with a reference and a slot */
    uint64_t id;
    uint64_t accepted_us;
    uint64_t started_us;  /* the present connect */
    uint64_t activity_ms; /* the last byte or FIN */
    uint64_t deadline_ms; /* of QUEUED and RESETTING */
    uint64_t lost;        /* bytes that came from one side and the other did not get */
    uint64_t connected_ms;
    bool tuned;     /* the server's socket has all of its options */
    uint8_t source; /* whose port it has, of the server's; PORTS_NONE: none of theirs */
    union inet_address client;
    uint32_t ticket;         /* of the gate */
    uint32_t pool;           /* index in the view */
    const char *pool_name;   /* the policy's, or a route's */
    struct preread *preread; /* NULL: nothing had to be read */
    struct sched_tried tried;
    struct side side[2];
    struct direction direction[2];
};

_Static_assert(sizeof(struct session) <= 384, "an idle session stays small");

struct tcp {
    struct tcp_env env;
    struct engine_tools tools;
    struct slab sessions;
    uint32_t live; /* of them: the others wait for tcp_reap */
    struct list ended;
    struct list *queue;      /* one per pool, of QUEUED sessions */
    struct poller_task wake; /* more of the queues than one batch */
    unsigned kind[2];        /* of poller tokens, by side */
    uint64_t now_ms;
    uint64_t next_id;
    uint64_t source_told_ms;    /* when the log told of a source that servers cannot be had from */
    uint64_t no_port_told_ms;   /* and of a server for which no local port was left */
    struct rate_meter silences; /* of clients dropped without a word */
};

/* ---- session.c: the state machine ---- */

/* The one function that changes the state; sets the timer that belongs to it. */
void session_set_state(struct session *session, enum session_state state);

/* The one door out. Idempotent; the memory goes at the next tcp_reap. */
void session_end(struct session *session, enum session_end_reason reason);

/* A fresh session without a server, known to the slab and to nobody else; NULL at the limit. */
struct session *session_new(struct tcp *tcp, const struct tcp_policy *policy, int fd,
                            const union inet_address *client);
must_check int session_watch(struct session *session, unsigned side);

/* What the session gives back without a word to anybody: slot, engines, timer, queue, counts. */
void session_detach(struct session *session);

/* Bytes, without the FIN, that a reset of the side would discard. */
uint32_t session_unsent(const struct session *session, unsigned side);
void session_close_side(struct session *session, unsigned side, bool reset);
/* Puts the rest of its options on the server's socket, once. Five system calls that most sessions
 * end without. */
void session_tune(struct session *session);

/* Gives the server's slot and reference back; whoever waits for a slot may go on. */
void session_leave_server(struct session *session);

/* ---- admit.c: who may come in ---- */

/* May the connection's own address come in, or must its PROXY header tell another first? False: it
 * is refused, counted and told of. Else *out_ticket is the gate's. */
must_check bool admit_peer(struct tcp *tcp, const struct tcp_policy *policy,
                           const union inet_address *peer, uint32_t *out_ticket);
/* The same for the address that a PROXY header told. */
must_check bool admit_told(struct session *session);
/* For a session that another process has let in: it counts here, and is not judged again. */
void admit_again(struct session *session);
/* Is it one of those whose PROXY headers are believed? */
bool admit_is_sender(const struct tcp_policy *policy, const union inet_address *peer);
/* Counts and tells of a client that is refused. */
void admit_refuse(struct tcp *tcp, const struct tcp_policy *policy,
                  const union inet_address *client, const char *why);

/* ---- refuse.c: how the others are turned away ---- */

/* How long a dropped client gets no answer. Of each worker's so many a second and at once may wait
 * for the end of that, 256 in one such time; others are reset out of their sight. */
#define REFUSE_SILENCE_MS 20000
#define REFUSE_SILENT_RATE 6
#define REFUSE_SILENT_BURST 136
/* Closes the socket as `refuse` says. */
void refuse_client(struct tcp *tcp, const struct tcp_policy *policy, int fd);

/* ---- preread.c: what the client sends first ---- */

/* Waits for it where the listener needs to know; else a route by the address alone, and on. */
void preread_begin(struct session *session);
void preread_event(struct session *session);
/* Goes on where another process stopped reading; or, of a session with a server, keeps what is to
 * be remembered of a header. -ENOMEM: the session is to be given up. */
must_check int preread_restore(struct session *session, const struct session_record *record);
must_check int preread_remember(struct session *session, const struct session_record *record);
/* No other server will be tried: what only a header tells is of no use any more. */
void preread_forget(struct session *session);
void preread_free(struct session *session);

/* ---- route.c ---- */

/* What a client said, as far as routes ask for it. */
struct route_facts {
    const union inet_address *client;
    const struct client_hello *hello; /* NULL: it does not speak TLS */
};
bool route_needs_hello(const struct tcp_policy *policy);
/* The route whose conditions all hold: an exact name before the longest wildcard before none, then
 * the file's order. NULL: none. */
const struct config_route *route_choose(const struct tcp_policy *policy,
                                        const struct route_facts *facts);

/* ---- greet.c: what the server gets first ---- */

/* A connected server gets the PROXY header and what the client has sent so far, in one segment.
 * False: the session is over, or on its way to another server. */
must_check bool greet_server(struct session *session);

/* ---- connect.c: a server for the session ---- */

/* A new session: behind those that wait already, or a pick. */
void session_begin(struct session *session);
const struct pool_policy *session_pool_policy(const struct session *session);
/* A server is chosen and connected to; or the session is queued, or ended. */
void session_pick(struct session *session);
/* What the server's socket tells while CONNECTING. */
void session_connect_event(struct session *session, uint32_t events);
/* The connect failed: another server, the queue, or the end. */
void session_retry(struct session *session, int error);
/*
 * The server took the connection and reset it before a byte passed, or no port is left towards it
 * (EADDRNOTAVAIL), which is not its fault: on to another one. False, and nothing changed, when no
 * try is left or no other server is to be had now.
 */
must_check bool session_move(struct session *session, int error);
/* The wait was in vain. */
void session_give_up(struct session *session);
/* The run queue's part of tcp_wake_queued. */
void session_wake_more(struct poller_task *task);

/* ---- relay.c: bytes ---- */

/* Edges on a side of a connected session. */
void relay_event(struct session *session, unsigned side, uint32_t events);
/* Goes on with both directions: a task of the run queue, or right after the connect. */
void relay_both(struct session *session);
/* A tick while RESETTING: is all delivered? */
void relay_flush(struct session *session);
/* The side has failed with that errno, which the kernel tells no second time. */
void relay_failed(struct session *session, unsigned side, int error);
/* Counts bytes that got from a side to the other. */
void relay_count(struct session *session, unsigned from, uint64_t moved);
/* Gives up what a direction holds, and counts it as lost. */
void relay_discard(struct session *session, unsigned from);

/* ---- socket.c: options and connects ---- */

/* setsockopt(2) of a number: 0 or a negative errno. */
int socket_set(int fd, int level, int name, int value);
/* A non-blocking socket under way to the address, without the options of socket_tune. A negative
 * errno: -EAGAIN is a Unix socket's full backlog. */
must_check int socket_connect(const struct address *to, const struct source *from,
                              const struct tcp_policy *policy, int *out_fd);
/* The options that only matter to a session that lives, or carries, more than most. */
must_check int socket_tune(int fd, const struct tcp_policy *policy);
/* True for errors that are this machine's own fault and not the server's. */
bool socket_error_is_ours(int error);
/* Of these: a want of descriptors or memory, which others will feel too. */
bool socket_error_is_dearth(int error);
/* What the peer's kernel has not acknowledged: bytes, and our FIN. */
uint32_t socket_unsent(int fd);
/* Bytes that came from the peer and were not read. */
uint32_t socket_unread(int fd);
void socket_close(int fd, bool reset);

/* ---- access.c ---- */
void access_line(const struct session *session);
const char *session_engine_name(const struct session *session);
