/*
 * Purpose: see sandbox.h.
 * Thread:  see sandbox.h. Threads narrow themselves at the same time, and libseccomp keeps what it
 *          has found out about the kernel in variables of its own, hence the lock.
 * Owns:    nothing.
 * Fails:   see sandbox.h.
 *
 * The table says who may call what. Beside what strace(1) shows under load it has what glibc does
 * at other moments: the heap that grows and shrinks, abort(3), a large qsort(3) that asks for the
 * size of memory, calls that the vDSO does not answer. The most telling one: a heap that shrinks
 * has glibc read /proc/sys/vm/overcommit_memory, in whichever thread, once. That open is refused
 * rather than punished, so for the threads that open nothing all opening for reading is; opening to
 * write, or making a file, is what ends them.
 *
 * Control opens for reading, as far as Landlock lets it: "/dev/null" or "/" is the descriptor that
 * libuv gives up to take in, and close, a client of the admin socket when there are no others left.
 * Without it uv_listen(3) would turn in a circle for ever then.
 *
 * The number of a call is asked by name, because not every processor has each of them.
 */
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Since Linux 5.13, 5.19 and 6.2; the header may be older than the kernel. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* Bits of a rule: the profiles that it is for. */
#define D (1u << SANDBOX_DAEMON)
#define L (1u << SANDBOX_LOG)
#define C (1u << SANDBOX_CONTROL)
#define W (1u << SANDBOX_WORKER)
#define H (1u << SANDBOX_HELPER)
#define NET (C | W)
#define ALL (D | L | C | W | H)

#define WHOLE UINT32_MAX /* of an argument that is an int */
#define FOR_WRITING (O_ACCMODE | O_CREAT | O_TRUNC)

#define NETLINK_ADDRESS sizeof(struct sockaddr_nl)

/* The flags of glibc's fork(3). */
#define FORK_FLAGS (CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD)

struct rule {
    unsigned profiles;
    const char *call;
    int error; /* what the call fails with; 0: it is allowed */
    unsigned argument;
    uint64_t mask; /* 0: whatever the arguments are */
    uint64_t value;
    unsigned also_argument; /* a second one to hold, where its mask is not 0 */
    uint64_t also_mask;
    uint64_t also_value;
};

/* clang-format off */
static const struct rule rules[] = {
    /* memory: none of it ever becomes code */
    {.profiles = ALL, .call = "brk"},
    {.profiles = ALL, .call = "munmap"},
    {.profiles = ALL, .call = "mremap"},
    {.profiles = ALL, .call = "madvise"},
    {.profiles = ALL, .call = "mmap", .argument = 2, .mask = PROT_EXEC},
    {.profiles = ALL, .call = "mprotect", .argument = 2, .mask = PROT_EXEC},
    {.profiles = ALL, .call = "getrandom"},
    {.profiles = ALL, .call = "prctl", .mask = WHOLE, .value = PR_SET_NAME},
    {.profiles = ALL, .call = "prctl", .mask = WHOLE, .value = PR_SET_VMA},

    /* threads, time, the end */
    {.profiles = ALL, .call = "futex"},
    {.profiles = ALL, .call = "set_robust_list"},
    {.profiles = ALL, .call = "rseq"},
    {.profiles = ALL, .call = "membarrier"},
    {.profiles = ALL, .call = "sched_yield"},
    {.profiles = ALL, .call = "sched_getaffinity"},
    {.profiles = ALL, .call = "getcpu"},
    {.profiles = ALL, .call = "gettid"},
    {.profiles = ALL, .call = "getpid"},
    {.profiles = ALL, .call = "getppid"},
    {.profiles = ALL, .call = "getuid"},
    {.profiles = ALL, .call = "geteuid"},
    {.profiles = ALL, .call = "getgid"},
    {.profiles = ALL, .call = "getegid"},
    {.profiles = ALL, .call = "clock_gettime"},
    {.profiles = ALL, .call = "clock_getres"},
    {.profiles = ALL, .call = "clock_nanosleep"},
    {.profiles = ALL, .call = "nanosleep"},
    {.profiles = ALL, .call = "gettimeofday"},
    {.profiles = ALL, .call = "time"},
    {.profiles = ALL, .call = "restart_syscall"},
    {.profiles = ALL, .call = "rt_sigaction"},
    {.profiles = ALL, .call = "rt_sigprocmask"},
    {.profiles = ALL, .call = "rt_sigreturn"},
    {.profiles = ALL, .call = "sigaltstack"},
    {.profiles = ALL, .call = "tgkill", .argument = 2, .mask = WHOLE, .value = SIGABRT},
    {.profiles = ALL, .call = "exit"},
    {.profiles = ALL, .call = "exit_group"},
    /* limits are read; the third argument would set them */
    {.profiles = ALL, .call = "prlimit64", .argument = 2, .mask = UINT64_MAX},
    {.profiles = ALL, .call = "getrlimit"},
    {.profiles = ALL, .call = "uname"},
    {.profiles = ALL, .call = "sysinfo"},
    {.profiles = ALL, .call = "getrusage"},

    /* descriptors */
    {.profiles = ALL, .call = "read"},
    {.profiles = ALL, .call = "write"},
    {.profiles = ALL, .call = "readv"},
    {.profiles = ALL, .call = "writev"},
    {.profiles = ALL, .call = "close"},
    {.profiles = ALL, .call = "fcntl"},
    {.profiles = ALL, .call = "fstat"},
    {.profiles = ALL, .call = "newfstatat"},
    {.profiles = ALL, .call = "statx"},
    {.profiles = ALL, .call = "lseek"},
    {.profiles = ALL, .call = "poll"},
    {.profiles = ALL, .call = "ppoll"},
    {.profiles = C | H, .call = "pread64"},
    {.profiles = C, .call = "getdents64"},
    {.profiles = NET, .call = "dup"},
    {.profiles = NET, .call = "dup3"},
    {.profiles = NET, .call = "pipe2"},
    {.profiles = NET, .call = "eventfd2"},
    {.profiles = NET, .call = "timerfd_create"},
    {.profiles = NET, .call = "timerfd_settime"},
    {.profiles = NET, .call = "epoll_create1"},
    {.profiles = NET, .call = "epoll_ctl"},
    {.profiles = NET, .call = "epoll_wait"},
    {.profiles = NET, .call = "epoll_pwait"},
    {.profiles = NET, .call = "epoll_pwait2"},
    {.profiles = NET, .call = "splice"},
    {.profiles = NET, .call = "sendfile"},
    {.profiles = ALL, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = TCGETS},
    {.profiles = NET, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = FIONREAD},
    {.profiles = NET, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = TIOCOUTQ},
    {.profiles = NET, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = SIOCATMARK},
    {.profiles = NET, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = FIONBIO},
    {.profiles = NET, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = FIOCLEX},
    /* newer libuvs try it; it would go around the filter, so it does not exist */
    {.profiles = D | NET, .call = "io_uring_setup", .error = ENOSYS},

    /* sockets */
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET},
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET6},
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_UNIX},
    {.profiles = NET, .call = "bind"},
    {.profiles = NET, .call = "listen"},
    {.profiles = NET, .call = "accept"},
    {.profiles = NET, .call = "accept4"},
    {.profiles = NET, .call = "connect"},
    {.profiles = NET, .call = "shutdown"},
    {.profiles = NET, .call = "getsockname"},
    {.profiles = NET, .call = "getpeername"},
    {.profiles = NET, .call = "getsockopt"},
    {.profiles = NET, .call = "setsockopt"},
    {.profiles = NET | L, .call = "sendto"},
    {.profiles = NET | L, .call = "sendmsg"},
    {.profiles = NET, .call = "sendmmsg"},
    {.profiles = NET, .call = "recvfrom"},
    {.profiles = NET | H, .call = "recvmsg"},
    {.profiles = NET, .call = "recvmmsg"},
    /* The scope of fe80::1%eth0, if_nametoindex(3), and the addresses of this machine,
     * getifaddrs(3). Without privileges both sockets only ask. An address of netlink's size reaches
     * no Unix socket but one with a path of ten characters. */
    {.profiles = H, .call = "socket", .mask = WHOLE, .value = AF_UNIX},
    {.profiles = H, .call = "socket", .mask = WHOLE, .value = AF_NETLINK, .also_argument = 2,
     .also_mask = WHOLE, .also_value = NETLINK_ROUTE},
    {.profiles = H, .call = "bind", .argument = 2, .mask = WHOLE, .value = NETLINK_ADDRESS},
    {.profiles = H, .call = "sendto", .argument = 5, .mask = WHOLE, .value = NETLINK_ADDRESS},
    {.profiles = H, .call = "getsockname"},
    {.profiles = C | H, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = SIOCGIFINDEX},

    /* files: see above */
    {.profiles = D, .call = "openat"},
    {.profiles = L, .call = "openat", .argument = 2, .mask = O_ACCMODE, .value = O_WRONLY},
    {.profiles = L, .call = "openat", .error = EACCES, .argument = 2, .mask = O_ACCMODE},
    {.profiles = W, .call = "openat", .error = EACCES, .argument = 2, .mask = FOR_WRITING},
    {.profiles = C | H, .call = "openat", .argument = 2, .mask = FOR_WRITING},
    {.profiles = C, .call = "unlink"},
    {.profiles = C, .call = "unlinkat"},
    {.profiles = C, .call = "lstat"},
    {.profiles = H, .call = "openat", .error = EACCES, .argument = 2, .mask = O_ACCMODE,
     .value = O_WRONLY},
    {.profiles = H, .call = "openat", .error = EACCES, .argument = 2, .mask = O_ACCMODE,
     .value = O_RDWR},
    {.profiles = H, .call = "openat", .error = EACCES, .argument = 2, .mask = O_CREAT,
     .value = O_CREAT},
    {.profiles = H, .call = "openat", .error = EACCES, .argument = 2, .mask = O_TRUNC,
     .value = O_TRUNC},
    {.profiles = H, .call = "getdents64"},
    {.profiles = H, .call = "access"},
    {.profiles = H, .call = "faccessat"},
    {.profiles = H, .call = "faccessat2"},
    {.profiles = H, .call = "readlink"},
    {.profiles = H, .call = "readlinkat"},
    {.profiles = H, .call = "getcwd"},

    /* processes and threads: clone3 keeps its flags in memory, where no filter sees them */
    {.profiles = D | H, .call = "clone3", .error = ENOSYS},
    {.profiles = D, .call = "clone", .mask = CLONE_THREAD, .value = CLONE_THREAD},
    {.profiles = H, .call = "clone", .mask = WHOLE, .value = FORK_FLAGS},
    {.profiles = H, .call = "alarm"},
    {.profiles = H, .call = "setitimer"},
    {.profiles = C, .call = "kill", .argument = 1, .mask = WHOLE, .value = SIGKILL},
    {.profiles = C, .call = "wait4"},

    /* for sandbox_narrow */
    {.profiles = D, .call = "seccomp"},
    {.profiles = D, .call = "prctl", .mask = WHOLE, .value = PR_SET_NO_NEW_PRIVS},
    {.profiles = D, .call = "prctl", .mask = WHOLE, .value = PR_GET_NO_NEW_PRIVS},
    {.profiles = D, .call = "prctl", .mask = WHOLE, .value = PR_GET_SECCOMP},
};
/* clang-format on */

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool entered;

bool sandbox_is_built(void)
{
    return !SANITIZED;
}

static int refuse(int failed, const char *what, char *error, size_t error_size)
{
    snprintf(error, error_size, "cannot %s: %s", what, strerrordesc_np(-failed));
    return failed;
}

/* ---- system calls ---- */

/* What the threads may do, the process may; what they are refused, it may still do. */
static bool is_for(const struct rule *rule, enum sandbox_profile profile)
{
    if (profile == SANDBOX_DAEMON && rule->error == 0)
        return rule->profiles & (D | L | C | W);
    return rule->profiles >> profile & 1;
}

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
    uint32_t action = rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW;
    const struct scmp_arg_cmp compare[] = {
        {rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value},
        {rule->also_argument, SCMP_CMP_MASKED_EQ, rule->also_mask, rule->also_value},
    };
    unsigned count = (rule->mask != 0 ? 1u : 0u) + (rule->also_mask != 0 ? 1u : 0u);
    int number = seccomp_syscall_resolve_name(rule->call);

    /* Negative: known, but not to this processor. */
    if (number == __NR_SCMP_ERROR || number < 0)
        return 0;
    return seccomp_rule_add_array(filter, action, number, count, compare);
}

/*
 * CTL_SSB: without it kernels before 5.16 slow each thread down, against what code of strangers
 * could find out; weir runs none. The other two may be unknown to an old kernel.
 */
static int set_attributes(scmp_filter_ctx filter)
{
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    return seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
}

/* A tracer that has a call skipped (strace -e inject) makes its number this one, which is none. */
static int allow_skipped(scmp_filter_ctx filter)
{
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_API_TSKIP, 1);

    return failed ? failed : seccomp_rule_add(filter, SCMP_ACT_ALLOW, -1, 0);
}

static int build(scmp_filter_ctx filter, enum sandbox_profile profile)
{
    int failed = set_attributes(filter);

    failed = failed ? failed : allow_skipped(filter);
    for (size_t i = 0; i < ARRAY_LEN(rules) && !failed; i++) {
        if (is_for(&rules[i], profile))
            failed = add_rule(filter, &rules[i]);
    }
    return failed ? failed : seccomp_load(filter);
}

static int load(enum sandbox_profile profile)
{
    int failed = -ENOMEM;

    pthread_mutex_lock(&one_at_a_time);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter != NULL)
        failed = build(filter, profile);
    seccomp_release(filter);
    pthread_mutex_unlock(&one_at_a_time);
    return failed;
}

/*
 * The helper stays root to read what root may read, and is nothing else of root. Bare calls: it has
 * one thread. What it does not hold anyway, it is not given.
 */
static int keep_reading_only(void)
{
    struct __user_cap_header_struct self = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &self, held) < 0)
        return -errno;
    held[0].permitted &= 1u << CAP_DAC_READ_SEARCH;
    held[0].effective &= held[0].permitted;
    held[0].inheritable = 0;
    held[1] = (struct __user_cap_data_struct){0};
    return syscall(SYS_capset, &self, held) < 0 ? -errno : 0;
}

int sandbox_enter(enum sandbox_profile profile, char *error, size_t error_size)
{
    const char *what = "give up system calls";

    if (!sandbox_is_built())
        return 0;
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 && errno == EINVAL)
        return refuse(-ENOSYS, what, error, error_size);
    int failed = profile == SANDBOX_HELPER ? keep_reading_only() : 0;
    failed = failed ? failed : load(profile);
    if (failed)
        return refuse(failed == -ENOSYS ? -EINVAL : failed, what, error, error_size);
    if (profile == SANDBOX_DAEMON)
        atomic_store(&entered, true);
    return 0;
}

void sandbox_narrow(enum sandbox_profile profile)
{
    if (atomic_load(&entered))
        BUG_ON(load(profile) != 0);
}

/* ---- files ---- */

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

/* False when there is no such file, or it is out of reach: then there is nothing to except. */
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

/* See above, of libuv. Of folders the names can be read, of files nothing. */
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
    const char *what = "give up files";

    if (!sandbox_is_built())
        return 0;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0) /* not built in, or switched off (EOPNOTSUPP) */
        return refuse(-ENOSYS, what, error, error_size);
    const struct landlock_ruleset_attr all = {.handled_access_fs = handled(version)};
    /* The first field alone: what later versions added stays unhandled. */
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all.handled_access_fs), 0);
    int failed = ruleset < 0 ? -errno : confine(ruleset, log_target, admin_socket);
    if (ruleset >= 0)
        close(ruleset);
    return failed ? refuse(failed, what, error, error_size) : 0;
}
