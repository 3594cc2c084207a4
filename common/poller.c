/*
 * Purpose: the epoll set and the run queue of poller.h.
 * Thread:  the worker's.
 * Owns:    the epoll descriptor.
 * Fails:   see poller.h.
 *
 * Nothing is looked up here by descriptor: a descriptor may be closed and given out anew within one
 * batch, a token never is.
 */
#include "common/poller.h"

#include <errno.h>
#include <unistd.h>

int poller_open(struct poller *poller)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0)
        return -errno;
    *poller = (struct poller){.fd = fd};
    list_init(&poller->tasks);
    return 0;
}

void poller_close(struct poller *poller)
{
    BUG_ON(poller_has_tasks(poller));
    close(poller->fd);
    poller->fd = -1;
}

unsigned poller_kind(struct poller *poller, poller_fn *fn, void *owner)
{
    BUG_ON(poller->kinds == POLLER_KINDS);
    unsigned kind = poller->kinds++;
    poller->handler[kind].fn = fn;
    poller->handler[kind].owner = owner;
    return kind;
}

int poller_add(struct poller *poller, int fd, uint32_t events, uint64_t token)
{
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void poller_del(struct poller *poller, int fd)
{
    int rc = epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, NULL);
    /* The descriptor was closed too early, and by now may be someone else's. */
    BUG_ON(rc < 0 && errno == EBADF);
}

void poller_on_wake(struct poller *poller, void (*woken)(void *owner), void *owner)
{
    poller->woken = woken;
    poller->woken_owner = owner;
}

static void poller_dispatch(struct poller *poller, const struct epoll_event *event)
{
    uint64_t token = event->data.u64;
    unsigned kind = (unsigned)(token >> 56);
    BUG_ON(kind >= poller->kinds);
    uint32_t generation = (uint32_t)(token >> 32) & 0xffffffu;
    poller->handler[kind].fn(poller->handler[kind].owner, (uint32_t)token, generation,
                             event->events);
}

void poller_wait(struct poller *poller, int timeout_ms)
{
    struct epoll_event batch[POLLER_BATCH];
    int count = epoll_wait(poller->fd, batch, POLLER_BATCH, timeout_ms);
    /* After a signal the turn ends without events: waiting again would stretch the timeout. */
    BUG_ON(count < 0 && errno != EINTR);
    if (poller->woken != NULL)
        poller->woken(poller->woken_owner);
    for (int i = 0; i < count; i++)
        poller_dispatch(poller, &batch[i]);
}

void poller_task_init(struct poller_task *task, void (*run)(struct poller_task *task))
{
    list_init(&task->link);
    task->run = run;
}

void poller_queue(struct poller *poller, struct poller_task *task)
{
    if (list_empty(&task->link))
        list_add_tail(&poller->tasks, &task->link);
}

void poller_unqueue(struct poller_task *task)
{
    list_del(&task->link);
}

void poller_run_tasks(struct poller *poller)
{
    struct list batch;
    list_init(&batch);
    list_move_all(&batch, &poller->tasks);

    for (int i = 0; i < POLLER_TASKS && !list_empty(&batch); i++) {
        struct poller_task *task = list_first(&batch, struct poller_task, link);
        list_del(&task->link);
        task->run(task);
    }

    /* What the limit left over comes before what was queued meanwhile. */
    list_move_all(&batch, &poller->tasks);
    list_move_all(&poller->tasks, &batch);
}

bool poller_has_tasks(const struct poller *poller)
{
    return !list_empty(&poller->tasks);
}
