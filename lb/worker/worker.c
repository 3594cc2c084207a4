/*
 * A worker's thread and loop. The libuv loop, which only the mailbox uses, stands inside the epoll
 * set as one more descriptor (uv_backend_fd), so that a wake-up by a socket is one system call; the
 * other way round, the set as a uv_poll_t of the loop, it is two. A turn is
 *
 *   wait    until the wheel's next time at the longest, not at all while tasks are queued
 *   events  of one batch; the mailbox, if it was among them
 *   tasks   of the run queue, the wheel, the memory of what ended
 *
 * All of it belongs to the thread: control reaches it by mail alone, and what control may read is
 * atomic.
 */
#include "lb/worker/private.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Empty pipes kept for the next splice. */
#define PIPES_KEPT 64

static _Thread_local const struct worker *current;

void worker_here(const struct worker *worker)
{
    BUG_ON(worker != current);
}

static void ended(void *owner, const struct tcp_policy *policy)
{
    struct worker *worker = owner;

    acceptor_release(worker->acceptor, policy);
}

static void starved(void *owner)
{
    struct worker *worker = owner;

    acceptor_pause(worker->acceptor);
}

/* ---- a turn ---- */

void worker_begin_turn(struct worker *worker)
{
    worker_here(worker);
    if (worker->turn_us == 0)
        worker->turn_us = clock_now_us();
    tcp_set_now(worker->tcp, clock_now_ms());
    if (worker->udp != NULL)
        udp_set_now(worker->udp, clock_now_ms());
}

static void on_wake(void *owner)
{
    worker_begin_turn(owner);
}

static void end_turn(struct worker *worker)
{
    uint64_t took = clock_now_us() - worker->turn_us;

    metrics_add(&worker->metrics, METRIC_LOOP_TURNS, 1);
    if (took > atomic_load_explicit(&worker->longest_turn_us, memory_order_relaxed))
        atomic_store_explicit(&worker->longest_turn_us, took, memory_order_relaxed);
    worker->turn_us = 0;
}

/* Its own epoll set is readable: there is mail. */
static void on_loop(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct worker *worker = owner;

    (void)index;
    (void)generation;
    (void)events;
    worker->has_mail = true;
}

static int patience_ms(const struct worker *worker)
{
    uint64_t next, now;

    if (worker->has_mail || poller_has_tasks(&worker->poller))
        return 0;
    next = wheel_next(&worker->wheel);
    if (next == WHEEL_NEVER)
        return -1;
    now = clock_now_ms();
    return next > now ? (int)MIN(next - now, (uint64_t)INT_MAX) : 0;
}

static void turn(struct worker *worker)
{
    poller_wait(&worker->poller, patience_ms(worker));
    if (worker->has_mail) {
        worker->has_mail = false;
        uv_run(&worker->loop, UV_RUN_NOWAIT);
    }
    poller_run_tasks(&worker->poller);
    wheel_advance(&worker->wheel, clock_now_ms());
    tcp_reap(worker->tcp);
    if (worker->udp != NULL)
        udp_reap(worker->udp);
    worker_tell_idle(worker);
    end_turn(worker);
}

/* ---- the thread ---- */

static void run(void *arg)
{
    struct worker *worker = arg;

    current = worker;
    sandbox_narrow(SANDBOX_WORKER);
    if (log_thread_attach("worker") < 0)
        log_warn("a worker logs without a ring", LOG_U("worker", worker->options.index));
    worker->has_mail = true; /* libuv watches a handle from its next run on */
    while (uv_loop_alive(&worker->loop))
        turn(worker);
    log_thread_detach();
}

/* Level-triggered: what one run of the loop leaves over wakes again. */
static int join_loop(struct worker *worker)
{
    unsigned kind = poller_kind(&worker->poller, on_loop, worker);

    return poller_add(&worker->poller, uv_backend_fd(&worker->loop), EPOLLIN,
                      poller_token(kind, 0, 0));
}

static int make_tcp(struct worker *worker)
{
    const struct worker_options *options = &worker->options;
    struct tcp_env env = {
        .poller = &worker->poller,
        .wheel = &worker->wheel,
        .pipes = &worker->pipes,
        .metrics = &worker->metrics,
        .refusals = worker->refusals,
        .worker = options->index,
        .session_limit = options->session_limit,
        .pool_count = options->pool_count,
        .owner = worker,
        .pick = worker_pick,
        .policy = worker_policy,
        .suspect = worker_suspect,
        .starved = starved,
        .ended = ended,
    };

    return tcp_new(&worker->tcp, &env, clock_now_ms());
}

static int add_udp_listeners(struct worker *worker)
{
    uint32_t index = worker->options.index;
    int failed = 0;

    for (size_t i = 0; i < worker->options.listener_count && !failed; i++) {
        struct listener *listener = &worker->options.listeners[i];
        if (listener->config->protocol != CONFIG_PROTOCOL_UDP)
            continue;
        failed = udp_add_listener(worker->udp, &listener->udp, listener->fd[index],
                                  &listener->flows, listener->flow_limit);
        if (!failed)
            listener->fd[index] = -1;
    }
    return failed;
}

static bool has_udp(const struct worker *worker)
{
    for (size_t i = 0; i < worker->options.listener_count; i++) {
        if (worker->options.listeners[i].config->protocol == CONFIG_PROTOCOL_UDP)
            return true;
    }
    return false;
}

static int make_udp(struct worker *worker)
{
    struct udp_env env = {
        .poller = &worker->poller,
        .wheel = &worker->wheel,
        .metrics = &worker->metrics,
        .refusals = worker->refusals,
        .shared = worker->options.udp,
        .worker = worker->options.index,
        .rest_limit = worker->options.rest_limit,
        .owner = worker,
        .pick = worker_pick,
        .policy = worker_policy,
        .suspect = worker_suspect,
    };
    int failed;

    if (!has_udp(worker))
        return 0;
    failed = udp_new(&worker->udp, &env, clock_now_ms());
    return failed ? failed : add_udp_listeners(worker);
}

static int make_acceptor(struct worker *worker)
{
    const struct worker_options *options = &worker->options;
    struct acceptor_options wanted = {
        .worker = options->index,
        .poller = &worker->poller,
        .wheel = &worker->wheel,
        .metrics = &worker->metrics,
        .tcp = worker->tcp,
        .listeners = options->listeners,
        .listener_count = options->listener_count,
        .session_limit = options->session_limit,
        .sessions_total = options->sessions_total,
        .session_rate = options->session_rate,
    };

    return acceptor_new(&worker->acceptor, &wanted);
}

/* Signals are control's: a worker's system calls are not interrupted by them. */
static int start_thread(struct worker *worker)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = uv_thread_create(&worker->thread, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void free_parts(struct worker *worker)
{
    worker_free_view(worker);
    view_put(&worker->wanted);
    acceptor_free(&worker->acceptor);
    tcp_free(&worker->tcp);
    udp_free(&worker->udp);
    refusals_free(&worker->refusals);
    pipe_pool_deinit(&worker->pipes);
    poller_close(&worker->poller);
    free(worker->drain);
    free(worker);
}

static void init_parts(struct worker *worker, const struct worker_options *options)
{
    worker->options = *options;
    wheel_init(&worker->wheel, clock_now_ms());
    wheel_timer_init(&worker->view_timer, worker_view_tick);
    wheel_timer_init(&worker->drain_timer, worker_drain_tick);
    wheel_timer_init(&worker->end_timer, worker_end_tick);
    pipe_pool_init(&worker->pipes, options->pipe_limit, MIN(PIPES_KEPT, options->pipe_limit));
    random_init(&worker->random, random_seed());
    poller_on_wake(&worker->poller, on_wake, worker);
}

int worker_start(struct worker **out, const struct worker_options *options, char *error,
                 size_t error_size)
{
    struct worker *worker = aligned_alloc(CACHE_LINE, sizeof(*worker));
    int failed = -ENOMEM;

    if (worker == NULL)
        goto fail;
    memset(worker, 0, sizeof(*worker));
    failed = poller_open(&worker->poller);
    if (failed) {
        free(worker);
        goto fail;
    }
    init_parts(worker, options);
    failed = refusals_new(&worker->refusals, &worker->wheel, options->refusal_lines);
    failed = failed ? failed : make_tcp(worker);
    failed = failed ? failed : make_udp(worker);
    failed = failed ? failed : make_acceptor(worker);
    failed = failed ? failed : uv_loop_init(&worker->loop);
    if (failed)
        goto fail_parts;
    failed = mailbox_open(&worker->mailbox, &worker->loop, worker);
    if (failed)
        goto fail_loop;
    failed = join_loop(worker);
    failed = failed ? failed : start_thread(worker);
    if (failed)
        goto fail_mailbox;
    *out = worker;
    return 0;
fail_mailbox:
    mailbox_close(&worker->mailbox);
fail_loop:
    loop_close(&worker->loop);
fail_parts:
    free_parts(worker);
fail:
    snprintf(error, error_size, "worker %u cannot start: %s", options->index, strerror(-failed));
    return failed;
}

void worker_join(struct worker **worker)
{
    uv_thread_join(&(*worker)->thread);
    loop_close(&(*worker)->loop);
    current = *worker; /* the thread is gone; what it owned is freed here */
    free_parts(*worker);
    current = NULL;
    *worker = NULL;
}

const struct metrics *worker_metrics(const struct worker *worker)
{
    return &worker->metrics;
}

uint64_t worker_longest_turn_us(struct worker *worker)
{
    return atomic_exchange_explicit(&worker->longest_turn_us, 0, memory_order_relaxed);
}
