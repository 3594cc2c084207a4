/*
 * Purpose: what a socket to a server is bound to before it connects: the client's own address, one
 *          of ours, or nothing.
 * Thread:  any: a source is a value.
 * Owns:    nothing.
 * Fails:   source_of_client for one whose address cannot be used; source_bind with a negative
 *          errno, which is this machine's own fault and never the server's.
 *
 * Ports are the kernel's to give, at the connect and not before (IP_BIND_ADDRESS_NO_PORT, ip(7)):
 * only then may sockets to different servers have the same one. A client's port is not kept. A
 * session's second try, or one that follows an earlier session of the same client and port, would
 * find the same four numbers still in TIME_WAIT, at the server's end too.
 */
#pragma once

#include "common/address.h"

#include <stdbool.h>

/* What one socket is bound to. */
struct source {
    union inet_address address; /* port 0; AF_UNSPEC: nothing, the kernel chooses */
    bool transparent;           /* not an address of this machine: IP_TRANSPARENT, ip(7) */
};

/*
 * The client's own address as the source of a socket to the server; it may be mapped. False: it is
 * of another family than the server's, or none that a server elsewhere could answer (loopback,
 * another link's, the wildcard, multicast, broadcast).
 */
must_check bool source_of_client(const struct address *server, const union inet_address *client,
                                 struct source *out);

/*
 * May this process bind a socket to an address that is not this machine's? 0, or a negative errno:
 * -EPERM without CAP_NET_RAW in the namespace of the network (capabilities(7)); CAP_NET_ADMIN would
 * do too, and can do far more.
 */
must_check int source_may_be_transparent(void);

/* Binds a socket that is not connected yet. Harmless for nothing. */
must_check int source_bind(int fd, const struct source *source);

/*
 * source_bind and connect(2): 0, -EINPROGRESS or another negative errno. -EADDRNOTAVAIL too where
 * the kernel finds no way from the source to the server, which connect(2) calls EINVAL.
 */
must_check int source_connect(int fd, const struct source *source, const struct address *to);
