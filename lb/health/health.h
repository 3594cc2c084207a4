/*
 * Purpose: when each server is probed, and when passes and failures add up to up or down.
 * Thread:  control.
 * Owns:    its targets and the probes under way; the settings are copied from the configuration.
 * Fails:   health_new and health_add without memory; health_add with -EINVAL for a type that is not
 *          in the table. A probe that cannot even start (no descriptor of our own) counts neither
 *          way and is told once in the log.
 *
 * The schedule stands on a timer wheel whose time is a parameter. Rise, fall, interval by state,
 * jitter and phase spread are decided here; a kind of probe (probe.h) only starts, and ends with
 * one verdict. What "up" or "down" means for traffic is not decided here: each change goes out
 * through the callback, after its line in the log. Callbacks may call any verb of this header, also
 * for their own target.
 *
 * now_ms is monotonic, as uv_now(3) of the loop and clock_now_ms have it. Verdicts come from the
 * loop with uv_now(3), so the two must be the same clock.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"
#include "config/config.h"
#include "lb/pool/pool.h" /* enum health_state */

#include <uv.h>

struct health;
struct health_target;

/* One sentence of why, e.g. "3 of 3 probes failed: connect to 10.0.0.2:80: connection refused". */
typedef void health_change_fn(void *owner, void *subject, enum health_state state,
                              const char *reason);
/* The doubt of health_suspect is over: a probe agrees with what is known, or its time is up. */
typedef void health_clear_fn(void *owner, void *subject);

struct health_callbacks {
    void *owner;
    health_change_fn *changed;
    health_clear_fn *cleared;
};

/* `loop` carries the probes' sockets; `seed` makes jitter and spread repeatable in tests. */
must_check int health_new(struct health **out, uv_loop_t *loop,
                          const struct health_callbacks *callbacks, uint64_t now_ms, uint64_t seed);

/*
 * Starts to probe a server: `subject` is handed back in callbacks. `state` carries over what was
 * known (HEALTH_UNKNOWN for a new one: its first probe starts within 200 ms; one pass makes it up,
 * one failure down). With type "none" there is no probe: the target is told up at once, from within
 * this call.
 */
must_check int health_add(struct health *health, const struct config_health *settings,
                          const struct address *address, const char *name, enum health_state state,
                          void *subject, struct health_target **out);

/* Cancels what is under way; what memory that needs goes with it. No callback follows. */
void health_remove(struct health *health, struct health_target **target);

/*
 * A worker saw the server fail: probe now instead of at the next interval. The doubt ends with a
 * probe that passes, or with the one that makes the server down; without a probe after
 * HEALTH_SUSPECT_MS. Each way `cleared` is called once. A probe that was under way already says
 * nothing of it: the next one follows at once. However often servers are doubted, each is probed at
 * most ten times a second.
 */
#define HEALTH_SUSPECT_MS 2000
void health_suspect(struct health *health, struct health_target *target);

/*
 * Advances the wheel: call when health_next is due. A call that comes more than 1 s late voids the
 * probes under way instead of failing them (the process was stopped, not the servers) and starts
 * them anew.
 */
void health_advance(struct health *health, uint64_t now_ms);

/*
 * When health_advance must be called next, as wheel_next. Changes after any call of this header,
 * and when the loop ends a probe: ask anew in every turn of the loop (uv_prepare_t).
 */
uint64_t health_next(const struct health *health);

struct health_report {
    enum health_state state;
    char reason[256];       /* of the last change */
    uint64_t changed_at_ms; /* 0: never */
    uint64_t probes, failures;
    uint32_t streak;  /* verdicts in a row against the present state */
    uint64_t last_ms; /* what the last probe took */
    char last_detail[128];
};
void health_report(const struct health_target *target, struct health_report *out);

/*
 * Stops all probes; the memory is freed when the loop has run their close callbacks, then `done`:
 * from within this call when none was under way. Targets not removed before go too.
 */
void health_free(struct health **health, void (*done)(void *arg), void *arg);

/* Names of all probe kinds, for the configuration's checks; "none" is not among them. */
const char *const *health_probe_names(size_t *out_count);

/* Does that kind reach IP addresses alone, and no Unix sockets? */
bool health_probe_is_inet(const char *name);
