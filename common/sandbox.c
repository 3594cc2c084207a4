/*
 * Purpose: see sandbox.h.
 * Thread:  see sandbox.h.
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
 * Control opens for reading, as far as Landlock lets it, for libuv's sake: see sandbox_files.c.
 *
 * Of libseccomp come the numbers of the calls, by name, because not every processor has each of
 * them. The filter is put together here: the library's way takes 1,500 allocations a profile, and
 * when one of them fails it may load a filter that ends the process at its next call.
 */
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
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

/* Bits of a rule: the profiles that it is for. */
#define D (1u << SANDBOX_DAEMON)
#define L (1u << SANDBOX_LOG)
#define C (1u << SANDBOX_CONTROL)
#define W (1u << SANDBOX_WORKER)
#define H (1u << SANDBOX_HELPER)
#define NET (C | W)
#define ALL (D | L | C | W | H)

#define WHOLE UINT32_MAX /* of an argument that is an int */
#define SOCKET_TYPE 0xf  /* without SOCK_NONBLOCK and SOCK_CLOEXEC: net/socket.c */
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
    /* no raw ones, which CAP_NET_RAW would allow */
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET, .also_argument = 1,
     .also_mask = SOCKET_TYPE, .also_value = SOCK_STREAM},
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET, .also_argument = 1,
     .also_mask = SOCKET_TYPE, .also_value = SOCK_DGRAM},
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET6, .also_argument = 1,
     .also_mask = SOCKET_TYPE, .also_value = SOCK_STREAM},
    {.profiles = NET, .call = "socket", .mask = WHOLE, .value = AF_INET6, .also_argument = 1,
     .also_mask = SOCKET_TYPE, .also_value = SOCK_DGRAM},
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
    /* and back to its name, if_indextoname(3), wherever an address becomes text */
    {.profiles = NET | H, .call = "ioctl", .argument = 1, .mask = WHOLE, .value = SIOCGIFNAME},

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

/* A filter is a program of the classic BPF kind: Documentation/userspace-api/seccomp_filter.rst. */
#define PROGRAM_MAX 1024

struct program {
    size_t length;
    struct sock_filter code[PROGRAM_MAX];
};

/* 32 bits of an argument: those under the mask are to be `value`. */
struct half {
    size_t offset;
    uint32_t mask, value;
};

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

static void add(struct program *program, uint16_t code, uint32_t k, size_t over, size_t or_over)
{
    BUG_ON(program->length == PROGRAM_MAX || over > UINT8_MAX || or_over > UINT8_MAX);
    program->code[program->length++] =
        (struct sock_filter){.code = code, .jt = (uint8_t)over, .jf = (uint8_t)or_over, .k = k};
}

static void load_field(struct program *program, size_t offset)
{
    add(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void give(struct program *program, uint32_t action)
{
    add(program, BPF_RET | BPF_K, action, 0, 0);
}

/* One half of an argument; where it differs, `rest` more instructions after these are left out. */
static void add_half(struct program *program, const struct half *half, size_t rest)
{
    load_field(program, half->offset);
    add(program, BPF_ALU | BPF_AND | BPF_K, half->mask, 0, 0);
    add(program, BPF_JMP | BPF_JEQ | BPF_K, half->value, 0, rest);
}

/* The halves that have something to hold. */
static size_t split(unsigned argument, uint64_t mask, uint64_t value, struct half half[static 2])
{
    size_t low = offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t);
    size_t high = low + sizeof(uint32_t);
    size_t count = 0;

    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) {
        high = low;
        low += sizeof(uint32_t);
    }
    if ((uint32_t)mask != 0)
        half[count++] = (struct half){low, (uint32_t)mask, (uint32_t)value};
    if (mask >> 32 != 0)
        half[count++] = (struct half){high, (uint32_t)(mask >> 32), (uint32_t)(value >> 32)};
    return count;
}

/*
 * The number is loaded before and after.
 *
 *      number?  half? half?…  give the action  load the number again  the next rule
 *         └────────│─────│───────────────────────────────────────────────▲
 *                  └─────┴────────────────────────────▲
 */
static void add_rule(struct program *program, const struct rule *rule, uint32_t number)
{
    uint32_t action =
        rule->error ? SECCOMP_RET_ERRNO | (uint32_t)rule->error : (uint32_t)SECCOMP_RET_ALLOW;
    struct half half[4];
    size_t count = split(rule->argument, rule->mask, rule->value, half);

    count += split(rule->also_argument, rule->also_mask, rule->also_value, half + count);
    add(program, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3 * count + 1 + (count > 0));
    for (size_t i = 0; i < count; i++)
        add_half(program, &half[i], 3 * (count - 1 - i) + 1);
    give(program, action);
    if (count > 0)
        load_field(program, offsetof(struct seccomp_data, nr));
}

static void add_rules(struct program *program, enum sandbox_profile profile, bool conditional)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        if (!is_for(&rules[i], profile) || (rules[i].mask != 0) != conditional)
            continue;
        int number = seccomp_syscall_resolve_name(rules[i].call);
        if (number >= 0) /* or it is known, but not to this processor */
            add_rule(program, &rules[i], (uint32_t)number);
    }
}

/*
 * The calls whose arguments matter come first: the kernel remembers of the others that they are
 * always allowed, and runs no program for them (since 5.11).
 */
static void build(struct program *program, enum sandbox_profile profile)
{
    load_field(program, offsetof(struct seccomp_data, arch));
    add(program, BPF_JMP | BPF_JEQ | BPF_K, seccomp_arch_native(), 1, 0);
    give(program, SECCOMP_RET_KILL_PROCESS);
    load_field(program, offsetof(struct seccomp_data, nr));
    add_rules(program, profile, true);
    add_rules(program, profile, false);
    /* A tracer that has a call skipped (strace -e inject) makes its number -1, which is none. */
    add(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)-1, 0, 1);
    give(program, SECCOMP_RET_ALLOW);
    give(program, SECCOMP_RET_KILL_PROCESS);
}

/*
 * SPEC_ALLOW: without it kernels before 5.16 slow each thread down, against what code of strangers
 * could find out; weir runs none. Kernels before 4.17 do not know it, those before 4.14 neither.
 */
static int load(enum sandbox_profile profile)
{
    static const unsigned long flags[] = {SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                                          SECCOMP_FILTER_FLAG_LOG, 0};
    struct program program = {.length = 0};
    long failed = -1;

    build(&program, profile);
    const struct sock_fprog filter = {.len = (unsigned short)program.length,
                                      .filter = program.code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    errno = EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(flags) && failed && errno == EINVAL; i++)
        failed = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &filter);
    return failed ? -errno : 0;
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
