/*
 * Purpose: see log_target.h.
 * Thread:  the log writer's.
 * Owns:    see log_target.h.
 * Fails:   see log_target.h.
 *
 * A log may go to a reader that has stopped: a pipe, a terminal held by ^S, journald's socket. The
 * writer must not be caught in write(2) then, because nothing could end it. Descriptor 2 is shared
 * with other processes, so setting O_NONBLOCK on it would change theirs too. Hence, by kind:
 *   file      blocks on the disk alone; written in large batches
 *   socket    send(2) with MSG_DONTWAIT
 *   pipe, tty opened again through /proc for a description of our own, which does not block. Where
 *             that is refused (it belongs to another user) the shared one is used: poll(2) comes
 *             first, and up to PIPE_BUF bytes go into a pipe that is writable without a wait
 *             (pipe(7)).
 * Writes to anything but a file are cut at line ends to at most PIPE_BUF, so that the lines of two
 * processes on one pipe do not mix.
 */
#include "common/log_target.h"

#include "common/log_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_FLAGS (O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* ---- opening ---- */

static int open_path(const char *path)
{
    int fd = open(path, OPEN_FLAGS | O_CREAT, 0640);
    return fd < 0 ? -errno : fd;
}

static int open_stderr(void)
{
    struct stat info;
    if (fstat(STDERR_FILENO, &info) < 0)
        return -errno;
    if (S_ISFIFO(info.st_mode) || isatty(STDERR_FILENO)) {
        int own = open("/proc/self/fd/2", OPEN_FLAGS);
        if (own >= 0)
            return own;
    }
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd < 0 ? -errno : fd;
}

/* Takes the descriptor, closing the one before. */
static void adopt(struct log_target *target, int fd)
{
    struct stat info;
    if (target->fd >= 0)
        close(target->fd);
    target->fd = fd;
    bool known = fstat(fd, &info) == 0;
    target->socket = known && S_ISSOCK(info.st_mode);
    target->chunk = known && S_ISREG(info.st_mode) ? LOG_BATCH : PIPE_BUF;
}

int log_target_open(struct log_target *target, const char *name)
{
    bool to_stderr = strcmp(name, "stderr") == 0;
    char *path = NULL;
    if (!to_stderr && !(path = strdup(name)))
        return -ENOMEM;
    int fd = to_stderr ? open_stderr() : open_path(path);
    if (fd < 0) {
        free(path);
        return fd;
    }
    target->fd = -1;
    target->path = path;
    target->torn = false;
    target->start = 0;
    target->end = 0;
    adopt(target, fd);
    return 0;
}

void log_target_close(struct log_target *target)
{
    close(target->fd);
    target->fd = -1;
    free(target->path);
    target->path = NULL;
}

/* ---- the buffer ---- */

bool log_target_pending(const struct log_target *target)
{
    return target->start < target->end;
}

/* Whether the next byte to be written goes on with a line that is half written. */
static bool inside_line(const struct log_target *target)
{
    if (!log_target_pending(target))
        return false;
    return target->start == 0 ? target->torn : target->buffer[target->start - 1] != '\n';
}

/* How much of what is pending belongs to a line that is half written. */
static size_t rest_of_line(const struct log_target *target)
{
    if (!inside_line(target))
        return 0;
    const char *at = target->buffer + target->start;
    const char *newline = memchr(at, '\n', target->end - target->start);
    BUG_ON(!newline);
    return (size_t)(newline + 1 - at);
}

char *log_target_space(struct log_target *target, size_t *room)
{
    if (!log_target_pending(target)) {
        target->start = 0;
        target->end = 0;
        target->torn = false;
    }
    *room = LOG_BATCH - target->end;
    return target->buffer + target->end;
}

void log_target_add(struct log_target *target, size_t length)
{
    BUG_ON(length > LOG_BATCH - target->end);
    target->end += length;
}

uint64_t log_target_discard(struct log_target *target)
{
    size_t rest = rest_of_line(target);
    char *at = target->buffer + target->start;
    uint64_t lines = log_lines_in(at + rest, target->end - target->start - rest);
    memmove(target->buffer, at, rest);
    target->torn = rest > 0;
    target->start = 0;
    target->end = rest;
    return lines;
}

int log_target_reopen(struct log_target *target)
{
    if (!target->path)
        return 0;
    int fd = open_path(target->path);
    if (fd < 0)
        return fd;
    adopt(target, fd);
    size_t rest = rest_of_line(target);
    target->start += rest;
    return rest > 0;
}

/* ---- writing ---- */

/* How many bytes to write next: whole lines as far as `chunk` allows. */
static size_t next_chunk(const struct log_target *target)
{
    const char *at = target->buffer + target->start;
    size_t length = target->end - target->start;
    if (length <= target->chunk)
        return length;
    const char *last = memrchr(at, '\n', target->chunk);
    return last ? (size_t)(last + 1 - at) : target->chunk;
}

static bool writable(const struct log_target *target)
{
    struct pollfd ready = {.fd = target->fd, .events = POLLOUT};
    return poll(&ready, 1, 0) > 0;
}

static ssize_t write_chunk(const struct log_target *target, size_t length)
{
    const char *at = target->buffer + target->start;
    if (!writable(target))
        return -EAGAIN;
    ssize_t n = target->socket ? send(target->fd, at, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                               : write(target->fd, at, length);
    if (n < 0)
        return -errno;
    return n == 0 ? -EIO : n; /* a device that takes nothing and has no reason */
}

int log_target_flush(struct log_target *target, uint64_t *lines)
{
    while (log_target_pending(target)) {
        ssize_t n = write_chunk(target, next_chunk(target));
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        *lines += log_lines_in(target->buffer + target->start, (size_t)n);
        target->start += (size_t)n;
    }
    return 0;
}
