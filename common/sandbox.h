/*
 * Purpose: takes from the process, once it runs, the system calls and the files it has no use for.
 * Thread:  sandbox_enter and sandbox_files act on the calling thread and on those it makes later;
 *          call them before there is a second one. sandbox_narrow: each thread for itself.
 * Owns:    nothing. What was given up does not come back before the process ends.
 * Fails:   a negative errno with one sentence in `error`, and the process must not go on; but after
 *          -ENOSYS (the kernel has no such thing) it may, with a warning.
 *
 * System calls are an allow-list (seccomp(2)); any other ends the whole process by SIGSYS, and the
 * kernel logs which one it was. Filters add up: the narrow one of a thread stands on the wide one
 * of the process. Files are Landlock's (landlock(7)); it only ever refuses, with EACCES.
 *
 * In builds with a sanitizer all of this does nothing and returns 0: its runtime forks, traces its
 * own threads, and reads files in /proc at the end.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>

enum sandbox_profile {
    SANDBOX_DAEMON,  /* all of weir's threads, from the first on: what the next three need */
    SANDBOX_LOG,     /* opens files to write to; no sockets but the one it may have been given */
    SANDBOX_CONTROL, /* opens files to read, makes no thread; sockets, and the removal of its own */
    SANDBOX_WORKER,  /* opens no file, makes no thread; sockets */
    SANDBOX_HELPER,  /* opens files to read, forks; no network, no program, of root's capabilities
                        but CAP_DAC_READ_SEARCH */
};

/* False where a sanitizer's runtime needs more than a sandbox would leave. */
bool sandbox_is_built(void);

/* Sets NoNewPrivs too (prctl(2)). */
must_check int sandbox_enter(enum sandbox_profile profile, char *error, size_t error_size);

/*
 * The calling thread's own profile, on top of SANDBOX_DAEMON; nothing where that was not entered.
 * What was possible for the process and is not for the thread ends weir as a bug.
 */
void sandbox_narrow(enum sandbox_profile profile);

/*
 * No file is opened, made or removed any more, except: the log may be written and made in its
 * directory (and at a standard error that is a terminal or a pipe), files may be removed from the
 * directory of the admin socket, folders may be listed, and /dev/null be read. What is open
 * already, and sockets, are not concerned. A directory that cannot be opened gets no exception:
 * whoever needs it says so better. `log_target` is that of log_options. Sets NoNewPrivs.
 */
must_check int sandbox_files(const char *log_target, const char *admin_socket, char *error,
                             size_t error_size);
