/*
 * Purpose: lines about what happens, written by one thread so that no loop ever waits for a disk.
 * Thread:  log_line from any thread that has called log_thread_attach; before log_start, after
 *          log_stop and on other threads it writes to stderr itself. start, stop and reopen on
 *          control.
 * Owns:    one ring per attached thread, and the target.
 * Fails:   log_start when the target cannot be opened. A full ring drops the line and counts it, as
 *          does a target that refuses it (a full disk); the writer tells how many in one warning as
 *          soon as there is room.
 *
 * A producer formats the whole line into its own single-producer ring; the writer alone opens,
 * re-opens and writes the target. The writer is woken only when it sleeps.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* A value beside the message: `key=value` in text, a member in JSON. Only values are escaped. */
struct log_field {
    const char *key;
    enum { LOG_FIELD_STRING, LOG_FIELD_UNSIGNED, LOG_FIELD_SIGNED, LOG_FIELD_MICROSECONDS } type;
    union {
        const char *string; /* NULL leaves the field out */
        uint64_t number;
        int64_t signed_number;
    };
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STRING, .string = (v)})
#define LOG_U(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_UNSIGNED, .number = (v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_SIGNED, .signed_number = (v)})
/* A span in microseconds, told in milliseconds with three digits: "connect_ms=0.213". */
#define LOG_US(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_MICROSECONDS, .number = (v)})

struct log_options {
    const char *target; /* "stderr", or a file's path; copied */
    enum log_format format;
    enum log_level level; /* lines above it are not made */
};

/* Starts the writer thread. `error` gets one sentence. */
must_check int log_start(const struct log_options *options, char *error, size_t error_size);

/*
 * Writes what is in the rings, waits at most `wait_ms` for the target, and ends the writer. What is
 * left then is dropped and counted. A target that hangs in the kernel is left behind 100 ms later.
 */
void log_stop(unsigned wait_ms);

/*
 * Opens the target's path anew (after logrotate), on the writer: lines logged from now on by this
 * thread go there. When it cannot be opened the old file stays in use, and a warning in it says so.
 */
void log_reopen(void);

/* Gives the calling thread a ring; debug lines tell `name`, a literal. Detach before it ends. */
must_check int log_thread_attach(const char *name);
void log_thread_detach(void);

bool log_enabled(enum log_level level);

/*
 * One line: time, level, event, fields. Text:
 *   2026-01-31T12:00:00.123Z info session client=192.0.2.1:4711 listener=web bytes_in=312
 * `event` is a few plain words; every value may hold anything: control bytes, quotes and bytes that
 * are not UTF-8 come out escaped (log_format.h says how), so a line is always one line. Longer than
 * LOG_LINE_MAX, its newline included: fields are cut at the end and the line says cut=true.
 */
#define LOG_LINE_MAX 2048
void log_line(enum log_level level, const char *event, const struct log_field *fields,
              size_t count);

#define LOG_FIELDS(...)                                                                            \
    (const struct log_field[]){__VA_ARGS__}, ARRAY_LEN(((const struct log_field[]){__VA_ARGS__}))
#define log_error(event, ...) log_line(LOG_LEVEL_ERROR, event, LOG_FIELDS(__VA_ARGS__))
#define log_warn(event, ...) log_line(LOG_LEVEL_WARN, event, LOG_FIELDS(__VA_ARGS__))
#define log_info(event, ...) log_line(LOG_LEVEL_INFO, event, LOG_FIELDS(__VA_ARGS__))
#define log_debug(event, ...) log_line(LOG_LEVEL_DEBUG, event, LOG_FIELDS(__VA_ARGS__))

/*
 * Whether to tell again of what goes on: once a second. `told_ms`, 0 at first, is whoever tells's.
 */
bool log_is_due(uint64_t *told_ms, uint64_t now_ms);

/*
 * Since the start: lines in the target, the writer's own included, and lines dropped. A line on its
 * way is in neither.
 */
struct log_counts {
    uint64_t written;
    uint64_t dropped;
};
void log_counts(struct log_counts *out);
