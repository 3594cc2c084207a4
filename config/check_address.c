/*
 * Purpose: the checks on addresses: what can be bound, what overlaps, what a pool's protocol cannot
 *          reach, what leads back to weir itself.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 */
#include "config/loader.h"

#include <errno.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>

/* ---- Comparing ---- */

static union inet_address folded(const struct config_address *address)
{
    union inet_address inet = address->address.inet;
    inet_address_fold(&inet);
    return inet;
}

/* A wildcard takes its own family, and an IPv6 one without v6only the other too. */
static bool covers(const struct config_listener *listener, const union inet_address *address)
{
    if (!address_is_wildcard(&listener->bind.address))
        return false;
    int family = listener->bind.address.any.sa_family;
    return family == address->any.sa_family || (family == AF_INET6 && !listener->v6only);
}

static bool is_usable(const struct config_address *address)
{
    return address->text != NULL && address_is_inet(&address->address);
}

static bool same_port(const struct config_address *a, const struct config_address *b)
{
    return address_port(&a->address) == address_port(&b->address);
}

/* ---- Binds ---- */

static void check_bind(struct config_loader *loader, const struct config_listener *listener)
{
    const struct config_address *bind = &listener->bind;
    const char *wrong = NULL;
    if (bind->text == NULL)
        return;
    if (!address_is_inet(&bind->address))
        wrong = "a listener binds an IP address and a port";
    else if (address_port(&bind->address) == 0)
        wrong = "the port must be from 1 to 65535";
    else if (bind->address.any.sa_family == AF_INET6 &&
             IN6_IS_ADDR_V4MAPPED(&bind->address.v6.sin6_addr))
        wrong = "write the IPv4 address by itself";
    if (wrong != NULL)
        config_loader_error(loader, config_loader_line(loader, bind, listener), "bind = \"%s\": %s",
                            bind->text, wrong);
}

static bool overlaps(const struct config_listener *a, const struct config_listener *b)
{
    if (a->protocol != b->protocol || !is_usable(&a->bind) || !is_usable(&b->bind) ||
        !same_port(&a->bind, &b->bind))
        return false;
    union inet_address host_a = folded(&a->bind);
    union inet_address host_b = folded(&b->bind);
    return inet_address_same_host(&host_a, &host_b) || covers(a, &host_b) || covers(b, &host_a);
}

static void check_overlap(struct config_loader *loader, const struct config *config, size_t index)
{
    const struct config_listener *listener = &config->listeners[index];
    for (size_t i = 0; i < index; i++) {
        const struct config_listener *other = &config->listeners[i];
        if (!overlaps(listener, other))
            continue;
        int line = config_loader_line(loader, &other->bind, other);
        config_loader_error(loader, config_loader_line(loader, &listener->bind, listener),
                            "bind = \"%s\" is taken by \"%s\" of %s:%d; each address and port can "
                            "be bound once for each protocol",
                            listener->bind.text, other->bind.text,
                            config_source_file(&loader->source, line),
                            config_source_line(&loader->source, line).line);
        return;
    }
}

/* ---- Servers ---- */

/* What comes to the pool: a bit for each protocol. */
static unsigned protocols_of(const struct config *config, const struct config_pool *pool)
{
    unsigned protocols = 0;
    for (size_t i = 0; i < config->listener_count && pool->name != NULL; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (config_is_fed(listener, pool->name))
            protocols |= 1u << listener->protocol;
    }
    return protocols;
}

/* True for one with an address and port that can be looked at further. */
static bool check_server(struct config_loader *loader, const struct config_server *server,
                         unsigned protocols)
{
    const struct config_address *address = &server->address;
    const char *wrong = NULL;
    if (address->text == NULL)
        return false;
    if (!address_is_inet(&address->address)) {
        if ((protocols & 1u << CONFIG_PROTOCOL_UDP) != 0)
            config_loader_error(loader, config_loader_line(loader, address, server),
                                "address = \"%s\": a listener with protocol = \"udp\" feeds this "
                                "pool, so a server needs an IP address and a port",
                                address->text);
        return false;
    }
    if (address_port(&address->address) == 0)
        wrong = "the port must be from 1 to 65535";
    else if (address_is_wildcard(&address->address))
        wrong = "a server needs an address of its own, not the wildcard";
    if (wrong != NULL)
        config_loader_error(loader, config_loader_line(loader, address, server),
                            "address = \"%s\": %s", address->text, wrong);
    return wrong == NULL;
}

/* True when a connection to the address ends on this machine. */
static bool is_local(const struct ifaddrs *interfaces, const union inet_address *address)
{
    if (inet_address_is_loopback(address))
        return true;
    for (const struct ifaddrs *one = interfaces; one != NULL; one = one->ifa_next) {
        union inet_address own = {0};
        if (one->ifa_addr == NULL)
            continue;
        if (one->ifa_addr->sa_family == AF_INET)
            memcpy(&own.v4, one->ifa_addr, sizeof(own.v4));
        else if (one->ifa_addr->sa_family == AF_INET6)
            memcpy(&own.v6, one->ifa_addr, sizeof(own.v6));
        else
            continue;
        if (inet_address_same_host(&own, address))
            return true;
    }
    return false;
}

static bool leads_back(const struct config_server *server, const struct config_listener *listener,
                       const struct ifaddrs *interfaces)
{
    if (!is_usable(&listener->bind) || !same_port(&server->address, &listener->bind))
        return false;
    union inet_address host = folded(&server->address);
    union inet_address bound = folded(&listener->bind);
    return inet_address_same_host(&host, &bound) ||
           (covers(listener, &host) && is_local(interfaces, &host));
}

/* Of another protocol it is another program's port. A pool that nobody feeds may be fed by all. */
static void check_loop(struct config_loader *loader, const struct config *config,
                       const struct config_server *server, unsigned protocols,
                       const struct ifaddrs *interfaces)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if ((protocols != 0 && (protocols & 1u << listener->protocol) == 0) ||
            !leads_back(server, listener, interfaces))
            continue;
        int line = config_loader_line(loader, &listener->bind, listener);
        config_loader_error(loader, config_loader_line(loader, &server->address, server),
                            "address = \"%s\" leads back to weir's own listener \"%s\" (bind = "
                            "\"%s\", %s:%d); a server must be another program",
                            server->address.text, listener->name != NULL ? listener->name : "",
                            listener->bind.text, config_source_file(&loader->source, line),
                            config_source_line(&loader->source, line).line);
        return;
    }
}

static void check_servers(struct config_loader *loader, const struct config *config,
                          const struct config_pool *pool, const struct ifaddrs *interfaces)
{
    unsigned protocols = protocols_of(config, pool);
    for (size_t i = 0; i < pool->server_count; i++)
        if (check_server(loader, &pool->servers[i], protocols))
            check_loop(loader, config, &pool->servers[i], protocols, interfaces);
}

void config_check_addresses(struct config_loader *loader, const struct config *config)
{
    struct ifaddrs *interfaces = NULL;
    for (size_t i = 0; i < config->listener_count; i++) {
        check_bind(loader, &config->listeners[i]);
        check_overlap(loader, config, i);
    }
    /* Without the list (a sandbox may deny netlink) loopback and equal addresses are still seen. */
    if (getifaddrs(&interfaces) < 0)
        interfaces = NULL;
    for (size_t i = 0; i < config->pool_count; i++)
        check_servers(loader, config, &config->pools[i], interfaces);
    if (interfaces != NULL)
        freeifaddrs(interfaces);
}
