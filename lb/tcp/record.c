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

/* Moves what both directions hold into one malloc'd block. */
static int take_held(struct session *session, struct session_record *out)
{
    uint32_t at = 0;
    uint32_t total = session->direction[CLIENT].pending + session->direction[SERVER].pending;

    if (total == 0)
        return 0;
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
    snprintf(out->pool, sizeof(out->pool), "%s", session->server->pool);
    snprintf(out->server, sizeof(out->server), "%s", session->server->name);
    out->server_fd = session->side[SERVER].fd;
    for (unsigned i = CLIENT; i <= SERVER; i++) {
        out->error[i] = session->side[i].error;
        out->eof[i] = session->direction[i].eof;
        out->finished[i] = session->direction[i].finished;
        out->bytes[i] = session->direction[i].bytes;
    }
}

static void write_common(const struct session *session, struct session_record *out)
{
    uint64_t now = session->tcp->now_ms;

    *out = (struct session_record){
        .id = session->id,
        .state = has_server(session) ? session->state : SESSION_PICKING,
        .client_fd = session->side[CLIENT].fd,
        .server_fd = -1,
        .client = session->client,
        .lost = session->lost,
        .age_us = clock_now_us() - session->accepted_us,
        .connect_us = session->connect_us,
        .idle_ms = now - MIN(session->activity_ms, now),
        .deadline_left_ms = session->deadline_ms > now ? session->deadline_ms - now : 0,
        .tries = session->tries,
    };
    snprintf(out->listener, sizeof(out->listener), "%s", session->policy->listener);
}

int session_export(struct session *session, struct session_record *out)
{
    struct poller *poller = session->tcp->env.poller;
    struct session_record record;
    int failed;

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
    uint32_t at = 0;

    for (unsigned from = CLIENT; from <= SERVER; from++) {
        struct direction *direction = &session->direction[from];
        if (engine_refill(direction, record->data + at, record->held[from]) < 0)
            return -ENOMEM;
        at += record->held[from];
        direction->eof = record->eof[from] != 0;
        direction->finished = record->finished[from] != 0;
        direction->bytes = record->bytes[from];
        session->side[from].error = record->error[from];
    }
    if (record->state == SESSION_RESETTING)
        session->failed = record->error[SERVER] != 0 ? SERVER : CLIENT;
    return 0;
}

static void restore_times(struct session *session, const struct session_record *record)
{
    uint64_t now = session->tcp->now_ms;

    session->accepted_us -= MIN(record->age_us, session->accepted_us);
    session->connect_us = (uint32_t)record->connect_us;
    session->activity_ms = now - MIN(record->idle_ms, now);
    session->deadline_ms = record->deadline_left_ms > 0 ? now + record->deadline_left_ms : 0;
    session->lost = record->lost;
    session->tries = (uint8_t)record->tries;
    session->id = record->id;
}

static int restore_server(struct session *session, const struct session_record *record)
{
    session->side[SERVER].fd = record->server_fd;
    int failed = restore_directions(session, record);
    if (failed)
        return failed;
    session_set_state(session, (enum session_state)record->state);
    if (record->state == SESSION_RESETTING) {
        session->side[session->failed].readable = true;
        session->side[session->failed].hup = true;
        session->deadline_ms = session->tcp->now_ms + record->deadline_left_ms;
    }
    return session_watch(session, SERVER);
}

int session_import(struct tcp *tcp, const struct tcp_policy *policy, struct server *server,
                   const struct session_record *record)
{
    struct session *session = session_new(tcp, policy, record->client_fd, &record->client);
    int failed;

    if (session == NULL)
        return -ENOMEM;
    session->server = server;
    restore_times(session, record);
    failed = session_watch(session, CLIENT);
    if (!failed && server != NULL)
        failed = restore_server(session, record);
    if (failed) {
        /* The descriptors stay the caller's, and so do the reference and the slot. */
        session->side[CLIENT].fd = -1;
        session->side[SERVER].fd = -1;
        session->server = NULL;
        session_detach(session);
        return failed;
    }
    if (server == NULL) {
        session->tries = 0;
        session->deadline_ms = 0;
        session_pick(session);
    }
    return 0;
}
