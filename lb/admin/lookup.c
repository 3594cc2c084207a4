/*
 * Purpose: see lookup.h.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   see lookup.h.
 */
#include "lb/admin/lookup.h"

#include <stdlib.h>
#include <string.h>

typedef const char *name_fn(const void *all, size_t index);

/* Without memory there is no suggestion. */
static const char *nearest(const char *word, const void *all, size_t count, name_fn *name)
{
    const char **names = calloc(count, sizeof(*names));
    if (names == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        names[i] = name(all, i);
    const char *found = text_nearest(word, names, count);
    free(names);
    return found;
}

static void refuse(struct request *request, const char *what, const char *name, const char *meant)
{
    if (meant != NULL)
        request_refuse(request, "there is no %s \"%s\"; did you mean \"%s\"?", what, name, meant);
    else
        request_refuse(request, "there is no %s \"%s\"", what, name);
}

/* ---- Pools ---- */

static const char *pool_name(const void *all, size_t index)
{
    const struct pools *pools = all;
    return pools->pool[index].config->name;
}

struct pool *lookup_pool(struct request *request, const char *name)
{
    struct pools *pools = control_pools(request->control);
    struct pool *pool = pools_find(pools, name);
    if (pool == NULL)
        refuse(request, "pool", name, nearest(name, pools, pools->count, pool_name));
    return pool;
}

/* ---- Listeners ---- */

static const char *listener_name(const void *all, size_t index)
{
    const struct listener *listeners = all;
    return listeners[index].config->name;
}

const struct listener *lookup_listener(struct request *request, const char *name)
{
    const struct listener *listeners;
    size_t count = control_listeners(request->control, &listeners);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(listeners[i].config->name, name) == 0)
            return &listeners[i];
    }
    refuse(request, "listener", name, nearest(name, listeners, count, listener_name));
    return NULL;
}

/* ---- Servers ---- */

static const char *member_name(const void *all, size_t index)
{
    const struct pool *pool = all;
    return pool->member[index].server->name;
}

static struct pool_member *find_in_any(struct pools *pools, const char *name)
{
    for (size_t i = 0; i < pools->count; i++) {
        struct pool_member *member = pool_find_member(&pools->pool[i], name);
        if (member != NULL)
            return member;
    }
    return NULL;
}

struct pool_member *lookup_server(struct request *request, struct pool *pool, const char *name)
{
    struct pool_member *member = pool != NULL ? pool_find_member(pool, name)
                                              : find_in_any(control_pools(request->control), name);
    if (member == NULL)
        refuse(request, "server", name,
               pool != NULL ? nearest(name, pool, pool->member_count, member_name) : NULL);
    return member;
}

struct pool_member *lookup_member(struct request *request, const char *both)
{
    char pool_part[CONFIG_NAME_MAX + 1];
    const char *slash = strchr(both, '/');
    size_t length = slash != NULL ? (size_t)(slash - both) : 0;
    if (slash == NULL || length > CONFIG_NAME_MAX) {
        request_refuse_usage(request, "\"%s\" is not a server's full name", both);
        return NULL;
    }
    memcpy(pool_part, both, length);
    pool_part[length] = '\0';
    struct pool *pool = lookup_pool(request, pool_part);
    return pool != NULL ? lookup_server(request, pool, slash + 1) : NULL;
}
