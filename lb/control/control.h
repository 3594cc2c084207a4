/*
 * Purpose: the main thread's loop: pools, health, workers, signals, and the end.
 * Thread:  control (the main thread) only.
 * Owns:    the loop, pools, health, workers, listeners; borrows the configuration.
 * Fails:   control_new and control_start with one sentence in `error`.
 */
#pragma once

#include "common/base.h"
#include "config/config.h"
#include "lb/limits.h"
#include "lb/listener.h"
#include "lb/pool/pool.h"
#include "lb/worker/worker.h"

#include <uv.h>

struct control;

enum control_state { CONTROL_STARTING, CONTROL_RUNNING, CONTROL_DRAINING };
const char *control_state_name(enum control_state state);

/* Makes the loop and the pools; no thread yet. Takes over the listeners. */
must_check int control_new(struct control **out, const struct config *config,
                           struct listener *listeners, const struct limits *limits, char *error,
                           size_t error_size);

/* Workers, first view, probes, signals. */
must_check int control_start(struct control *control, char *error, size_t error_size);

/* Runs until a signal and its consequences are over. Returns the exit code. */
int control_run(struct control *control);

void control_free(struct control **control);

/*
 * `stop` is called once, when the loop is to end, at the latest by control_free: whoever has
 * handles on it closes them. One listener: admin.
 */
void control_on_stop(struct control *control, void (*stop)(void *arg), void *arg);

uv_loop_t *control_loop(struct control *control);
const struct config *control_config(const struct control *control);
struct pools *control_pools(struct control *control);
size_t control_listeners(const struct control *control, const struct listener **out);

enum control_state control_state(const struct control *control);

/* Begins the longest turns anew. */
struct control_status {
    enum control_state state;
    uint64_t uptime_ms;
    uint32_t workers;
    uint64_t sessions, flows;
    uint64_t descriptors_open;
    struct limits limits;
    uint64_t counter[METRIC_COUNT];
    uint64_t control_turn_us; /* the longest turn of control's loop since the last status */
    uint64_t worker_turn_us;  /* the longest of any worker's */
    uint64_t log_written, log_dropped;
};
void control_status(struct control *control, struct control_status *out);

/* ---- what operators do: each takes effect at once and is logged with `who` ---- */

void control_set_admin(struct control *control, struct pool_member *member, enum server_admin admin,
                       uint64_t deadline_ms, const char *who);
void control_set_weight(struct control *control, struct pool_member *member, uint32_t weight,
                        const char *who);

/* A rule of the listener's gate, see lb/gate/gate.h for both and their errors; with an end it goes
 * by itself. */
must_check int control_rule_put(struct control *control, const struct listener *listener,
                                const struct gate_rule *rule, const char *who);
must_check int control_rule_drop(struct control *control, const struct listener *listener,
                                 const struct network *network, const char *who);

/*
 * Sessions or flows of all workers, in slices: `rows` is called for each slice that found some; the
 * walk goes on when control_query_next is called (when the reader has room), and ends with `done`.
 * Cancelling is allowed at any time; no call follows.
 */
struct control_query;
struct control_query_callbacks {
    void (*rows)(void *arg, const union traffic_rows *rows, uint32_t count);
    void (*done)(void *arg, uint32_t total);
    void *arg;
};
must_check int control_query_start(struct control *control, enum traffic_kind kind,
                                   const struct traffic_filter *filter, bool kill,
                                   const struct control_query_callbacks *callbacks,
                                   struct control_query **out);
void control_query_next(struct control_query *query);
void control_query_cancel(struct control_query **query);
