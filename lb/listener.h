/*
 * Purpose: the sockets that clients reach: one per worker and listener, bound so that nobody else
 *          can share them unseen.
 * Thread:  open and close: control. The rest: each worker for its own socket.
 * Owns:    the descriptors.
 * Fails:   one sentence that names the address and, where it can be found, the process that holds
 *          it. Then no socket is left open.
 *
 * The first socket of an address is bound and listens without SO_REUSEPORT, so a second weir or
 * anybody else is refused (with SO_REUSEPORT alone a second instance takes half the traffic in
 * silence); the option is put on only then, and only when sockets of other workers are to join. All
 * addresses are bound before one of them listens: what is taken is known before a client gets in.
 * A UDP socket does not listen; datagrams wait in it from bind on.
 */
#pragma once

#include "common/rate.h"
#include "config/config.h"
#include "lb/tcp/tcp.h"
#include "lb/udp/udp.h"

struct listener {
    const struct config_listener *config;
    struct tcp_policy policy; /* of one that carries TCP */
    struct udp_policy udp;    /* of one that carries UDP */
    uint32_t limit;           /* sessions at once; UINT32_MAX: none of its own */
    uint32_t flow_limit;      /* the same of flows */
    struct gate *gate;
    _Atomic uint32_t sessions; /* on all workers */
    _Atomic uint32_t flows;
    struct rate_meter session_rate; /* of new ones, on all workers */
    struct rate_meter taken_rate;   /* the same, of who is taken where weir has a rate too */
    _Atomic uint32_t throttled;     /* workers on which clients wait for that, or for weir's */
    uint32_t fd_count;              /* = workers */
    int *fd;                        /* of each worker; -1: closed */
};

/* All listeners of the configuration, or none. */
must_check int listeners_open(const struct config *config, struct listener **out, char *error,
                              size_t error_size);
void listeners_close(struct listener **listeners, size_t count);

/* The rate of a key session_rate; 0: no limit. Its burst is a tenth of it, or 1. */
void listener_rate_init(struct rate_meter *meter, int64_t per_second);

/*
 * Who holds that address for the protocol, from /proc: "nginx (pid 4711)", "a process of user id
 * 33" when it is not ours to look at, or "" when nobody does.
 */
void listener_holder(const struct address *address, enum config_protocol protocol, char *out,
                     size_t size);
