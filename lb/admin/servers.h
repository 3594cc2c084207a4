/*
 * Purpose: a server as a row: the same from `show servers` and from the commands that change one.
 * Thread:  control.
 * Owns:    the row is the caller's.
 * Fails:   NULL without memory.
 *
 * Private to lb/admin.
 */
#pragma once

#include "common/base.h"
#include "lb/pool/pool.h"

#include <jansson.h>

must_check json_t *server_row(const struct pool_member *member, uint64_t now_ms);
