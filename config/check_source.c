/*
 * Purpose: the checks on what a pool connects from: is there a source for each server, and can the
 *          clients that come be one?
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 */
#include "config/loader.h"

static const char *family_name(int family)
{
    return family == AF_INET ? "IPv4" : "IPv6";
}

static bool has_family(const struct config_sources *sources, int family)
{
    for (size_t i = 0; i < sources->count; i++)
        if (sources->address[i].any.sa_family == family)
            return true;
    return false;
}

/* An IPv4-mapped server is reached over IPv4, by a socket of IPv6: it fits neither. */
static bool is_mapped(const struct address *address)
{
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr);
}

static void check_server(struct config_loader *loader, const struct config_pool *pool,
                         const struct config_server *server)
{
    const struct config_address *address = &server->address;
    int line = config_loader_line(loader, address, server);
    const char *name = server->name != NULL ? server->name : "";
    int family = address->address.any.sa_family;
    if (address->text == NULL)
        return;
    if (!address_is_inet(&address->address))
        config_loader_error(loader, line,
                            "address = \"%s\": nothing connects to a Unix socket from an address, "
                            "and this pool has source = \"%s\"; give the server \"%s\" a pool "
                            "without source",
                            address->text, pool->source.text, name);
    else if (is_mapped(&address->address))
        config_loader_error(loader, line,
                            "address = \"%s\": in a pool with source write the IPv4 address by "
                            "itself",
                            address->text);
    else if (!pool->source.client && !has_family(&pool->source, family))
        config_loader_error(loader, line,
                            "the server \"%s\" (%s) has an %s address and source = \"%s\" has "
                            "none; add an %s address of this machine to source",
                            name, address->text, family_name(family), pool->source.text,
                            family_name(family));
}

/* ---- "client" ---- */

static bool has_server(const struct config_pool *pool, int family)
{
    for (size_t i = 0; i < pool->server_count; i++)
        if (pool->servers[i].address.text != NULL &&
            pool->servers[i].address.address.any.sa_family == family)
            return true;
    return false;
}

/* A client has one family, and the scheduler does not ask which. */
static void check_one_family(struct config_loader *loader, const struct config_pool *pool)
{
    if (!has_server(pool, AF_INET) || !has_server(pool, AF_INET6))
        return;
    config_loader_error(
        loader, config_loader_line(loader, &pool->source, pool),
        "source = \"client\" and servers of both IPv4 and IPv6: a client can be the "
        "source for its own family alone; give each family a pool and a listener");
}

/* The one family that clients of the listener have; AF_UNSPEC: both, or who knows. */
static int family_of_clients(const struct config_loader *loader,
                             const struct config_listener *listener)
{
    const struct address *bind = &listener->bind.address;
    if (listener->bind.text == NULL || listener->proxy_protocol != CONFIG_PROXY_OFF ||
        config_loader_is_wrong(loader, &listener->proxy_protocol))
        return AF_UNSPEC;
    if (address_is_wildcard(bind) && bind->any.sa_family == AF_INET6 && !listener->v6only)
        return AF_UNSPEC;
    return bind->any.sa_family;
}

static void check_clients(struct config_loader *loader, const struct config_listener *listener,
                          const struct config_pool *pool)
{
    int family = family_of_clients(loader, listener);
    int other = family == AF_INET ? AF_INET6 : AF_INET;
    if (family == AF_UNSPEC || !config_is_fed(listener, pool->name) || has_server(pool, family) ||
        !has_server(pool, other))
        return;
    int line = config_loader_line(loader, &listener->bind, listener);
    config_loader_error(
        loader, config_loader_line(loader, &pool->source, pool),
        "source = \"client\": the listener \"%s\" of %s:%d brings clients of %s "
        "(bind = \"%s\"), and no server of this pool has an address of that family",
        listener->name != NULL ? listener->name : "", config_source_file(&loader->source, line),
        config_source_line(&loader->source, line).line, family_name(family), listener->bind.text);
}

void config_check_source(struct config_loader *loader, const struct config *config,
                         const struct config_pool *pool)
{
    if (pool->source.count == 0 && !pool->source.client)
        return;
    for (size_t i = 0; i < pool->server_count; i++)
        check_server(loader, pool, &pool->servers[i]);
    if (!pool->source.client)
        return;
    check_one_family(loader, pool);
    for (size_t i = 0; i < config->listener_count && pool->name != NULL; i++)
        check_clients(loader, &config->listeners[i], pool);
}
