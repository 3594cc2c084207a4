/*
 * Purpose: one request on its way: what the handler of a command sees of its client.
 * Thread:  control.
 * Owns:    a request lives in its client, from the line's arrival until the last line of the
 *          answer is written or the client is gone. What a handler needs between is its own.
 * Fails:   no verb fails towards the handler: without memory the client is told so.
 *
 * Private to lb/admin. Every request is answered once: by request_reply, by request_refuse, or by
 * any number of request_more and then one of these. A handler that does not answer before it
 * returns, or in several lines, says so with request_hold:
 *
 *     run ─→ hold ─→ more ─→ (written) ─→ next ─→ more ─→ … ─→ reply
 *                      └── the client goes, or memory is short ──→ cancel
 *
 * `next` is called when the line before has been written and not earlier, so a client that does not
 * read holds one line and no more.
 */
#pragma once

#include "common/base.h"
#include "lb/admin/words.h"
#include "lb/control/control.h"

#include <jansson.h>

struct request;
typedef void request_step_fn(struct request *request);

struct request {
    struct control *control;
    const char *who;               /* the client's process, for the log */
    const struct command *command; /* NULL until one was found */
    struct words arguments;        /* point into the client's line */
    /* Takes over a malloc'd line; NULL stands for short memory, and ends the answer. */
    void (*send)(struct request *request, char *line, bool more);
    /* The handler's, between hold and the last line. */
    request_step_fn *next;
    request_step_fn *cancel;
    void *state;
};

/* Carries out a line, of which the NUL at line[length] is part. */
void request_run(struct request *request, char *line, size_t length);

/* The client is gone. */
void request_abandon(struct request *request);

/* ---- for handlers ---- */

/* The n-th plain argument, or NULL; the value of a key, or NULL. */
const char *request_argument(const struct request *request, size_t n);
const char *request_option(const struct request *request, const char *key);

void request_hold(struct request *request, request_step_fn *next, request_step_fn *cancel,
                  void *state);

/* `data` is taken over; NULL: there was no memory for it. */
void request_more(struct request *request, json_t *data);
void request_reply(struct request *request, json_t *data);

void request_refuse(struct request *request, const char *format, ...) printf_like(2, 3);
/* The same, with the command's usage behind. */
void request_refuse_usage(struct request *request, const char *format, ...) printf_like(2, 3);

/* An option that is a duration of at least so many ms, and 30 days at most, where it is given: else
 * *in_out_ms stays. False: refused. */
must_check bool request_take_duration(struct request *request, const char *key, int64_t least_ms,
                                      int64_t *in_out_ms);
