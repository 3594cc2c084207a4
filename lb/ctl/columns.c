/*
 * Purpose: see columns.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see columns.h.
 */
#include "lb/ctl/columns.h"

#include "lb/ctl/value.h"
#include "lb/metrics/metrics.h"

#include <string.h>

static json_int_t number_at(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* "3 left" and, where there are flows, "0 sessions, 2 flows left"; then how long they have. */
static void print_left(FILE *to, const json_t *drain)
{
    json_int_t sessions = number_at(drain, "sessions_left");
    json_int_t flows = number_at(drain, "flows_left");
    if (flows == 0)
        fprintf(to, "%" JSON_INTEGER_FORMAT " left", sessions);
    else
        fprintf(to, "%" JSON_INTEGER_FORMAT " sessions, %" JSON_INTEGER_FORMAT " flows left",
                sessions, flows);
    if (sessions + flows == 0)
        return;
    fputs(", ", to);
    value_print(to, "deadline_left_ms", json_object_get(drain, "deadline_left_ms"));
    fputs(" to go", to);
}

/* "3 left, 4m12s to go; ended: 5 self, 0 quiet, 0 deadline" */
static void print_drain(FILE *to, const json_t *drain)
{
    if (drain == NULL) {
        fputs("-", to);
        return;
    }
    print_left(to, drain);
    fprintf(to,
            "; ended: %" JSON_INTEGER_FORMAT " self, %" JSON_INTEGER_FORMAT
            " quiet, %" JSON_INTEGER_FORMAT " deadline",
            number_at(drain, "ended_self"), number_at(drain, "ended_quiet"),
            number_at(drain, "ended_deadline"));
}

/* A limit that is not set; one that the listener's protocol does not have is missing. */
static void print_limit(FILE *to, const json_t *limit)
{
    if (json_is_null(limit))
        fputs("none", to);
    else
        value_print(to, "", limit);
}

static const struct column servers[] = {
    {.key = "pool", .title = "POOL"},
    {.key = "name", .title = "SERVER"},
    {.key = "address", .title = "ADDRESS"},
    {.key = "weight", .title = "WEIGHT"},
    {.key = "admin", .title = "ADMIN"},
    {.key = "health", .title = "HEALTH"},
    {.key = "sessions", .title = "SESSIONS"},
    {.key = "sessions_total", .title = "TOTAL"},
    {.key = "flows", .title = "FLOWS", .may_hide = true},
    {.key = "flows_total", .title = "FLOWS TOTAL", .may_hide = true},
    {.key = "bytes_in", .title = "IN"},
    {.key = "bytes_out", .title = "OUT"},
    {.key = "connect_failures", .title = "FAILED"},
    {.key = "resets", .title = "RESETS"},
    {.key = "refused", .title = "REFUSED", .may_hide = true},
    {.key = "no_port", .title = "NO PORT", .may_hide = true},
    {.key = "drain", .title = "DRAIN", .print = print_drain},
    {.key = "reason", .title = "REASON"},
};

static const struct column sessions[] = {
    {.key = "id", .title = "ID"},         {.key = "listener", .title = "LISTENER"},
    {.key = "client", .title = "CLIENT"}, {.key = "pool", .title = "POOL"},
    {.key = "server", .title = "SERVER"}, {.key = "state", .title = "STATE"},
    {.key = "engine", .title = "ENGINE"}, {.key = "age_ms", .title = "AGE"},
    {.key = "idle_ms", .title = "IDLE"},  {.key = "bytes_in", .title = "IN"},
    {.key = "bytes_out", .title = "OUT"},
};

static const struct column flows[] = {
    {.key = "id", .title = "ID"},
    {.key = "listener", .title = "LISTENER"},
    {.key = "client", .title = "CLIENT"},
    {.key = "pool", .title = "POOL"},
    {.key = "server", .title = "SERVER"},
    {.key = "state", .title = "STATE"},
    {.key = "age_ms", .title = "AGE"},
    {.key = "idle_ms", .title = "IDLE"},
    {.key = "datagrams_in", .title = "DGRAMS IN"},
    {.key = "datagrams_out", .title = "DGRAMS OUT"},
    {.key = "bytes_in", .title = "BYTES IN"},
    {.key = "bytes_out", .title = "BYTES OUT"},
};

static const struct column pools[] = {
    {.key = "name", .title = "POOL"},
    {.key = "scheduler", .title = "SCHEDULER"},
    {.key = "servers", .title = "SERVERS"},
    {.key = "usable", .title = "USABLE"},
    {.key = "draining", .title = "DRAINING"},
    {.key = "sessions", .title = "SESSIONS"},
    {.key = "sessions_total", .title = "TOTAL"},
    {.key = "flows", .title = "FLOWS", .may_hide = true},
    {.key = "flows_total", .title = "FLOWS TOTAL", .may_hide = true},
    {.key = "bytes_in", .title = "IN"},
    {.key = "bytes_out", .title = "OUT"},
    {.key = "connect_failures", .title = "FAILED"},
    {.key = "resets", .title = "RESETS"},
    {.key = "refused", .title = "REFUSED", .may_hide = true},
    {.key = "no_port", .title = "NO PORT", .may_hide = true},
};

static const struct column listeners[] = {
    {.key = "name", .title = "LISTENER"},
    {.key = "address", .title = "ADDRESS"},
    {.key = "protocol", .title = "PROTOCOL"},
    {.key = "pool", .title = "POOL"},
    {.key = "sessions", .title = "SESSIONS"},
    {.key = "max_connections", .title = "MOST", .print = print_limit},
    {.key = "flows", .title = "FLOWS"},
    {.key = "max_flows", .title = "MOST", .print = print_limit},
    {.key = "throttled", .title = "THROTTLED", .may_hide = true},
};

static const struct column access_rules[] = {
    {.key = "listener", .title = "LISTENER"},
    {.key = "verdict", .title = "VERDICT"},
    {.key = "network", .title = "NETWORK"},
    {.key = "networks", .title = "NETWORKS"},
    {.key = "by", .title = "BY"},
    {.key = "left_ms", .title = "LEFT"},
    {.key = "killed", .title = "KILLED"},
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

/* "" of one that this weirctl never heard of. */
static const char *explain_counter(const char *key)
{
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++) {
        if (strcmp(metric_name(metric), key) == 0)
            return metric_help(metric);
    }
    return "";
}

#define ROW(words, list)                                                                           \
    {                                                                                              \
        .command = words, .column = list, .count = ARRAY_LEN(list)                                 \
    }
static const struct columns table[] = {
    ROW("show servers", servers),
    ROW("drain", servers),
    ROW("enable", servers),
    ROW("disable", servers),
    ROW("weight", servers),
    ROW("show sessions", sessions),
    ROW("show flows", flows),
    ROW("show pools", pools),
    ROW("show listeners", listeners),
    ROW("show access", access_rules),
    ROW("allow", access_rules),
    ROW("deny", access_rules),
    {.command = "help", .print_row = print_help},
    {.command = "show counters", .explain = explain_counter},
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
