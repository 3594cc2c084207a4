/*
 * Purpose: see limits.h.
 * Thread:  control, at start.
 * Owns:    nothing.
 * Fails:   see limits.h.
 */
#include "lb/limits.h"

#include "common/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#define OWN 64           /* helper, log, signals, loops of control, what libraries open */
#define ADMIN_CLIENTS 64 /* lb/admin takes no more */
#define PER_WORKER 8     /* epoll sets, eventfds, and what it holds for a moment */
#define PROBES_MAX 1024  /* at once */

#define PER_SESSION 2
#define PER_PIPE 2
#define PIPE_SHARE 16 /* one descriptor in so many is a pipe's: streams are few among sessions */
#define PIPE_PAGES 16 /* of a whole one: pipe(7) */

#define SESSIONS_LEAST 16

/* Far above any limit that a kernel grants (fs.nr_open); sums stay far from 64 bits. */
#define DESCRIPTORS_MAX INT32_MAX

static uint64_t reserved_by(const struct config *config)
{
    uint64_t workers = (uint64_t)config->weir.workers;
    uint64_t servers = 0;
    for (size_t i = 0; i < config->pool_count; i++)
        servers += config->pools[i].server_count;
    return OWN + ADMIN_CLIENTS + workers * PER_WORKER + workers * config->listener_count +
           MIN(servers, (uint64_t)PROBES_MAX);
}

static uint64_t pipes_of(uint64_t descriptors, uint64_t pipe_pages)
{
    uint64_t pipes = descriptors / PIPE_SHARE / PER_PIPE;
    return pipe_pages == 0 ? pipes : MIN(pipes, pipe_pages / PIPE_PAGES);
}

/* How many descriptors would carry so many sessions beside all the rest, pipes at their most. */
static uint64_t needed_for(uint64_t sessions, uint64_t reserved)
{
    uint64_t without_pipes = reserved + sessions * PER_SESSION;
    return (without_pipes * PIPE_SHARE + PIPE_SHARE - 2) / (PIPE_SHARE - 1);
}

static void say_lowered(const struct limits *limits, uint64_t asked, char *error, size_t error_size)
{
    struct text text;
    text_init(&text, error, error_size);
    text_addf(&text,
              "max_connections is lowered from %" PRIu64 " to %" PRIu32 ": of %" PRIu64
              " descriptors weir keeps %" PRIu64 " for itself and %" PRIu32
              " for pipes, and a session takes 2; RLIMIT_NOFILE = %" PRIu64 " would do",
              asked, limits->sessions, limits->descriptors, limits->reserved,
              limits->pipes * PER_PIPE, needed_for(asked, limits->reserved));
}

static int refuse(uint64_t descriptors, uint64_t reserved, char *error, size_t error_size)
{
    struct text text;
    text_init(&text, error, error_size);
    text_addf(&text,
              "%" PRIu64 " descriptors are too few: weir needs %" PRIu64
              " for itself and 2 for each session; set RLIMIT_NOFILE to %" PRIu64 " at least",
              descriptors, reserved, needed_for(SESSIONS_LEAST, reserved));
    return -EMFILE;
}

int limits_compute(const struct config *config, uint64_t descriptors, uint64_t pipe_pages,
                   struct limits *out, char *error, size_t error_size)
{
    struct limits limits = {
        .descriptors = MIN(descriptors, (uint64_t)DESCRIPTORS_MAX),
        .reserved = reserved_by(config),
    };
    limits.pipes = (uint32_t)pipes_of(limits.descriptors, pipe_pages);
    uint64_t taken = limits.reserved + (uint64_t)limits.pipes * PER_PIPE;
    if (limits.descriptors < taken + SESSIONS_LEAST * PER_SESSION)
        return refuse(descriptors, limits.reserved, error, error_size);

    uint64_t most = (limits.descriptors - taken) / PER_SESSION;
    uint64_t asked = (uint64_t)config->weir.max_connections;
    limits.sessions = (uint32_t)(asked == 0 ? most : MIN(asked, most));
    limits.lowered = asked > most;
    struct text text;
    text_init(&text, error, error_size);
    if (limits.lowered)
        say_lowered(&limits, asked, error, error_size);
    *out = limits;
    return 0;
}

static uint64_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FOPEN_MAX;
    if (limit.rlim_cur >= limit.rlim_max)
        return limit.rlim_cur;
    const struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

static uint64_t read_pipe_pages(void)
{
    uint64_t pages = 0;
    FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
    return pages;
}

void limits_read(uint64_t *out_descriptors, uint64_t *out_pipe_pages)
{
    *out_descriptors = raise_descriptors();
    *out_pipe_pages = read_pipe_pages();
}
