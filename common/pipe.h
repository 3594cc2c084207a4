/*
 * Purpose: a capped pool of pipes for splice(2).
 * Thread:  a pool belongs to one worker.
 * Owns:    the pipes at rest; a taken pipe belongs to its taker.
 * Fails:   pipe_pool_take returns a negative errno (ENOBUFS at the cap; EMFILE, ENFILE) or
 *          -EPERM when the kernel gave a pipe below the full size (the user's pages are used up,
 *          pipe(7) pipe-user-pages-soft); the caller copies instead.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

#define PIPE_SIZE 65536 /* what pipe2(2) gives while the user's quota lasts */

struct pipe_pair {
    int read;
    int write;
};

struct pipe_pool {
    struct pipe_pair *rest; /* `resting` of them */
    uint32_t resting;
    uint32_t taken;
    uint32_t limit; /* resting and taken together */
    uint32_t keep;  /* at most so many rest; more are closed */
};

void pipe_pool_init(struct pipe_pool *pool, uint32_t limit, uint32_t keep);
/* BUG when a pipe is still taken. */
void pipe_pool_deinit(struct pipe_pool *pool);

must_check int pipe_pool_take(struct pipe_pool *pool, struct pipe_pair *out);

/* A pipe that may hold bytes is closed and never reused. */
void pipe_pool_put(struct pipe_pool *pool, struct pipe_pair *pipe, bool empty);
