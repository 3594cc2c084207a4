/*
 * Purpose: one health check of one server by one kind of probe.
 * Thread:  control.
 * Owns:    the probe's memory belongs to the schedule, of the size its kind asks for; sockets
 * belong to the kind and are closed by the time the verdict is told or cancel has called back.
 * Fails:   start returns a negative errno when our own machine lacks something; no verdict follows.
 *
 * Private to lb/health. A kind is one row in probe.c and one file. Every started probe ends with
 * exactly one verdict: pass, fail with a detail, or cancelled.
 */
#pragma once

#include "lb/health/health.h"

enum probe_verdict { PROBE_PASS, PROBE_FAIL, PROBE_CANCELLED };

struct probe;
typedef void probe_done_fn(struct probe *probe, enum probe_verdict verdict, const char *detail);

/* First member of every kind's own struct. */
struct probe {
    const struct probe_kind *kind;
    const struct config_health *settings;
    struct address address; /* the port of the settings already put in */
    uv_loop_t *loop;
    probe_done_fn *done;
    void *owner;
};

struct probe_kind {
    const char *name;
    size_t size; /* of the kind's own struct */
    /* Begins to connect; `done` comes later from the loop, never from within. The deadline is the
     * caller's. */
    int (*start)(struct probe *probe);
    /* `why` is PROBE_FAIL for a deadline that passed or PROBE_CANCELLED; `done` follows with it,
     * when all is closed. */
    void (*stop)(struct probe *probe, enum probe_verdict why, const char *detail);
};

const struct probe_kind *probe_kind_find(const char *name);
