/*
 * A walk over the sessions or flows of all workers: one message that goes to a worker and comes
 * back with a slice, as often as it takes, worker after worker. The reader sets the pace, so memory
 * is one slice whatever the number of sessions.
 */
#include "lb/control/private.h"

#include <errno.h>
#include <stdlib.h>

struct control_query {
    struct control *control;
    struct control_query_callbacks callbacks;
    uint32_t worker;
    uint32_t total;
    bool out;       /* the message is with a worker */
    bool cancelled; /* nobody listens any more: it goes when it comes back */
    struct worker_query message;
};

static void ask(struct control_query *query)
{
    query->out = true;
    worker_ask(query->control->worker[query->worker], &query->message);
}

static void finish(struct control_query *query)
{
    struct control_query_callbacks callbacks = query->callbacks;
    uint32_t total = query->total;

    free(query);
    callbacks.done(callbacks.arg, total);
}

/* The worker that answered last has more, or it is the next one's turn, or all have spoken. */
static void go_on(struct control_query *query)
{
    if (query->message.cursor == UINT32_MAX) {
        query->worker++;
        query->message.cursor = 0;
    }
    if (query->worker < query->control->worker_count)
        ask(query);
    else
        finish(query);
}

static void on_answer(struct worker_query *message)
{
    struct control_query *query = container_of(message, struct control_query, message);

    query->out = false;
    if (query->cancelled) {
        free(query);
        return;
    }
    query->total += message->count;
    if (!message->kill && message->count > 0)
        query->callbacks.rows(query->callbacks.arg, &message->row, message->count);
    else
        go_on(query);
}

int control_query_start(struct control *control, enum traffic_kind kind,
                        const struct traffic_filter *filter, bool kill,
                        const struct control_query_callbacks *callbacks, struct control_query **out)
{
    struct control_query *query;

    if (control->worker_count == 0)
        return -ESHUTDOWN;
    query = calloc(1, sizeof(*query));
    if (query == NULL)
        return -ENOMEM;
    query->control = control;
    query->callbacks = *callbacks;
    query->message.done = on_answer;
    query->message.kind = kind;
    query->message.filter = *filter;
    query->message.kill = kill;
    *out = query;
    ask(query);
    return 0;
}

void control_query_next(struct control_query *query)
{
    BUG_ON(query->out);
    go_on(query);
}

void control_query_cancel(struct control_query **query)
{
    struct control_query *old = *query;

    *query = NULL;
    if (old == NULL)
        return;
    if (old->out)
        old->cancelled = true;
    else
        free(old);
}
