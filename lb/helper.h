/*
 * Purpose: a process beside weir that reads configuration files, so that neither a parser that
 *          calls exit() nor a disk that hangs can take traffic down.
 * Thread:  control. helper_start before the process has any thread, socket or loop: it forks, and
 *          weir never does again (DESIGN §3).
 * Owns:    the helper process, which ends with weir or at helper_stop.
 * Fails:   a negative errno; helper_load then has at least one error to tell.
 *
 * For each file the helper forks a parser, which answers through a pipe of its own and ends. So a
 * parser that dies or hangs costs one answer, and no answer can be taken for that of another
 * request. The helper keeps the user, the working directory and the environment that weir was
 * started with; of system calls it keeps those that reading files takes (common/sandbox.h).
 */
#pragma once

#include "config/config.h"

#include <sys/types.h>

struct helper;

/* `names` is borrowed, and must outlive the call only: the helper has its own copy by the fork. */
must_check int helper_start(struct helper **out, const struct config_names *names);

#define HELPER_DEADLINE_MS 10000

/*
 * Reads and checks a configuration as config_parse does; a relative path counts from weir's
 * working directory at the start. Blocks until the answer is there, at most `deadline_ms`: only for
 * a start, or a reload that may hold the control loop up.
 *   -EINVAL    the file has errors
 *   -ETIMEDOUT no answer within the deadline
 *   -EPROTO    the parser ended without an answer
 *   -EPIPE     the helper is gone
 */
must_check int helper_load(struct helper *helper, const char *path, int deadline_ms,
                           struct config **out, struct config_errors *errors);

pid_t helper_pid(const struct helper *helper);

/* Ends the helper. NULL is fine. */
void helper_stop(struct helper **helper);
