/*
 * Purpose: one health check of one server by one kind of probe.
 * Thread:  control.
 * Owns:    the probe's memory belongs to the schedule, of the size its kind asks for; sockets
 *          belong to the kind and are closed by the time the verdict is told.
 * Fails:   start returns a negative errno when our own machine lacks something; no verdict follows.
 *
 * Private to lb/health. A kind is one row here and one file. Every started probe ends with exactly
 * one verdict: pass, fail with a detail, or cancelled.
 */
#pragma once

#include "lb/health/health.h"

/* name, symbol of the kind (probe_…) */
#define PROBE_KINDS(ROW)                                                                           \
    ROW("tcp", tcp)                                                                                \
    ROW("http", http)                                                                              \
    ROW("udp", udp)                                                                                \
    ROW("dns", dns)

enum probe_verdict { PROBE_PASS, PROBE_FAIL, PROBE_CANCELLED };

/* The longest detail, with its NUL: a Unix socket's path and what is wrong with it. */
#define PROBE_DETAIL_MAX 192

struct probe;
/*
 * `detail` is one phrase. The probe may be started again, or its memory freed, from within.
 * `now_ms` is the loop's time, as health.h has it.
 */
typedef void probe_done_fn(struct probe *probe, enum probe_verdict verdict, const char *detail,
                           uint64_t now_ms);

/* First member of every kind's own struct; filled in before each start. The rest is the kind's. */
struct probe {
    const struct probe_kind *kind;
    const struct config_health *settings;
    struct address address; /* the port of the settings already put in */
    uv_loop_t *loop;
    probe_done_fn *done;
    void *owner;
};

struct probe_kind {
    size_t size; /* of the kind's own struct */
    bool inet;   /* reaches IP addresses alone: the configuration gives it no others */
    /*
     * Begins to connect; `done` comes later from the loop, never from within. The deadline is the
     * caller's. Called again and again with the same memory, but never before `done`.
     */
    int (*start)(struct probe *probe);
    /*
     * `why` is PROBE_FAIL for a deadline that passed or PROBE_CANCELLED. `done` follows from the
     * loop, when all is closed, with it or with a verdict that had been reached before. A kind that
     * silence is good enough for turns the deadline into a pass.
     */
    void (*stop)(struct probe *probe, enum probe_verdict why, const char *detail);
};

/* NULL when there is none of that name. */
const struct probe_kind *probe_kind_find(const char *name);

/* health_new over other kinds than those of the table: for tests of the schedule. */
typedef const struct probe_kind *probe_find_fn(const char *name);
must_check int health_new_over(struct health **out, uv_loop_t *loop,
                               const struct health_callbacks *callbacks, uint64_t now_ms,
                               uint64_t seed, probe_find_fn *find);

#define PROBE_DECLARE(name, symbol) extern const struct probe_kind probe_##symbol;
PROBE_KINDS(PROBE_DECLARE)
#undef PROBE_DECLARE
