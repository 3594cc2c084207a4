/*
 * A session as a flat record, for its hand-over to another process: pipes are emptied into the
 * record, never passed; a session that was still looking for a server passes as its client alone.
 */
#include "common/clock.h"
#include "lb/tcp/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_server(const struct session *session)
{
    return session->state >= SESSION_RELAYING && session->state <= SESSION_RESETTING;
}

/* What no server has got goes along as it came, and is read anew from its beginning. */
static bool is_read_anew(const struct session *session)
{
    return session->preread != NULL && !has_server(session) &&
           (session->state == SESSION_PREREAD || session->preread->bytes != NULL);
}

static void take_preread(struct session *session, struct session_record *out)
{
    struct preread *preread = session->preread;

    if (!is_read_anew(session) || preread->used == 0)
        return;
    out->data = preread->bytes;
    out->held[CLIENT] = preread->used;
    preread->bytes = NULL;
}

/* Moves what both directions hold into one malloc'd block. */
static int take_held(struct session *session, struct session_record *out)
{
    uint32_t at = 0;
    uint32_t total = session->direction[CLIENT].pending + session->direction[SERVER].pending;

    if (total == 0) {
        take_preread(session, out);
        return 0;
    }
    out->data = malloc(total);
    if (out->data == NULL)
        return -ENOMEM;
    for (unsigned from = CLIENT; from <= SERVER; from++) {
        struct direction *direction = &session->direction[from];
        out->held[from] = direction->pending;
        if (direction->pending == 0)
            continue;
        direction->engine->drain(direction, out->data + at, &session->tcp->tools);
        at += out->held[from];
    }
    return 0;
}

static void write_server(const struct session *session, struct session_record *out)
{
    snprintf(out->server, sizeof(out->server), "%s", session->server->name);
    out->server_fd = session->side[SERVER].fd;
    for (unsigned i = CLIENT; i <= SERVER; i++) {
        out->error[i] = session->side[i].error;
        out->eof[i] = session->direction[i].eof;
        out->finished[i] = session->direction[i].finished;
        out->fin_sent[i] = session->direction[i].fin_sent;
        out->bytes[i] = session->direction[i].bytes;
    }
}

static void write_common(const struct session *session, struct session_record *out)
{
    uint64_t now = session->tcp->now_ms;
    const struct preread *preread = session->preread;
    bool told = preread != NULL && preread->told;
    bool is_anew = is_read_anew(session);

    *out = (struct session_record){
        .id = session->id,
        .state = has_server(session) ? session->state
                 : is_anew           ? SESSION_PREREAD
                                     : SESSION_PICKING,
        .client_fd = session->side[CLIENT].fd,
        .server_fd = -1,
        .client = told && is_anew ? preread->peer : session->client,
        .lost = session->lost,
        .age_us = clock_now_us() - session->accepted_us,
        .connect_us = session->connect_us,
        .idle_ms = now - MIN(session->activity_ms, now),
        .deadline_left_ms = session->deadline_ms > now ? session->deadline_ms - now : 0,
        .tries = session->tries,
        .admitted = preread == NULL || preread->header_done,
    };
    if (told && !is_anew) {
        out->via = preread->peer;
        out->destination = preread->destination;
    }
    snprintf(out->pool, sizeof(out->pool), "%s", session->pool_name);
    snprintf(out->listener, sizeof(out->listener), "%s", session->policy->listener);
}

int session_export(struct session *session, struct session_record *out)
{
    struct poller *poller = session->tcp->env.poller;
    struct session_record record;
    int failed;

    BUG_ON(session->state == SESSION_ENDED);
    write_common(session, &record);
    failed = take_held(session, &record);
    if (failed)
        return failed;
    poller_del(poller, session->side[CLIENT].fd);
    if (has_server(session)) {
        poller_del(poller, session->side[SERVER].fd);
        write_server(session, &record);
    } else if (session->side[SERVER].fd >= 0) {
        socket_close(session->side[SERVER].fd, true);
    }
    session->side[CLIENT].fd = -1;
    session->side[SERVER].fd = -1;
    session_detach(session);
    *out = record;
    return 0;
}

static int restore_directions(struct session *session, const struct session_record *record)
{
    const uint8_t *held = record->data;

    for (unsigned from = CLIENT; from <= SERVER; from++) {
        struct direction *direction = &session->direction[from];
        uint32_t count = record->held[from];
        if (count > 0) {
            if (engine_refill(direction, held, count) < 0)
                return -ENOMEM;
            held += count;
        }
        direction->eof = record->eof[from] != 0;
        direction->finished = record->finished[from] != 0;
        direction->fin_sent = record->fin_sent[from] != 0;
        direction->bytes = record->bytes[from];
        session->side[from].error = record->error[from];
    }
    return 0;
}

static void restore_times(struct session *session, const struct session_record *record)
{
    uint64_t now = session->tcp->now_ms;

    session->connect_us = (uint32_t)record->connect_us;
    session->activity_ms = now - MIN(record->idle_ms, now);
    session->deadline_ms = now + record->deadline_left_ms;
    session->lost = record->lost;
    session->tries = (uint8_t)record->tries;
}

/* Whose port its socket has: the kernel knows. */
static uint8_t source_of(struct server *server, int fd)
{
    union inet_address own = {0};
    socklen_t length = sizeof(own);

    if (server->ports[PORTS_TCP] == NULL || getsockname(fd, &own.any, &length) < 0)
        return PORTS_NONE;
    return ports_adopt(server->ports[PORTS_TCP], &own);
}

static int restore_server(struct session *session, struct server *server,
                          const struct session_record *record)
{
    int failed = restore_directions(session, record);

    if (failed)
        return failed;
    session->server = server;
    session->side[SERVER].fd = record->server_fd;
    restore_times(session, record);
    if (record->state == SESSION_RESETTING) {
        unsigned side = record->error[SERVER] != 0 ? SERVER : CLIENT;
        session->failed = (uint8_t)side;
        session->side[side].readable = true;
        session->side[side].hup = true;
    }
    failed = session_watch(session, SERVER);
    if (failed)
        return failed;
    session->source = source_of(server, record->server_fd);
    session_set_state(session, (enum session_state)record->state);
    return 0;
}

/* As if session_new had not been: nothing of it is anybody's yet. */
static void forget(struct session *session)
{
    struct tcp *tcp = session->tcp;

    relay_discard(session, CLIENT);
    relay_discard(session, SERVER);
    preread_free(session);
    gate_leave(session->policy->gate, session->ticket);
    tcp->live--;
    slab_put(&tcp->sessions, session);
}

/* The one that a route had led to, if the listener still has such a route. */
static void restore_pool(struct session *session, const struct session_record *record)
{
    const struct tcp_policy *policy = session->policy;

    for (size_t i = 0; i < policy->route_count; i++) {
        if (strcmp(policy->routes[i].pool, record->pool) != 0)
            continue;
        session->pool = (uint32_t)policy->routes[i].pool_index;
        session->pool_name = policy->routes[i].pool;
        return;
    }
}

/* Is its client known, or will a header tell it? */
static bool knows_client(const struct session *session, const struct session_record *record)
{
    return record->state != SESSION_PREREAD || !admit_is_sender(session->policy, &session->client);
}

static int go_on(struct session *session, struct server *server,
                 const struct session_record *record)
{
    int failed;

    if (record->admitted && knows_client(session, record))
        admit_again(session);
    if (record->state == SESSION_PREREAD)
        return preread_restore(session, record);
    failed = preread_remember(session, record);
    if (failed)
        return failed;
    if (server != NULL)
        return restore_server(session, server, record);
    session_pick(session);
    return 0;
}

int session_import(struct tcp *tcp, const struct tcp_policy *policy, struct server *server,
                   const struct session_record *record)
{
    struct session *session;
    int failed;

    BUG_ON((server == NULL) != (record->server_fd < 0));
    session = session_new(tcp, policy, record->client_fd, &record->client);
    if (session == NULL)
        return -ENOMEM;
    session->id = record->id;
    tcp->next_id = MAX(tcp->next_id, (record->id >> 8) + 1);
    session->accepted_us -= MIN(record->age_us, session->accepted_us);
    failed = session_watch(session, CLIENT);
    if (failed) {
        forget(session);
        return failed;
    }
    restore_pool(session, record);
    failed = go_on(session, server, record);
    if (failed) {
        poller_del(tcp->env.poller, record->client_fd);
        forget(session);
    }
    return failed;
}
