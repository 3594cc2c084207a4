/*
 * Purpose: what cannot be passed on, by its reason.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "lb/udp/private.h"

#include <errno.h>

void drop(struct udp *udp, enum metric why, uint32_t datagrams)
{
    metrics_add(udp->env.metrics, why, datagrams);
}

int drop_read_memory(int fd, uint32_t memory[SK_MEMINFO_VARS])
{
    socklen_t length = SK_MEMINFO_VARS * sizeof(*memory);

    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0 ? -errno : 0;
}

uint32_t drop_overflows(struct udp *udp, const uint32_t memory[SK_MEMINFO_VARS], uint32_t *seen)
{
    uint32_t more = memory[SK_MEMINFO_DROPS] - *seen;

    *seen += more;
    if (more > 0)
        drop(udp, METRIC_DROP_RECEIVE_QUEUE, more);
    return more;
}

bool drop_is_refusal(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENONET:
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EACCES: /* prohibited by an administrator, in ICMPv6 */
        return true;
    default:
        return false;
    }
}

/* The port comes with the bind (EADDRINUSE) or, as weir binds, with the connect (EAGAIN, of
 * inet_autobind in net/ipv4/af_inet.c); EADDRNOTAVAIL is of the address. */
bool drop_is_no_port(int error)
{
    return error == EAGAIN || error == EADDRINUSE || error == EADDRNOTAVAIL;
}

enum metric drop_reason(int error)
{
    switch (error) {
    case EMSGSIZE:
        return METRIC_DROP_TOO_LARGE;
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
        return METRIC_DROP_SEND_QUEUE;
    default:
        return drop_is_refusal(error) ? METRIC_DROP_REFUSED : METRIC_DROP_SEND_ERROR;
    }
}
