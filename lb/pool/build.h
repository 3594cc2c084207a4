/*
 * Purpose: what the files of lb/pool make for each other: servers and views.
 * Thread:  control.
 * Owns:    the caller gets the first reference.
 * Fails:   NULL without memory; nothing else has changed then.
 *
 * Private to lb/pool.
 */
#pragma once

#include "lb/pool/pool.h"

struct server *server_new(const char *pool, const struct config_server *config,
                          uint32_t worker_count);

/* Pools that are not dirty share their picture with pools->current; dirty flags are left alone. */
struct view *view_new(struct pools *pools);
