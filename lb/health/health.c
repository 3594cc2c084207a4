/*
 * Purpose: the schedule of health.h: all targets, and what time it is.
 * Thread:  control.
 * Owns:    the targets.
 * Fails:   see health.h.
 *
 * Who frees a target: a probe ends only in its `done`, which comes from the loop when its sockets
 * are closed. So a removed target is retired: it keeps its memory on a list, without a timer, until
 * that has come. The same list keeps what a callback removes, until the outermost call into this
 * file has returned: the code around a callback may still look at its target. The schedule goes
 * last, when it has been freed and the list is empty.
 *
 * Verbs that are not told the time set no timer: the wheel's own time may be long past. They put
 * the target on the list `hasty`, which makes health_next due at once, and the next advance begins
 * with it.
 */
#include "lb/health/health.h"

#include "common/log.h"
#include "lb/health/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A call later than that means that we stood still, and not that servers did not answer. */
#define STALL_MS 1000

/* ---- Entering and leaving ---- */

static void health_enter(struct health *health)
{
    health->depth++;
}

static void health_destroy(struct health *health)
{
    void (*on_freed)(void *arg) = health->on_freed;
    void *arg = health->on_freed_arg;
    free(health);
    on_freed(arg);
}

/* The schedule may be gone afterwards. */
static void health_leave(struct health *health)
{
    if (--health->depth > 0)
        return;
    list_for_each_safe (node, &health->retired) {
        struct health_target *target = list_entry(node, struct health_target, link);
        if (target->phase == TARGET_WAITING)
            target_free(target);
    }
    if (health->freed && list_empty(&health->retired))
        health_destroy(health);
}

/* ---- Time ---- */

/*
 * Every call that knows the time tells it here first. True when it comes far too late for the
 * wheel: then all targets have been restarted. heard_ms, because a timer set since the last call
 * may lie in a slot of the wheel that began before that call.
 */
static bool health_hear(struct health *health, uint64_t now_ms)
{
    uint64_t expected_ms = MAX(wheel_next(&health->wheel), health->heard_ms);
    health->heard_ms = MAX(health->heard_ms, now_ms);
    if (now_ms <= expected_ms || now_ms - expected_ms <= STALL_MS)
        return false;

    log_warn("stalled: probes start anew", LOG_U("late_ms", now_ms - expected_ms));
    list_for_each (node, &health->targets)
        target_restart(list_entry(node, struct health_target, link), now_ms);
    return true;
}

static void hasten_all(struct health *health, uint64_t now_ms)
{
    while (!list_empty(&health->hasty)) {
        struct health_target *target = list_first(&health->hasty, struct health_target, haste);
        list_del(&target->haste);
        target_hasten(target, now_ms);
    }
}

void health_advance(struct health *health, uint64_t now_ms)
{
    health_enter(health);
    health_hear(health, now_ms);
    hasten_all(health, now_ms);
    wheel_advance(&health->wheel, now_ms);
    health_leave(health);
}

uint64_t health_next(const struct health *health)
{
    return list_empty(&health->hasty) ? wheel_next(&health->wheel) : health->wheel.now_ms;
}

/* ---- Targets ---- */

static void on_probe_done(struct probe *probe, enum probe_verdict verdict, const char *detail,
                          uint64_t now_ms)
{
    struct health_target *target = probe->owner;
    struct health *health = target->health;
    bool counts = target->phase != TARGET_VOIDED && verdict != PROBE_CANCELLED;

    health_enter(health);
    target->phase = TARGET_WAITING;
    /* Its timer still stands at the deadline: a stall is seen by that. */
    counts &= !health_hear(health, now_ms);
    if (target->retired)
        BUG_ON(wheel_is_set(&target->timer));
    else if (counts)
        target_verdict(target, verdict == PROBE_PASS, detail, now_ms);
    else
        target_void(target, now_ms);
    health_leave(health);
}

int health_add(struct health *health, const struct config_health *settings,
               const struct address *address, const char *name, enum health_state state,
               void *subject, struct health_target **out)
{
    bool probed = strcmp(settings->type, "none") != 0;
    const struct probe_kind *kind = probed ? health->find(settings->type) : NULL;
    if (probed && kind == NULL)
        return -EINVAL;
    struct health_target *target;
    int rc = target_new(&target, health, kind, settings, address, name, on_probe_done);
    if (rc < 0)
        return rc;

    target->subject = subject;
    target->verdicts.state = state;
    list_add_tail(&health->targets, &target->link);
    *out = target;
    health_enter(health);
    if (probed)
        list_add_tail(&health->hasty, &target->haste);
    else
        target_assume_up(target, health->heard_ms);
    health_leave(health);
    return 0;
}

static void retire(struct health *health, struct health_target *target)
{
    target->retired = true;
    list_del(&target->link);
    list_add_tail(&health->retired, &target->link);
    list_del(&target->haste);
    target_cancel(target);
}

void health_remove(struct health *health, struct health_target **target)
{
    health_enter(health);
    retire(health, *target);
    *target = NULL;
    health_leave(health);
}

void health_suspect(struct health *health, struct health_target *target)
{
    if (target->suspect)
        return;
    target->suspect = true;
    if (target->phase != TARGET_WAITING)
        target->again = true;
    else if (list_empty(&target->haste))
        list_add_tail(&health->hasty, &target->haste);
}

void health_report(const struct health_target *target, struct health_report *out)
{
    *out = target->report;
    out->state = target->verdicts.state;
    out->streak = target->verdicts.streak;
}

/* ---- The schedule ---- */

int health_new_over(struct health **out, uv_loop_t *loop, const struct health_callbacks *callbacks,
                    uint64_t now_ms, uint64_t seed, probe_find_fn *find)
{
    struct health *health = calloc(1, sizeof(*health));
    if (health == NULL)
        return -ENOMEM;
    health->loop = loop;
    health->callbacks = *callbacks;
    health->find = find;
    health->heard_ms = now_ms;
    random_init(&health->random, seed);
    wheel_init(&health->wheel, now_ms);
    list_init(&health->targets);
    list_init(&health->hasty);
    list_init(&health->retired);
    *out = health;
    return 0;
}

int health_new(struct health **out, uv_loop_t *loop, const struct health_callbacks *callbacks,
               uint64_t now_ms, uint64_t seed)
{
    return health_new_over(out, loop, callbacks, now_ms, seed, probe_kind_find);
}

void health_free(struct health **health_pointer, void (*done)(void *arg), void *arg)
{
    struct health *health = *health_pointer;
    *health_pointer = NULL;

    health_enter(health);
    health->freed = true;
    health->on_freed = done;
    health->on_freed_arg = arg;
    while (!list_empty(&health->targets))
        retire(health, list_first(&health->targets, struct health_target, link));
    health_leave(health);
}
