/*
 * Walks over all sessions in slices: for looking at them, for ending some, for draining servers. A
 * walk stands on slab indexes, so sessions may come and go between two slices; one that lives
 * through the whole walk is met exactly once.
 */
#include "common/clock.h"
#include "lb/tcp/session.h"

#include <stdio.h>
#include <string.h>

/* So many sessions are looked at between two looks at the clock. */
#define STRIDE 64

/* Whom a PROXY header has yet to tell is judged then. */
static bool is_denied(const struct session *session)
{
    bool is_known = session->preread == NULL || session->preread->header_done;

    return is_known && gate_denies(session->policy->gate, &session->client);
}

static bool matches(const struct session *session, const struct traffic_filter *filter)
{
    return session->state != SESSION_ENDED && (!filter->is_denied || is_denied(session)) &&
           traffic_matches(filter, session->id, session->policy->listener, session->pool_name,
                           session->server, &session->client);
}

static void describe(const struct session *session, struct session_info *out)
{
    const struct server *server = session->server;
    uint64_t age_us = clock_now_us() - session->accepted_us;

    *out = (struct session_info){
        .id = session->id,
        .client = session->client,
        .state = (enum session_state)session->state,
        .engine = session_engine_name(session),
        .age_ms = age_us / 1000,
        .idle_ms = session->tcp->now_ms - MIN(session->activity_ms, session->tcp->now_ms),
        .bytes_in = session->direction[CLIENT].bytes,
        .bytes_out = session->direction[SERVER].bytes,
    };
    snprintf(out->listener, sizeof(out->listener), "%s", session->policy->listener);
    snprintf(out->pool, sizeof(out->pool), "%s", session->pool_name);
    snprintf(out->server, sizeof(out->server), "%s", server ? server->name : "");
}

/* The next live session from *cursor on, or NULL with *cursor at UINT32_MAX, or NULL when time is
 * up. */
static struct session *next(struct tcp *tcp, uint32_t *cursor, uint64_t until_us)
{
    for (uint32_t seen = 0; *cursor < tcp->sessions.span; seen++) {
        struct session *session = slab_at(&tcp->sessions, *cursor);

        if (seen % STRIDE == STRIDE - 1 && clock_now_us() >= until_us)
            return NULL;
        (*cursor)++;
        if (session != NULL && session->state != SESSION_ENDED)
            return session;
    }
    *cursor = UINT32_MAX;
    return NULL;
}

uint32_t tcp_list(struct tcp *tcp, const struct traffic_filter *filter, uint32_t *cursor,
                  struct session_info *out, uint32_t most, uint64_t until_us)
{
    uint32_t found = 0;
    struct session *session;

    while (found < most && (session = next(tcp, cursor, until_us)) != NULL) {
        if (matches(session, filter))
            describe(session, &out[found++]);
        else if (clock_now_us() >= until_us)
            break;
    }
    return found;
}

uint32_t tcp_kill(struct tcp *tcp, const struct traffic_filter *filter,
                  enum session_end_reason reason, uint32_t *cursor, uint64_t until_us)
{
    uint32_t killed = 0;
    struct session *session;

    while ((session = next(tcp, cursor, until_us)) != NULL) {
        if (matches(session, filter)) {
            session_end(session, reason);
            killed++;
        }
        if (clock_now_us() >= until_us)
            break;
    }
    return killed;
}

/* Silent for a while and nothing under way: as good a moment as will come. In a half-close somebody
 * still waits for an answer. */
static bool is_quiet(const struct session *session)
{
    return session->tcp->now_ms >= session->activity_ms + DRAIN_QUIET_MS &&
           session->direction[CLIENT].pending == 0 && session->direction[SERVER].pending == 0 &&
           session->state == SESSION_RELAYING;
}

/* True when the session was ended at a quiet moment. */
static bool drain_one(struct session *session, bool may_close_quiet)
{
    enum server_drain_cause cause;
    enum drain_step step;

    if (session->server == NULL)
        return false;
    step = server_drain_step(session->server, session->tcp->now_ms, &cause);
    if (step == DRAIN_STEP_DEADLINE) {
        session_end(session, cause == DRAIN_CAUSE_DOWN ? SESSION_END_SERVER_DOWN
                                                       : SESSION_END_DRAIN_DEADLINE);
        return false;
    }
    if (step != DRAIN_STEP_QUIET || !may_close_quiet || !is_quiet(session))
        return false;
    session_end(session, SESSION_END_DRAIN_QUIET);
    return true;
}

uint32_t tcp_drain(struct tcp *tcp, uint32_t *cursor, uint32_t paced, uint64_t until_us)
{
    uint32_t closed = 0;
    struct session *session;

    while ((session = next(tcp, cursor, until_us)) != NULL) {
        if (drain_one(session, closed < paced))
            closed++;
        if (clock_now_us() >= until_us)
            break;
    }
    return closed;
}

struct session *tcp_find(struct tcp *tcp, uint64_t id)
{
    uint32_t cursor = 0;
    struct session *session;

    while ((session = next(tcp, &cursor, UINT64_MAX)) != NULL) {
        if (session->id == id)
            return session;
    }
    return NULL;
}
