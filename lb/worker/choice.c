/*
 * What sessions and flows ask of their surroundings: a server, a pool's policy; and the views that
 * the answers come from.
 */
#include "lb/worker/private.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>

/* A worker that lacked the memory for a view tries it again this often. */
#define VIEW_RETRY_MS 50

/* ---- what tcp and udp ask of their surroundings ---- */

struct server *worker_pick(void *owner, uint32_t pool, uint64_t key,
                           const struct sched_tried *tried)
{
    struct worker *worker = owner;
    const struct pool_view *view = worker->view->pool[pool];
    struct sched_tried skip = *tried;

    worker_here(worker);
    for (uint32_t i = 0; i < SCHED_TRIED_MAX; i++) {
        uint32_t index = sched_pick(view->sched, worker->cursor[pool], key, &skip);
        if (index == SCHED_NONE)
            return NULL;
        if (server_enter(view->server[index]))
            return server_take(view->server[index]);
        /* Another worker took its last slot between the pick and now. */
        sched_tried_add(&skip, view->server[index]->id);
    }
    return NULL;
}

const struct pool_policy *worker_policy(void *owner, uint32_t pool)
{
    const struct worker *worker = owner;

    return &worker->view->pool[pool]->policy;
}

struct suspect_mail {
    struct mail mail;
    struct server *server;
    void (*suspect)(void *control, struct server *server);
};

static void deliver_suspect(struct mail *mail, void *owner)
{
    struct suspect_mail *suspect = container_of(mail, struct suspect_mail, mail);

    suspect->suspect(owner, suspect->server);
    free(suspect);
}

void worker_suspect(void *owner, struct server *server)
{
    struct worker *worker = owner;
    struct suspect_mail *mail;

    if (atomic_exchange_explicit(&server->live.suspect, 1, memory_order_relaxed) != 0)
        return;
    mail = malloc(sizeof(*mail));
    if (mail == NULL) {
        /* Nobody would ever clear the mark: the next failure tries again. */
        atomic_store_explicit(&server->live.suspect, 0, memory_order_relaxed);
        return;
    }
    mail->server = server_take(server);
    mail->suspect = worker->options.suspect;
    mailbox_post(worker->options.control, &mail->mail, deliver_suspect);
}

/* ---- views ---- */

static struct sched_cursor **new_cursors(struct worker *worker, const struct view *view)
{
    struct sched_cursor **cursor = calloc(view->count, sizeof(struct sched_cursor *));

    for (uint32_t i = 0; cursor != NULL && i < view->count; i++) {
        const struct pool_view *before = worker->view ? worker->view->pool[i] : NULL;
        if (before == view->pool[i])
            continue; /* moved over once all the others stand */
        cursor[i] = sched_cursor_new(view->pool[i]->sched, before ? worker->cursor[i] : NULL,
                                     random_next(&worker->random));
        if (cursor[i] != NULL)
            continue;
        while (i-- > 0)
            sched_cursor_free(&cursor[i]);
        free(cursor);
        return NULL;
    }
    return cursor;
}

void worker_free_view(struct worker *worker)
{
    for (uint32_t i = 0; worker->view != NULL && i < worker->view->count; i++)
        sched_cursor_free(&worker->cursor[i]);
    free(worker->cursor);
    worker->cursor = NULL;
    view_put(&worker->view);
}

static void swap_view(struct worker *worker, struct view *view, struct sched_cursor **cursor)
{
    for (uint32_t i = 0; worker->view != NULL && i < view->count; i++) {
        if (worker->view->pool[i] != view->pool[i])
            continue;
        cursor[i] = worker->cursor[i];
        worker->cursor[i] = NULL;
    }
    worker_free_view(worker);
    worker->view = view;
    worker->cursor = cursor;
}

/* False: no memory for the cursors; the old view serves on, and `view_timer` tries again. */
static bool adopt(struct worker *worker, struct view *view)
{
    bool first = worker->view == NULL;
    struct sched_cursor **cursor = new_cursors(worker, view);

    if (cursor == NULL) {
        worker->wanted = view;
        wheel_set(&worker->wheel, &worker->view_timer, clock_now_ms() + VIEW_RETRY_MS);
        return false;
    }
    swap_view(worker, view, cursor);
    if (first && !worker->draining) {
        acceptor_start(worker->acceptor);
        if (worker->udp != NULL)
            udp_start(worker->udp);
    }
    if (view->draining > 0)
        wheel_set(&worker->wheel, &worker->drain_timer, worker->wheel.now_ms);
    for (uint32_t i = 0; i < view->count; i++)
        tcp_wake_queued(worker->tcp, i);
    return true;
}

void worker_view_tick(struct wheel_timer *timer, uint64_t now_ms)
{
    struct worker *worker = container_of(timer, struct worker, view_timer);
    struct view *view = worker->wanted;

    (void)now_ms;
    worker->wanted = NULL;
    (void)adopt(worker, view);
}

/* Takes over the reference. */
static void set_view(struct worker *worker, struct view *view)
{
    wheel_cancel(&worker->wheel, &worker->view_timer);
    view_put(&worker->wanted);
    if (!adopt(worker, view))
        log_error("a worker lacks the memory for a new view; until then the old one serves",
                  LOG_U("worker", worker->options.index));
}

struct view_mail {
    struct mail mail;
    struct view *view;
};

static void deliver_view(struct mail *mail, void *owner)
{
    struct view_mail *view = container_of(mail, struct view_mail, mail);

    worker_begin_turn(owner);
    set_view(owner, view->view);
    free(view);
}

int worker_set_view(struct worker *worker, struct view *view)
{
    struct view_mail *mail = malloc(sizeof(*mail));

    if (mail == NULL)
        return -ENOMEM;
    mail->view = view_take(view);
    mailbox_post(&worker->mailbox, &mail->mail, deliver_view);
    return 0;
}
