/* Lines reach the target whole and once, whatever it refuses in between. */
#include "common/log_target.h"

#include "common/log_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LINE "0123456789\n"
#define LINE_LENGTH (sizeof(LINE) - 1)

static char folder[] = "/tmp/weir-test-log-target-XXXXXX";
static char path[64];
static char other[64];
static struct log_target target;
static uint64_t written;

static int group_setup(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/log", folder);
    snprintf(other, sizeof(other), "%s/log.1", folder);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int setup(void **state)
{
    (void)state;
    written = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_target_close(&target);
    unlink(path);
    unlink(other);
    return 0;
}

static void add(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t room;
        char *space = log_target_space(&target, &room);
        assert_true(room >= strlen(bytes));
        memcpy(space, bytes, strlen(bytes));
        log_target_add(&target, strlen(bytes));
    }
}

static void expect_file(const char *name, const char *content)
{
    char found[4096];
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, found, sizeof(found) - 1);
    close(fd);
    assert_true(n >= 0);
    found[n] = '\0';
    assert_string_equal(found, content);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_file_is_made_and_appended_to(void **state)
{
    (void)state;
    umask(0);
    assert_int_equal(log_target_open(&target, path), 0);
    add("one\n", 1);
    assert_true(log_target_pending(&target));
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_false(log_target_pending(&target));
    log_target_close(&target);
    assert_int_equal(log_target_open(&target, path), 0);
    add("two\n", 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_int_equal(written, 2);
    expect_file(path, "one\ntwo\n");

    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    int flags = fcntl(target.fd, F_GETFL);
    assert_true(flags & O_APPEND);
    assert_int_equal(fcntl(target.fd, F_GETFD), FD_CLOEXEC);
}

static void test_open_fails(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, "/nowhere/log"), -ENOENT);
    assert_int_equal(log_target_open(&target, folder), -EISDIR);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(log_target_open(&target, path), -ENXIO); /* a fifo without a reader */
    assert_int_equal(log_target_open(&target, "/dev/null"), 0);
}

/* The disk fills up inside the third line and has room again later. */
static void test_torn_line_is_finished_first(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, path), 0);
    add(LINE, 5);
    limit_file_size(2 * LINE_LENGTH + 4);
    assert_int_equal(log_target_flush(&target, &written), -EFBIG);
    assert_int_equal(written, 2);
    assert_int_equal(log_target_discard(&target), 2);
    assert_true(log_target_pending(&target));

    add("dropped\n", 1);
    assert_int_equal(log_target_flush(&target, &written), -EFBIG);
    assert_int_equal(log_target_discard(&target), 1);
    assert_int_equal(log_target_discard(&target), 0);

    limit_file_size(RLIM_INFINITY);
    add("after\n", 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_int_equal(written, 4);
    expect_file(path, LINE LINE LINE "after\n");
}

static void test_discard_at_a_line_end_keeps_nothing(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, path), 0);
    add(LINE, 3);
    limit_file_size(LINE_LENGTH);
    assert_int_equal(log_target_flush(&target, &written), -EFBIG);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(log_target_discard(&target), 2);
    assert_false(log_target_pending(&target));
    assert_int_equal(log_target_discard(&target), 0);
}

static void test_reopen_follows_the_path(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, path), 0);
    add("old\n", 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_int_equal(rename(path, other), 0);
    add("new\n", 1);
    assert_int_equal(log_target_reopen(&target), 0);
    assert_int_equal(log_target_flush(&target, &written), 0);
    expect_file(other, "old\n");
    expect_file(path, "new\n");
}

static void test_reopen_gives_up_half_a_line(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, path), 0);
    add(LINE, 2);
    limit_file_size(5);
    assert_int_equal(log_target_flush(&target, &written), -EFBIG);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(log_target_reopen(&target), 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_int_equal(written, 1);
    expect_file(path, LINE);
}

static void test_failed_reopen_keeps_the_old_file(void **state)
{
    (void)state;
    assert_int_equal(log_target_open(&target, path), 0);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(log_target_reopen(&target), -EISDIR);
    add("kept\n", 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    expect_file(other, "kept\n");
    assert_int_equal(rmdir(path), 0);
}

/* Bytes come whole lines at a time, so that two processes' lines do not mix, and nothing blocks. */
static void test_full_fifo_is_eagain(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(fcntl(reader, F_SETPIPE_SZ, 8192), 8192);
    assert_int_equal(log_target_open(&target, path), 0);
    add(LINE, 1000);
    assert_int_equal(log_target_flush(&target, &written), -EAGAIN);
    assert_in_range(written, 1, 8192 / LINE_LENGTH);

    int queued;
    assert_int_equal(ioctl(reader, FIONREAD, &queued), 0);
    assert_int_equal((size_t)queued, written * LINE_LENGTH);

    uint64_t received = 0;
    int error;
    do {
        char bytes[PIPE_BUF];
        error = log_target_flush(&target, &written);
        for (ssize_t n; (n = read(reader, bytes, sizeof(bytes))) > 0;)
            received += log_lines_in(bytes, (size_t)n);
    } while (error == -EAGAIN);
    assert_int_equal(error, 0);
    assert_int_equal(written, 1000);
    assert_int_equal(received, 1000);
    close(reader);
    add(LINE, 1);
    assert_int_equal(log_target_flush(&target, &written), -EPIPE);
    assert_int_equal(log_target_discard(&target), 1);
}

/* Standard error becomes `fd` for the time of opening the target. */
static void open_as_stderr(int fd)
{
    int saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    int error = log_target_open(&target, "stderr");
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(error, 0);
}

static void test_shared_stderr_stays_as_it_is(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    open_as_stderr(ends[1]);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    int error = 0;
    for (int i = 0; i < 100 && error == 0; i++) {
        add(LINE, 100);
        error = log_target_flush(&target, &written);
    }
    assert_int_equal(error, -EAGAIN);
    assert_int_equal(log_target_reopen(&target), 0);
    close(ends[0]);
    close(ends[1]);
}

/* As under journald. A socket takes part of a chunk: the order and the count hold. */
static void test_socket(void **state)
{
    (void)state;
    int ends[2];
    int least = 1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
    open_as_stderr(ends[1]);
    add(LINE, 2000);

    size_t received = 0;
    int error;
    do {
        char bytes[100];
        error = log_target_flush(&target, &written);
        for (ssize_t n; (n = recv(ends[0], bytes, sizeof(bytes), MSG_DONTWAIT)) > 0;) {
            for (ssize_t i = 0; i < n; i++)
                assert_int_equal(bytes[i], LINE[received++ % LINE_LENGTH]);
        }
    } while (error == -EAGAIN);
    assert_int_equal(error, 0);
    assert_int_equal(written, 2000);
    assert_int_equal(received, 2000 * LINE_LENGTH);
    close(ends[0]);
    add(LINE, 1);
    assert_int_equal(log_target_flush(&target, &written), -EPIPE);
    close(ends[1]);
}

static void test_stderr_file_is_not_opened_anew(void **state)
{
    (void)state;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    open_as_stderr(fd);
    assert_int_equal(write(fd, "theirs\n", 7), 7);
    add("ours\n", 1);
    assert_int_equal(log_target_flush(&target, &written), 0);
    assert_int_equal(write(fd, "theirs\n", 7), 7);
    expect_file(path, "theirs\nours\ntheirs\n");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_is_made_and_appended_to, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_line_is_finished_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discard_at_a_line_end_keeps_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen_follows_the_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen_gives_up_half_a_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_reopen_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_fifo_is_eagain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shared_stderr_stays_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stderr_file_is_not_opened_anew, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
