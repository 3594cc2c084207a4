/*
 * Purpose: the targets of target.h.
 * Thread:  control.
 * Owns:    see target.h.
 * Fails:   see target.h.
 */
#include "lb/health/target.h"

#include "common/log.h"
#include "common/text.h"
#include "lb/health/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* First probes, and those after a stall, are spread over so long. */
#define SPREAD_MS 200
/*
 * The least time between two starts of a target's probe, however often workers doubt the server:
 * one that passes probes and fails sessions would be probed as fast as it answers.
 */
#define DOUBT_GAP_MS 100
#define SOURCE_CURE                                                                                \
    "see that a source is an address of this machine, with ports left and a way to the server"

/* That probes cannot start is told again only when none has met that for so long. */
#define REFUSED_QUIET_MS 60000

/* ---- Times ---- */

static void set_timer(struct health_target *target, uint64_t due_ms)
{
    wheel_set(&target->health->wheel, &target->timer, due_ms);
}

static uint64_t random_spread(struct health_target *target)
{
    return random_below(&target->health->random, SPREAD_MS + 1);
}

/* From start to start: by state, and up to `jitter` per cent more. */
static uint64_t random_interval(struct health_target *target)
{
    uint64_t interval = verdicts_interval(&target->verdicts, &target->settings);
    uint64_t most = interval * (uint64_t)target->settings.jitter / 100;
    uint32_t bound = (uint32_t)MIN(most, UINT32_MAX - 1) + 1;
    return interval + random_below(&target->health->random, bound);
}

/* ---- Telling ---- */

static void copy_text(char *out, size_t size, const char *string)
{
    struct text text;
    text_init(&text, out, size);
    text_add(&text, string);
}

static void tell_changed(struct health_target *target, uint64_t now_ms)
{
    const struct health_callbacks *to = &target->health->callbacks;
    target->report.changed_at_ms = now_ms;
    to->changed(to->owner, target->subject, target->verdicts.state, target->report.reason);
}

static void tell_cleared(struct health_target *target)
{
    const struct health_callbacks *to = &target->health->callbacks;
    target->suspect = false;
    to->cleared(to->owner, target->subject);
}

/* ---- Verdicts ---- */

/* "3 of 3 probes failed: connect to 10.0.0.2:80: connection refused" */
static void explain(struct health_target *target, uint32_t counted, bool passed)
{
    struct text text;
    text_init(&text, target->report.reason, sizeof(target->report.reason));
    if (counted == 1)
        text_add(&text, "the probe ");
    else
        text_addf(&text, "%u of %u probes ", counted, counted);
    text_addf(&text, "%s: %s", passed ? "passed" : "failed", target->report.last_detail);
}

static void record(struct health_target *target, bool passed, const char *detail, uint64_t now_ms)
{
    struct health_report *report = &target->report;
    report->probes++;
    report->failures += !passed;
    report->last_ms = now_ms - MIN(target->started_ms, now_ms);
    copy_text(report->last_detail, sizeof(report->last_detail), detail);
}

void target_verdict(struct health_target *target, bool passed, const char *detail, uint64_t now_ms)
{
    record(target, passed, detail, now_ms);
    uint32_t needed = verdicts_needed(&target->verdicts, &target->settings);
    bool changed = verdicts_count(&target->verdicts, &target->settings, passed);
    /* One failure of several that are needed says nothing for the server: the doubt stays. */
    bool clears = target->suspect && !target->again && target->verdicts.streak == 0;

    uint64_t wait = target->again ? DOUBT_GAP_MS : random_interval(target);
    set_timer(target, MAX(target->started_ms + wait, now_ms));

    /* The change goes first: were the mark gone before, a worker could pick the server in between.
     */
    if (changed) {
        explain(target, needed, passed);
        tell_changed(target, now_ms);
    }
    if (clears && !target->retired)
        tell_cleared(target);
}

void target_void(struct health_target *target, uint64_t now_ms)
{
    set_timer(target, now_ms + random_spread(target));
}

void target_assume_up(struct health_target *target, uint64_t now_ms)
{
    /* No line in the log: nothing was found out. */
    target->verdicts = (struct verdicts){.state = HEALTH_UP};
    copy_text(target->report.reason, sizeof(target->report.reason), "not probed");
    tell_changed(target, now_ms);
}

/* ---- Starting ---- */

/* It will not mend by itself, and it says nothing of other servers' probes. */
static bool is_source_at_fault(const struct health_target *target, int error)
{
    return error == -EADDRNOTAVAIL && target->settings.source_count > 0;
}

/* Those of the server's family: "10.0.0.5, 10.0.0.6". */
static const char *sources_format(const struct health_target *target, char *out, size_t size)
{
    struct text text;
    char address[ADDRESS_TEXT_MAX];

    text_init(&text, out, size);
    for (size_t i = 0; i < target->settings.source_count; i++) {
        const union inet_address *source = &target->settings.source[i];
        if (source->any.sa_family != target->probe->address.any.sa_family)
            continue;
        text_addf(&text, "%s%s", text.length > 0 ? ", " : "", inet_host_format(source, address));
    }
    return out;
}

/*
 * Without descriptors every target comes by here: one line for all of them. Who has no source that
 * can be used is named, each once, at a bounded rate.
 */
static bool is_worth_a_line(struct health_target *target, int error, uint64_t now_ms)
{
    struct health *health = target->health;
    bool told;

    if (is_source_at_fault(target, error)) {
        told = target->source_told;
        target->source_told = told || log_is_due(&health->source_told_ms, now_ms);
        return target->source_told && !told;
    }
    told = health->refused_ms != 0 && now_ms - health->refused_ms < REFUSED_QUIET_MS;
    health->refused_ms = now_ms;
    return !told;
}

static void log_refused(const struct health_target *target, int error)
{
    bool lacks_source = is_source_at_fault(target, error);
    char address[ADDRESS_TEXT_MAX], sources[256];

    log_warn(
        "probes cannot start", LOG_S("server", target->name),
        LOG_S("address", address_format(&target->probe->address, address)),
        LOG_S("source", lacks_source ? sources_format(target, sources, sizeof(sources)) : NULL),
        LOG_S("reason", target->report.last_detail),
        LOG_S("cure", lacks_source ? SOURCE_CURE : NULL));
}

static void refused(struct health_target *target, int error, uint64_t now_ms)
{
    struct text text;
    text_init(&text, target->report.last_detail, sizeof(target->report.last_detail));
    text_addf(&text, "cannot start: %s", uv_strerror(error));
    if (is_worth_a_line(target, error, now_ms))
        log_refused(target, error);
    set_timer(target, now_ms + random_interval(target));
}

static void start(struct health_target *target, uint64_t now_ms)
{
    target->started = true;
    target->started_ms = now_ms;
    target->again = false;
    int rc = target->probe->kind->start(target->probe);
    if (rc < 0) {
        refused(target, rc, now_ms);
        return;
    }
    target->source_told = false;
    target->phase = TARGET_PROBING;
    set_timer(target, now_ms + (uint64_t)target->settings.timeout);
}

void target_hasten(struct health_target *target, uint64_t now_ms)
{
    uint64_t due_ms;
    if (target->probe == NULL)
        due_ms = now_ms + HEALTH_SUSPECT_MS;
    else if (!target->started)
        due_ms = now_ms + random_spread(target);
    else
        due_ms = MAX(target->started_ms + DOUBT_GAP_MS, now_ms);

    /* Its turn may have come since it was put on the list. */
    if (target->phase != TARGET_WAITING)
        return;
    if (!wheel_is_set(&target->timer) || target->timer.due_ms > due_ms)
        set_timer(target, due_ms);
}

/* ---- Stopping ---- */

static void stop(struct health_target *target, enum target_phase phase, enum probe_verdict why,
                 const char *detail)
{
    target->phase = phase;
    wheel_cancel(&target->health->wheel, &target->timer);
    target->probe->kind->stop(target->probe, why, detail);
}

static void deadline(struct health_target *target)
{
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_addf(&text, "no answer within %lld ms", (long long)target->settings.timeout);
    stop(target, TARGET_STOPPING, PROBE_FAIL, detail);
}

void target_cancel(struct health_target *target)
{
    wheel_cancel(&target->health->wheel, &target->timer);
    if (target->phase == TARGET_PROBING)
        stop(target, TARGET_VOIDED, PROBE_CANCELLED, "removed");
}

void target_restart(struct health_target *target, uint64_t now_ms)
{
    if (target->phase == TARGET_PROBING)
        stop(target, TARGET_VOIDED, PROBE_CANCELLED, "voided by a stall");
    else if (target->phase == TARGET_WAITING && target->probe != NULL &&
             target->timer.due_ms <= now_ms)
        set_timer(target, now_ms + random_spread(target));
}

/* ---- Life ---- */

static void on_timer(struct wheel_timer *timer, uint64_t now_ms)
{
    struct health_target *target = container_of(timer, struct health_target, timer);
    if (target->probe == NULL)
        tell_cleared(target);
    else if (target->phase == TARGET_PROBING)
        deadline(target);
    else
        start(target, now_ms);
}

static void put_port(struct address *address, int64_t port)
{
    if (port == 0)
        return;
    if (address->any.sa_family == AF_INET)
        address->v4.sin_port = htons((uint16_t)port);
    else if (address->any.sa_family == AF_INET6)
        address->v6.sin6_port = htons((uint16_t)port);
}

static int add_probe(struct health_target *target, const struct probe_kind *kind,
                     const struct address *address, probe_done_fn *done)
{
    struct probe *probe = calloc(1, kind->size);
    if (probe == NULL)
        return -ENOMEM;
    *probe = (struct probe){
        .kind = kind,
        .settings = &target->settings,
        .address = *address,
        .loop = target->health->loop,
        .done = done,
        .owner = target,
    };
    put_port(&probe->address, target->settings.port);
    target->probe = probe;
    return 0;
}

int target_new(struct health_target **out, struct health *health, const struct probe_kind *kind,
               const struct config_health *settings, const struct address *address,
               const char *name, probe_done_fn *done)
{
    struct health_target *target = calloc(1, sizeof(*target));
    if (target == NULL)
        return -ENOMEM;
    target->health = health;
    list_init(&target->link);
    list_init(&target->haste);
    wheel_timer_init(&target->timer, on_timer);

    int rc = settings_copy(&target->settings, settings);
    if (rc < 0)
        goto fail;
    rc = -ENOMEM;
    target->name = strdup(name);
    if (target->name == NULL)
        goto fail;
    rc = kind != NULL ? add_probe(target, kind, address, done) : 0;
    if (rc < 0)
        goto fail;
    *out = target;
    return 0;

fail:
    target_free(target);
    return rc;
}

void target_free(struct health_target *target)
{
    BUG_ON(target->phase != TARGET_WAITING);
    list_del(&target->link);
    settings_deinit(&target->settings);
    free(target->probe);
    free(target->name);
    free(target);
}
