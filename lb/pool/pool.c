/*
 * Purpose: pools as control knows them: members, what operators and health want of them, drains.
 * Thread:  control.
 * Owns:    pools, their members, one reference to each server and to the present view.
 * Fails:   pools_new without memory.
 *
 * Two hands may empty a server, an operator's and its health's, and neither may undo what the other
 * began. So each cause keeps a drain of its own in the member, and what the workers see in the
 * server is the sooner of both: a cause comes or goes, and the sum is published anew.
 */
#include "lb/pool/pool.h"

#include "lb/pool/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making and freeing ---- */

/* Of both protocols for a pool that both come to. */
static int take_ports(struct pools *pools, const struct config *config,
                      const struct pool_member *member)
{
    const struct config_sources *from = &member->pool->config->source;
    struct server *server = member->server;
    struct ports_user user = {member->pool->config->name, member->config->name,
                              &server->address.inet, from->address, from->count};
    int error = 0;
    if (from->count == 0)
        return 0;
    for (size_t i = 0; i < config->listener_count && error == 0; i++) {
        const struct config_listener *listener = &config->listeners[i];
        enum ports_protocol protocol =
            listener->protocol == CONFIG_PROTOCOL_UDP ? PORTS_UDP : PORTS_TCP;
        if (config_listener_feeds(listener, member->pool->index) && server->ports[protocol] == NULL)
            error = ports_new(&pools->ports, protocol, &user, &server->ports[protocol]);
    }
    return error;
}

static int member_init(struct pool_member *member, struct pool *pool,
                       const struct config_server *config, uint32_t worker_count)
{
    member->pool = pool;
    member->config = config;
    member->weight = (uint32_t)config->weight;
    snprintf(member->reason, sizeof(member->reason), "not probed yet");
    snprintf(member->health_reason, sizeof(member->health_reason), "not probed yet");
    member->server = server_new(pool->config->name, config, worker_count);
    return member->server != NULL ? 0 : -ENOMEM;
}

static int pool_init(struct pools *pools, const struct config *all, uint32_t index)
{
    struct pool *pool = &pools->pool[index];
    const struct config_pool *config = &all->pools[index];
    pool->config = config;
    pool->index = index;
    pool->dirty = true;
    pool->member = calloc(MAX(config->server_count, 1u), sizeof(*pool->member));
    if (pool->member == NULL)
        return -ENOMEM;
    for (; pool->member_count < config->server_count; pool->member_count++) {
        struct pool_member *member = &pool->member[pool->member_count];
        int error =
            member_init(member, pool, &config->servers[pool->member_count], pools->worker_count);
        if (error != 0)
            return error;
        error = take_ports(pools, all, member);
        if (error != 0) {
            server_put(&member->server);
            return error;
        }
    }
    return 0;
}

static void pool_deinit(struct pool *pool)
{
    for (size_t i = 0; i < pool->member_count; i++)
        server_put(&pool->member[i].server);
    free(pool->member);
}

static int renew_view(struct pools *pools)
{
    struct view *view = view_new(pools);
    if (view == NULL)
        return -ENOMEM;
    view_put(&pools->current);
    pools->current = view;
    for (size_t i = 0; i < pools->count; i++)
        pools->pool[i].dirty = false;
    return 0;
}

int pools_new(struct pools **out, const struct config *config, uint32_t worker_count)
{
    struct pools *pools = calloc(1, sizeof(*pools));
    if (pools == NULL)
        return -ENOMEM;
    int error = -ENOMEM;
    pools->worker_count = worker_count;
    ports_book_init(&pools->ports);
    pools->pool = calloc(MAX(config->pool_count, 1u), sizeof(*pools->pool));
    if (pools->pool == NULL)
        goto fail;
    while (pools->count < config->pool_count) {
        error = pool_init(pools, config, (uint32_t)pools->count++);
        if (error != 0)
            goto fail;
    }
    error = renew_view(pools);
    if (error != 0)
        goto fail;
    *out = pools;
    return 0;

fail:
    pools_free(&pools);
    return error;
}

void pools_free(struct pools **pools)
{
    struct pools *old = *pools;
    if (old == NULL)
        return;
    *pools = NULL;
    view_put(&old->current);
    for (size_t i = 0; i < old->count; i++)
        pool_deinit(&old->pool[i]);
    ports_book_deinit(&old->ports);
    free(old->pool);
    free(old);
}

/* ---- finding ---- */

struct pool *pools_find(struct pools *pools, const char *name)
{
    for (size_t i = 0; i < pools->count; i++) {
        if (strcmp(pools->pool[i].config->name, name) == 0)
            return &pools->pool[i];
    }
    return NULL;
}

struct pool_member *pool_find_member(struct pool *pool, const char *name)
{
    for (size_t i = 0; i < pool->member_count; i++) {
        if (strcmp(pool->member[i].server->name, name) == 0)
            return &pool->member[i];
    }
    return NULL;
}

/* ---- the view ---- */

bool pools_dirty(const struct pools *pools)
{
    for (size_t i = 0; i < pools->count; i++) {
        if (pools->pool[i].dirty)
            return true;
    }
    return false;
}

struct view *pools_view(struct pools *pools)
{
    /* Without memory the old one serves on; the pools stay dirty. */
    if (pools_dirty(pools))
        (void)renew_view(pools);
    return view_take(pools->current);
}

/* ---- what a member is ---- */

const char *server_admin_name(enum server_admin admin)
{
    static const char *const name[] = {
        [SERVER_ENABLED] = "enabled",
        [SERVER_DRAIN] = "drain",
        [SERVER_MAINTENANCE] = "maintenance",
    };
    return name[admin];
}

const char *health_state_name(enum health_state state)
{
    static const char *const name[] = {
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_UP] = "up",
        [HEALTH_DOWN] = "down",
    };
    return name[state];
}

/* NULL when nothing is against it. */
static const char *objection(const struct pool_member *member)
{
    if (member->admin == SERVER_MAINTENANCE)
        return "in maintenance";
    if (member->admin == SERVER_DRAIN)
        return "draining";
    if (member->health == HEALTH_DOWN)
        return "down";
    if (member->health == HEALTH_UNKNOWN && !member->pool->config->health.start_up)
        return "not probed yet";
    return member->weight == 0 ? "its weight is 0" : NULL;
}

bool pool_member_usable(const struct pool_member *member, const char **why_not)
{
    const char *why = objection(member);
    if (why != NULL && why_not != NULL)
        *why_not = why;
    return why == NULL;
}

/* ---- draining ---- */

/* The drain in force: whatever comes first of each cause; deadline 0 when there is none. */
static struct pool_drain drain_in_force(const struct pool_member *member,
                                        enum server_drain_cause *out_cause)
{
    struct pool_drain sum = {0};
    for (uint32_t cause = 0; cause < DRAIN_CAUSES; cause++) {
        const struct pool_drain *drain = &member->drain[cause];
        if (drain->deadline_ms == 0)
            continue;
        sum.quiet_ms = sum.deadline_ms == 0 ? drain->quiet_ms : MIN(sum.quiet_ms, drain->quiet_ms);
        if (sum.deadline_ms == 0 || drain->deadline_ms < sum.deadline_ms) {
            sum.deadline_ms = drain->deadline_ms;
            *out_cause = (enum server_drain_cause)cause;
        }
    }
    return sum;
}

/* Flows need not wait for a deadline: a datagram is as good a place to part as any. */
static bool is_deserted(const struct pool_member *member)
{
    return member->drain[DRAIN_CAUSE_DOWN].deadline_ms != 0 ||
           (member->admin == SERVER_MAINTENANCE &&
            member->drain[DRAIN_CAUSE_OPERATOR].deadline_ms != 0);
}

/* Shows the workers what is in force. The deadline goes last: see struct server. */
static void drain_publish(struct pool_member *member)
{
    struct server *server = member->server;
    enum server_drain_cause cause = DRAIN_CAUSE_OPERATOR;
    struct pool_drain drain = drain_in_force(member, &cause);
    if (drain.deadline_ms != 0) {
        atomic_store_explicit(&server->drain_quiet_ms, drain.quiet_ms, memory_order_relaxed);
        atomic_store_explicit(&server->drain_cause, cause, memory_order_relaxed);
    } else {
        member->drain_started_ms = 0;
    }
    atomic_store_explicit(&server->deserted, is_deserted(member), memory_order_relaxed);
    atomic_store_explicit(&server->drain_deadline_ms, drain.deadline_ms, memory_order_release);
    member->pool->dirty = true;
}

/* From now on its sessions are counted by how they end. */
static void drain_count_from(struct pool_member *member, uint64_t now_ms)
{
    struct server_totals totals;
    server_totals(member->server, &totals);
    memcpy(member->drain_base, totals.drain_ends, sizeof(member->drain_base));
    member->drain_started_ms = MAX(now_ms, 1u);
}

static uint64_t later(uint64_t now_ms, uint64_t span_ms)
{
    return span_ms < UINT64_MAX - now_ms ? now_ms + span_ms : UINT64_MAX;
}

static void drain_begin(struct pool_member *member, enum server_drain_cause cause, uint64_t span_ms,
                        uint64_t now_ms)
{
    member->drain[cause] = (struct pool_drain){
        .quiet_ms = later(now_ms, span_ms / 2),
        .deadline_ms = MAX(later(now_ms, span_ms), 1u),
    };
    /* An operator's command reports on itself; health falling in must not blur that. */
    if (cause == DRAIN_CAUSE_OPERATOR || member->drain_started_ms == 0)
        drain_count_from(member, now_ms);
    drain_publish(member);
}

static void drain_end(struct pool_member *member, enum server_drain_cause cause)
{
    member->drain[cause] = (struct pool_drain){0};
    drain_publish(member);
}

/* What on_down says of the sessions that are there. */
static void drain_as_down(struct pool_member *member, enum server_drain_cause cause,
                          uint64_t now_ms)
{
    const struct config_pool *config = member->pool->config;
    switch ((enum config_on_down)config->on_down) {
    case CONFIG_DOWN_DRAIN:
        drain_begin(member, cause, (uint64_t)config->drain_deadline, now_ms);
        break;
    case CONFIG_DOWN_KILL:
        drain_begin(member, cause, 0, now_ms);
        break;
    case CONFIG_DOWN_KEEP:
        drain_end(member, cause);
        break;
    }
}

/* ---- what changes a member ---- */

/* Workers that still have an older view keep new sessions away from it at once. */
static void changed(struct pool_member *member)
{
    atomic_store(&member->server->closed, !pool_member_usable(member, NULL));
    member->pool->dirty = true;
}

void pool_member_set_weight(struct pool_member *member, uint32_t weight)
{
    if (member->weight == weight)
        return;
    member->weight = weight;
    changed(member);
}

static void explain(struct pool_member *member, const char *reason, uint64_t now_ms)
{
    snprintf(member->reason, sizeof(member->reason), "%s", reason);
    member->changed_at_ms = now_ms;
}

static void set_enabled(struct pool_member *member, uint64_t now_ms)
{
    drain_end(member, DRAIN_CAUSE_OPERATOR);
    bool is_up = member->health == HEALTH_UP;
    explain(member, is_up ? "enabled by an operator" : member->health_reason, now_ms);
}

void pool_member_set_admin(struct pool_member *member, enum server_admin admin,
                           uint64_t deadline_ms, uint64_t now_ms)
{
    /* A second drain moves the deadline; to enable or maintain twice changes nothing. */
    if (member->admin == admin && admin != SERVER_DRAIN)
        return;
    member->admin = admin;
    switch (admin) {
    case SERVER_ENABLED:
        set_enabled(member, now_ms);
        break;
    case SERVER_DRAIN:
        drain_begin(member, DRAIN_CAUSE_OPERATOR, deadline_ms, now_ms);
        explain(member, "drained by an operator", now_ms);
        break;
    case SERVER_MAINTENANCE:
        drain_as_down(member, DRAIN_CAUSE_OPERATOR, now_ms);
        explain(member, "taken into maintenance by an operator", now_ms);
        break;
    }
    changed(member);
}

void pool_member_set_health(struct pool_member *member, enum health_state health,
                            const char *reason, uint64_t now_ms)
{
    atomic_store_explicit(&member->server->live.suspect, 0, memory_order_relaxed);
    snprintf(member->health_reason, sizeof(member->health_reason), "%s", reason);
    if (member->health == health)
        return;
    member->health = health;
    explain(member, reason, now_ms);
    if (health == HEALTH_UP)
        drain_end(member, DRAIN_CAUSE_DOWN);
    /* Down, unknown and down again is one failure: its deadline stands. */
    if (health == HEALTH_DOWN && member->drain[DRAIN_CAUSE_DOWN].deadline_ms == 0)
        drain_as_down(member, DRAIN_CAUSE_DOWN, now_ms);
    changed(member);
}
