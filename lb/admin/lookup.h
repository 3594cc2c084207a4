/*
 * Purpose: what a request names: a pool, a server, a listener.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   NULL, and the request has been refused with the nearest name.
 *
 * Private to lb/admin.
 */
#pragma once

#include "lb/admin/request.h"

must_check struct pool *lookup_pool(struct request *request, const char *name);
must_check const struct listener *lookup_listener(struct request *request, const char *name);

/* Of that name in the pool; NULL for the pool: in any. */
must_check struct pool_member *lookup_server(struct request *request, struct pool *pool,
                                             const char *name);

/* "POOL/SERVER" */
must_check struct pool_member *lookup_member(struct request *request, const char *both);
