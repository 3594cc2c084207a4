/*
 * Purpose: the commands that look and answer at once.
 * Thread:  control.
 * Owns:    nothing beyond a call.
 * Fails:   by answering with an error; request_reply(NULL) tells short memory.
 */
#include "lb/admin/commands.h"
#include "lb/admin/handlers.h"
#include "lb/admin/lookup.h"
#include "lb/admin/servers.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- status ---- */

static json_t *descriptors_object(const struct control_status *status)
{
    struct reply object = reply_object();
    reply_add_number(&object, "open", status->descriptors_open);
    reply_add_number(&object, "limit", status->limits.descriptors);
    reply_add_number(&object, "reserved", status->limits.reserved);
    reply_add_number(&object, "sessions", status->limits.sessions);
    reply_add_number(&object, "pipes", status->limits.pipes);
    reply_add_number(&object, "flows", status->limits.flows);
    reply_add_number(&object, "resting", status->limits.resting);
    reply_add_flag(&object, "lowered", status->limits.lowered);
    reply_add_flag(&object, "flows_lowered", status->limits.flows_lowered);
    return reply_end(&object);
}

static json_t *log_object(const struct control_status *status)
{
    struct reply object = reply_object();
    reply_add_number(&object, "written", status->log_written);
    reply_add_number(&object, "dropped", status->log_dropped);
    return reply_end(&object);
}

void run_status(struct request *request)
{
    struct reply object = reply_object();
    struct control_status status;
    control_status(request->control, &status);
    reply_add_text(&object, "version", WEIR_VERSION);
    reply_add_number(&object, "pid", (uint64_t)getpid());
    reply_add_number(&object, "uptime_s", status.uptime_ms / 1000);
    reply_add_text(&object, "state", control_state_name(status.state));
    reply_add_number(&object, "workers", status.workers);
    reply_add_number(&object, "sessions", status.sessions);
    reply_add_number(&object, "flows", status.flows);
    reply_add(&object, "descriptors", descriptors_object(&status));
    reply_add(&object, "log", log_object(&status));
    reply_add_number(&object, "control_turn_us", status.control_turn_us);
    reply_add_number(&object, "worker_turn_us", status.worker_turn_us);
    request_reply(request, reply_end(&object));
}

/* ---- ready ---- */

static bool pool_ready(const struct pool *pool)
{
    const char *why_not;
    for (size_t i = 0; i < pool->member_count; i++) {
        if (pool_member_usable(&pool->member[i], &why_not))
            return true;
    }
    return false;
}

static bool is_fed(struct control *control, size_t pool)
{
    const struct listener *listeners;
    size_t count = control_listeners(control, &listeners);
    for (size_t i = 0; i < count; i++) {
        if (config_listener_feeds(listeners[i].config, pool))
            return true;
    }
    return false;
}

/* The first pool of a listener or a route that could not serve a client now; NULL: all can. */
static const struct pool *find_unready(struct control *control)
{
    const struct pools *pools = control_pools(control);
    for (size_t i = 0; i < pools->count; i++) {
        if (!pool_ready(&pools->pool[i]) && is_fed(control, i))
            return &pools->pool[i];
    }
    return NULL;
}

void run_ready(struct request *request)
{
    const char *name = request_argument(request, 0);
    const struct pool *pool = NULL;
    if (name != NULL && (pool = lookup_pool(request, name)) == NULL)
        return;
    enum control_state state = control_state(request->control);
    if (state != CONTROL_RUNNING) {
        request_refuse(request, "weir is %s", control_state_name(state));
        return;
    }
    if (pool == NULL)
        pool = find_unready(request->control);
    if (pool != NULL && !pool_ready(pool)) {
        request_refuse(request, "pool \"%s\" has no usable server", pool->config->name);
        return;
    }
    struct reply object = reply_object();
    reply_add_flag(&object, "ready", true);
    request_reply(request, reply_end(&object));
}

/* ---- listeners ---- */

/* How many there are, and may be: none of its own is null. */
static void add_count(struct reply *row, const char *key, const _Atomic uint32_t *count,
                      const char *limit_key, uint32_t limit)
{
    reply_add_number(row, key, atomic_load_explicit(count, memory_order_relaxed));
    reply_add(row, limit_key, limit != UINT32_MAX ? json_integer(limit) : json_null());
}

/* How fast new ones may come, and on how many workers clients wait for that now. */
static void add_rate(struct reply *row, const struct listener *listener)
{
    int64_t rate = listener->config->session_rate;
    reply_add(row, "session_rate", rate > 0 ? json_integer(rate) : json_null());
    reply_add_number(row, "throttled",
                     atomic_load_explicit(&listener->throttled, memory_order_relaxed));
}

/* What the rate of datagrams has said; null where there is none. */
static json_t *datagrams_row(const struct gate_datagrams *datagrams)
{
    if (!datagrams->is_limited)
        return json_null();
    struct reply row = reply_object();
    reply_add_number(&row, "passed", datagrams->passed);
    reply_add_number(&row, gate_datagram_word, datagrams->refused);
    reply_add_number(&row, "untracked", datagrams->untracked);
    reply_add_number(&row, "evicted", datagrams->evicted);
    reply_add_number(&row, "sources", datagrams->sources);
    return reply_end(&row);
}

/* What has been said so far to those who wanted to come in, while anything was there to keep them
 * out. */
static json_t *gate_row(const struct gate *gate)
{
    struct reply row = reply_object();
    struct gate_counts counts;
    gate_read(gate, &counts);
    for (unsigned i = 0; i < GATE_VERDICTS; i++)
        reply_add_number(&row, gate_verdict_word((enum gate_verdict)i), counts.verdict[i]);
    reply_add_number(&row, "untracked", counts.untracked);
    reply_add_number(&row, "evicted", counts.evicted);
    reply_add_number(&row, "sources", counts.sources);
    reply_add(&row, "datagrams", datagrams_row(&counts.datagrams));
    reply_add_flag(&row, "dry_run", gate_is_dry(gate));
    return reply_end(&row);
}

static json_t *listener_row(const struct listener *listener)
{
    const struct config_listener *config = listener->config;
    struct reply row = reply_object();
    bool is_udp = config->protocol == CONFIG_PROTOCOL_UDP;
    reply_add_text(&row, "name", config->name);
    reply_add_text(&row, "address", config->bind.text);
    reply_add_text(&row, "protocol", is_udp ? "udp" : "tcp");
    reply_add_text(&row, "pool", config->pool);
    if (is_udp) {
        add_count(&row, "flows", &listener->flows, "max_flows", listener->flow_limit);
    } else {
        add_count(&row, "sessions", &listener->sessions, "max_connections", listener->limit);
        add_rate(&row, listener);
    }
    reply_add(&row, "gate", gate_row(listener->gate));
    return reply_end(&row);
}

/* One at a time: to count the sources of a gate takes up to a millisecond. */
struct listener_walk {
    size_t next;
};

static void cancel_listeners(struct request *request)
{
    free(request->state);
}

static void next_listener(struct request *request)
{
    struct listener_walk *walk = request->state;
    const struct listener *listeners;
    size_t count = control_listeners(request->control, &listeners);
    struct reply rows = reply_array();

    if (walk->next < count)
        (void)reply_append(&rows, listener_row(&listeners[walk->next]));
    if (++walk->next < count) {
        request_more(request, reply_end(&rows));
        return;
    }
    free(walk);
    request_reply(request, reply_end(&rows));
}

void run_show_listeners(struct request *request)
{
    struct listener_walk *walk = calloc(1, sizeof(*walk));
    if (walk == NULL) {
        request_reply(request, NULL);
        return;
    }
    request_hold(request, next_listener, cancel_listeners, walk);
    next_listener(request);
}

/* ---- pools ---- */

struct pool_sum {
    size_t usable, draining;
    struct server_totals totals;
};

static void sum_member(const struct pool_member *member, struct pool_sum *sum)
{
    const char *why_not;
    struct server_totals totals;
    server_totals(member->server, &totals);
    sum->usable += pool_member_usable(member, &why_not);
    sum->draining += member->drain_started_ms > 0;
    sum->totals.load += totals_sessions(&totals) + totals.flows_now;
    sum->totals.flows_now += totals.flows_now;
    sum->totals.sessions += totals.sessions;
    sum->totals.flows += totals.flows;
    sum->totals.bytes_in += totals.bytes_in;
    sum->totals.bytes_out += totals.bytes_out;
    sum->totals.connect_failures += totals.connect_failures;
    sum->totals.resets += totals.resets;
    sum->totals.refused += totals.refused;
    sum->totals.no_port += totals.no_port;
}

static json_t *pool_row(const struct pool *pool)
{
    struct reply row = reply_object();
    struct pool_sum sum = {0};
    for (size_t i = 0; i < pool->member_count; i++)
        sum_member(&pool->member[i], &sum);
    reply_add_text(&row, "name", pool->config->name);
    reply_add_text(&row, "scheduler", pool->config->scheduler);
    reply_add_number(&row, "servers", pool->member_count);
    reply_add_number(&row, "usable", sum.usable);
    reply_add_number(&row, "draining", sum.draining);
    totals_add_fields(&sum.totals, &row);
    return reply_end(&row);
}

void run_show_pools(struct request *request)
{
    const struct pools *pools = control_pools(request->control);
    struct reply rows = reply_array();
    for (size_t i = 0; i < pools->count && reply_append(&rows, pool_row(&pools->pool[i])); i++)
        continue;
    request_reply(request, reply_end(&rows));
}

/* ---- counters, version, help ---- */

void run_show_counters(struct request *request)
{
    struct reply counters = reply_object();
    struct control_status status;
    control_status(request->control, &status);
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++)
        reply_add_number(&counters, metric_name(metric), status.counter[metric]);
    request_reply(request, reply_end(&counters));
}

void run_show_version(struct request *request)
{
    struct reply object = reply_object();
    reply_add_text(&object, "version", WEIR_VERSION);
    reply_add_text(&object, "libuv", uv_version_string());
    reply_add_text(&object, "jansson", jansson_version_str());
    request_reply(request, reply_end(&object));
}

static json_t *help_row(const struct command *command)
{
    struct reply row = reply_object();
    reply_add_text(&row, "command", command->words);
    reply_add_text(&row, "arguments", command->arguments);
    reply_add_text(&row, "access", command_access_name(command->access));
    reply_add_text(&row, "help", command->help);
    return reply_end(&row);
}

void run_help(struct request *request)
{
    size_t count;
    const struct command *commands = commands_table(&count);
    struct reply rows = reply_array();
    for (size_t i = 0; i < count && reply_append(&rows, help_row(&commands[i])); i++)
        continue;
    request_reply(request, reply_end(&rows));
}
