/*
 * Health, wired to pools: which servers are probed, and what a verdict does.
 */
#include "lb/control/private.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/random.h"

static void tell(const struct pool_member *member, enum health_state state, const char *reason)
{
    enum log_level level = state == HEALTH_UP ? LOG_LEVEL_INFO : LOG_LEVEL_WARN;
    const char *event = state == HEALTH_UP ? "server is up" : "server is down";

    log_line(level, event,
             LOG_FIELDS(LOG_S("pool", member->server->pool), LOG_S("server", member->server->name),
                        LOG_S("address", member->server->address_text), LOG_S("reason", reason)));
}

static void on_change(void *owner, void *subject, enum health_state state, const char *reason)
{
    struct control *control = owner;
    struct pool_member *member = subject;

    pool_member_set_health(member, state, reason, clock_now_ms());
    tell(member, state, reason);
    control_publish(control, false);
    control_announce(control);
}

static void on_clear(void *owner, void *subject)
{
    struct pool_member *member = subject;

    (void)owner;
    atomic_store_explicit(&member->server->live.suspect, 0, memory_order_relaxed);
}

int control_watch(struct control *control, struct pool_member *member)
{
    bool wanted = member->admin != SERVER_MAINTENANCE;

    if (!wanted && member->target != NULL) {
        health_remove(control->health, &member->target);
        pool_member_set_health(member, HEALTH_UNKNOWN, "not probed in maintenance", clock_now_ms());
    }
    if (!wanted || member->target != NULL)
        return 0;
    return health_add(control->health, &member->pool->config->health, &member->server->address,
                      member->server->name, HEALTH_UNKNOWN, member, &member->target);
}

int control_watch_start(struct control *control)
{
    struct health_callbacks callbacks = {control, on_change, on_clear};
    int failed =
        health_new(&control->health, &control->loop, &callbacks, clock_now_ms(), random_seed());

    for (size_t p = 0; !failed && p < control->pools->count; p++) {
        struct pool *pool = &control->pools->pool[p];
        for (size_t i = 0; !failed && i < pool->member_count; i++)
            failed = control_watch(control, &pool->member[i]);
    }
    return failed;
}

static void on_freed(void *arg)
{
    (void)arg;
}

void control_unwatch_all(struct control *control)
{
    for (size_t p = 0; p < control->pools->count; p++) {
        struct pool *pool = &control->pools->pool[p];
        for (size_t i = 0; i < pool->member_count; i++)
            pool->member[i].target = NULL;
    }
    if (control->health != NULL)
        health_free(&control->health, on_freed, NULL);
}

void control_suspected(void *owner, struct server *server)
{
    struct control *control = owner;
    struct pool *pool = pools_find(control->pools, server->pool);
    struct pool_member *member = pool != NULL ? pool_find_member(pool, server->name) : NULL;

    if (member != NULL && member->server == server && member->target != NULL && !control->stopping)
        health_suspect(control->health, member->target);
    else
        atomic_store_explicit(&server->live.suspect, 0, memory_order_relaxed);
    server_put(&server);
}
