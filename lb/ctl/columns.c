/*
 * Purpose: see columns.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see columns.h.
 */
#include "lb/ctl/columns.h"

#include "lb/ctl/value.h"

#include <string.h>

/* "3 left, 4m12s to go; ended: 5 self, 0 quiet, 0 deadline" */
static void print_drain(FILE *to, const json_t *drain)
{
    json_int_t left = json_integer_value(json_object_get(drain, "sessions_left"));
    json_int_t self = json_integer_value(json_object_get(drain, "ended_self"));
    json_int_t quiet = json_integer_value(json_object_get(drain, "ended_quiet"));
    json_int_t deadline = json_integer_value(json_object_get(drain, "ended_deadline"));
    if (drain == NULL) {
        fputs("-", to);
        return;
    }
    fprintf(to, "%" JSON_INTEGER_FORMAT " left", left);
    if (left > 0) {
        fputs(", ", to);
        value_print(to, "deadline_left_ms", json_object_get(drain, "deadline_left_ms"));
        fputs(" to go", to);
    }
    fprintf(to,
            "; ended: %" JSON_INTEGER_FORMAT " self, %" JSON_INTEGER_FORMAT
            " quiet, %" JSON_INTEGER_FORMAT " deadline",
            self, quiet, deadline);
}

/* A limit that is not set. */
static void print_limit(FILE *to, const json_t *limit)
{
    if (json_is_integer(limit))
        value_print(to, "", limit);
    else
        fputs("none", to);
}

static const struct column servers[] = {
    {"pool", "POOL", NULL},
    {"name", "SERVER", NULL},
    {"address", "ADDRESS", NULL},
    {"weight", "WEIGHT", NULL},
    {"admin", "ADMIN", NULL},
    {"health", "HEALTH", NULL},
    {"sessions", "SESSIONS", NULL},
    {"sessions_total", "TOTAL", NULL},
    {"bytes_in", "IN", NULL},
    {"bytes_out", "OUT", NULL},
    {"connect_failures", "FAILED", NULL},
    {"resets", "RESETS", NULL},
    {"drain", "DRAIN", print_drain},
    {"reason", "REASON", NULL},
};

static const struct column sessions[] = {
    {"id", "ID", NULL},         {"listener", "LISTENER", NULL}, {"client", "CLIENT", NULL},
    {"pool", "POOL", NULL},     {"server", "SERVER", NULL},     {"state", "STATE", NULL},
    {"engine", "ENGINE", NULL}, {"age_ms", "AGE", NULL},        {"idle_ms", "IDLE", NULL},
    {"bytes_in", "IN", NULL},   {"bytes_out", "OUT", NULL},
};

static const struct column pools[] = {
    {"name", "POOL", NULL},
    {"scheduler", "SCHEDULER", NULL},
    {"servers", "SERVERS", NULL},
    {"usable", "USABLE", NULL},
    {"draining", "DRAINING", NULL},
    {"sessions", "SESSIONS", NULL},
    {"sessions_total", "TOTAL", NULL},
    {"bytes_in", "IN", NULL},
    {"bytes_out", "OUT", NULL},
    {"connect_failures", "FAILED", NULL},
    {"resets", "RESETS", NULL},
};

static const struct column listeners[] = {
    {"name", "LISTENER", NULL},     {"address", "ADDRESS", NULL},
    {"protocol", "PROTOCOL", NULL}, {"pool", "POOL", NULL},
    {"sessions", "SESSIONS", NULL}, {"max_connections", "MOST", print_limit},
};

/* Two lines: side by side they would be wider than any terminal. */
static void print_help(FILE *to, const json_t *row)
{
    const char *arguments = json_string_value(json_object_get(row, "arguments"));
    value_print(to, "", json_object_get(row, "command"));
    if (arguments != NULL && *arguments != '\0') {
        fputc(' ', to);
        value_print_text(to, arguments);
    }
    fputs("\n    ", to);
    value_print(to, "", json_object_get(row, "help"));
    fputc('\n', to);
}

#define ROW(command, columns)                                                                      \
    {                                                                                              \
        command, columns, ARRAY_LEN(columns), NULL                                                 \
    }
static const struct columns table[] = {
    ROW("show servers", servers),  ROW("drain", servers),
    ROW("enable", servers),        ROW("disable", servers),
    ROW("weight", servers),        ROW("show sessions", sessions),
    ROW("show pools", pools),      ROW("show listeners", listeners),
    {"help", NULL, 0, print_help},
};

const struct columns *columns_find(const char *line)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        size_t length = strlen(table[i].command);
        if (strncmp(line, table[i].command, length) == 0 &&
            (line[length] == '\0' || line[length] == ' '))
            return &table[i];
    }
    return NULL;
}
