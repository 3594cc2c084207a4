/*
 * Purpose: where log lines go: the open target, and the lines on their way to it.
 * Thread:  the log writer's.
 * Owns:    its descriptor and its buffer.
 * Fails:   a negative errno. -EAGAIN from flush: wait until `fd` is writable and flush again. After
 *          any other the caller may flush again later, or discard.
 *
 * Lines stay whole: what a full disk cut in the middle of a line is kept, and written before
 * anything else once there is room again.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

#define LOG_BATCH 65536 /* bytes written at once */

struct log_target {
    int fd;
    char *path; /* NULL: standard error */
    bool socket;
    size_t chunk; /* most bytes in one write */
    bool torn;    /* what stands at `start`, when that is 0, is the rest of a line */
    size_t start; /* [start, end) of the buffer is still to be written */
    size_t end;
    char buffer[LOG_BATCH];
};

/* `name` is "stderr" or a path; copied. */
must_check int log_target_open(struct log_target *target, const char *name);
void log_target_close(struct log_target *target);

/*
 * Opens the path anew; on failure the old file stays in use. Returns the number of lines that are
 * lost by it: 1 when the old file ends in half a line, else 0. Nothing happens to standard error.
 */
must_check int log_target_reopen(struct log_target *target);

/* Where the next lines go, with how many bytes at most; log_target_add says how many they had. */
char *log_target_space(struct log_target *target, size_t *room);
void log_target_add(struct log_target *target, size_t length);

/*
 * Writes what there is; 0 when all of it is written. Adds to *lines the lines that were completed,
 * also on failure.
 */
must_check int log_target_flush(struct log_target *target, uint64_t *lines);

/* Throws away the lines that were not begun, and returns how many. */
uint64_t log_target_discard(struct log_target *target);

/* True when there is something to write: after a discard, the rest of a line. */
bool log_target_pending(const struct log_target *target);
