/*
 * Purpose: the threads that log, and the one that takes their lines.
 * Thread:  add, remove and push on the thread that logs; take, sleep and nap on the taker's; open,
 *          shut and release on control.
 * Owns:    the rings.
 * Fails:   add returns NULL without memory. A line for which a ring has no room is dropped and
 *          counted.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct log_thread;

/* The taker, embedded in what takes. */
struct log_taker {
    int wake; /* an eventfd(2) of the taker's: readable when there is a reason to look */
};

/* Every line that went through here ends in one of them, once. */
struct log_tally {
    _Atomic uint64_t written;
    _Atomic uint64_t dropped;
};
extern struct log_tally log_tally;

must_check struct log_thread *log_threads_add(void);
/* Lines that are still in the ring are left to the taker. */
void log_threads_remove(struct log_thread **thread);

/* False when nobody takes lines: then the caller still has it. */
must_check bool log_threads_push(struct log_thread *thread, const char *line, size_t length);

/* From now on lines are accepted, for this taker. */
void log_threads_open(struct log_taker *taker);
/* From now on no line is accepted; the taker takes what there is. */
void log_threads_shut(void);
/* From now on nobody is the taker; what there is, is dropped and counted. */
void log_threads_release(void);

/* Whole lines from all threads, at most `room` bytes; nothing for one who is not the taker. */
size_t log_threads_take(const struct log_taker *taker, char *out, size_t room);

/* Until a line comes, `wake` is written, or timeout_ms have passed (-1: for ever). */
void log_threads_sleep(const struct log_taker *taker, int timeout_ms);

/* Until `wake` is written or timeout_ms have passed: lines alone do not end it. */
void log_threads_nap(const struct log_taker *taker, int timeout_ms);
