/*
 * Purpose: see log.h.
 * Thread:  see log.h.
 * Owns:    the writer; per thread, its place among the threads that log.
 * Fails:   see log.h.
 *
 * The parts, from the line to the disk: log_format makes the line, log_threads (a log_ring for
 * each) carries it over to log_writer, which puts it into log_target.
 */
#include "common/log.h"

#include "common/clock.h"
#include "common/log_format.h"
#include "common/log_threads.h"
#include "common/log_writer.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define DIRECT_WAIT_MS 1000 /* a line that goes to stderr at once waits so long for its reader */

static struct log_writer *writer;

static atomic_uint line_level = LOG_LEVEL_INFO;
static atomic_uint line_format = LOG_FORMAT_TEXT;

static _Thread_local struct {
    struct log_thread *thread;
    const char *name;
} self;

int log_start(const struct log_options *options, char *error, size_t error_size)
{
    BUG_ON(writer);
    atomic_store(&log_tally.written, 0);
    atomic_store(&log_tally.dropped, 0);
    int result = log_writer_start(options, &writer, error, error_size);
    if (result < 0)
        return result;
    atomic_store(&line_level, options->level);
    atomic_store(&line_format, options->format);
    return 0;
}

void log_stop(unsigned wait_ms)
{
    if (writer)
        log_writer_stop(&writer, wait_ms);
}

void log_reopen(void)
{
    if (writer)
        log_writer_reopen(writer);
}

int log_thread_attach(const char *name)
{
    BUG_ON(self.thread);
    self.thread = log_threads_add();
    self.name = name;
    return self.thread ? 0 : -ENOMEM;
}

void log_thread_detach(void)
{
    if (self.thread)
        log_threads_remove(&self.thread);
}

bool log_enabled(enum log_level level)
{
    return level <= atomic_load_explicit(&line_level, memory_order_relaxed);
}

static void write_directly(const char *line, size_t length)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ready, 1, DIRECT_WAIT_MS) <= 0 || write(STDERR_FILENO, line, length) < 0)
        atomic_fetch_add(&log_tally.dropped, 1);
}

void log_line(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    if (!log_enabled(level))
        return;
    char line[LOG_LINE_MAX];
    struct log_record record = {.wall_us = clock_wall_us(),
                                .level = level,
                                .event = event,
                                .fields = fields,
                                .count = count};
    if (level == LOG_LEVEL_DEBUG && self.thread)
        record.thread = self.name;
    enum log_format format = atomic_load_explicit(&line_format, memory_order_relaxed);
    size_t length = log_format_line(line, format, &record);
    if (!self.thread || !log_threads_push(self.thread, line, length))
        write_directly(line, length);
}

void log_counts(struct log_counts *out)
{
    out->written = atomic_load(&log_tally.written);
    out->dropped = atomic_load(&log_tally.dropped);
}

#define TELL_EVERY_MS 1000

bool log_is_due(uint64_t *told_ms, uint64_t now_ms)
{
    if (*told_ms != 0 && now_ms - *told_ms < TELL_EVERY_MS)
        return false;
    *told_ms = now_ms;
    return true;
}
