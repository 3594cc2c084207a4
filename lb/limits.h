/*
 * Purpose: how many sessions, pipes and flows the descriptors of this process allow.
 * Thread:  control, at start.
 * Owns:    nothing.
 * Fails:   -EMFILE when the limit does not even carry a handful of each; `text` says what would.
 *
 * Descriptors are shared out once, at start, so that running out is a refused client and never a
 * failed probe or a deaf admin socket: first what weir itself needs, then pipes, then what carries
 * clients. Where there are listeners of both protocols, sessions and flows have a half each, and
 * one has what the other does not ask for.
 */
#pragma once

#include "common/base.h"
#include "config/config.h"

#include <stdbool.h>
#include <stdint.h>

struct limits {
    uint64_t descriptors; /* RLIMIT_NOFILE, soft raised to hard */
    uint64_t reserved;    /* loops, listeners, probes, admin clients, log */
    uint32_t sessions;    /* two descriptors each; what weir.max_connections came to */
    uint32_t pipes;       /* two descriptors each: the lesser of these and the user's pipe quota */
    uint32_t flows;       /* a descriptor each; what the listeners' max_flows came to in sum */
    uint32_t resting;     /* sockets between two flows, a descriptor each: a quarter at most */
    bool lowered;         /* max_connections asked for more */
    bool flows_lowered;   /* max_flows did */
};

/*
 * `descriptors` and `pipe_pages` as limits_read tells them. On success `text` is empty, or has a
 * sentence for each figure that was lowered, on a line of its own.
 */
must_check int limits_compute(const struct config *config, uint64_t descriptors,
                              uint64_t pipe_pages, struct limits *out, char *text,
                              size_t text_size);

/*
 * Raises the soft limit of descriptors to the hard one. The pages that all pipes of this user may
 * hold are those of /proc/sys/fs/pipe-user-pages-soft (pipe(7)); 0: unlimited.
 */
void limits_read(uint64_t *out_descriptors, uint64_t *out_pipe_pages);
