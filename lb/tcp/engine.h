/*
 * Purpose: the relay engines: how bytes get from one socket to another. No loop, no session, no
 *          policy.
 * Thread:  the worker's.
 * Owns:    a direction owns what it holds (a buffer or a pipe) while bytes are in flight, and
 *          nothing else.
 * Fails:   a pump says which side failed and with which errno; it never closes and never waits.
 *
 * Private to lb/tcp. An engine is one struct engine and one file. Invariants of a direction:
 *
 *      pending == 0    it holds neither buffer nor pipe (checked at the entry of each pump)
 *      pending  > 0    it holds the one that its engine uses
 *      bytes           counts what the destination's socket took
 */
#pragma once

#include "common/base.h"
#include "common/pipe.h"

#include <stdbool.h>
#include <stdint.h>

enum pump_result {
    PUMP_WANT_READ,   /* the source is empty */
    PUMP_WANT_WRITE,  /* the destination is full */
    PUMP_AGAIN,       /* the budget is spent */
    PUMP_EOF,         /* the source has finished and all of it is delivered */
    PUMP_READ_ERROR,  /* io.error is the source's */
    PUMP_WRITE_ERROR, /* io.error is the destination's */
    PUMP_NO_MEMORY,   /* our own machine's fault; what was read is lost and counted in io.lost */
    PUMP_UNABLE       /* this engine cannot serve these sockets or has no pipe; nothing was read */
};

struct engine;

struct direction {
    const struct engine *engine;
    union {
        uint8_t *buffer; /* copy: `pending` bytes from `start` */
        struct pipe_pair pipe;
    };
    uint32_t start;
    uint32_t pending; /* read and not yet delivered */
    uint64_t bytes;   /* delivered */
    uint16_t streak;  /* big (copy) or small (splice) wake-ups in a row */
    bool eof;         /* the source has finished; pending may still wait */
    bool finished;    /* nothing more is delivered */
    bool fin_sent;    /* the destination has been told of the end */
};

struct pump_io {
    int from;
    int to;
    uint32_t budget; /* bytes to read at most, roughly */
    bool to_the_end; /* read until EAGAIN or the end: a short read proves nothing (FIN, RST, urgent
                        mark) */
    int error;
    uint32_t lost;
    bool emptied; /* nothing is left in the source, not even behind an urgent mark */
    bool urgent;  /* the source stands at an urgent mark */
};

struct engine_tools {
    uint8_t *scratch;
    uint32_t scratch_size;
    struct pipe_pool *pipes;
};

struct engine {
    const char *name;
    enum pump_result (*pump)(struct direction *direction, struct pump_io *io,
                             struct engine_tools *tools);
    /* Gives up what is held; returns the number of bytes that were in it. */
    uint32_t (*release)(struct direction *direction, struct engine_tools *tools);
    /* Moves what is held (pending bytes, at least one) into `out`, for the hand-over. */
    void (*drain)(struct direction *direction, uint8_t *out, struct engine_tools *tools);
};

/* The buffer's place is the pipe's too: NULL says that there is neither. */
static inline void direction_check(const struct direction *direction)
{
    BUG_ON((direction->pending == 0) != (direction->buffer == NULL));
}

extern const struct engine engine_copy;
extern const struct engine engine_splice;

/* Puts bytes into an idle direction as if they had been read: the other end of the hand-over. */
must_check int engine_refill(struct direction *direction, const uint8_t *bytes, uint32_t count);
