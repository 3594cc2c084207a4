/*
 * The copy engine: receive into the worker's scratch buffer, send at once, keep only what the
 * destination did not take. The cheaper one for small exchanges: two system calls and no pipe.
 */
#include "lb/tcp/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static uint32_t copy_release(struct direction *direction, struct engine_tools *tools)
{
    uint32_t pending = direction->pending;

    (void)tools;
    free(direction->buffer);
    direction->buffer = NULL;
    direction->start = 0;
    direction->pending = 0;
    return pending;
}

static bool keep(struct direction *direction, const uint8_t *bytes, size_t count)
{
    direction->buffer = malloc(count);
    if (direction->buffer == NULL)
        return false;
    memcpy(direction->buffer, bytes, count);
    direction->start = 0;
    direction->pending = (uint32_t)count;
    return true;
}

/* Bytes taken by the destination, 0 when it is full, or -1 with io->error. */
static ssize_t deliver(struct direction *direction, struct pump_io *io, const uint8_t *bytes,
                       size_t count)
{
    ssize_t sent;

    do {
        sent = send(io->to, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        direction->bytes += (uint64_t)sent;
        return sent;
    }
    if (errno == EAGAIN)
        return 0;
    io->error = errno;
    return -1;
}

static enum pump_result flush(struct direction *direction, struct pump_io *io,
                              struct engine_tools *tools)
{
    ssize_t sent = deliver(direction, io, direction->buffer + direction->start, direction->pending);

    if (sent < 0)
        return PUMP_WRITE_ERROR;
    direction->start += (uint32_t)sent;
    direction->pending -= (uint32_t)sent;
    if (direction->pending > 0)
        return PUMP_WANT_WRITE;
    copy_release(direction, tools);
    return direction->eof ? PUMP_EOF : PUMP_AGAIN;
}

static enum pump_result forward(struct direction *direction, struct pump_io *io,
                                const uint8_t *bytes, size_t count)
{
    ssize_t sent = deliver(direction, io, bytes, count);

    if (sent == (ssize_t)count)
        return PUMP_AGAIN;
    if (!keep(direction, bytes + MAX(sent, 0), count - (size_t)MAX(sent, 0))) {
        io->lost = (uint32_t)(count - (size_t)MAX(sent, 0));
        return sent < 0 ? PUMP_WRITE_ERROR : PUMP_NO_MEMORY;
    }
    return sent < 0 ? PUMP_WRITE_ERROR : PUMP_WANT_WRITE;
}

static enum pump_result copy_pump(struct direction *direction, struct pump_io *io,
                                  struct engine_tools *tools)
{
    uint32_t moved = 0;

    direction_check(direction);
    if (direction->pending > 0) {
        enum pump_result result = flush(direction, io, tools);
        if (result != PUMP_AGAIN)
            return result;
    }
    while (moved < io->budget) {
        ssize_t got = recv(io->from, tools->scratch, tools->scratch_size, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN) {
            io->emptied = true;
            return PUMP_WANT_READ;
        }
        if (got < 0) {
            io->error = errno;
            return PUMP_READ_ERROR;
        }
        if (got == 0) {
            direction->eof = true;
            return PUMP_EOF;
        }
        moved += (uint32_t)got;
        enum pump_result result = forward(direction, io, tools->scratch, (size_t)got);
        if (result != PUMP_AGAIN)
            return result;
        if ((uint32_t)got < tools->scratch_size && !io->to_the_end)
            return PUMP_WANT_READ;
    }
    return PUMP_AGAIN;
}

static void copy_drain(struct direction *direction, uint8_t *out, struct engine_tools *tools)
{
    memcpy(out, direction->buffer + direction->start, direction->pending);
    copy_release(direction, tools);
}

int engine_refill(struct direction *direction, const uint8_t *bytes, uint32_t count)
{
    BUG_ON(direction->engine != &engine_copy || direction->pending > 0);
    if (count == 0)
        return 0;
    return keep(direction, bytes, count) ? 0 : -ENOMEM;
}

const struct engine engine_copy = {
    .name = "copy",
    .pump = copy_pump,
    .release = copy_release,
    .drain = copy_drain,
};
