/*
 * Purpose: see request.h.
 * Thread:  control.
 * Owns:    see request.h.
 * Fails:   see request.h.
 */
#include "lb/admin/request.h"

#include "common/log.h"
#include "common/units.h"
#include "lb/admin/commands.h"
#include "lb/admin/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERROR_MAX 1024

/* ---- From the line to the handler ---- */

void request_run(struct request *request, char *line, size_t length)
{
    const char *why;
    char error[ERROR_MAX];
    struct text text;

    BUG_ON(request->cancel != NULL);
    request->command = NULL;
    if (words_parse(&request->arguments, line, length, &why) < 0) {
        request_refuse(request, "%s", why);
        return;
    }
    text_init(&text, error, sizeof(error));
    request->command = commands_find(&request->arguments, &text);
    if (request->command == NULL ||
        command_check(request->command, &request->arguments, &text) < 0) {
        request_refuse(request, "%s", error);
        return;
    }
    request->command->run(request);
}

const char *request_argument(const struct request *request, size_t n)
{
    for (size_t i = 0; i < request->arguments.count; i++) {
        const struct word *word = &request->arguments.word[i];
        if (word->key == NULL && n-- == 0)
            return word->text;
    }
    return NULL;
}

const char *request_option(const struct request *request, const char *key)
{
    for (size_t i = 0; i < request->arguments.count; i++) {
        const struct word *word = &request->arguments.word[i];
        if (word->key != NULL && strcmp(word->key, key) == 0)
            return word->text;
    }
    return NULL;
}

/* ---- From the handler to the line ---- */

/* Who changed what, or tried to; error NULL: it was done. */
static void log_outcome(const struct request *request, const char *error)
{
    const struct command *command = request->command;
    if (command == NULL || command->access != COMMAND_WRITE)
        return;
    char line[LOG_LINE_MAX / 2];
    struct text text;
    text_init(&text, line, sizeof(line));
    text_addf(&text, "%s ", command->words);
    words_print(&request->arguments, &text);
    log_info("admin command", LOG_S("command", line), LOG_S("who", request->who),
             LOG_S("error", error));
}

void request_hold(struct request *request, request_step_fn *next, request_step_fn *cancel,
                  void *state)
{
    BUG_ON(request->cancel != NULL);
    request->next = next;
    request->cancel = cancel;
    request->state = state;
}

static void release(struct request *request)
{
    request->next = NULL;
    request->cancel = NULL;
    request->state = NULL;
}

void request_abandon(struct request *request)
{
    request_step_fn *cancel = request->cancel;
    if (cancel == NULL)
        return;
    log_outcome(request, "the client left before the answer");
    cancel(request);
    release(request);
}

void request_more(struct request *request, json_t *data)
{
    BUG_ON(request->cancel == NULL);
    char *line = reply_data_line(data, true);
    if (line == NULL)
        request_abandon(request);
    request->send(request, line, line != NULL);
}

void request_reply(struct request *request, json_t *data)
{
    log_outcome(request, NULL);
    release(request);
    request->send(request, reply_data_line(data, false), false);
}

static void send_error(struct request *request, const char *error)
{
    log_outcome(request, error);
    release(request);
    request->send(request, reply_error_line(error), false);
}

void request_refuse(struct request *request, const char *format, ...)
{
    char error[ERROR_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, sizeof(error), format, arguments);
    va_end(arguments);
    send_error(request, error);
}

void request_refuse_usage(struct request *request, const char *format, ...)
{
    char said[ERROR_MAX / 2], usage[ERROR_MAX / 4];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(said, sizeof(said), format, arguments);
    va_end(arguments);
    struct text text;
    text_init(&text, usage, sizeof(usage));
    command_usage(request->command, &text);
    request_refuse(request, "%s; usage: %s", said, usage);
}

bool request_take_duration(struct request *request, const char *key, int64_t least_ms,
                           int64_t *in_out_ms)
{
    const char *text = request_option(request, key);
    int64_t span_ms;
    if (text == NULL)
        return true;
    if (units_parse_duration(text, &span_ms) < 0 || span_ms < least_ms ||
        span_ms > CONFIG_DRAIN_DEADLINE_MAX) {
        request_refuse_usage(request, "\"%s\" is not a duration such as 30s or 5m, at most 30d",
                             text);
        return false;
    }
    *in_out_ms = span_ms;
    return true;
}
