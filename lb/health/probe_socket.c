/*
 * Purpose: see probe_socket.h.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   see probe_socket.h.
 */
#include "lb/health/probe_socket.h"

#include "common/proxy_header.h"
#include "lb/source/source.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

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

static int open_from(const struct probe *probe, int type, const struct source *from, int *out_error)
{
    int fd = socket(probe->address.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    *out_error = -source_connect(fd, from, &probe->address);
    if (!probe_socket_is_own_error(*out_error, &probe->address))
        return fd;
    close(fd);
    return -*out_error;
}

int probe_socket_open(const struct probe *probe, int type, int *out_error)
{
    const struct config_health *settings = probe->settings;
    int fd = -EADDRNOTAVAIL;
    bool bound = false;

    for (size_t i = 0; i < settings->source_count && fd == -EADDRNOTAVAIL; i++) {
        struct source from = {.address = settings->source[i]};
        if (from.address.any.sa_family != probe->address.any.sa_family)
            continue;
        bound = true;
        fd = open_from(probe, type, &from, out_error);
    }
    return bound ? fd : open_from(probe, type, &(struct source){0}, out_error);
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
