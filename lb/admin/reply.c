/*
 * Purpose: see reply.h.
 * Thread:  any.
 * Owns:    see reply.h.
 * Fails:   see reply.h.
 */
#include "lb/admin/reply.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD in UTF-8 */

const char reply_no_memory[] = "{\"ok\":false,\"error\":\"weir is short of memory\"}";

/* ---- building ---- */

struct reply reply_object(void)
{
    return (struct reply){.json = json_object()};
}

struct reply reply_array(void)
{
    return (struct reply){.json = json_array()};
}

json_t *reply_end(struct reply *reply)
{
    return reply->json;
}

static void forget(struct reply *reply)
{
    json_decref(reply->json);
    reply->json = NULL;
}

/* jansson takes over the value even when it fails, and fails for NULL as either argument. */
void reply_add(struct reply *object, const char *key, json_t *value)
{
    if (json_object_set_new(object->json, key, value) < 0)
        forget(object);
}

void reply_add_text(struct reply *object, const char *key, const char *text)
{
    reply_add(object, key, reply_text(text));
}

void reply_add_number(struct reply *object, const char *key, uint64_t number)
{
    reply_add(object, key, json_integer((json_int_t)number));
}

void reply_add_flag(struct reply *object, const char *key, bool flag)
{
    reply_add(object, key, json_boolean(flag));
}

bool reply_append(struct reply *array, json_t *element)
{
    if (json_array_append_new(array->json, element) < 0)
        forget(array);
    return array->json != NULL;
}

/* ---- text ---- */

static json_t *text_repaired(const char *text)
{
    char *repaired = malloc(strlen(text) * strlen(REPLACEMENT) + 1);
    if (repaired == NULL)
        return NULL;
    char *to = repaired;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c & 0x80)
            to = stpcpy(to, REPLACEMENT);
        else
            *to++ = *c;
    }
    *to = '\0';
    json_t *string = json_string(repaired);
    free(repaired);
    return string;
}

json_t *reply_text(const char *text)
{
    json_t *string = json_string(text); /* NULL when it is not UTF-8 */
    return string != NULL ? string : text_repaired(text);
}

/* ---- lines ---- */

/*
 * Not json_dumps(3): when its buffer cannot grow, jansson 2.14 leaves out the key it was at and
 * goes on (do_dump). Into a buffer of the right size nothing is lost.
 */
static char *dump(const json_t *json)
{
    size_t size = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *line = size > 0 ? malloc(size + 1) : NULL;
    if (line == NULL)
        return NULL;
    if (json_dumpb(json, line, size, JSON_COMPACT) != size) {
        free(line);
        return NULL;
    }
    line[size] = '\0';
    return line;
}

static char *line_of(struct reply *reply)
{
    char *line = dump(reply->json);
    json_decref(reply->json);
    return line;
}

char *reply_data_line(json_t *data, bool more)
{
    struct reply reply = reply_object();
    reply_add_flag(&reply, "ok", true);
    if (more)
        reply_add_flag(&reply, "more", true);
    reply_add(&reply, "data", data);
    return line_of(&reply);
}

char *reply_error_line(const char *text)
{
    struct reply reply = reply_object();
    reply_add_flag(&reply, "ok", false);
    reply_add_text(&reply, "error", text);
    return line_of(&reply);
}
