/*
 * Purpose: `show config`, in slices: the text of ten thousand servers has two megabytes, and as one
 *          line of JSON would hold up the loop.
 * Thread:  control.
 * Owns:    the text, from the first slice to the last line.
 * Fails:   by answering with an error.
 */
#include "lb/admin/handlers.h"
#include "lb/admin/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE 16384 /* bytes, about half a millisecond */

struct reading {
    char *text;
    size_t length;
    size_t at;
};

/* Whole lines, so that no character is cut. */
static size_t next_length(const struct reading *reading)
{
    const char *from = reading->text + reading->at;
    size_t left = reading->length - reading->at;
    if (left <= SLICE)
        return left;
    const char *newline = memrchr(from, '\n', SLICE);
    return newline != NULL ? (size_t)(newline - from) + 1 : SLICE;
}

/* NULL without memory. */
static json_t *slice(struct reading *reading)
{
    size_t length = next_length(reading);
    char *piece = strndup(reading->text + reading->at, length);
    if (piece == NULL)
        return NULL;
    json_t *string = reply_text(piece);
    free(piece);
    reading->at += length;
    return string;
}

static void cancel(struct request *request)
{
    struct reading *reading = request->state;
    free(reading->text);
    free(reading);
}

static void next(struct request *request)
{
    struct reading *reading = request->state;
    json_t *piece = slice(reading);
    if (piece != NULL && reading->at < reading->length) {
        request_more(request, piece);
        return;
    }
    cancel(request);
    request_reply(request, piece);
}

/* False without memory. */
static bool print(const struct config *config, struct reading *reading)
{
    FILE *memory = open_memstream(&reading->text, &reading->length);
    if (memory == NULL)
        return false;
    config_print(config, memory);
    bool whole = ferror(memory) == 0;
    whole &= fclose(memory) == 0;
    return whole && reading->text != NULL; /* fclose(3) of glibc does not tell of that */
}

void run_show_config(struct request *request)
{
    struct reading *reading = calloc(1, sizeof(*reading));
    if (reading == NULL) {
        request_reply(request, NULL);
        return;
    }
    request_hold(request, next, cancel, reading);
    if (print(control_config(request->control), reading)) {
        next(request);
        return;
    }
    cancel(request);
    request_reply(request, NULL);
}
