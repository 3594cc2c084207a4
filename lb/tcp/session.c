/*
 * The state machine of a session, from the accepted socket to the one door out.
 *
 * One timer per session, whose meaning follows from the state; timeouts of idleness are lazy: bytes
 * only store a stamp, and expiry looks at it. A session that ends keeps its memory until tcp_reap,
 * because events of the same batch and callers up the stack may still hold it.
 */
#include "lb/tcp/session.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET)

/* Receive buffer of the copy engine, shared by all sessions of a worker. */
#define SCRATCH_SIZE (64u * 1024u)

/* A queued session asks again this often: a slot may have become free on another worker. */
#define QUEUE_POLL_MS 100
/* A session of this age gets the socket options that short ones do without. */
#define TUNE_AFTER_MS 1000
/* How often a session being reset looks whether everything has been delivered. */
#define FLUSH_POLL_MS 10

static const struct {
    const char *word;
    const char *by;
} ends[SESSION_END_COUNT] = {
#define SESSION_END_ROW(id, word, by, help) {word, by},
    SESSION_ENDS(SESSION_END_ROW)
#undef SESSION_END_ROW
};

const char *session_end_word(enum session_end_reason reason)
{
    return ends[reason].word;
}

const char *session_end_by(enum session_end_reason reason)
{
    return ends[reason].by;
}

const char *session_state_name(enum session_state state)
{
    static const char *const names[SESSION_STATES] = {
        [SESSION_PREREAD] = "preread",     [SESSION_PICKING] = "picking",
        [SESSION_QUEUED] = "queued",       [SESSION_CONNECTING] = "connecting",
        [SESSION_RELAYING] = "relaying",   [SESSION_HALF_CLOSED] = "half-closed",
        [SESSION_RESETTING] = "resetting", [SESSION_ENDED] = "ended",
    };

    return names[state];
}

static uint64_t idle_deadline(const struct session *session)
{
    const struct tcp_policy *policy = session->policy;

    return session->activity_ms + (session->state == SESSION_RELAYING
                                       ? policy->idle_timeout_ms
                                       : policy->half_close_timeout_ms);
}

/* When the session's timer must look next. */
static uint64_t next_look(const struct session *session)
{
    uint64_t now = session->tcp->now_ms;

    switch ((enum session_state)session->state) {
    case SESSION_QUEUED:
        return MIN(session->deadline_ms, now + QUEUE_POLL_MS);
    case SESSION_PREREAD:
    case SESSION_CONNECTING:
        return session->deadline_ms;
    case SESSION_RELAYING:
    case SESSION_HALF_CLOSED:
        return session->tuned ? idle_deadline(session)
                              : MIN(idle_deadline(session), session->connected_ms + TUNE_AFTER_MS);
    case SESSION_RESETTING:
        return MIN(session->deadline_ms, now + FLUSH_POLL_MS);
    default:
        return WHEEL_NEVER;
    }
}

void session_set_state(struct session *session, enum session_state state)
{
    uint64_t look;

    BUG_ON(session->state == SESSION_ENDED);
    session->state = (uint8_t)state;
    look = next_look(session);
    if (look == WHEEL_NEVER)
        wheel_cancel(session->tcp->env.wheel, &session->timer);
    else
        wheel_set(session->tcp->env.wheel, &session->timer, look);
}

void session_tune(struct session *session)
{
    const struct server *server = session->server;

    if (session->tuned)
        return;
    session->tuned = true;
    preread_forget(session);
    /* It cannot fail on a socket that took the others; if it did, the session would go on as well.
     */
    if (address_is_inet(&server->address))
        (void)!socket_tune(session->side[SERVER].fd, session->policy);
}

/*
 * A FIN takes a number like a byte, and is the last one: it is unacknowledged as long as anything
 * is. (Its state would say so too, but may change between the two questions.)
 */
uint32_t session_unsent(const struct session *session, unsigned side)
{
    uint32_t unsent;

    /* On a Unix socket SIOCOUTQ counts memory, and a close discards nothing. */
    if (side == SERVER && !address_is_inet(&session->server->address))
        return 0;
    unsent = socket_unsent(session->side[side].fd);
    return unsent > 0 && session->direction[!side].fin_sent ? unsent - 1 : unsent;
}

void session_close_side(struct session *session, unsigned side, bool reset)
{
    if (session->side[side].fd < 0)
        return;
    if (reset && session->state >= SESSION_RELAYING) {
        session->lost += socket_unread(session->side[side].fd);
        session->lost += session_unsent(session, side);
    }
    socket_close(session->side[side].fd, reset);
    session->side[side].fd = -1;
}

/* Gives the server's slot back; whoever waits for one may go on. */
void session_leave_server(struct session *session)
{
    struct tcp *tcp = session->tcp;
    bool was_full;

    if (session->server == NULL)
        return;
    if (session->source != PORTS_NONE)
        ports_give(session->server->ports[PORTS_TCP], session->source);
    session->source = PORTS_NONE;
    was_full = server_leave(session->server);
    server_put(&session->server);
    /* Later in this turn: from here a connect that fails at once would come back in, waiter by
     * waiter. */
    if (was_full)
        poller_queue(tcp->env.poller, &tcp->wake);
}

static void count_end(struct session *session, enum session_end_reason reason)
{
    struct tcp *tcp = session->tcp;
    struct server *server = session->server;
    enum server_drain_end how = DRAIN_END_SELF;

    metrics_add(tcp->env.metrics, METRIC_SESSIONS_ENDED, 1);
    metrics_add(tcp->env.metrics, METRIC_BYTES_LOST, session->lost);
    if (server == NULL)
        return;
    if (reason == SESSION_END_SERVER_RESET)
        cell_add(&server->cell[tcp->env.worker].resets, 1);
    if (reason == SESSION_END_DRAIN_QUIET)
        how = DRAIN_END_QUIET;
    else if (reason == SESSION_END_DRAIN_DEADLINE || reason == SESSION_END_SERVER_DOWN)
        how = DRAIN_END_DEADLINE;
    server_drained(server, tcp->env.worker, how);
}

/* Ends that are clean on both sides: everything else is told to both by a reset. */
static bool ends_clean(enum session_end_reason reason)
{
    return reason == SESSION_END_DONE || reason == SESSION_END_DRAIN_QUIET;
}

void session_detach(struct session *session)
{
    struct tcp *tcp = session->tcp;

    wheel_cancel(tcp->env.wheel, &session->timer);
    poller_unqueue(&session->task);
    list_del(&session->link);
    relay_discard(session, CLIENT);
    relay_discard(session, SERVER);
    session_leave_server(session);
    preread_free(session);
    gate_leave(session->policy->gate, session->ticket);
    session->state = SESSION_ENDED;
    list_add_tail(&tcp->ended, &session->link);
    tcp->live--;
    tcp->env.ended(tcp->env.owner, session->policy);
}

/* The low 8 bits of an id are the worker's; above them it counts. */
static bool has_access_line(const struct session *session)
{
    const struct tcp_policy *policy = session->policy;

    return policy->log_access && (session->id >> 8) % policy->log_sample == 0;
}

/* As the listener says: it had no server yet. */
static void turn_away(struct session *session)
{
    refuse_client(session->tcp, session->policy, session->side[CLIENT].fd);
    session->side[CLIENT].fd = -1;
}

void session_end(struct session *session, enum session_end_reason reason)
{
    bool reset = !ends_clean(reason);

    if (session->state == SESSION_ENDED)
        return;
    session->reason = (uint8_t)reason;
    relay_discard(session, CLIENT);
    relay_discard(session, SERVER);
    if (reason == SESSION_END_REFUSED)
        turn_away(session);
    session_close_side(session, CLIENT, reset);
    session_close_side(session, SERVER, reset);
    count_end(session, reason);
    if (has_access_line(session))
        access_line(session);
    session_detach(session);
}

/* ---- events and time ---- */

static void latch(struct side *side, uint32_t events)
{
    const uint32_t end = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

    side->readable |= (events & (EPOLLIN | EPOLLPRI | end)) != 0;
    side->writable |= (events & EPOLLOUT) != 0;
    side->hup |= (events & end) != 0;
    side->urgent |= (events & EPOLLPRI) != 0;
}

static void session_event(struct session *session, unsigned side, uint32_t events)
{
    latch(&session->side[side], events);
    switch ((enum session_state)session->state) {
    case SESSION_RELAYING:
    case SESSION_HALF_CLOSED:
    case SESSION_RESETTING:
        relay_event(session, side, events);
        return;
    case SESSION_CONNECTING:
        if (side == SERVER) {
            session_connect_event(session, events);
            return;
        }
        break;
    case SESSION_PREREAD:
        if ((events & (EPOLLERR | EPOLLHUP)) == 0) {
            preread_event(session);
            return;
        }
        break;
    default:
        break;
    }
    /* The client of a session without a server: a FIN alone is a half-close, and served. */
    if (side == CLIENT && (events & (EPOLLERR | EPOLLHUP)))
        session_end(session, SESSION_END_CLIENT_GONE);
}

static void on_client(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct session *session = slab_find(&((struct tcp *)owner)->sessions, index, generation);

    if (session != NULL && session->state != SESSION_ENDED)
        session_event(session, CLIENT, events);
}

static void on_server(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct session *session = slab_find(&((struct tcp *)owner)->sessions, index, generation);

    if (session != NULL && session->state != SESSION_ENDED)
        session_event(session, SERVER, events);
}

static void on_task(struct poller_task *task)
{
    relay_both(container_of(task, struct session, task));
}

/* Lazily: bytes may have passed since the timer was set. */
static void idle_look(struct session *session, enum session_end_reason reason)
{
    if (idle_deadline(session) <= session->tcp->now_ms) {
        session_end(session, reason);
        return;
    }
    session_tune(session);
    session_set_state(session, (enum session_state)session->state);
}

static void on_timer(struct wheel_timer *timer, uint64_t now_ms)
{
    struct session *session = container_of(timer, struct session, timer);

    session->tcp->now_ms = now_ms;
    switch ((enum session_state)session->state) {
    case SESSION_PREREAD:
        metrics_add(session->tcp->env.metrics, METRIC_PREREAD_TIMEOUTS, 1);
        session_end(session, SESSION_END_PREREAD_TIMEOUT);
        break;
    case SESSION_QUEUED:
        if (now_ms >= session->deadline_ms) {
            session_give_up(session);
            break;
        }
        session_set_state(session, SESSION_QUEUED);
        tcp_wake_queued(session->tcp, session->pool);
        break;
    case SESSION_CONNECTING:
        session_retry(session, ETIMEDOUT);
        break;
    case SESSION_RELAYING:
        idle_look(session, SESSION_END_IDLE_TIMEOUT);
        break;
    case SESSION_HALF_CLOSED:
        idle_look(session, SESSION_END_HALF_CLOSE_TIMEOUT);
        break;
    case SESSION_RESETTING:
        session_set_state(session, SESSION_RESETTING);
        relay_flush(session);
        break;
    default:
        BUG_ON(true);
    }
}

/* ---- sessions come and go ---- */

struct session *session_new(struct tcp *tcp, const struct tcp_policy *policy, int fd,
                            const union inet_address *client)
{
    struct session *session = NULL;

    if (tcp->live < tcp->env.session_limit)
        session = slab_take(&tcp->sessions);
    if (session == NULL)
        return NULL;
    tcp->live++;
    session->state = SESSION_PICKING;
    session->tcp = tcp;
    session->policy = policy;
    session->pool = policy->pool;
    session->pool_name = policy->pool_name;
    session->ticket = GATE_NO_TICKET;
    session->id = tcp->next_id++ << 8 | tcp->env.worker;
    session->accepted_us = clock_now_us();
    session->activity_ms = tcp->now_ms;
    session->client = *client;
    inet_address_fold(&session->client);
    session->side[CLIENT].fd = fd;
    session->side[SERVER].fd = -1;
    session->source = PORTS_NONE;
    session->direction[CLIENT].engine = &engine_copy;
    session->direction[SERVER].engine = &engine_copy;
    list_init(&session->link);
    poller_task_init(&session->task, on_task);
    wheel_timer_init(&session->timer, on_timer);
    return session;
}

int session_watch(struct session *session, unsigned side)
{
    struct tcp *tcp = session->tcp;

    return poller_add(tcp->env.poller, session->side[side].fd, WATCH_EVENTS,
                      poller_token(tcp->kind[side], session->node.index, session->node.generation));
}

void tcp_accept(struct tcp *tcp, const struct tcp_policy *policy, int fd,
                const union inet_address *client)
{
    struct session *session;
    uint32_t ticket;

    if (!admit_peer(tcp, policy, client, &ticket)) {
        refuse_client(tcp, policy, fd);
        tcp->env.ended(tcp->env.owner, policy);
        return;
    }
    session = session_new(tcp, policy, fd, client);
    if (session == NULL) {
        metrics_add(tcp->env.metrics, METRIC_ACCEPT_ERRORS, 1);
        socket_close(fd, true);
        gate_leave(policy->gate, ticket);
        tcp->env.ended(tcp->env.owner, policy);
        return;
    }
    session->ticket = ticket;
    metrics_add(tcp->env.metrics, METRIC_SESSIONS, 1);
    if (session_watch(session, CLIENT) < 0) {
        session_end(session, SESSION_END_NO_RESOURCES);
        return;
    }
    preread_begin(session);
}

int tcp_new(struct tcp **out, const struct tcp_env *env, uint64_t now_ms)
{
    struct tcp *tcp = calloc(1, sizeof(*tcp));

    if (tcp == NULL)
        return -ENOMEM;
    tcp->env = *env;
    tcp->now_ms = now_ms;
    tcp->next_id = 1;
    rate_meter_init(&tcp->silences, REFUSE_SILENT_RATE, REFUSE_SILENT_BURST);
    tcp->tools.pipes = env->pipes;
    tcp->tools.scratch_size = SCRATCH_SIZE;
    tcp->tools.scratch = malloc(SCRATCH_SIZE);
    tcp->queue = calloc(env->pool_count, sizeof(*tcp->queue));
    list_init(&tcp->ended);
    poller_task_init(&tcp->wake, session_wake_more);
    if (tcp->tools.scratch == NULL || tcp->queue == NULL)
        goto fail;
    for (uint32_t i = 0; i < env->pool_count; i++)
        list_init(&tcp->queue[i]);
    /* The limit is one of live sessions: those that ended this turn must not keep a client out. */
    slab_init(&tcp->sessions, sizeof(struct session), UINT32_MAX);
    tcp->kind[CLIENT] = poller_kind(env->poller, on_client, tcp);
    tcp->kind[SERVER] = poller_kind(env->poller, on_server, tcp);
    *out = tcp;
    return 0;
fail:
    free(tcp->tools.scratch);
    free(tcp->queue);
    free(tcp);
    return -ENOMEM;
}

void tcp_free(struct tcp **tcp)
{
    if (*tcp == NULL)
        return;
    tcp_reap(*tcp);
    poller_unqueue(&(*tcp)->wake);
    slab_deinit(&(*tcp)->sessions);
    free((*tcp)->tools.scratch);
    free((*tcp)->queue);
    free(*tcp);
    *tcp = NULL;
}

void tcp_set_now(struct tcp *tcp, uint64_t now_ms)
{
    tcp->now_ms = now_ms;
}

void tcp_reap(struct tcp *tcp)
{
    while (!list_empty(&tcp->ended)) {
        struct session *session = list_first(&tcp->ended, struct session, link);

        list_del(&session->link);
        slab_put(&tcp->sessions, session);
    }
}

uint32_t tcp_sessions(const struct tcp *tcp)
{
    return tcp->live;
}
