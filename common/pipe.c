/*
 * Purpose: the pool of pipes of pipe.h.
 * Thread:  the worker's.
 * Owns:    the pipes at rest.
 * Fails:   see pipe.h.
 */
#include "common/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void pipe_pool_init(struct pipe_pool *pool, uint32_t limit, uint32_t keep)
{
    *pool = (struct pipe_pool){.limit = limit, .keep = MIN(keep, limit)};
}

static void pipe_close(struct pipe_pair *pipe)
{
    close(pipe->read);
    close(pipe->write);
    *pipe = (struct pipe_pair){.read = -1, .write = -1};
}

void pipe_pool_deinit(struct pipe_pool *pool)
{
    BUG_ON(pool->taken > 0);
    while (pool->resting > 0)
        pipe_close(&pool->rest[--pool->resting]);
    free(pool->rest);
    pool->rest = NULL;
}

/*
 * Above the user's soft quota the kernel gives two slots instead of sixteen, without an error. Such
 * a pipe costs more system calls than copying does, so it is not worth having.
 */
static int pipe_open(struct pipe_pair *out)
{
    int fd[2];
    if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) < 0)
        return -errno;
    struct pipe_pair pipe = {.read = fd[0], .write = fd[1]};
    if (fcntl(pipe.write, F_GETPIPE_SZ) < PIPE_SIZE) {
        pipe_close(&pipe);
        return -EPERM;
    }
    *out = pipe;
    return 0;
}

int pipe_pool_take(struct pipe_pool *pool, struct pipe_pair *out)
{
    if (pool->resting > 0) {
        *out = pool->rest[--pool->resting];
    } else {
        if (pool->taken >= pool->limit)
            return -ENOBUFS;
        int rc = pipe_open(out);
        if (rc < 0)
            return rc;
    }
    pool->taken++;
    return 0;
}

/* The array is made when the first pipe comes to rest: many workers never splice. */
static bool has_room(struct pipe_pool *pool)
{
    if (pool->resting >= pool->keep)
        return false;
    if (pool->rest == NULL)
        pool->rest = calloc(pool->keep, sizeof(*pool->rest));
    return pool->rest != NULL;
}

void pipe_pool_put(struct pipe_pool *pool, struct pipe_pair *pipe, bool empty)
{
    BUG_ON(pool->taken == 0);
    pool->taken--;
    if (!empty || !has_room(pool)) {
        pipe_close(pipe);
        return;
    }
    pool->rest[pool->resting++] = *pipe;
    *pipe = (struct pipe_pair){.read = -1, .write = -1};
}
