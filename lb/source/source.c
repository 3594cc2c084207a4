/*
 * Purpose: see source.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see source.h.
 */
#include "lb/source/source.h"

#include <errno.h>
#include <unistd.h>

/* A link-local client leads nowhere beyond its link. */
static bool is_on_link(const union inet_address *client, const union inet_address *server)
{
    if (client->any.sa_family != AF_INET6 || !IN6_IS_ADDR_LINKLOCAL(&client->v6.sin6_addr))
        return true;
    return IN6_IS_ADDR_LINKLOCAL(&server->v6.sin6_addr) &&
           client->v6.sin6_scope_id == server->v6.sin6_scope_id;
}

/* A PROXY header may tell any address. A socket that is bound to the broadcast address sends from
 * one of our own (net/ipv4/af_inet.c). */
static bool is_reachable(const union inet_address *client, const union inet_address *server)
{
    return client->any.sa_family == server->any.sa_family && !inet_address_is_multicast(client) &&
           !inet_address_is_wildcard(client) && !inet_address_is_broadcast(client) &&
           (!inet_address_is_loopback(client) || inet_address_is_loopback(server)) &&
           is_on_link(client, server);
}

bool source_of_client(const struct address *server, const union inet_address *client,
                      struct source *out)
{
    union inet_address address = *client;

    inet_address_fold(&address);
    if (!is_reachable(&address, &server->inet))
        return false;
    if (address.any.sa_family == AF_INET)
        address.v4.sin_port = 0;
    else
        address.v6.sin6_port = 0;
    *out = (struct source){.address = address, .transparent = true};
    return true;
}

static int set(int fd, int level, int name)
{
    const int on = 1;

    return setsockopt(fd, level, name, &on, sizeof(on)) < 0 ? -errno : 0;
}

int source_may_be_transparent(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int failed;

    if (fd < 0)
        return -errno;
    failed = set(fd, IPPROTO_IP, IP_TRANSPARENT);
    close(fd);
    return failed;
}

int source_bind(int fd, const struct source *source)
{
    bool is_v6 = source->address.any.sa_family == AF_INET6;
    socklen_t length = is_v6 ? sizeof(source->address.v6) : sizeof(source->address.v4);
    int failed;

    if (source->address.any.sa_family == AF_UNSPEC)
        return 0;
    failed = set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT); /* of IPv6 sockets too */
    if (!failed && source->transparent)
        failed =
            set(fd, is_v6 ? IPPROTO_IPV6 : IPPROTO_IP, is_v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT);
    if (!failed && bind(fd, &source->address.any, length) < 0)
        failed = -errno;
    return failed;
}

int source_connect(int fd, const struct source *source, const struct address *to)
{
    bool is_bound = source->address.any.sa_family != AF_UNSPEC;
    int failed = source_bind(fd, source);

    if (!failed && connect(fd, &to->any, to->length) < 0)
        failed = is_bound && errno == EINVAL ? -EADDRNOTAVAIL : -errno;
    return failed;
}
