/*
 * Purpose: one edge-triggered epoll set per worker, and the run queue of what stopped on its
 *          budget.
 * Thread:  the worker's.
 * Owns:    the epoll descriptor; no watched descriptor.
 * Fails:   open and add return a negative errno (ENOSPC, ENOMEM, EMFILE); wait cannot fail.
 *
 * An event carries a token: kind, slab index and generation. The kind's handler finds the object by
 * index and generation and ignores the event when that life has ended (an event of the same batch
 * may have ended it). libuv's uv_poll_t costs six epoll calls in a socket's life and hides the
 * error; here it is one (epoll(7)).
 *
 * A descriptor that may have a duplicate must be removed with poller_del before it is closed: epoll
 * watches open file descriptions, not descriptors.
 */
#pragma once

#include "common/list.h"

#include <stdint.h>
#include <sys/epoll.h>

#define POLLER_KINDS 8
#define POLLER_BATCH 256 /* events taken in one turn */
#define POLLER_TASKS 64  /* tasks of the run queue done in one turn */

typedef void poller_fn(void *owner, uint32_t index, uint32_t generation, uint32_t events);

/* Something that can go on without a new event. Embedded; on the queue at most once. */
struct poller_task {
    struct list link;
    void (*run)(struct poller_task *task);
};

struct poller {
    int fd;
    uint32_t kinds;
    struct {
        poller_fn *fn;
        void *owner;
    } handler[POLLER_KINDS];
    void (*woken)(void *owner);
    void *woken_owner;
    struct list tasks;
};

must_check int poller_open(struct poller *poller);
/* BUG when a task is still queued. */
void poller_close(struct poller *poller);

/* Makes a new kind of token, for poller_token. */
unsigned poller_kind(struct poller *poller, poller_fn *fn, void *owner);

static inline uint64_t poller_token(unsigned kind, uint32_t index, uint32_t generation)
{
    return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffffu) << 32 | index;
}

/* `events` are EPOLL* bits, EPOLLET included where wanted. */
must_check int poller_add(struct poller *poller, int fd, uint32_t events, uint64_t token);
void poller_del(struct poller *poller, int fd);

/* `woken` is called after each wait, before its events: the moment to read the clock. */
void poller_on_wake(struct poller *poller, void (*woken)(void *owner), void *owner);

/* Waits at most timeout_ms (-1: for ever, 0: not at all) and hands out one batch of events. */
void poller_wait(struct poller *poller, int timeout_ms);

void poller_task_init(struct poller_task *task, void (*run)(struct poller_task *task));
void poller_queue(struct poller *poller, struct poller_task *task);
void poller_unqueue(struct poller_task *task);

/* Runs what stood on the queue at entry, at most POLLER_TASKS; a task queued meanwhile waits. */
void poller_run_tasks(struct poller *poller);
bool poller_has_tasks(const struct poller *poller);
