/*
 * Purpose: from root to an unprivileged user, keeping only the capabilities that are needed.
 * Thread:  control, before any other thread exists.
 * Owns:    nothing.
 * Fails:   0 or a negative errno with one sentence in `error`; the process must not go on then.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct privileges_user {
    uid_t uid;
    gid_t gid;
};

/* Looks up a user and a group (NULL or "": the user's own). -ENOENT: there is none of that name. */
must_check int privileges_lookup(const char *user, const char *group, struct privileges_user *out,
                                 char *error, size_t error_size);

/*
 * Takes on the user with its group and no supplementary ones, keeps exactly `capabilities` (a mask
 * of 1 << CAP_…, capabilities(7)) permitted and effective and empties the bounding set as far as
 * the process may, and sets NoNewPrivs (prctl(2), PR_SET_NO_NEW_PRIVS).
 */
must_check int privileges_drop(const struct privileges_user *user, uint64_t capabilities,
                               char *error, size_t error_size);
