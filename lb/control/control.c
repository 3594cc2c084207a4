/*
 * The main thread's loop. It decides and tells; it carries no traffic, so nothing here may take
 * longer than 20 ms a turn, and nothing that workers do waits for it.
 */
#include "lb/control/private.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/notify.h"
#include "common/wheel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Views follow each other at this distance, whatever the servers do; an operator's do not wait. */
#define VIEW_EVERY_MS 50

/* READY is said by then even if a server still has no verdict. */
#define READY_WITHIN_MS 3000

const char *control_state_name(enum control_state state)
{
    static const char *const names[] = {"starting", "running", "draining"};

    return names[state];
}

/* ---- views ---- */

static void publish(struct control *control)
{
    struct view *view = pools_view(control->pools);
    bool short_of_memory = pools_dirty(control->pools);

    control->published_ms = clock_now_ms();
    for (size_t i = 0; i < control->worker_count; i++)
        short_of_memory |= worker_set_view(control->worker[i], view) < 0;
    view_put(&view);
    if (short_of_memory)
        control_publish(control, false);
}

static void on_publish(uv_timer_t *timer)
{
    publish(timer->data);
}

void control_publish(struct control *control, bool now)
{
    uint64_t since = clock_now_ms() - control->published_ms;

    if (control->stopping || !control->serving)
        return;
    if (now || since >= VIEW_EVERY_MS) {
        uv_timer_stop(&control->publish_timer);
        publish(control);
    } else if (!uv_is_active((uv_handle_t *)&control->publish_timer)) {
        uv_timer_start(&control->publish_timer, on_publish, VIEW_EVERY_MS - since, 0);
    }
}

/* ---- ready ---- */

static bool any_unknown(const struct control *control)
{
    for (size_t p = 0; p < control->pools->count; p++) {
        const struct pool *pool = &control->pools->pool[p];
        for (size_t i = 0; i < pool->member_count; i++) {
            if (pool->member[i].health == HEALTH_UNKNOWN && pool->member[i].target != NULL)
                return true;
        }
    }
    return false;
}

static void announce(struct control *control)
{
    if (control->announced)
        return;
    control->announced = true;
    control->state = CONTROL_RUNNING;
    /* Who hears of it comes at once: the last verdict does not wait for its turn. */
    if (uv_is_active((uv_handle_t *)&control->publish_timer))
        control_publish(control, true);
    log_info("ready", LOG_U("workers", control->worker_count),
             LOG_U("listeners", control->config->listener_count),
             LOG_U("session_limit", control->limits.sessions),
             LOG_U("flow_limit", control->limits.flows));
    (void)notify_send("READY=1");
}

void control_announce(struct control *control)
{
    if (control->state == CONTROL_STARTING && control->serving && !any_unknown(control))
        announce(control);
}

static void on_ready_timer(uv_timer_t *timer)
{
    struct control *control = timer->data;

    if (control->state == CONTROL_STARTING)
        announce(control);
}

/* ---- the end ---- */

static void close_handles(struct control *control)
{
    uv_close((uv_handle_t *)&control->publish_timer, NULL);
    uv_close((uv_handle_t *)&control->health_timer, NULL);
    uv_close((uv_handle_t *)&control->ready_timer, NULL);
    uv_close((uv_handle_t *)&control->shutdown_timer, NULL);
    uv_close((uv_handle_t *)&control->ports.timer, NULL);
    uv_close((uv_handle_t *)&control->access.timer, NULL);
    uv_close((uv_handle_t *)&control->prepare, NULL);
    for (size_t i = 0; i < ARRAY_LEN(control->signal); i++)
        uv_close((uv_handle_t *)&control->signal[i], NULL);
    /* Last: it delivers what the workers have sent before they were stopped. */
    mailbox_close(&control->mailbox);
}

/* From any state, half-started ones included; what is left then is to run the close callbacks. */
static void stop(struct control *control)
{
    if (control->stopping)
        return;
    control->stopping = true;
    if (control->on_stop != NULL)
        control->on_stop(control->on_stop_arg);
    while (control->worker_count > 0)
        worker_stop(&control->worker[--control->worker_count]);
    control_unwatch_all(control);
    if (control->open)
        close_handles(control);
}

static void on_idle(void *owner, struct worker *worker)
{
    struct control *control = owner;

    (void)worker;
    control->idle_workers++;
    if (!control->stopping && control->idle_workers == control->worker_count)
        stop(control);
}

static void on_shutdown_deadline(uv_timer_t *timer)
{
    struct control *control = timer->data;

    log_warn("the shutdown deadline has come; what is left is ended",
             LOG_U("sessions", atomic_load(&control->sessions)),
             LOG_U("flows", atomic_load(&control->udp.flows)));
    for (size_t i = 0; i < control->worker_count; i++) {
        if (worker_end_all(control->worker[i]) < 0) {
            stop(control);
            return;
        }
    }
}

static void drain(struct control *control)
{
    control->state = CONTROL_DRAINING;
    (void)notify_send("STOPPING=1");
    log_info("stopping: no new clients; sessions and flows may finish",
             LOG_U("sessions", atomic_load(&control->sessions)),
             LOG_U("flows", atomic_load(&control->udp.flows)),
             LOG_I("deadline_ms", control->config->weir.shutdown_deadline));
    uv_timer_start(&control->shutdown_timer, on_shutdown_deadline,
                   (uint64_t)control->config->weir.shutdown_deadline, 0);
    for (size_t i = 0; i < control->worker_count; i++) {
        if (worker_drain(control->worker[i]) < 0) {
            stop(control);
            return;
        }
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct control *control = handle->data;

    if (number == SIGUSR1) {
        log_reopen();
    } else if (number == SIGHUP) {
        log_warn("no reload: a changed configuration counts from the next start",
                 LOG_S("signal", "SIGHUP"));
    } else if (control->state == CONTROL_DRAINING) {
        log_info("stopping at once: a second signal", LOG_I("signal", number));
        stop(control);
    } else {
        drain(control);
    }
}

/* ---- the loop ---- */

static void on_health_timer(uv_timer_t *timer)
{
    struct control *control = timer->data;

    health_advance(control->health, clock_now_ms());
}

static void set_health_timer(struct control *control)
{
    uint64_t next = control->health != NULL ? health_next(control->health) : WHEEL_NEVER;
    uint64_t now = clock_now_ms();

    if (next == WHEEL_NEVER)
        uv_timer_stop(&control->health_timer);
    else
        uv_timer_start(&control->health_timer, on_health_timer, next > now ? next - now : 0, 0);
}

/* A turn's work is what passed since the last one less what the loop slept. */
static void measure_turn(struct control *control)
{
    uint64_t now = clock_now_us();
    uint64_t idle = uv_metrics_idle_time(&control->loop) / 1000;
    uint64_t slept = idle - control->turn_idle_us;

    if (control->turn_began_us != 0 && now - control->turn_began_us > slept)
        control->longest_turn_us =
            MAX(control->longest_turn_us, now - control->turn_began_us - slept);
    control->turn_began_us = now;
    control->turn_idle_us = idle;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct control *control = prepare->data;

    measure_turn(control);
    set_health_timer(control);
}

static void open_timer(struct control *control, uv_timer_t *timer)
{
    uv_timer_init(&control->loop, timer);
    timer->data = control;
}

static int open_signals(struct control *control)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
    int failed = 0;

    _Static_assert(ARRAY_LEN(numbers) == ARRAY_LEN(control->signal), "one handle each");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        uv_signal_init(&control->loop, &control->signal[i]);
        control->signal[i].data = control;
        failed = failed ? failed : uv_signal_start(&control->signal[i], on_signal, numbers[i]);
    }
    return failed;
}

static int open_handles(struct control *control)
{
    int failed = mailbox_open(&control->mailbox, &control->loop, control);

    if (failed)
        return failed;
    control->open = true;
    open_timer(control, &control->publish_timer);
    open_timer(control, &control->health_timer);
    open_timer(control, &control->ready_timer);
    open_timer(control, &control->shutdown_timer);
    open_timer(control, &control->ports.timer);
    open_timer(control, &control->access.timer);
    uv_prepare_init(&control->loop, &control->prepare);
    control->prepare.data = control;
    uv_prepare_start(&control->prepare, on_prepare);
    return open_signals(control);
}

int control_new(struct control **out, const struct config *config, struct listener *listeners,
                const struct limits *limits, char *error, size_t error_size)
{
    struct control *control = calloc(1, sizeof(*control));
    int failed = -ENOMEM;

    if (control == NULL)
        goto fail;
    control->config = config;
    control->listeners = listeners;
    control->limits = *limits;
    control->udp.flow_limit = limits->flows;
    listener_rate_init(&control->session_rate, config->weir.session_rate);
    refusals_meter_init(&control->refusal_lines);
    control->started_ms = clock_now_ms();
    control->worker = calloc((size_t)config->weir.workers, sizeof(*control->worker));
    if (control->worker == NULL)
        goto fail;
    failed = pools_new(&control->pools, config, (uint32_t)config->weir.workers);
    if (failed)
        goto fail;
    failed = uv_loop_init(&control->loop);
    if (failed)
        goto fail;
    control_open_descriptors();
    control_ports_open(control);
    (void)uv_loop_configure(&control->loop, UV_METRICS_IDLE_TIME);
    *out = control;
    return 0;
fail:
    snprintf(error, error_size, "control cannot start: %s", strerror(-failed));
    if (control != NULL) {
        pools_free(&control->pools);
        free(control->worker);
        free(control);
    }
    return failed;
}

static int start_workers(struct control *control, char *error, size_t error_size)
{
    size_t wanted = (size_t)control->config->weir.workers;
    struct worker_options options = {
        .session_limit = control->limits.sessions,
        .sessions_total = &control->sessions,
        .session_rate = &control->session_rate,
        .refusal_lines = &control->refusal_lines,
        .pipe_limit = control->limits.pipes / (uint32_t)wanted,
        .rest_limit = control->limits.resting / (uint32_t)wanted,
        .udp = &control->udp,
        .listeners = control->listeners,
        .listener_count = control->config->listener_count,
        .pool_count = (uint32_t)control->config->pool_count,
        .control = &control->mailbox,
        .suspect = control_suspected,
        .idle = on_idle,
    };

    for (; control->worker_count < wanted; control->worker_count++) {
        options.index = (uint32_t)control->worker_count;
        int failed =
            worker_start(&control->worker[control->worker_count], &options, error, error_size);
        if (failed)
            return failed;
    }
    return 0;
}

int control_start(struct control *control, char *error, size_t error_size)
{
    int failed = open_handles(control);

    if (failed) {
        snprintf(error, error_size, "control cannot start its loop: %s", uv_strerror(failed));
        return failed;
    }
    failed = start_workers(control, error, error_size);
    if (failed)
        return failed;
    failed = control_watch_start(control);
    if (failed) {
        snprintf(error, error_size, "the health probes cannot start: %s", strerror(-failed));
        return failed;
    }
    control_ports_start(control);
    control->serving = true;
    control_publish(control, true);
    control_announce(control);
    uv_timer_start(&control->ready_timer, on_ready_timer, READY_WITHIN_MS, 0);
    return 0;
}

int control_run(struct control *control)
{
    uv_run(&control->loop, UV_RUN_DEFAULT);
    log_info("stopped", LOG_U("uptime_ms", clock_now_ms() - control->started_ms));
    return 0;
}

void control_free(struct control **control)
{
    struct control *old = *control;

    if (old == NULL)
        return;
    stop(old);
    loop_close(&old->loop);
    control_ports_close(old);
    pools_free(&old->pools);
    listeners_close(&old->listeners, old->config->listener_count);
    control_close_descriptors();
    free(old->worker);
    free(old);
    *control = NULL;
}

void control_on_stop(struct control *control, void (*on_stop)(void *arg), void *arg)
{
    control->on_stop = on_stop;
    control->on_stop_arg = arg;
}

/* ---- looking in ---- */

uv_loop_t *control_loop(struct control *control)
{
    return &control->loop;
}

const struct config *control_config(const struct control *control)
{
    return control->config;
}

struct pools *control_pools(struct control *control)
{
    return control->pools;
}

size_t control_listeners(const struct control *control, const struct listener **out)
{
    *out = control->listeners;
    return control->config->listener_count;
}

enum control_state control_state(const struct control *control)
{
    return control->state;
}

void control_status(struct control *control, struct control_status *out)
{
    struct log_counts counts;

    log_counts(&counts);
    *out = (struct control_status){
        .state = control->state,
        .uptime_ms = clock_now_ms() - control->started_ms,
        .workers = (uint32_t)control->worker_count,
        .sessions = atomic_load_explicit(&control->sessions, memory_order_relaxed),
        .flows = atomic_load_explicit(&control->udp.flows, memory_order_relaxed),
        .descriptors_open = control_count_descriptors(),
        .limits = control->limits,
        .control_turn_us = control->longest_turn_us,
        .log_written = counts.written,
        .log_dropped = counts.dropped,
    };
    control->longest_turn_us = 0;
    for (size_t i = 0; i < control->worker_count; i++) {
        const struct metrics *metrics = worker_metrics(control->worker[i]);
        /* Asked once: the answer begins anew, and MAX would ask twice. */
        uint64_t turn_us = worker_longest_turn_us(control->worker[i]);
        out->worker_turn_us = MAX(out->worker_turn_us, turn_us);
        for (unsigned m = 0; m < METRIC_COUNT; m++)
            out->counter[m] += metrics_get(metrics, (enum metric)m);
    }
}

/* ---- what operators do ---- */

void control_set_admin(struct control *control, struct pool_member *member, enum server_admin admin,
                       uint64_t deadline_ms, const char *who)
{
    pool_member_set_admin(member, admin, deadline_ms, clock_now_ms());
    if (control_watch(control, member) < 0)
        log_error("no memory to probe a server; enable it again later",
                  LOG_S("pool", member->server->pool), LOG_S("server", member->server->name));
    log_info("server set by an operator", LOG_S("pool", member->server->pool),
             LOG_S("server", member->server->name), LOG_S("admin", server_admin_name(admin)),
             LOG_S("who", who));
    control_publish(control, true);
}

void control_set_weight(struct control *control, struct pool_member *member, uint32_t weight,
                        const char *who)
{
    uint32_t before = member->weight;

    pool_member_set_weight(member, weight);
    log_info("weight set by an operator", LOG_S("pool", member->server->pool),
             LOG_S("server", member->server->name), LOG_U("from", before), LOG_U("to", weight),
             LOG_S("who", who));
    control_publish(control, true);
}
