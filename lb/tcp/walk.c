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

static bool text_matches(const char *wanted, const char *is)
{
    return wanted[0] == '\0' || strcmp(wanted, is) == 0;
}

/* "192.0.2.1" matches any port of that address; brackets of IPv6 may be left out then. */
static bool client_matches(const char *wanted, const union inet_address *client)
{
    char text[ADDRESS_TEXT_MAX];
    char *host = inet_address_format(client, text);
    char *end;

    if (wanted[0] == '\0' || strcmp(wanted, text) == 0)
        return true;
    end = strrchr(text, ':');
    if (end == NULL)
        return false;
    *end = '\0';
    if (strcmp(wanted, host) == 0)
        return true;
    if (host[0] != '[')
        return false;
    host[strlen(host) - 1] = '\0';
    return strcmp(wanted, host + 1) == 0;
}

static bool matches(const struct session *session, const struct session_filter *filter)
{
    const struct server *server = session->server;

    if (session->state == SESSION_ENDED || (filter->id != 0 && filter->id != session->id))
        return false;
    return text_matches(filter->listener, session->policy->listener) &&
           text_matches(filter->pool, session->policy->pool_name) &&
           text_matches(filter->server, server ? server->name : "") &&
           client_matches(filter->client, &session->client);
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
    snprintf(out->pool, sizeof(out->pool), "%s", session->policy->pool_name);
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

uint32_t tcp_list(struct tcp *tcp, const struct session_filter *filter, uint32_t *cursor,
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

uint32_t tcp_kill(struct tcp *tcp, const struct session_filter *filter,
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

/* True when the session was ended for its server's sake. */
static bool drain_one(struct session *session, bool may_close_quiet)
{
    struct server *server = session->server;
    uint64_t now = session->tcp->now_ms;
    uint64_t deadline;

    if (server == NULL)
        return false;
    deadline = atomic_load_explicit(&server->drain_deadline_ms, memory_order_acquire);
    if (deadline == 0)
        return false;
    if (now >= deadline) {
        uint32_t cause = atomic_load_explicit(&server->drain_cause, memory_order_relaxed);
        session_end(session, cause == DRAIN_CAUSE_DOWN ? SESSION_END_SERVER_DOWN
                                                       : SESSION_END_DRAIN_DEADLINE);
        return false;
    }
    if (!may_close_quiet || !is_quiet(session) ||
        now < atomic_load_explicit(&server->drain_quiet_ms, memory_order_relaxed))
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
