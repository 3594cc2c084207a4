/*
 * Purpose: replies: JSON built field by field, and the lines it goes out in.
 * Thread:  any.
 * Owns:    a line belongs to the caller, who frees it; data that is handed over is gone afterwards.
 * Fails:   memory that runs out is remembered, and the end returns NULL, so that no reply goes out
 *          with something missing. The verbs that take data over take NULL for such a failure.
 *
 * Private to lb/admin.
 */
#pragma once

#include "common/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* An object or an array that is being built. */
struct reply {
    json_t *json; /* NULL: memory ran out */
};

struct reply reply_object(void);
struct reply reply_array(void);
must_check json_t *reply_end(struct reply *reply);

/* Fields of an object, in the order in which they are to stand. */
void reply_add(struct reply *object, const char *key, json_t *value);
void reply_add_text(struct reply *object, const char *key, const char *text);
void reply_add_number(struct reply *object, const char *key, uint64_t number);
void reply_add_flag(struct reply *object, const char *key, bool flag);

/* False: memory ran out, now or before, and the rest may be spared. */
bool reply_append(struct reply *array, json_t *element);

/* A string of bytes that may be anything: where they are not UTF-8 each one above ASCII becomes
 * U+FFFD. */
must_check json_t *reply_text(const char *text);

/* {"ok":true,"data":…}; with "more":true when another line follows. No newline yet. */
must_check char *reply_data_line(json_t *data, bool more);

/* {"ok":false,"error":"…"} */
must_check char *reply_error_line(const char *text);

/* What goes out when there is no memory for a line. */
extern const char reply_no_memory[];
