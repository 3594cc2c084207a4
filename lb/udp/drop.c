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
    return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH ||
           error == EHOSTDOWN || error == EPROTO || error == ENOPROTOOPT || error == EOPNOTSUPP;
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
