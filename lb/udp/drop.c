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
