/*
 * Purpose: see log_writer.h.
 * Thread:  what is above "start and stop" runs on the writer's own.
 * Owns:    see log_writer.h. A thread that cannot be ended keeps, and at last frees, its struct.
 * Fails:   a target that refuses lines (a full disk, a pipe without a reader) has them dropped; the
 *          thread goes on, and says how many as soon as the target takes that line.
 *
 * Whatever the target does, a line is counted once: as written when its newline was, or as dropped.
 * While a reader has stopped the thread waits with one batch in hand, and the rings fill up.
 */
#include "common/log_writer.h"

#include "common/clock.h"
#include "common/log_format.h"
#include "common/log_target.h"
#include "common/log_threads.h"
#include "common/sandbox.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NAP_MS 4      /* between batches: a ring of 256 KiB lasts for 64 MB/s */
#define RETRY_MS 1000 /* an idle thread tries again to say what it still has to say */
#define GRACE_MS 100  /* a thread that is stuck inside the kernel is left behind after it */
#define NEVER UINT64_MAX

/* Thread and control each exchange it once at the end; who comes second frees. */
enum fate { RUNNING, ENDED, LEFT_BEHIND };

struct log_writer {
    pthread_t thread;
    struct log_taker taker;
    int done; /* eventfd: the thread has ended */
    enum log_format format;
    atomic_uint fate;
    _Atomic uint64_t stop_at_ms; /* NEVER, or when to give up */
    atomic_bool reopen;
    int reopen_error; /* still to be told, as is */
    int error;        /* why lines were dropped; 0: rings were full */
    uint64_t told;    /* how many of the dropped lines have been told */
    struct log_target target;
};

/* ---- waiting ---- */

/* For poll(2): -1 is for ever. */
static int ms_until(uint64_t at_ms)
{
    if (at_ms == NEVER)
        return -1;
    uint64_t now_ms = clock_now_ms();
    return at_ms <= now_ms ? 0 : (int)MIN(at_ms - now_ms, (uint64_t)INT_MAX);
}

/* False when the time to stop has come. Also returns when woken: there may be a new target. */
static bool wait_for_target(struct log_writer *w)
{
    struct pollfd ready[] = {{.fd = w->taker.wake, .events = POLLIN},
                             {.fd = w->target.fd, .events = POLLOUT}};
    int timeout_ms = ms_until(atomic_load(&w->stop_at_ms));
    if (timeout_ms == 0)
        return false;
    poll(ready, ARRAY_LEN(ready), timeout_ms);
    /* A terminal with room for one byte is writable, yet takes no newline, which is two. */
    log_threads_nap(&w->taker, ready[1].revents ? NAP_MS : 0);
    return true;
}

static bool has_request(struct log_writer *w)
{
    return atomic_load(&w->stop_at_ms) != NEVER || atomic_load(&w->reopen);
}

/* Waiting for the target may have used up the wake-up of a request, so that is looked for first. */
static void rest(struct log_writer *w, bool busy)
{
    bool unfinished = w->told != atomic_load(&log_tally.dropped) || log_target_pending(&w->target);
    if (has_request(w))
        return;
    if (busy)
        log_threads_nap(&w->taker, NAP_MS);
    else
        log_threads_sleep(&w->taker, unfinished ? RETRY_MS : -1);
}

/* ---- writing ---- */

static void reopen(struct log_writer *w)
{
    int lost = log_target_reopen(&w->target);
    if (lost < 0)
        w->reopen_error = -lost;
    else
        atomic_fetch_add(&log_tally.dropped, (uint64_t)lost);
}

/* Writes what the target's buffer holds, however long the target takes, until the time to stop. */
static int write_out(struct log_writer *w)
{
    int error;
    do {
        uint64_t lines = 0;
        if (atomic_exchange(&w->reopen, false))
            reopen(w);
        error = log_target_flush(&w->target, &lines);
        atomic_fetch_add(&log_tally.written, lines);
    } while (error == -EAGAIN && wait_for_target(w));
    if (error)
        w->error = -error;
    return error;
}

/* A line of the thread's own, into the target's buffer, which holds at most the rest of a line. */
static void say(struct log_writer *w, const char *event, const struct log_field *fields,
                size_t count)
{
    struct log_record record = {.wall_us = clock_wall_us(),
                                .level = LOG_LEVEL_WARN,
                                .event = event,
                                .fields = fields,
                                .count = count};
    size_t room;
    char *space = log_target_space(&w->target, &room);
    BUG_ON(room < LOG_LINE_MAX);
    log_target_add(&w->target, log_format_line(space, w->format, &record));
}

/*
 * Goes out alone, so that the sum stays untold while it cannot be written. It is no line of
 * anybody's, so it is not counted as dropped then.
 */
static void tell_dropped(struct log_writer *w)
{
    uint64_t total = atomic_load(&log_tally.dropped);
    if (total == w->told)
        return;
    say(w, "log lines dropped",
        LOG_FIELDS(LOG_U("lines", total - w->told), LOG_U("total", total),
                   LOG_S("error", w->error ? strerrordesc_np(w->error) : NULL)));
    if (write_out(w) < 0 && log_target_discard(&w->target) > 0)
        return;
    w->told = total;
    w->error = 0;
}

static void tell_reopen_error(struct log_writer *w)
{
    if (!w->reopen_error)
        return;
    say(w, "log not opened again, going on with the old file",
        LOG_FIELDS(LOG_S("path", w->target.path),
                   LOG_S("error", strerrordesc_np(w->reopen_error))));
    w->reopen_error = 0;
}

/* One batch. False when there is nothing more to write. */
static bool write_batch(struct log_writer *w)
{
    tell_dropped(w);
    tell_reopen_error(w);
    size_t room;
    char *space = log_target_space(&w->target, &room);
    size_t taken = log_threads_take(&w->taker, space, room);
    log_target_add(&w->target, taken);
    if (write_out(w) < 0)
        atomic_fetch_add(&log_tally.dropped, log_target_discard(&w->target));
    return taken > 0 || w->reopen_error;
}

static void writer_free(struct log_writer *w)
{
    if (w->target.fd >= 0)
        log_target_close(&w->target);
    if (w->taker.wake >= 0)
        close(w->taker.wake);
    if (w->done >= 0)
        close(w->done);
    free(w);
}

static void *writer_main(void *argument)
{
    struct log_writer *w = argument;
    pthread_setname_np(pthread_self(), "weir-log");
    sandbox_narrow(SANDBOX_LOG);
    for (bool last = false; !last;) {
        /* Asked before the rings are: what was logged before the stop is still written. */
        last = atomic_load(&w->stop_at_ms) != NEVER;
        bool busy = false;
        while (write_batch(w))
            busy = true;
        if (!last)
            rest(w, busy);
    }
    if (log_target_pending(&w->target))
        atomic_fetch_add(&log_tally.dropped, 1);
    if (atomic_exchange(&w->fate, ENDED) == LEFT_BEHIND)
        writer_free(w);
    else
        eventfd_write(w->done, 1);
    return NULL;
}

/* ---- start and stop ---- */

static struct log_writer *writer_new(enum log_format format)
{
    struct log_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->format = format;
    atomic_init(&w->fate, RUNNING);
    atomic_init(&w->stop_at_ms, NEVER);
    w->target.fd = -1;
    w->taker.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w;
}

/* Signals are for control; with SIGPIPE blocked a pipe without a reader is an error like others. */
static int thread_start(struct log_writer *w)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

int log_writer_start(const struct log_options *options, struct log_writer **out, char *error,
                     size_t error_size)
{
    const char *what = "start the writer of";
    int result = -ENOMEM;
    struct log_writer *w = writer_new(options->format);
    if (!w)
        goto fail;
    result = -EMFILE;
    if (w->taker.wake < 0 || w->done < 0)
        goto fail;
    what = "open";
    result = log_target_open(&w->target, options->target);
    if (result < 0)
        goto fail;
    what = "start the writer of";
    result = thread_start(w);
    if (result < 0)
        goto fail;
    log_threads_open(&w->taker);
    *out = w;
    return 0;
fail:
    if (w)
        writer_free(w);
    snprintf(error, error_size, "cannot %s the log %s: %s", what, options->target,
             strerrordesc_np(-result));
    return result;
}

static bool wait_for_end(const struct log_writer *w, uint64_t until_ms)
{
    struct pollfd done = {.fd = w->done, .events = POLLIN};
    int n;
    int left_ms;
    do {
        left_ms = ms_until(until_ms);
        n = poll(&done, 1, left_ms);
    } while (n <= 0 && left_ms > 0);
    return n > 0;
}

void log_writer_stop(struct log_writer **writer, unsigned wait_ms)
{
    struct log_writer *w = *writer;
    pthread_t thread = w->thread;
    uint64_t stop_at_ms = clock_now_ms() + wait_ms;

    *writer = NULL;
    log_threads_shut();
    atomic_store(&w->stop_at_ms, stop_at_ms);
    eventfd_write(w->taker.wake, 1);
    bool ended =
        wait_for_end(w, stop_at_ms + GRACE_MS) || atomic_exchange(&w->fate, LEFT_BEHIND) == ENDED;
    log_threads_release();
    if (!ended) {
        pthread_detach(thread);
        return;
    }
    pthread_join(thread, NULL);
    writer_free(w);
}

void log_writer_reopen(struct log_writer *writer)
{
    atomic_store(&writer->reopen, true);
    eventfd_write(writer->taker.wake, 1);
}
