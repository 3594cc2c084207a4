/*
 * Purpose: a queue of log lines from the one thread that makes them to the one that writes them.
 * Thread:  push on the producer; pop and discard on the consumer; empty on either.
 * Owns:    its bytes.
 * Fails:   push returns false when the line does not fit; nothing of it is stored then.
 *
 * A line ends in its only newline, so the ring is a plain ring of bytes: a line needs no length in
 * front, and the consumer takes as many whole lines as fit with two copies.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

struct log_ring;

/* `size` is a power of two. NULL without memory. */
must_check struct log_ring *log_ring_new(size_t size);
void log_ring_free(struct log_ring **ring);

/*
 * Push and empty are sequentially consistent: a producer that pushes and then reads "the writer
 * sleeps", and a writer that says so and then asks log_ring_empty, cannot both miss each other.
 */
must_check bool log_ring_push(struct log_ring *ring, const char *line, size_t length);
bool log_ring_empty(const struct log_ring *ring);

/* Moves whole lines to `out`, at most `room` bytes, and returns how many bytes. */
size_t log_ring_pop(struct log_ring *ring, char *out, size_t room);

/* Throws away what is there and returns how many lines that was. */
uint64_t log_ring_discard(struct log_ring *ring);

/* How many newlines there are in `bytes`. */
uint64_t log_lines_in(const char *bytes, size_t length);
