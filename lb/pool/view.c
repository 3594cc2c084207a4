/*
 * Purpose: the immutable pictures of pools that workers schedule from.
 * Thread:  view_new: control. Taking and putting: any.
 * Owns:    a view one reference to each of its pool_views; a pool_view its scheduler and one
 *          reference to each of its servers.
 * Fails:   view_new without memory.
 *
 * A view costs one pointer per pool; only pools that changed get a new picture with a scheduler.
 */
#include "lb/pool/build.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- references ---- */

static void take(_Atomic uint32_t *references)
{
    uint32_t before = atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
    BUG_ON(before == 0);
}

/* True for the last: what the others did with it has happened before the return. */
static bool put(_Atomic uint32_t *references)
{
    uint32_t before = atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel);
    BUG_ON(before == 0);
    return before == 1;
}

static struct pool_view *pool_view_take(struct pool_view *view)
{
    take(&view->references);
    return view;
}

static void pool_view_free(struct pool_view *view)
{
    sched_free(&view->sched); /* before the servers: it points into them */
    for (uint32_t i = 0; i < view->count; i++)
        server_put(&view->server[i]);
    free(view);
}

struct view *view_take(struct view *view)
{
    take(&view->references);
    return view;
}

void view_put(struct view **view)
{
    struct view *old = *view;
    if (old == NULL)
        return;
    *view = NULL;
    if (!put(&old->references))
        return;
    for (uint32_t i = 0; i < old->count; i++) {
        if (put(&old->pool[i]->references))
            pool_view_free(old->pool[i]);
    }
    free(old);
}

/* ---- building ---- */

static struct pool_policy policy_of(const struct config_pool *config)
{
    return (struct pool_policy){
        .connect_timeout_ms = (uint64_t)config->connect_timeout,
        .retries = (uint32_t)config->retries,
        .when_empty = (enum config_when_empty)config->when_empty,
        .send_proxy = (enum config_send_proxy)config->send_proxy,
        .send_proxy_udp = (enum config_send_proxy_udp)config->send_proxy_udp,
        .send_proxy_tlvs = (uint32_t)config->send_proxy_tlvs,
        .hash_port = config->hash == CONFIG_HASH_SOURCE_IP_PORT,
        .source_client = config->source.client,
    };
}

static bool has_usable_primary(const struct pool *pool)
{
    for (size_t i = 0; i < pool->member_count; i++) {
        const struct pool_member *member = &pool->member[i];
        if (!member->config->backup && pool_member_usable(member, NULL))
            return true;
    }
    return false;
}

static struct sched *sched_of(const struct pool *pool, const struct pool_view *before)
{
    struct sched_member *member = calloc(MAX(pool->member_count, 1u), sizeof(*member));
    if (member == NULL)
        return NULL;
    bool backups_called = !has_usable_primary(pool);
    for (size_t i = 0; i < pool->member_count; i++) {
        const struct pool_member *from = &pool->member[i];
        bool called = backups_called || !from->config->backup;
        member[i] = (struct sched_member){
            .id = from->server->id,
            .weight = from->weight,
            .usable = called && pool_member_usable(from, NULL),
            .name = from->server->name,
            .live = &from->server->live,
        };
    }
    const struct sched_kind *kind = sched_kind_find(pool->config->scheduler);
    BUG_ON(kind == NULL); /* the configuration is checked */
    struct sched *sched = sched_renew(before != NULL ? before->sched : NULL, kind, member,
                                      (uint32_t)pool->member_count);
    free(member);
    return sched;
}

static struct pool_view *pool_view_new(const struct pool *pool, const struct pool_view *before,
                                       uint32_t version)
{
    struct pool_view *view =
        calloc(1, sizeof(*view) + pool->member_count * sizeof(struct server *));
    if (view == NULL)
        return NULL;
    view->sched = sched_of(pool, before);
    if (view->sched == NULL) {
        free(view);
        return NULL;
    }
    atomic_init(&view->references, 1);
    view->version = version;
    snprintf(view->name, sizeof(view->name), "%s", pool->config->name);
    view->policy = policy_of(pool->config);
    view->usable = sched_usable(view->sched);
    view->count = (uint32_t)pool->member_count;
    for (uint32_t i = 0; i < view->count; i++)
        view->server[i] = server_take(pool->member[i].server);
    return view;
}

static uint32_t count_draining(const struct pool *pool)
{
    uint32_t count = 0;
    for (size_t i = 0; i < pool->member_count; i++)
        count += pool->member[i].drain_started_ms != 0;
    return count;
}

static struct pool_view *picture_of(struct pools *pools, const struct pool *pool)
{
    struct pool_view *before = pools->current != NULL ? pools->current->pool[pool->index] : NULL;
    if (before != NULL && !pool->dirty)
        return pool_view_take(before);
    return pool_view_new(pool, before, ++pools->versions);
}

struct view *view_new(struct pools *pools)
{
    struct view *view = calloc(1, sizeof(*view) + pools->count * sizeof(struct pool_view *));
    if (view == NULL)
        return NULL;
    atomic_init(&view->references, 1);
    for (size_t i = 0; i < pools->count; i++) {
        view->pool[i] = picture_of(pools, &pools->pool[i]);
        if (view->pool[i] == NULL) {
            view_put(&view); /* those before i */
            return NULL;
        }
        view->count++;
        view->draining += count_draining(&pools->pool[i]);
    }
    return view;
}
