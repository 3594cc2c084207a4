/*
 * The splice engine: pages go from socket to pipe to socket and are never copied (splice(2)).
 *
 * Facts it stands on, all seen on Linux 6.18:
 * - EAGAIN from the source with bytes in our pipe may mean that the pipe is full: small segments
 *   fill its slots long before its bytes. So the source is read only into an empty pipe, where
 *   EAGAIN means that the source is empty, or stands at an urgent mark.
 * - A 64 KiB pipe can hold more than 64 KiB, so bytes are counted from what splice returned.
 * - SPLICE_F_MORE makes the destination wait for more, which nobody here can promise.
 * - The kernel offers all slots of a default pipe to the destination at once. So a short count
 *   means that it is full; another call would only say EAGAIN, 12 times per MiB to a slow reader.
 *
 * A pipe is taken when bytes come and given back when they have left; an idle session holds none.
 */
#include "lb/tcp/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPLICE_FLAGS (SPLICE_F_NONBLOCK | SPLICE_F_MOVE)

/* What one splice asks for: the kernel gives what fits. */
#define SPLICE_CHUNK (1024 * 1024)

static uint32_t splice_release(struct direction *direction, struct engine_tools *tools)
{
    uint32_t pending = direction->pending;

    if (pending > 0)
        pipe_pool_put(tools->pipes, &direction->pipe, false);
    direction->pending = 0;
    direction->buffer = NULL;
    return pending;
}

/* Moves from pipe to destination until the pipe is empty or the destination full. */
static enum pump_result flush(struct direction *direction, struct pump_io *io)
{
    while (direction->pending > 0) {
        ssize_t sent =
            splice(direction->pipe.read, NULL, io->to, NULL, direction->pending, SPLICE_FLAGS);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return PUMP_WANT_WRITE;
        if (sent <= 0) {
            io->error = sent < 0 ? errno : EPIPE;
            return PUMP_WRITE_ERROR;
        }
        direction->pending -= (uint32_t)sent;
        direction->bytes += (uint64_t)sent;
        if (direction->pending > 0)
            return PUMP_WANT_WRITE;
    }
    return PUMP_AGAIN;
}

/* What a read that brought nothing means, the pipe being empty. */
static enum pump_result nothing_read(struct direction *direction, struct pump_io *io, ssize_t got)
{
    /* With the FIN in, a mark that splice does not cross looks like the end. */
    if (got == 0 && sockatmark(io->from) == 1) {
        io->urgent = true;
        return PUMP_WANT_READ;
    }
    if (got == 0) {
        direction->eof = true;
        return PUMP_EOF;
    }
    if (errno == EAGAIN)
        return PUMP_WANT_READ;
    if (errno == EINVAL)
        return PUMP_UNABLE;
    io->error = errno;
    return PUMP_READ_ERROR;
}

static enum pump_result pump_through(struct direction *direction, struct pump_io *io)
{
    uint32_t moved = 0;

    for (;;) {
        enum pump_result result = flush(direction, io);
        if (result != PUMP_AGAIN)
            return result;
        if (direction->eof)
            return PUMP_EOF;
        if (moved >= io->budget)
            return PUMP_AGAIN;
        ssize_t got =
            splice(io->from, NULL, direction->pipe.write, NULL, SPLICE_CHUNK, SPLICE_FLAGS);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return nothing_read(direction, io, got);
        direction->pending += (uint32_t)got;
        moved += (uint32_t)got;
    }
}

static enum pump_result splice_pump(struct direction *direction, struct pump_io *io,
                                    struct engine_tools *tools)
{
    direction_check(direction);
    if (direction->pending == 0) {
        if (direction->eof)
            return PUMP_EOF;
        if (pipe_pool_take(tools->pipes, &direction->pipe) < 0)
            return PUMP_UNABLE;
    }
    enum pump_result result = pump_through(direction, io);
    if (direction->pending == 0) {
        pipe_pool_put(tools->pipes, &direction->pipe, true);
        direction->buffer = NULL;
    }
    return result;
}

static void splice_drain(struct direction *direction, uint8_t *out, struct engine_tools *tools)
{
    while (direction->pending > 0) {
        ssize_t got = read(direction->pipe.read, out, direction->pending);
        if (got < 0 && errno == EINTR)
            continue;
        BUG_ON(got <= 0); /* the pipe is ours, and holds what `pending` says */
        out += got;
        direction->pending -= (uint32_t)got;
    }
    pipe_pool_put(tools->pipes, &direction->pipe, true);
    direction->buffer = NULL;
}

const struct engine engine_splice = {
    .name = "splice",
    .pump = splice_pump,
    .release = splice_release,
    .drain = splice_drain,
};
