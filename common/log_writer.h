/*
 * Purpose: the thread that writes the log.
 * Thread:  control.
 * Owns:    the thread and its target.
 * Fails:   log_writer_start: a negative errno, and one sentence in `error`.
 */
#pragma once

#include "common/log.h"

struct log_writer;

must_check int log_writer_start(const struct log_options *options, struct log_writer **out,
                                char *error, size_t error_size);

/* Returns after wait_ms, or a little later when the thread is stuck inside the kernel. */
void log_writer_stop(struct log_writer **writer, unsigned wait_ms);

void log_writer_reopen(struct log_writer *writer);
