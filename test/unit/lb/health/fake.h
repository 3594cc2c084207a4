/*
 * Purpose: a schedule over a kind of probe that only writes down what it is asked, in a time that
 *          the test sets: no loop, no socket, no waiting.
 * Thread:  the test's.
 * Owns:    one world at a time: the schedule and FAKE_SERVERS servers, told apart by their port.
 * Fails:   as a cmocka assertion.
 */
#pragma once

#include "common/log.h"
#include "lb/health/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define FAKE_SERVERS 256
#define FAKE_STARTS 512    /* remembered */
#define FAKE_EPOCH 1000000 /* when a world begins */
#define FAKE_NEVER UINT64_MAX

enum fake_answer { FAKE_PASSES, FAKE_FAILS, FAKE_IS_SILENT };

struct fake_server {
    struct health_target *target;
    /* What the test sets. */
    enum fake_answer answer;
    uint64_t latency_ms;
    int refusal; /* what start returns */
    void (*on_change)(struct fake_server *server);
    void (*on_clear)(struct fake_server *server);
    /* What has happened. */
    struct probe *probe; /* under way */
    bool stopped;
    enum probe_verdict stop_verdict;
    char detail[PROBE_DETAIL_MAX];
    unsigned starts, cancels;
    uint64_t started_at[FAKE_STARTS];
    enum health_state state;
    unsigned changes, clears;
    uint64_t changed_at, cleared_at;
    char reason[256];
};

static struct fake_world {
    struct health *health;
    uint64_t now;
    bool freed;
    struct fake_server server[FAKE_SERVERS];
} world;

/* ---- The kind ---- */

static inline struct fake_server *fake_server_of(const struct probe *probe)
{
    uint16_t port = address_port(&probe->address);
    assert_true(port < FAKE_SERVERS);
    return &world.server[port];
}

static inline int fake_start(struct probe *probe)
{
    struct fake_server *server = fake_server_of(probe);
    assert_null(server->probe);
    server->started_at[server->starts++ % FAKE_STARTS] = world.now;
    if (server->refusal < 0)
        return server->refusal;
    server->probe = probe;
    server->stopped = false;
    return 0;
}

static inline void fake_stop(struct probe *probe, enum probe_verdict why, const char *detail)
{
    struct fake_server *server = fake_server_of(probe);
    assert_ptr_equal(server->probe, probe);
    assert_false(server->stopped);
    server->stopped = true;
    server->stop_verdict = why;
    server->cancels += why == PROBE_CANCELLED;
    snprintf(server->detail, sizeof(server->detail), "%s", detail);
}

static const struct probe_kind fake_kind = {
    .size = sizeof(struct probe),
    .start = fake_start,
    .stop = fake_stop,
};

static inline const struct probe_kind *fake_find(const char *name)
{
    return strcmp(name, "fake") == 0 ? &fake_kind : NULL;
}

/* ---- The world ---- */

static inline void fake_changed(void *owner, void *subject, enum health_state state,
                                const char *reason)
{
    struct fake_server *server = subject;
    assert_ptr_equal(owner, &world);
    server->state = state;
    server->changes++;
    server->changed_at = world.now;
    snprintf(server->reason, sizeof(server->reason), "%s", reason);
    if (server->on_change != NULL)
        server->on_change(server);
}

static inline void fake_cleared(void *owner, void *subject)
{
    struct fake_server *server = subject;
    assert_ptr_equal(owner, &world);
    server->clears++;
    server->cleared_at = world.now;
    if (server->on_clear != NULL)
        server->on_clear(server);
}

static inline void world_begin(uint64_t seed)
{
    const struct health_callbacks callbacks = {&world, fake_changed, fake_cleared};
    memset(&world, 0, sizeof(world));
    world.now = FAKE_EPOCH;
    assert_int_equal(health_new_over(&world.health, NULL, &callbacks, world.now, seed, fake_find),
                     0);
}

static inline void fake_freed(void *arg)
{
    assert_ptr_equal(arg, &world);
    assert_false(world.freed);
    world.freed = true;
}

static inline struct config_health fake_settings(void)
{
    static char type[] = "fake";
    return (struct config_health){.type = type,
                                  .interval = 2000,
                                  .interval_changing = 500,
                                  .interval_down = 1000,
                                  .timeout = 400,
                                  .rise = 2,
                                  .fall = 3};
}

static inline struct fake_server *fake_add(const struct config_health *settings, uint16_t number,
                                           enum health_state state)
{
    struct address address = {.length = sizeof(address.v4)};
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(number);
    struct fake_server *server = &world.server[number];
    server->state = state;
    assert_int_equal(
        health_add(world.health, settings, &address, "web/a", state, server, &server->target), 0);
    return server;
}

/* ---- Time ---- */

/* The loop closes a probe's socket. */
static inline void fake_end(struct fake_server *server, enum probe_verdict verdict,
                            const char *detail)
{
    struct probe *probe = server->probe;
    server->probe = NULL;
    probe->done(probe, verdict, detail, world.now);
}

/* When the server's next event is due; those of stopped probes are at once. */
static inline uint64_t fake_due(const struct fake_server *server)
{
    if (server->probe == NULL)
        return FAKE_NEVER;
    if (server->stopped)
        return world.now;
    if (server->answer == FAKE_IS_SILENT)
        return FAKE_NEVER;
    return server->started_at[(server->starts - 1) % FAKE_STARTS] + server->latency_ms;
}

static inline void fake_event(struct fake_server *server)
{
    if (server->stopped)
        fake_end(server, server->stop_verdict, server->detail);
    else if (server->answer == FAKE_PASSES)
        fake_end(server, PROBE_PASS, "connected");
    else
        fake_end(server, PROBE_FAIL, "connection refused");
}

static inline struct fake_server *fake_first_due(uint64_t *out_due)
{
    struct fake_server *first = NULL;
    *out_due = FAKE_NEVER;
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        uint64_t due = fake_due(&world.server[i]);
        if (due < *out_due) {
            *out_due = due;
            first = &world.server[i];
        }
    }
    return first;
}

/* What is due first by `until`, of schedule and servers. False when that is nothing. */
static inline bool world_step(uint64_t until)
{
    uint64_t answer_due;
    struct fake_server *server = fake_first_due(&answer_due);
    uint64_t next = world.health != NULL ? health_next(world.health) : FAKE_NEVER;
    uint64_t due = MIN(answer_due, next);
    if (due == FAKE_NEVER || due > until)
        return false;
    world.now = MAX(world.now, due);
    if (answer_due <= next)
        fake_event(server);
    else
        health_advance(world.health, world.now);
    return true;
}

static inline void world_run_until(uint64_t until)
{
    while (world_step(until))
        ;
    world.now = until;
}

static inline void world_run_for(uint64_t ms)
{
    world_run_until(world.now + ms);
}

/* Until one more probe of the server has started. */
static inline void world_run_to_start(const struct fake_server *server)
{
    unsigned starts = server->starts;
    while (server->starts == starts)
        assert_true(world_step(world.now + 100000));
}

/* The schedule goes, and what is under way ends. */
static inline void world_end(void)
{
    if (world.health != NULL)
        health_free(&world.health, fake_freed, &world);
    world_run_for(0);
    assert_true(world.freed);
}

/* ---- For main ---- */

/* No line below an error: the tests turn servers up and down by the ten thousand. */
static inline int fake_quiet_log(void **state)
{
    (void)state;
    const struct log_options options = {.target = "/dev/null", .level = LOG_LEVEL_ERROR};
    char error[128];
    return log_start(&options, error, sizeof(error));
}

static inline int fake_end_log(void **state)
{
    (void)state;
    log_stop(1000);
    return 0;
}
