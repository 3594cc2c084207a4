/*
 * Purpose: one server under the schedule: its probe, its timer, its verdicts.
 * Thread:  control.
 * Owns:    a target owns its probe's memory, its name and its copy of the settings.
 * Fails:   target_new as health_add.
 *
 * Private to lb/health. health.c keeps all targets and the time, and calls in here; nothing in here
 * calls back but through the probe's `done` and the callbacks of health.h.
 */
#pragma once

#include "common/list.h"
#include "common/random.h"
#include "common/wheel.h"
#include "lb/health/probe.h"
#include "lb/health/verdicts.h"

/* The schedule. Targets use of it what stands above the line. */
struct health {
    uv_loop_t *loop;
    struct health_callbacks callbacks;
    struct random_state random;
    struct wheel wheel;
    uint64_t refused_ms;     /* when a probe last could not start; 0: never */
    uint64_t source_told_ms; /* when the log last named one that could not by its source */

    /* ---- health.c's own ---- */
    probe_find_fn *find;
    uint64_t heard_ms;   /* the latest time that anybody told */
    struct list targets; /* all that have not been removed */
    struct list hasty;   /* those that the next advance begins with */
    struct list retired; /* removed, and waiting for their probe's `done` or for depth 0 */
    unsigned depth;      /* calls into health.c that have not returned */
    bool freed;
    void (*on_freed)(void *arg);
    void *on_freed_arg;
};

/*
 * One timer stands for what ends the phase:
 *
 *            timer: the next start
 *   WAITING ----------------------> PROBING --- timer: the deadline ---> STOPPING
 *      ^                              |  |                                   |
 *      +---------- verdict -----------+  +--- stall ---> VOIDED              |
 *      +-------- no verdict --------------------------------+                |
 *      +---------- verdict --------------------------------------------------+
 *
 * Back to WAITING only leads the probe's `done`, which comes from the loop.
 */
enum target_phase { TARGET_WAITING, TARGET_PROBING, TARGET_STOPPING, TARGET_VOIDED };

struct health_target {
    struct health *health;
    struct list link;         /* of targets or retired */
    struct list haste;        /* of hasty */
    struct wheel_timer timer; /* without a probe: the end of a doubt */
    struct probe *probe;      /* NULL: type "none" */
    struct config_health settings;
    char *name;
    void *subject;
    enum target_phase phase;
    bool retired;
    bool started; /* at least one probe has been */
    bool suspect;
    bool source_told; /* that it cannot start from its source */
    bool again; /* the doubt is younger than the probe under way: only the next can speak on it */
    uint64_t started_ms;
    struct verdicts verdicts;
    struct health_report report; /* but for state and streak: those are in `verdicts` */
};

/* On no list; `kind` is NULL when there is nothing to probe. */
must_check int target_new(struct health_target **out, struct health *health,
                          const struct probe_kind *kind, const struct config_health *settings,
                          const struct address *address, const char *name, probe_done_fn *done);
/* Only while WAITING. */
void target_free(struct health_target *target);

/* Begins to end the probe under way without a verdict. */
void target_cancel(struct health_target *target);

/* Lets it begin as soon as it may, but never later than it would anyway. */
void target_hasten(struct health_target *target, uint64_t now_ms);

/* After a stall: voids the probe under way, and spreads what came due meanwhile. */
void target_restart(struct health_target *target, uint64_t now_ms);

/* Its probe ended: when the next starts, what changed, who is told. Callbacks come from within. */
void target_verdict(struct health_target *target, bool passed, const char *detail, uint64_t now_ms);

/* Its probe ended and proved nothing. */
void target_void(struct health_target *target, uint64_t now_ms);

/* There is no probe and never will be: it counts as up. */
void target_assume_up(struct health_target *target, uint64_t now_ms);
