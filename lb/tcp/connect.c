/*
 * From a client to a server: the choice, the connect, another try, and the queue of those for whom
 * there is none.
 *
 * A session comes in here without a server and leaves relaying, or ended. The queue is first come,
 * first served, per pool: who cannot be served stays at its head, and nobody behind is asked.
 */
#include "lb/tcp/session.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>

/* So many queued sessions are connected in one go; the run queue goes on with the rest. */
#define WAKE_BATCH 64

const struct pool_policy *session_pool_policy(const struct session *session)
{
    const struct tcp_env *env = &session->tcp->env;

    return env->policy(env->owner, session->pool);
}

/* The end of a session that found no server: by its last try, if there was one. */
void session_give_up(struct session *session)
{
    session_end(session, session->tries > 0 ? (enum session_end_reason)session->reason
                                            : SESSION_END_NO_SERVER);
}

static void enqueue(struct session *session)
{
    struct tcp *tcp = session->tcp;
    const struct pool_policy *policy = session_pool_policy(session);

    if (policy->when_empty == CONFIG_EMPTY_RESET) {
        session_give_up(session);
        return;
    }
    if (session->deadline_ms == 0) {
        session->deadline_ms = tcp->now_ms + policy->connect_timeout_ms;
        metrics_add(tcp->env.metrics, METRIC_QUEUED, 1);
    }
    session->tried.count = 0;
    list_del(&session->link);
    list_add_tail(&tcp->queue[session->pool], &session->link);
    session_set_state(session, SESSION_QUEUED);
}

static void drop_connect(struct session *session)
{
    session_close_side(session, SERVER, false);
    session->side[SERVER] = (struct side){.fd = -1};
    session_leave_server(session);
}

/* Once a second: what one session meets, the next ones meet too. */
static void tell_source(const struct session *session, const union inet_address *source,
                        const char *why)
{
    union inet_address folded = *source;
    char from[ADDRESS_TEXT_MAX];

    if (!log_is_due(&session->tcp->source_told_ms, session->tcp->now_ms))
        return;
    inet_address_fold(&folded);
    log_warn("a server cannot be connected to from this source",
             LOG_S("server", session->server->name),
             LOG_S("address", session->server->address_text),
             LOG_S("source", inet_address_format(&folded, from)), LOG_S("pool", session->pool_name),
             LOG_S("why", why));
}

/* False: the client's address cannot be one to connect to this server from, and the session ends.
 */
static bool choose_source(struct session *session, struct source *out)
{
    *out = (struct source){.address.any.sa_family = AF_UNSPEC};
    if (!session_pool_policy(session)->source_client ||
        source_of_client(&session->server->address, &session->client, out))
        return true;
    tell_source(session, &session->client,
                "the client is of another family than the server, or its address leads nowhere "
                "from there: give each family a listener and a pool");
    session_end(session, SESSION_END_NO_SOURCE);
    return false;
}

/* An address without a port is control's to tell of, with figures. */
static bool is_source_at_fault(const struct source *source, int error)
{
    return source->address.any.sa_family != AF_UNSPEC && socket_error_is_ours(error) &&
           !socket_error_is_dearth(error) && (source->transparent || error != EADDRNOTAVAIL);
}

static void lack_port(const struct session *session)
{
    struct tcp *tcp = session->tcp;

    metrics_add(tcp->env.metrics, METRIC_NO_PORT, 1);
    server_lacks_port(session->server, tcp->env.worker, &tcp->no_port_told_ms, tcp->now_ms);
}

/* ---- a socket under way: 0 or a negative errno ---- */

static int connect_from(struct session *session, const struct source *source)
{
    struct side *side = &session->side[SERVER];
    int failed = socket_connect(&session->server->address, source, session->policy, &side->fd);

    if (is_source_at_fault(source, -failed))
        tell_source(session, &source->address, strerrordesc_np(-failed));
    return failed;
}

/* One address after the other, while they have no port for this server. */
static int connect_from_any(struct session *session)
{
    struct ports *ports = session->server->ports[PORTS_TCP];
    uint64_t now = session->tcp->now_ms;
    uint64_t tried = 0;
    int failed = -EADDRNOTAVAIL;
    uint8_t i;

    while (failed == -EADDRNOTAVAIL && (i = ports_take(ports, tried, now)) != PORTS_NONE) {
        const struct source source = {.address = *ports_source(ports, i)};
        failed = connect_from(session, &source);
        tried |= UINT64_C(1) << i;
        if (failed == -EADDRNOTAVAIL)
            ports_refuse(ports, i, now);
        else if (failed)
            ports_give(ports, i);
        else
            session->source = i;
    }
    return failed;
}

static bool connect_server(struct session *session)
{
    struct tcp *tcp = session->tcp;
    struct source source;
    int failed;

    if (session->server->ports[PORTS_TCP] != NULL)
        failed = connect_from_any(session);
    else if (choose_source(session, &source))
        failed = connect_from(session, &source);
    else
        return true;
    session->started_us = clock_now_us();
    if (failed == 0)
        failed = session_watch(session, SERVER);
    if (failed == 0) {
        session->deadline_ms = tcp->now_ms + session_pool_policy(session)->connect_timeout_ms;
        session_set_state(session, SESSION_CONNECTING);
        return true;
    }
    if (socket_error_is_dearth(-failed))
        tcp->env.starved(tcp->env.owner);
    if (failed == -EADDRNOTAVAIL) {
        lack_port(session);
        if (session_move(session, EADDRNOTAVAIL))
            return true;
    }
    if (socket_error_is_ours(-failed)) {
        session_end(session, SESSION_END_NO_RESOURCES);
        return true;
    }
    return false;
}

static void note_failure(struct session *session, int error)
{
    struct tcp *tcp = session->tcp;

    cell_add(&session->server->cell[tcp->env.worker].connect_failures, 1);
    metrics_add(tcp->env.metrics, METRIC_CONNECT_FAILURES, 1);
    tcp->env.suspect(tcp->env.owner, session->server);
    sched_tried_add(&session->tried, session->server->id);
    session->reason = error == ETIMEDOUT ? SESSION_END_CONNECT_TIMEOUT : SESSION_END_CONNECT_FAILED;
}

/* No port is left towards this server: that says nothing of it. */
static void pass_over(struct session *session)
{
    sched_tried_add(&session->tried, session->server->id);
    session->reason = SESSION_END_NO_RESOURCES;
}

static bool has_tries(const struct session *session)
{
    return session->tries <= session_pool_policy(session)->retries;
}

/* Notes a failed try; false when the session has used up its tries and is ended. */
static bool may_try_again(struct session *session, int error)
{
    note_failure(session, error);
    if (has_tries(session))
        return true;
    session_end(session, (enum session_end_reason)session->reason);
    return false;
}

static struct server *choose(const struct session *session, const struct sched_tried *tried)
{
    const struct tcp_env *env = &session->tcp->env;
    uint64_t key = inet_address_hash(&session->client, session_pool_policy(session)->hash_port, 0);

    return env->pick(env->owner, session->pool, key, tried);
}

/* Connects to session->server, or to the next while they fail at once. */
static void connect_chosen(struct session *session)
{
    for (; session->server != NULL; session->server = choose(session, &session->tried)) {
        if (session->tries > 0)
            metrics_add(session->tcp->env.metrics, METRIC_RETRIES, 1);
        session->tries++;
        if (connect_server(session) || !may_try_again(session, ECONNREFUSED))
            return;
        drop_connect(session);
    }
    enqueue(session);
}

void session_pick(struct session *session)
{
    session->server = choose(session, &session->tried);
    connect_chosen(session);
}

static void start_over(struct session *session)
{
    drop_connect(session);
    session->deadline_ms = 0;
    session_set_state(session, SESSION_PICKING);
}

void session_retry(struct session *session, int error)
{
    if (!may_try_again(session, error))
        return;
    start_over(session);
    session_pick(session);
}

bool session_move(struct session *session, int error)
{
    struct sched_tried tried = session->tried;
    struct server *next;

    if (!has_tries(session))
        return false;
    sched_tried_add(&tried, session->server->id);
    next = choose(session, &tried);
    if (next == NULL)
        return false;
    if (error == EADDRNOTAVAIL)
        pass_over(session);
    else
        note_failure(session, error);
    start_over(session);
    session->server = next;
    connect_chosen(session);
    return true;
}

static void connected(struct session *session)
{
    struct tcp *tcp = session->tcp;

    session->connect_us = (uint32_t)MIN(clock_now_us() - session->started_us, UINT32_MAX);
    session->activity_ms = tcp->now_ms;
    session->connected_ms = tcp->now_ms;
    session->side[SERVER].writable = true;
    cell_add(&session->server->cell[tcp->env.worker].sessions, 1);
    session_set_state(session, SESSION_RELAYING);
    if (greet_server(session))
        relay_both(session);
}

void session_connect_event(struct session *session, uint32_t events)
{
    int error = 0;
    socklen_t length = sizeof(error);

    if ((events & (EPOLLERR | EPOLLHUP)) == 0) {
        if (events & EPOLLOUT)
            connected(session);
        return;
    }
    if (getsockopt(session->side[SERVER].fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        error = errno;
    if (error == 0)
        connected(session); /* a Unix server that has closed by now, perhaps after an answer */
    else if (socket_error_is_ours(error))
        session_end(session, SESSION_END_NO_RESOURCES);
    else
        session_retry(session, error);
}

/* Those who wait already come first, also for a slot that became free on another worker. */
void session_begin(struct session *session)
{
    struct tcp *tcp = session->tcp;
    uint32_t pool = session->pool;

    if (list_empty(&tcp->queue[pool])) {
        session_pick(session);
        return;
    }
    enqueue(session);
    tcp_wake_queued(tcp, pool);
}

void tcp_wake_queued(struct tcp *tcp, uint32_t pool)
{
    struct list *queue = &tcp->queue[pool];

    for (int i = 0; !list_empty(queue); i++) {
        struct session *session = list_first(queue, struct session, link);

        if (i == WAKE_BATCH) {
            poller_queue(tcp->env.poller, &tcp->wake);
            return;
        }
        list_del(&session->link);
        session_pick(session);
        if (session->state != SESSION_QUEUED)
            continue;
        /* None for the first of them: none for the others. It goes back to the head. */
        list_del(&session->link);
        list_add_tail(queue->next, &session->link);
        return;
    }
}

void session_wake_more(struct poller_task *task)
{
    struct tcp *tcp = container_of(task, struct tcp, wake);

    for (uint32_t pool = 0; pool < tcp->env.pool_count; pool++)
        tcp_wake_queued(tcp, pool);
}
