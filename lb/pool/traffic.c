/*
 * Purpose: what sessions and flows have in common when somebody looks for them, or their server
 *          drains.
 * Thread:  any that holds a reference to the server.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "lb/pool/pool.h"

#include <string.h>

static bool text_matches(const char *wanted, const char *is)
{
    return wanted[0] == '\0' || strcmp(wanted, is) == 0;
}

/* "192.0.2.1" matches any port of that address; brackets of IPv6 may be left out then. */
static bool client_matches(const char *wanted, const union inet_address *client)
{
    char text[ADDRESS_TEXT_MAX];
    char *host, *end;

    if (wanted[0] == '\0')
        return true;
    host = inet_address_format(client, text);
    if (strcmp(wanted, text) == 0)
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

bool traffic_matches(const struct traffic_filter *filter, uint64_t id, const char *listener,
                     const char *pool, const struct server *server,
                     const union inet_address *client)
{
    if (filter->id != 0 && filter->id != id)
        return false;
    return text_matches(filter->listener, listener) && text_matches(filter->pool, pool) &&
           text_matches(filter->server, server ? server->name : "") &&
           (!filter->is_within || network_has(&filter->within, client)) &&
           client_matches(filter->client, client);
}

enum drain_step server_drain_step(const struct server *server, uint64_t now_ms,
                                  enum server_drain_cause *out_cause)
{
    uint64_t deadline = atomic_load_explicit(&server->drain_deadline_ms, memory_order_acquire);

    if (deadline == 0)
        return DRAIN_STEP_NONE;
    *out_cause =
        (enum server_drain_cause)atomic_load_explicit(&server->drain_cause, memory_order_relaxed);
    if (now_ms >= deadline)
        return DRAIN_STEP_DEADLINE;
    return now_ms >= atomic_load_explicit(&server->drain_quiet_ms, memory_order_relaxed)
               ? DRAIN_STEP_QUIET
               : DRAIN_STEP_NONE;
}

void server_drained(struct server *server, uint32_t worker, enum server_drain_end how)
{
    if (atomic_load_explicit(&server->drain_deadline_ms, memory_order_relaxed) != 0)
        cell_add(&server->cell[worker].drain_ends[how], 1);
}
