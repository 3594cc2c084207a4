/*
 * Purpose: a server as a row: the same from `show servers` and from the commands that change one;
 *          and the fields that it has in common with a pool.
 * Thread:  control.
 * Owns:    the row is the caller's.
 * Fails:   NULL without memory.
 *
 * Private to lb/admin.
 */
#pragma once

#include "common/base.h"
#include "lb/admin/reply.h"
#include "lb/pool/pool.h"

/* Of the load, those that are no flows. */
uint32_t totals_sessions(const struct server_totals *totals);

/* What servers carry and have carried, as fields of a row. */
void totals_add_fields(const struct server_totals *totals, struct reply *row);

must_check json_t *server_row(const struct pool_member *member, uint64_t now_ms);
