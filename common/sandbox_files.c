/*
 * Purpose: see sandbox.h; of the sandbox the half that is about files.
 * Thread:  see sandbox.h.
 * Owns:    nothing.
 * Fails:   see sandbox.h.
 *
 * "/dev/null" or "/" is the descriptor that libuv gives up to take in, and close, a client of the
 * admin socket when there are no others left. Without it uv_listen(3) would turn in a circle for
 * ever then. So folders may be listed, and that file be read.
 */
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Since Linux 5.13, 5.19 and 6.2; the header may be older than the kernel. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

static int refuse(int failed, char *error, size_t error_size)
{
    snprintf(error, error_size, "cannot give up files: %s", strerrordesc_np(-failed));
    return failed;
}

/* By the version that the kernel speaks; none of them is asked for but to be refused. */
static uint64_t handled(long version)
{
    uint64_t rights = 2 * LANDLOCK_ACCESS_FS_MAKE_SYM - 1;

    if (version >= 2)
        rights |= LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3)
        rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
    return rights;
}

/* Where there is no such file, or it is out of reach, there is nothing to except. */
static int except(int ruleset, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights};
    int failed = 0;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return 0;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
        failed = errno == EBADFD ? 0 : -errno; /* a pipe or socket, which Landlock leaves alone */
    close(rule.parent_fd);
    return failed;
}

static int except_directory_of(int ruleset, const char *path, uint64_t rights)
{
    char copy[PATH_MAX];

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return 0;
    return except(ruleset, dirname(copy), rights);
}

/* A log that is a link, or a pipe or a terminal in /dev, is written at its other end. */
static int except_log(int ruleset, const char *target)
{
    bool to_stderr = strcmp(target, "stderr") == 0;
    char place[PATH_MAX];
    int failed;

    if (to_stderr)
        return except(ruleset, "/proc/self/fd/2", LANDLOCK_ACCESS_FS_WRITE_FILE);
    failed = except_directory_of(ruleset, target,
                                 LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG);
    if (failed || realpath(target, place) == NULL)
        return failed;
    return except(ruleset, place, LANDLOCK_ACCESS_FS_WRITE_FILE);
}

/* Of folders the names can be read, of files nothing. */
static int except_reserve(int ruleset)
{
    int failed = except(ruleset, "/", LANDLOCK_ACCESS_FS_READ_DIR);

    return failed ? failed : except(ruleset, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE);
}

static int confine(int ruleset, const char *log_target, const char *admin_socket)
{
    int failed = except_log(ruleset, log_target);

    if (!failed)
        failed = except_reserve(ruleset);
    if (!failed)
        failed = except_directory_of(ruleset, admin_socket, LANDLOCK_ACCESS_FS_REMOVE_FILE);
    if (!failed && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        failed = -errno;
    if (!failed && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        failed = -errno;
    return failed;
}

int sandbox_files(const char *log_target, const char *admin_socket, char *error, size_t error_size)
{
    if (!sandbox_is_built())
        return 0;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0) /* not built in, or switched off (EOPNOTSUPP) */
        return refuse(-ENOSYS, error, error_size);
    const struct landlock_ruleset_attr all = {.handled_access_fs = handled(version)};
    /* The first field alone: what later versions added stays unhandled. */
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all.handled_access_fs), 0);
    int failed = ruleset < 0 ? -errno : confine(ruleset, log_target, admin_socket);
    if (ruleset >= 0)
        close(ruleset);
    return failed ? refuse(failed, error, error_size) : 0;
}
