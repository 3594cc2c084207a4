#include "lb/worker/acceptor.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/quota.h"
#include "lb/worker/turns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Clients taken per event: others have their turn, and the set tells again. */
#define ACCEPT_BATCH 16

/* How long a listener rests when descriptors or memory ran out, or another worker has all the
 * slots. */
#define PAUSE_MS 100

struct slot {
    struct acceptor *acceptor;
    struct listener *listener;
    int fd; /* -1: closed */
    bool watched;
    bool is_throttled; /* `resume` is when its turn comes */
    struct turns turns;
    uint64_t throttle_told_ms;
    struct wheel_timer resume;
};

struct acceptor {
    struct acceptor_options options;
    unsigned kind;
    bool started;
    uint32_t waiting; /* slots paused for want of a session slot */
    uint64_t told_ms;
    struct slot slot[];
};

static void watch(struct slot *slot)
{
    struct acceptor *acceptor = slot->acceptor;
    uint32_t index = (uint32_t)(slot - acceptor->slot);

    if (slot->fd < 0 || slot->watched || !acceptor->started)
        return;
    if (poller_add(acceptor->options.poller, slot->fd, EPOLLIN,
                   poller_token(acceptor->kind, index, 0)) == 0)
        slot->watched = true;
    else
        wheel_set(acceptor->options.wheel, &slot->resume, clock_now_ms() + PAUSE_MS);
}

static void end_throttle(struct slot *slot)
{
    if (slot->is_throttled)
        atomic_fetch_sub_explicit(&slot->listener->throttled, 1, memory_order_relaxed);
    slot->is_throttled = false;
}

static void on_resume(struct wheel_timer *timer, uint64_t now_ms)
{
    struct slot *slot = container_of(timer, struct slot, resume);

    (void)now_ms;
    end_throttle(slot);
    watch(slot);
}

static void tell_pause(const struct slot *slot, uint64_t *told_ms, const char *why)
{
    if (!log_is_due(told_ms, clock_now_ms()))
        return;
    log_warn("a listener takes no new clients for now; they wait in its queue",
             LOG_S("listener", slot->listener->config->name), LOG_S("why", why));
}

static void rest(struct slot *slot, uint64_t until_ms)
{
    struct acceptor *acceptor = slot->acceptor;

    if (slot->watched)
        poller_del(acceptor->options.poller, slot->fd);
    slot->watched = false;
    wheel_set(acceptor->options.wheel, &slot->resume, until_ms);
}

static void pause_slot(struct slot *slot, const char *why)
{
    struct acceptor *acceptor = slot->acceptor;

    rest(slot, clock_now_ms() + PAUSE_MS);
    metrics_add(acceptor->options.metrics, METRIC_ACCEPT_PAUSES, 1);
    tell_pause(slot, &acceptor->told_ms, why);
}

/* ---- rates ---- */

/* Until its turn, on the next millisecond: the wheel has no finer one. */
static void throttle(struct slot *slot, const char *why, uint64_t until_us)
{
    rest(slot, (until_us + 999) / 1000);
    slot->is_throttled = true;
    atomic_fetch_add_explicit(&slot->listener->throttled, 1, memory_order_relaxed);
    metrics_add(slot->acceptor->options.metrics, METRIC_ACCEPT_RATE_PAUSES, 1);
    tell_pause(slot, &slot->throttle_told_ms, why);
}

/*
 * May a client be taken now? `waits`: if not, a place in the row is claimed and the listener rests
 * until then, which is for those alone that know of a client: a place claimed for nobody would be
 * one less for the other workers.
 */
static bool has_turn(struct slot *slot, bool waits)
{
    uint64_t now_us = clock_now_us();
    const char *why;

    if (!waits)
        return turns_claim_now(&slot->turns, now_us);
    uint64_t wait_us = turns_claim(&slot->turns, now_us, &why);
    if (wait_us > 0)
        throttle(slot, why, now_us + wait_us);
    return wait_us == 0;
}

/* ---- taking ---- */

static const char full_weir[] = "max_connections of weir";
static const char full_listener[] = "max_connections of the listener";

/* NULL when there is room for one more session, and it is counted; else which limit is reached. */
static const char *reserve(struct acceptor *acceptor, struct listener *listener)
{
    if (!quota_take(acceptor->options.sessions_total, acceptor->options.session_limit))
        return full_weir;
    if (quota_take(&listener->sessions, listener->limit))
        return NULL;
    quota_give(acceptor->options.sessions_total);
    return full_listener;
}

/* The same by a look that takes nothing. */
static const char *limit_reached(const struct acceptor *acceptor, const struct listener *listener)
{
    if (quota_is_used_up(acceptor->options.sessions_total, acceptor->options.session_limit))
        return full_weir;
    return quota_is_used_up(&listener->sessions, listener->limit) ? full_listener : NULL;
}

static void unreserve(struct acceptor *acceptor, struct listener *listener)
{
    quota_give(&listener->sessions);
    quota_give(acceptor->options.sessions_total);
}

static void wait_for_room(struct slot *slot, const char *full)
{
    slot->acceptor->waiting++;
    pause_slot(slot, full);
}

enum accepted { ACCEPTED, ACCEPTED_NONE, ACCEPT_AGAIN, ACCEPT_PAUSE };

/* The connection at the head of the queue is gone, or failed before it was ours (accept(2)). */
static bool is_clients_own(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
    case ECONNRESET:
        return true;
    default:
        return false;
    }
}

/* An error that stays (EMFILE, ENOMEM, EPERM, EINVAL of a socket that somebody killed, …) pauses,
 * for the next accept would only fail again. */
static enum accepted accept_error(struct slot *slot, int error)
{
    if (error == EAGAIN)
        return ACCEPTED_NONE;
    if (is_clients_own(error) || error == EINTR)
        return ACCEPT_AGAIN;
    metrics_add(slot->acceptor->options.metrics, METRIC_ACCEPT_ERRORS, 1);
    pause_slot(slot, strerror(error));
    return ACCEPT_PAUSE;
}

static enum accepted accept_one(struct slot *slot)
{
    struct acceptor *acceptor = slot->acceptor;
    union inet_address client;
    socklen_t length = sizeof(client);
    const char *full = reserve(acceptor, slot->listener);

    if (full != NULL) {
        wait_for_room(slot, full);
        return ACCEPT_PAUSE;
    }
    memset(&client, 0, sizeof(client));
    int fd = accept4(slot->fd, &client.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        unreserve(acceptor, slot->listener);
        return accept_error(slot, error);
    }
    tcp_accept(acceptor->options.tcp, &slot->listener->policy, fd, &client);
    return ACCEPTED;
}

/* May a client be taken by the rates? Who is full asks for no turn: it could not use it, and would
 * take it from the others at each look for a slot. */
static bool is_due(struct slot *slot, bool waits)
{
    const char *full;

    if (!turns_limit(&slot->turns))
        return true;
    full = limit_reached(slot->acceptor, slot->listener);
    if (full == NULL)
        return has_turn(slot, waits);
    turns_end(&slot->turns, false);
    wait_for_room(slot, full);
    return false;
}

static void on_event(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct acceptor *acceptor = owner;
    struct slot *slot = &acceptor->slot[index];

    (void)generation;
    (void)events;
    for (int i = 0; i < ACCEPT_BATCH && slot->watched; i++) {
        if (!is_due(slot, i == 0))
            return;
        enum accepted got = accept_one(slot);
        if (turns_limit(&slot->turns))
            turns_end(&slot->turns, got == ACCEPTED);
        if (got == ACCEPTED_NONE || got == ACCEPT_PAUSE)
            return;
    }
}

int acceptor_new(struct acceptor **out, const struct acceptor_options *options)
{
    size_t slots = options->listener_count;
    struct acceptor *acceptor = calloc(1, sizeof(*acceptor) + slots * sizeof(struct slot));

    if (acceptor == NULL)
        return -ENOMEM;
    acceptor->options = *options;
    acceptor->kind = poller_kind(options->poller, on_event, acceptor);
    for (size_t i = 0; i < slots; i++) {
        struct listener *listener = &options->listeners[i];
        acceptor->slot[i].acceptor = acceptor;
        acceptor->slot[i].listener = listener;
        acceptor->slot[i].fd = -1;
        wheel_timer_init(&acceptor->slot[i].resume, on_resume);
        if (listener->config->protocol != CONFIG_PROTOCOL_TCP)
            continue;
        turns_init(&acceptor->slot[i].turns, &listener->session_rate, options->session_rate,
                   &listener->taken_rate);
        acceptor->slot[i].fd = listener->fd[options->worker];
        listener->fd[options->worker] = -1;
    }
    *out = acceptor;
    return 0;
}

void acceptor_free(struct acceptor **acceptor)
{
    if (*acceptor == NULL)
        return;
    acceptor_stop(*acceptor);
    free(*acceptor);
    *acceptor = NULL;
}

void acceptor_start(struct acceptor *acceptor)
{
    acceptor->started = true;
    for (size_t i = 0; i < acceptor->options.listener_count; i++)
        watch(&acceptor->slot[i]);
}

/* The rates do not hold here: who is in the queue has no later. */
static void stop_slot(struct slot *slot)
{
    struct acceptor *acceptor = slot->acceptor;

    if (slot->fd < 0)
        return;
    while (acceptor->started) {
        enum accepted got = accept_one(slot);
        if (got == ACCEPTED_NONE || got == ACCEPT_PAUSE)
            break;
    }
    if (slot->watched)
        poller_del(acceptor->options.poller, slot->fd);
    slot->watched = false;
    end_throttle(slot);
    wheel_cancel(acceptor->options.wheel, &slot->resume);
    close(slot->fd);
    slot->fd = -1;
}

void acceptor_stop(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->options.listener_count; i++)
        stop_slot(&acceptor->slot[i]);
    acceptor->started = false;
}

void acceptor_pause(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->options.listener_count; i++) {
        if (acceptor->slot[i].watched)
            pause_slot(&acceptor->slot[i], "no descriptor or memory is left for its server's side");
    }
}

void acceptor_release(struct acceptor *acceptor, const struct tcp_policy *policy)
{
    unreserve(acceptor, container_of(policy, struct listener, policy));
    if (acceptor->waiting == 0)
        return;
    acceptor->waiting = 0;
    for (size_t i = 0; i < acceptor->options.listener_count; i++) {
        struct slot *slot = &acceptor->slot[i];
        if (!wheel_is_set(&slot->resume) || slot->is_throttled)
            continue;
        wheel_cancel(acceptor->options.wheel, &slot->resume);
        watch(slot);
    }
}
