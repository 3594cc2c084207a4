/*
 * Purpose: `show servers`, in slices: a pool may hold thousands, and the loop has other things to
 *          do.
 * Thread:  control.
 * Owns:    the walk, from its first slice to its last line.
 * Fails:   by answering with an error.
 */
#include "lb/admin/servers.h"

#include "common/clock.h"
#include "lb/admin/handlers.h"
#include "lb/admin/lookup.h"

#include <stdlib.h>

/*
 * Rows, about a third of a millisecond. libuv calls back for a write that did not have to wait
 * within the same turn, up to eight times.
 */
#define SLICE 32

/* ---- what it carries ---- */

/* The two are not read in one instant: a flow that has just begun may be in the second alone. */
uint32_t totals_sessions(const struct server_totals *totals)
{
    return totals->load > totals->flows_now ? totals->load - totals->flows_now : 0;
}

void totals_add_fields(const struct server_totals *totals, struct reply *row)
{
    reply_add_number(row, "sessions", totals_sessions(totals));
    reply_add_number(row, "sessions_total", totals->sessions);
    reply_add_number(row, "flows", totals->flows_now);
    reply_add_number(row, "flows_total", totals->flows);
    reply_add_number(row, "bytes_in", totals->bytes_in);
    reply_add_number(row, "bytes_out", totals->bytes_out);
    reply_add_number(row, "connect_failures", totals->connect_failures);
    reply_add_number(row, "resets", totals->resets);
    reply_add_number(row, "refused", totals->refused);
    reply_add_number(row, "no_port", totals->no_port);
}

/* ---- a row ---- */

static uint64_t left(uint64_t deadline_ms, uint64_t now_ms)
{
    return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

static json_t *drain_object(const struct pool_member *member, const struct server_totals *totals,
                            uint64_t now_ms)
{
    const struct server *server = member->server;
    struct reply drain = reply_object();
    uint64_t ended[DRAIN_ENDS];
    for (size_t i = 0; i < DRAIN_ENDS; i++)
        ended[i] = totals->drain_ends[i] - member->drain_base[i];
    uint32_t cause = atomic_load_explicit(&server->drain_cause, memory_order_relaxed);
    uint64_t deadline_ms = atomic_load_explicit(&server->drain_deadline_ms, memory_order_relaxed);
    reply_add_text(&drain, "cause", cause == DRAIN_CAUSE_DOWN ? "down" : "operator");
    reply_add_number(&drain, "sessions_left", totals_sessions(totals));
    reply_add_number(&drain, "flows_left", totals->flows_now);
    reply_add_number(&drain, "ended_self", ended[DRAIN_END_SELF]);
    reply_add_number(&drain, "ended_quiet", ended[DRAIN_END_QUIET]);
    reply_add_number(&drain, "ended_deadline", ended[DRAIN_END_DEADLINE]);
    reply_add_number(&drain, "deadline_left_ms", left(deadline_ms, now_ms));
    return reply_end(&drain);
}

/* Of each of our addresses: as the kernel has counted them lately, or else what is open here. */
static json_t *ports_object(const struct ports_tally *tally)
{
    struct reply one = reply_object();
    reply_add_text(&one, "address", tally->source_text);
    reply_add_text(&one, "protocol", ports_protocol_name(tally->protocol));
    reply_add_number(&one, "used", tally->counted ? tally->used : ports_open(tally));
    reply_add(&one, "time_wait",
              tally->counted ? json_integer((json_int_t)tally->time_wait) : json_null());
    reply_add_number(&one, "range", atomic_load_explicit(&tally->range, memory_order_relaxed));
    reply_add_text(&one, "counted_by", tally->counted ? "kernel" : "weir");
    return reply_end(&one);
}

static void add_ports(const struct server *server, struct reply *row)
{
    struct reply all = reply_array();
    bool any = false;
    for (size_t protocol = 0; protocol < PORTS_PROTOCOLS; protocol++) {
        const struct ports *ports = server->ports[protocol];
        for (uint32_t i = 0; ports != NULL && i < ports->count; i++)
            any |= reply_append(&all, ports_object(ports->tally[i]));
    }
    json_t *array = reply_end(&all);
    if (any || array == NULL)
        reply_add(row, "source_ports", array);
    else
        json_decref(array);
}

json_t *server_row(const struct pool_member *member, uint64_t now_ms)
{
    const struct server *server = member->server;
    const char *why_not;
    struct server_totals totals;
    struct reply row = reply_object();
    server_totals(server, &totals);
    reply_add_text(&row, "pool", server->pool);
    reply_add_text(&row, "name", server->name);
    reply_add_text(&row, "address", server->address_text);
    reply_add_number(&row, "weight", member->weight);
    reply_add_text(&row, "admin", server_admin_name(member->admin));
    reply_add_text(&row, "health", health_state_name(member->health));
    reply_add_flag(&row, "usable", pool_member_usable(member, &why_not));
    reply_add_text(&row, "reason", member->reason);
    totals_add_fields(&totals, &row);
    add_ports(server, &row);
    if (member->drain_started_ms != 0)
        reply_add(&row, "drain", drain_object(member, &totals, now_ms));
    return reply_end(&row);
}

/* ---- all of them ---- */

struct walk {
    struct pools *pools;
    size_t pool, member; /* the next */
    size_t end;          /* the pool to stop before */
};

static const struct pool_member *walk_next(struct walk *walk)
{
    for (; walk->pool < walk->end; walk->pool++, walk->member = 0) {
        const struct pool *pool = &walk->pools->pool[walk->pool];
        if (walk->member < pool->member_count)
            return &pool->member[walk->member++];
    }
    return NULL;
}

static json_t *slice(struct walk *walk, uint64_t now_ms)
{
    struct reply rows = reply_array();
    const struct pool_member *member;
    for (size_t i = 0; i < SLICE && (member = walk_next(walk)) != NULL; i++) {
        if (!reply_append(&rows, server_row(member, now_ms)))
            break;
    }
    return reply_end(&rows);
}

static void cancel(struct request *request)
{
    free(request->state);
}

static void next(struct request *request)
{
    json_t *rows = slice(request->state, clock_now_ms());
    if (json_array_size(rows) == SLICE) { /* fewer are the last; 0 for NULL */
        request_more(request, rows);
        return;
    }
    free(request->state);
    request_reply(request, rows);
}

void run_show_servers(struct request *request)
{
    struct pools *pools = control_pools(request->control);
    struct walk walk = {.pools = pools, .end = pools->count};
    const char *name = request_argument(request, 0);
    if (name != NULL) {
        const struct pool *pool = lookup_pool(request, name);
        if (pool == NULL)
            return;
        walk.pool = pool->index;
        walk.end = walk.pool + 1;
    }
    struct walk *kept = malloc(sizeof(*kept));
    if (kept == NULL) {
        request_reply(request, NULL);
        return;
    }
    *kept = walk;
    request_hold(request, next, cancel, kept);
    next(request);
}
