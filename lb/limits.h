/*
 * Purpose: how many sessions and pipes the descriptors of this process allow.
 * Thread:  control, at start.
 * Owns:    nothing.
 * Fails:   -EMFILE when the limit does not even carry a handful of sessions; `error` says what
 * would.
 */
#pragma once

#include "common/base.h"
#include "config/config.h"

#include <stdint.h>

struct limits {
    uint64_t descriptors; /* RLIMIT_NOFILE, soft raised to hard */
    uint64_t reserved;    /* loops, listeners, probes, admin clients, log */
    uint32_t sessions;    /* two descriptors each; what `max_connections` came to */
    uint32_t pipes;       /* two descriptors each: the lesser of these and the user's pipe quota */
    bool lowered;         /* max_connections asked for more */
};

must_check int limits_compute(const struct config *config, uint64_t descriptors,
                              uint64_t pipe_pages, struct limits *out, char *error,
                              size_t error_size);

/* Raises the soft limit to the hard one and reads /proc/sys/fs/pipe-user-pages-soft (0: unlimited).
 */
void limits_read(uint64_t *out_descriptors, uint64_t *out_pipe_pages);
