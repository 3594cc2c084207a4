/*
 * Purpose: a server as all threads know it: identity, load, slots, and the counters of each worker.
 * Thread:  see pool.h.
 * Owns:    the memory of servers, until the last reference.
 * Fails:   server_new without memory.
 *
 * Three kinds of writer, none on another's cache line: control (drain), all workers (load, once a
 * session), and each worker in a cell of its own (bytes).
 */
#include "lb/pool/build.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t next_id(void)
{
    static uint32_t last; /* control alone makes servers */
    return ++last;
}

struct server *server_new(const char *pool, const struct config_server *config,
                          uint32_t worker_count)
{
    size_t size = sizeof(struct server) + worker_count * sizeof(struct server_cell);
    struct server *server = aligned_alloc(CACHE_LINE, size);
    if (server == NULL)
        return NULL;
    memset(server, 0, size);
    atomic_init(&server->references, 1);
    server->id = next_id();
    server->worker_count = worker_count;
    snprintf(server->pool, sizeof(server->pool), "%s", pool);
    snprintf(server->name, sizeof(server->name), "%s", config->name);
    server->address = config->address.address;
    address_format(&server->address, server->address_text);
    atomic_init(&server->live.limit, (uint32_t)MIN(config->max_connections, (int64_t)UINT32_MAX));
    return server;
}

struct server *server_take(struct server *server)
{
    uint32_t before = atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
    BUG_ON(before == 0);
    return server;
}

void server_put(struct server **server)
{
    struct server *old = *server;
    if (old == NULL)
        return;
    *server = NULL;
    /* Release our use of it; acquire that of the others before it is freed. */
    uint32_t before = atomic_fetch_sub_explicit(&old->references, 1, memory_order_acq_rel);
    BUG_ON(before == 0);
    if (before > 1)
        return;
    for (size_t i = 0; i < PORTS_PROTOCOLS; i++)
        ports_put(&old->ports[i]);
    free(old);
}

/*
 * Not add and undo: between the two others would see a slot taken that is not, a waiter woken for
 * it would lie down again, and nobody would wake it a second time.
 */
static bool take_slot(struct server *server)
{
    _Atomic uint32_t *load = &server->live.load;
    uint32_t limit = atomic_load_explicit(&server->live.limit, memory_order_relaxed);
    if (limit == 0) {
        atomic_fetch_add(load, 1);
        return true;
    }
    uint32_t now = atomic_load_explicit(load, memory_order_relaxed);
    do {
        if (now >= limit)
            return false;
    } while (!atomic_compare_exchange_weak(load, &now, now + 1));
    return true;
}

/*
 * Slot first, then the look at `closed`, both in the one order of all threads: a session that got
 * in was counted before control closed the server, and is seen by whoever counts after that.
 */
bool server_enter(struct server *server)
{
    if (!take_slot(server))
        return false;
    if (!atomic_load(&server->closed))
        return true;
    (void)server_leave(server);
    return false;
}

bool server_leave(struct server *server)
{
    uint32_t before = atomic_fetch_sub_explicit(&server->live.load, 1, memory_order_relaxed);
    BUG_ON(before == 0);
    uint32_t limit = atomic_load_explicit(&server->live.limit, memory_order_relaxed);
    return limit > 0 && before >= limit;
}

static uint64_t read_cell(const _Atomic uint64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

void server_lacks_port(struct server *server, uint32_t worker, uint64_t *told_ms, uint64_t now_ms)
{
    cell_add(&server->cell[worker].no_port, 1);
    if (!log_is_due(told_ms, now_ms))
        return;
    log_warn("no address and port to connect to a server from", LOG_S("pool", server->pool),
             LOG_S("server", server->name), LOG_S("address", server->address_text),
             LOG_S("cure", PORTS_CURE));
}

static void add_cell(const struct server_cell *cell, struct server_totals *out)
{
    out->sessions += read_cell(&cell->sessions);
    /* In this order: one that begins in between is counted too many, never one too few. */
    uint64_t left = read_cell(&cell->flows_left);
    uint64_t flows = read_cell(&cell->flows);
    out->flows += flows;
    out->flows_now += (uint32_t)(flows - left);
    out->bytes_in += read_cell(&cell->bytes_in);
    out->bytes_out += read_cell(&cell->bytes_out);
    out->connect_failures += read_cell(&cell->connect_failures);
    out->resets += read_cell(&cell->resets);
    out->refused += read_cell(&cell->refused);
    out->no_port += read_cell(&cell->no_port);
    for (size_t end = 0; end < DRAIN_ENDS; end++)
        out->drain_ends[end] += read_cell(&cell->drain_ends[end]);
}

void server_totals(const struct server *server, struct server_totals *out)
{
    *out = (struct server_totals){0};
    out->load = atomic_load_explicit(&server->live.load, memory_order_relaxed);
    for (uint32_t worker = 0; worker < server->worker_count; worker++)
        add_cell(&server->cell[worker], out);
}
