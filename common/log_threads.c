/*
 * Purpose: see log_threads.h.
 * Thread:  see log_threads.h.
 * Owns:    the list of threads, each with its ring.
 * Fails:   see log_threads.h.
 *
 * A thread that logs shares its ring and the word `asleep` with the taker, and takes no lock,
 * except once to wake a taker that sleeps for good:
 *
 *      thread                    taker
 *      push to the ring          take from all rings
 *      asleep? -> wake, once     there was something: nap, so that the next lines cost no wake-up
 *                                nothing: asleep = true, look once more, sleep
 *
 * Both sides write first and read then, sequentially consistent, so one of them sees the other. The
 * lock guards the list and the pointer to the taker, and is held for copying at most.
 */
#include "common/log_threads.h"

#include "common/list.h"
#include "common/log_ring.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define RING_SIZE (256u << 10)

struct log_thread {
    struct list link;
    struct log_ring *ring;
    bool ended; /* freed when the ring is empty */
};

static struct {
    pthread_mutex_t lock;
    struct list threads;
    const struct log_taker *taker;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .threads = {&shared.threads, &shared.threads}};

static _Alignas(CACHE_LINE) struct {
    atomic_bool open;   /* somebody takes from the rings */
    atomic_bool asleep; /* and must be woken for it */
} state;

_Alignas(CACHE_LINE) struct log_tally log_tally;

/* ---- the threads that log ---- */

struct log_thread *log_threads_add(void)
{
    struct log_thread *thread = calloc(1, sizeof(*thread));
    if (!thread)
        return NULL;
    thread->ring = log_ring_new(RING_SIZE);
    if (!thread->ring) {
        free(thread);
        return NULL;
    }
    pthread_mutex_lock(&shared.lock);
    list_add_tail(&shared.threads, &thread->link);
    pthread_mutex_unlock(&shared.lock);
    return thread;
}

static void thread_free(struct log_thread *thread)
{
    atomic_fetch_add(&log_tally.dropped, log_ring_discard(thread->ring));
    list_del(&thread->link);
    log_ring_free(&thread->ring);
    free(thread);
}

void log_threads_remove(struct log_thread **thread)
{
    pthread_mutex_lock(&shared.lock);
    (*thread)->ended = true;
    if (!shared.taker || log_ring_empty((*thread)->ring))
        thread_free(*thread);
    pthread_mutex_unlock(&shared.lock);
    *thread = NULL;
}

static void wake_taker(void)
{
    pthread_mutex_lock(&shared.lock);
    if (shared.taker)
        eventfd_write(shared.taker->wake, 1);
    pthread_mutex_unlock(&shared.lock);
}

bool log_threads_push(struct log_thread *thread, const char *line, size_t length)
{
    if (!atomic_load(&state.open))
        return false;
    if (!log_ring_push(thread->ring, line, length))
        atomic_fetch_add_explicit(&log_tally.dropped, 1, memory_order_relaxed);
    if (atomic_load(&state.asleep) && atomic_exchange(&state.asleep, false))
        wake_taker();
    return true;
}

/* ---- the one that takes ---- */

void log_threads_open(struct log_taker *taker)
{
    pthread_mutex_lock(&shared.lock);
    BUG_ON(shared.taker);
    shared.taker = taker;
    pthread_mutex_unlock(&shared.lock);
    atomic_store(&state.open, true);
    wake_taker();
}

void log_threads_shut(void)
{
    atomic_store(&state.open, false);
}

void log_threads_release(void)
{
    pthread_mutex_lock(&shared.lock);
    shared.taker = NULL;
    list_for_each_safe (node, &shared.threads) {
        struct log_thread *thread = list_entry(node, struct log_thread, link);
        if (thread->ended)
            thread_free(thread);
        else
            atomic_fetch_add(&log_tally.dropped, log_ring_discard(thread->ring));
    }
    pthread_mutex_unlock(&shared.lock);
}

static size_t take_from_all(char *out, size_t room)
{
    size_t taken = 0;
    list_for_each_safe (node, &shared.threads) {
        struct log_thread *thread = list_entry(node, struct log_thread, link);
        taken += log_ring_pop(thread->ring, out + taken, room - taken);
        if (thread->ended && log_ring_empty(thread->ring))
            thread_free(thread);
    }
    return taken;
}

/* Each call begins with another thread, so that one which never stops cannot starve the rest. */
size_t log_threads_take(const struct log_taker *taker, char *out, size_t room)
{
    size_t taken = 0;
    pthread_mutex_lock(&shared.lock);
    if (shared.taker == taker && !list_empty(&shared.threads)) {
        struct list *first = shared.threads.next;
        list_del(first);
        list_add_tail(&shared.threads, first);
        taken = take_from_all(out, room);
    }
    pthread_mutex_unlock(&shared.lock);
    return taken;
}

static bool all_empty(void)
{
    bool empty = true;
    pthread_mutex_lock(&shared.lock);
    list_for_each (node, &shared.threads)
        empty = empty && log_ring_empty(list_entry(node, struct log_thread, link)->ring);
    pthread_mutex_unlock(&shared.lock);
    return empty;
}

void log_threads_nap(const struct log_taker *taker, int timeout_ms)
{
    struct pollfd woken = {.fd = taker->wake, .events = POLLIN};
    eventfd_t ignored;
    if (poll(&woken, 1, timeout_ms) > 0)
        eventfd_read(taker->wake, &ignored);
}

void log_threads_sleep(const struct log_taker *taker, int timeout_ms)
{
    atomic_store(&state.asleep, true);
    if (all_empty())
        log_threads_nap(taker, timeout_ms);
    atomic_store(&state.asleep, false);
}
