/*
 * What each profile leaves, and that the rest ends the process by SIGSYS. Each case runs in a
 * child, which cannot go back. Nothing of it is there in builds with a sanitizer.
 */
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define FINE 0
#define NO_SECCOMP 77

static char error[256];
static char folder[] = "/tmp/weir-sandbox-XXXXXX";

/* ---- what is tried; true: it worked ---- */

static bool reads_and_writes(void)
{
    int ends[2];
    char byte = 'x';
    return pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], &byte, 1) == 1 &&
           read(ends[0], &byte, 1) == 1 && close(ends[0]) == 0 && close(ends[1]) == 0;
}

static bool allocates(void)
{
    char *much = malloc(64u << 20);
    if (much == NULL)
        return false;
    memset(much, 1, 4096);
    free(much);
    return true;
}

static int compare_bytes(const void *one, const void *other)
{
    return *(const char *)one - *(const char *)other;
}

/* glibc asks how much memory there is first. */
static bool sorts_a_large_array(void)
{
    size_t size = 4u << 20;
    char *array = calloc(1, size);
    if (array == NULL)
        return false;
    array[0] = 1;
    qsort(array, size / 64, 64, compare_bytes);
    bool sorted = array[0] == 0 && array[size - 64] == 1;
    free(array);
    return sorted;
}

static bool sends_a_datagram(void)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);
    char byte = 'x';
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&own, 0, sizeof(own));
    own.ss_family = AF_INET;
    return fd >= 0 && bind(fd, (struct sockaddr *)&own, sizeof(struct sockaddr_in)) == 0 &&
           getsockname(fd, (struct sockaddr *)&own, &size) == 0 &&
           connect(fd, (struct sockaddr *)&own, size) == 0 && send(fd, &byte, 1, 0) == 1 &&
           recv(fd, &byte, 1, 0) == 1 && close(fd) == 0;
}

/* The text of a link-local address has it. */
static bool names_an_interface(void)
{
    char name[IF_NAMESIZE];
    return if_indextoname(1, name) != NULL;
}

static void *do_nothing(void *arg)
{
    return arg;
}

static bool makes_a_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, do_nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool forks(void)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child > 0 && (waitpid(child, &status, 0) == child) && status == 0;
}

static bool forks_unwatched(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child > 0;
}

static bool opens(const char *path, int flags)
{
    int fd = openat(AT_FDCWD, path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool reads_a_file(void)
{
    return opens("/etc/passwd", O_RDONLY);
}

static bool writes_a_file(void)
{
    return opens("/dev/null", O_WRONLY);
}

static bool is_refused_to_read(void)
{
    return !reads_a_file() && errno == EACCES;
}

static bool is_refused_to_write(void)
{
    return !writes_a_file() && errno == EACCES && !opens("/dev/null", O_RDWR) && errno == EACCES &&
           !opens("/tmp/weir-none", O_CREAT | O_RDONLY) && errno == EACCES;
}

static bool removes_a_file(void)
{
    return unlink("/no-such-file") < 0 && errno == ENOENT;
}

static bool runs_a_program(void)
{
    char *const words[] = {"true", NULL};
    char *const none[] = {NULL};
    return execve("/bin/true", words, none) == 0;
}

static bool traces(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool becomes_root(void)
{
    return syscall(SYS_setuid, 0) == 0;
}

static bool makes_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static bool raises_a_limit(void)
{
    const struct rlimit limit = {10, 10};
    return prlimit(0, RLIMIT_NOFILE, &limit, NULL) == 0;
}

static bool opens_a_netlink_socket(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 0) >= 0;
}

/* Who may not do so anyway is ended for it too. */
static bool opens_a_raw_socket(void)
{
    return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP) >= 0;
}

static bool opens_a_raw_socket_of_ipv6(void)
{
    return socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6) >= 0;
}

static bool opens_a_packet_socket(void)
{
    return socket(AF_PACKET, SOCK_DGRAM, 0) >= 0;
}

static bool opens_sockets_of_each_kind(void)
{
    static const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < 2; i++) {
        int stream = socket(families[i], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int datagram = socket(families[i], SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (stream < 0 || datagram < 0)
            return false;
    }
    return true;
}

static bool opens_another_netlink_socket(void)
{
    return socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT) >= 0;
}

static bool knows_interfaces(void)
{
    struct ifaddrs *interfaces = NULL;
    bool known = getifaddrs(&interfaces) == 0 && interfaces != NULL;
    freeifaddrs(interfaces);
    return known && if_nametoindex("lo") != 0;
}

/* CapEff of the process as the kernel tells it. */
static bool holds_nothing_but_reading(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t length = read(fd, text, sizeof(text) - 1);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "CapPrm:");
    return line != NULL && (strtoull(line + strlen("CapPrm:"), NULL, 16) &
                            ~(UINT64_C(1) << CAP_DAC_READ_SEARCH)) == 0;
}

static bool mounts(void)
{
    return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL) == 0;
}

static bool lacks_io_uring(void)
{
    return syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == ENOSYS;
}

static bool survives_a_skipped_call(void)
{
    return syscall(-1) < 0 && errno == ENOSYS;
}

static bool breaks(void)
{
    BUG_ON(sandbox_is_built());
    return false;
}

/* ---- children ---- */

static int try(enum sandbox_profile profile, bool (*act)(void))
{
    int failed = sandbox_enter(profile, error, sizeof(error));
    if (failed)
        return failed == -ENOSYS ? NO_SECCOMP : 1;
    return act() ? FINE : 2;
}

static int status_of(enum sandbox_profile profile, bool (*act)(void))
{
    const struct rlimit no_core = {0, 0};
    int status;
    if (!sandbox_is_built())
        skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        _exit(try(profile, act));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_SECCOMP)
        skip();
    return status;
}

static void expect_works(enum sandbox_profile profile, bool (*act)(void), const char *name)
{
    int status = status_of(profile, act);
    if (status != 0)
        fail_msg("%s in profile %d: wait status %x", name, (int)profile, (unsigned)status);
}

static void expect_kills(enum sandbox_profile profile, bool (*act)(void), const char *name)
{
    int status = status_of(profile, act);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        fail_msg("%s in profile %d: wait status %x", name, (int)profile, (unsigned)status);
}

#define WORKS(profile, act) expect_works(SANDBOX_##profile, act, #act)
#define KILLS(profile, act) expect_kills(SANDBOX_##profile, act, #act)

/* ---- the profiles ---- */

static void test_daemon(void **state)
{
    (void)state;
    WORKS(DAEMON, reads_and_writes);
    WORKS(DAEMON, allocates);
    WORKS(DAEMON, sorts_a_large_array);
    WORKS(DAEMON, sends_a_datagram);
    WORKS(DAEMON, names_an_interface);
    WORKS(DAEMON, makes_a_thread);
    WORKS(DAEMON, writes_a_file);
    WORKS(DAEMON, removes_a_file);
    WORKS(DAEMON, lacks_io_uring);
    WORKS(DAEMON, survives_a_skipped_call);
}

static void test_worker(void **state)
{
    (void)state;
    WORKS(WORKER, reads_and_writes);
    WORKS(WORKER, allocates);
    WORKS(WORKER, sorts_a_large_array);
    WORKS(WORKER, sends_a_datagram);
    WORKS(WORKER, names_an_interface);
    WORKS(WORKER, is_refused_to_read);
    KILLS(WORKER, writes_a_file);
    KILLS(WORKER, removes_a_file);
    KILLS(WORKER, makes_a_thread);
}

static void test_control(void **state)
{
    (void)state;
    WORKS(CONTROL, reads_and_writes);
    WORKS(CONTROL, allocates);
    WORKS(CONTROL, sorts_a_large_array);
    WORKS(CONTROL, sends_a_datagram);
    WORKS(CONTROL, names_an_interface);
    WORKS(CONTROL, removes_a_file);
    WORKS(CONTROL, opens_sockets_of_each_kind);
    WORKS(CONTROL, reads_a_file);
    KILLS(CONTROL, writes_a_file);
    KILLS(CONTROL, makes_a_thread);
}

static void test_log(void **state)
{
    (void)state;
    WORKS(LOG, allocates);
    WORKS(LOG, sorts_a_large_array);
    WORKS(LOG, writes_a_file);
    WORKS(LOG, is_refused_to_read);
    KILLS(LOG, sends_a_datagram);
    KILLS(LOG, removes_a_file);
    KILLS(LOG, makes_a_thread);
}

static void test_helper(void **state)
{
    (void)state;
    WORKS(HELPER, allocates);
    WORKS(HELPER, sorts_a_large_array);
    WORKS(HELPER, reads_a_file);
    WORKS(HELPER, forks_unwatched);
    WORKS(HELPER, knows_interfaces);
    WORKS(HELPER, holds_nothing_but_reading);
    KILLS(HELPER, opens_another_netlink_socket);
    WORKS(HELPER, is_refused_to_write);
    KILLS(HELPER, sends_a_datagram);
    WORKS(HELPER, names_an_interface);
    KILLS(HELPER, makes_a_thread);
    KILLS(HELPER, removes_a_file);
}

static void test_nobody(void **state)
{
    (void)state;
    for (enum sandbox_profile profile = SANDBOX_DAEMON; profile <= SANDBOX_HELPER; profile++) {
        expect_kills(profile, runs_a_program, "execve");
        expect_kills(profile, traces, "ptrace");
        expect_kills(profile, becomes_root, "setuid");
        expect_kills(profile, makes_code, "mmap of code");
        expect_kills(profile, raises_a_limit, "a limit set");
        expect_kills(profile, mounts, "mount");
        if (profile == SANDBOX_HELPER)
            continue;
        expect_kills(profile, opens_a_netlink_socket, "a netlink socket");
        expect_kills(profile, opens_a_raw_socket, "a raw socket");
        expect_kills(profile, opens_a_raw_socket_of_ipv6, "a raw socket of IPv6");
        expect_kills(profile, opens_a_packet_socket, "a packet socket");
        expect_kills(profile, forks, "fork");
    }
}

static void test_a_bug_still_aborts(void **state)
{
    (void)state;
    for (enum sandbox_profile profile = SANDBOX_DAEMON; profile <= SANDBOX_HELPER; profile++) {
        int status = status_of(profile, breaks);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

/* ---- a thread's own, on top ---- */

static void *narrow_and_write(void *arg)
{
    sandbox_narrow(SANDBOX_WORKER);
    return writes_a_file() ? arg : NULL;
}

static bool narrows_a_thread(void)
{
    static int token;
    pthread_t thread;
    void *wrote = NULL;
    return pthread_create(&thread, NULL, narrow_and_write, &token) == 0 &&
           pthread_join(thread, &wrote) == 0 && wrote == &token;
}

static void *narrow(void *arg)
{
    sandbox_narrow(SANDBOX_WORKER);
    return sends_a_datagram() ? arg : NULL;
}

static bool stays_wide_beside_a_narrow_thread(void)
{
    static int token;
    pthread_t thread;
    void *worked = NULL;
    return pthread_create(&thread, NULL, narrow, &token) == 0 &&
           pthread_join(thread, &worked) == 0 && worked == &token && writes_a_file();
}

static void test_narrow(void **state)
{
    (void)state;
    WORKS(DAEMON, stays_wide_beside_a_narrow_thread);
    KILLS(DAEMON, narrows_a_thread);
}

static void test_narrow_alone_does_nothing(void **state)
{
    (void)state;
    sandbox_narrow(SANDBOX_WORKER);
    assert_true(writes_a_file());
}

/* ---- files ---- */

static const char *in_folder(const char *name)
{
    static char path[2][PATH_MAX];
    static unsigned turn;
    char *out = path[turn++ % 2];
    snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return out;
}

static bool reaches_a_unix_server(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_folder("server"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* 0, or the line that did not hold. */
static int check_files(void)
{
    char log[PATH_MAX], socket[PATH_MAX];
    snprintf(log, sizeof(log), "%s", in_folder("log/weir.log"));
    snprintf(socket, sizeof(socket), "%s", in_folder("run/admin.sock"));
    int failed = sandbox_files(log, socket, error, sizeof(error));
    if (failed)
        return failed == -ENOSYS ? NO_SECCOMP : __LINE__;
    if (!opens(log, O_WRONLY | O_APPEND | O_CREAT) || !opens(log, O_WRONLY | O_APPEND))
        return __LINE__;
    if (unlink(log) == 0 || unlink(socket) < 0)
        return __LINE__;
    if (reads_a_file() || errno != EACCES || writes_a_file() || errno != EACCES)
        return __LINE__;
    if (opens(socket, O_WRONLY | O_CREAT) || mkdir(in_folder("log/new"), 0700) == 0)
        return __LINE__;
    if (!opens("/", O_RDONLY) || !opens("/dev/null", O_RDONLY))
        return __LINE__;
    return reaches_a_unix_server() ? 0 : __LINE__;
}

static int make_server(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_folder("server"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_files(void **state)
{
    int ends[2], status, line = -1;
    (void)state;
    if (!sandbox_is_built())
        skip();
    assert_int_equal(mkdir(in_folder("log"), 0700) | mkdir(in_folder("run"), 0700), 0);
    assert_true(opens(in_folder("run/admin.sock"), O_WRONLY | O_CREAT));
    int server = make_server();
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        line = check_files();
        _exit(write(ends[1], &line, sizeof(line)) != sizeof(line));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(read(ends[0], &line, sizeof(line)), sizeof(line));
    close(ends[0]);
    close(ends[1]);
    close(server);
    if (line == NO_SECCOMP)
        skip();
    if (line != 0)
        fail_msg("line %d did not hold in the child: %s", line, error);
}

/* ---- around ---- */

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(in_folder("log/weir.log"));
    unlink(in_folder("run/admin.sock"));
    unlink(in_folder("server"));
    rmdir(in_folder("log"));
    rmdir(in_folder("run"));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_daemon),
        cmocka_unit_test(test_worker),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_helper),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_a_bug_still_aborts),
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_narrow_alone_does_nothing),
        cmocka_unit_test_setup_teardown(test_files, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
