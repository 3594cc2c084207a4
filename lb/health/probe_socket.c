/*
 * Purpose: see probe_socket.h.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "lb/health/probe_socket.h"

#include "common/proxy_header.h"
#include "lb/source/source.h"

#include <errno.h>
#include <sys/socket.h>

/*
 * EAGAIN is one of ours on the Internet (no free port or route entry), but on a Unix socket it is
 * the server's queue that is full.
 */
bool probe_socket_is_own_error(int error, const struct address *address)
{
    switch (error) {
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case ENOBUFS:
    case ENOMEM:
        return true;
    case EAGAIN:
        return address_is_inet(address);
    default:
        return false;
    }
}

union inet_address probe_socket_source(const struct config_health *settings,
                                       const struct address *address)
{
    if (address->any.sa_family == AF_INET)
        return settings->source_v4;
    if (address->any.sa_family == AF_INET6)
        return settings->source_v6;
    return (union inet_address){.any.sa_family = AF_UNSPEC};
}

int probe_socket_connect(int fd, const struct config_health *settings,
                         const struct address *address)
{
    struct source from = {.address = probe_socket_source(settings, address)};

    return -source_connect(fd, &from, address);
}

/*
 * A port of this very machine that nobody listens on may be drawn as our own end's port. TCP's ends
 * then meet in one socket (simultaneous open, RFC 9293 §3.5), and a datagram comes back to its
 * sender.
 */
bool probe_socket_meets_itself(int fd)
{
    struct address own = {.length = sizeof(own.un)};
    struct address peer = {.length = sizeof(peer.un)};
    if (getsockname(fd, &own.any, &own.length) < 0 || getpeername(fd, &peer.any, &peer.length) < 0)
        return false;
    return address_is_inet(&own) && address_equal(&own, &peer);
}

size_t probe_socket_greeting(int64_t version, uint8_t out[PROBE_GREETING_MAX])
{
    struct proxy_write header = {.version = (unsigned)version, .local = true};

    return header.version == 0 ? 0 : proxy_header_write(&header, out, PROBE_GREETING_MAX);
}
