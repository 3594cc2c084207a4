/*
 * The log as a whole: rings, writer thread and target. Waiting is for things to happen, with a
 * deadline that only a hang reaches. What a log may never do: lose count, mix lines, or wait for
 * its reader.
 */
#include "common/log.h"

#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define HANG_MS 60000
#define STOP_MS 10000

static char folder[] = "/tmp/weir-test-log-XXXXXX";
static char path[64];
static char other[64];

static int group_setup(void **state)
{
    (void)state;
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
    return log_thread_attach("test");
}

static int teardown(void **state)
{
    (void)state;
    log_stop(0);
    log_thread_detach();
    unlink(path);
    unlink(other);
    return 0;
}

/* ---- making and reading ---- */

static void start(const char *target)
{
    char error[256] = "";
    const struct log_options options = {
        .target = target, .format = LOG_FORMAT_TEXT, .level = LOG_LEVEL_INFO};
    if (log_start(&options, error, sizeof(error)) < 0)
        fail_msg("%s", error);
}

static void log_number(unsigned thread, uint64_t number)
{
    log_info("line", LOG_U("thread", thread), LOG_U("number", number),
             LOG_S("filler", "................................................"));
}

static struct log_counts counts_now(void)
{
    struct log_counts counts;
    log_counts(&counts);
    return counts;
}

/* Until so many lines have been written or dropped. */
static void wait_for_lines(uint64_t lines)
{
    uint64_t deadline_ms = clock_now_ms() + HANG_MS;
    for (;;) {
        struct log_counts counts = counts_now();
        if (counts.written + counts.dropped >= lines)
            return;
        assert_true(clock_now_ms() < deadline_ms);
        sched_yield();
    }
}

#define THREADS 4

/* What a reader finds in a log. */
struct found {
    uint64_t lines; /* all of them */
    uint64_t notes; /* that tell of dropped lines */
    uint64_t told;  /* how many they tell of */
    uint64_t next[THREADS];
};

static uint64_t value_of(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    assert_non_null(at);
    return strtoull(at + strlen(key), NULL, 10);
}

/* Each thread's numbers rise; a line is whole. */
static void find_in_line(struct found *found, const char *line)
{
    found->lines++;
    if (strstr(line, " warn log lines dropped ")) {
        found->notes++;
        found->told += value_of(line, " lines=");
        return;
    }
    if (!strstr(line, " info line "))
        return;
    uint64_t thread = value_of(line, " thread=");
    uint64_t number = value_of(line, " number=");
    assert_true(thread < THREADS);
    assert_true(number >= found->next[thread]);
    assert_non_null(strstr(line, " filler=................................................\n"));
    assert_memory_equal(line, "20", 2);
    found->next[thread] = number + 1;
}

static void find_in_file(const char *name, struct found *found)
{
    char line[2 * LOG_LINE_MAX];
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    *found = (struct found){.lines = 0};
    while (fgets(line, sizeof(line), file))
        find_in_line(found, line);
    fclose(file);
}

/* Reads a pipe until nothing is in it. */
static void find_in_pipe(int fd, struct found *found)
{
    static char bytes[1 << 20];
    size_t length = 0;
    for (ssize_t n; (n = read(fd, bytes + length, sizeof(bytes) - 1 - length)) > 0;)
        length += (size_t)n;
    bytes[length] = '\0';
    for (char *at = bytes, *end; (end = strchr(at, '\n')); at = end + 1) {
        char line[LOG_LINE_MAX + 1];
        snprintf(line, sizeof(line), "%.*s", (int)(end + 1 - at), at);
        find_in_line(found, line);
    }
}

static int open_fifo(void)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* Standard error goes into a pipe meanwhile; what came is returned. */
struct capture {
    int saved;
    int read;
    char text[8192];
};

static void capture_begin(struct capture *capture)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    capture->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    capture->read = ends[0];
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
}

static const char *capture_end(struct capture *capture)
{
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    ssize_t n = read(capture->read, capture->text, sizeof(capture->text) - 1);
    capture->text[n < 0 ? 0 : n] = '\0';
    close(capture->read);
    return capture->text;
}

/* ---- where lines go ---- */

static void test_lines_reach_the_file_in_order(void **state)
{
    (void)state;
    start(path);
    for (uint64_t i = 0; i < 1000; i++)
        log_number(0, i);
    log_stop(STOP_MS);

    struct found found;
    find_in_file(path, &found);
    assert_int_equal(found.lines, 1000);
    assert_int_equal(found.next[0], 1000);
    assert_int_equal(counts_now().written, 1000);
    assert_int_equal(counts_now().dropped, 0);
}

static void test_an_idle_writer_wakes(void **state)
{
    (void)state;
    start(path);
    for (uint64_t i = 1; i <= 50; i++) {
        log_number(0, i);
        wait_for_lines(i);
    }
    assert_int_equal(counts_now().written, 50);
}

static void test_before_and_after_it_is_stderr(void **state)
{
    (void)state;
    struct capture capture;
    capture_begin(&capture);
    log_info("before", LOG_U("n", 1));
    start(path);
    log_info("between", LOG_U("n", 2));
    log_stop(STOP_MS);
    log_info("after", LOG_U("n", 3));
    const char *text = capture_end(&capture);
    assert_non_null(strstr(text, " info before n=1\n"));
    assert_null(strstr(text, "between"));
    assert_non_null(strstr(text, " info after n=3\n"));
    assert_int_equal(counts_now().written, 1);
}

static void *log_unattached(void *argument)
{
    (void)argument;
    log_warn("unattached", LOG_S("v", "a b"));
    return NULL;
}

static void test_an_unattached_thread_writes_to_stderr(void **state)
{
    (void)state;
    struct capture capture;
    pthread_t thread;
    start(path);
    capture_begin(&capture);
    assert_int_equal(pthread_create(&thread, NULL, log_unattached, NULL), 0);
    pthread_join(thread, NULL);
    assert_non_null(strstr(capture_end(&capture), " warn unattached v=\"a b\"\n"));
    assert_int_equal(counts_now().written, 0);
}

static void test_stderr_as_target(void **state)
{
    (void)state;
    struct capture capture;
    capture_begin(&capture);
    start("stderr");
    log_info("hello", LOG_U("n", 1));
    log_reopen();
    log_info("hello", LOG_U("n", 2));
    log_stop(STOP_MS);
    const char *text = capture_end(&capture);
    assert_non_null(strstr(text, " info hello n=1\n"));
    assert_non_null(strstr(text, " info hello n=2\n"));
}

static void test_levels_and_json(void **state)
{
    (void)state;
    char error[256];
    const struct log_options options = {
        .target = path, .format = LOG_FORMAT_JSON, .level = LOG_LEVEL_DEBUG};
    assert_int_equal(log_start(&options, error, sizeof(error)), 0);
    assert_true(log_enabled(LOG_LEVEL_DEBUG));
    log_debug("seen", LOG_U("n", 1));
    log_stop(STOP_MS);

    start(path);
    assert_false(log_enabled(LOG_LEVEL_DEBUG));
    log_debug("unseen", LOG_U("n", 2));
    log_stop(STOP_MS);

    char text[1024] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    assert_non_null(
        strstr(text, "\"level\":\"debug\",\"event\":\"seen\",\"thread\":\"test\",\"n\":1}\n"));
    assert_null(strstr(text, "unseen"));
}

static void test_start_says_why_not(void **state)
{
    (void)state;
    char error[256];
    const struct log_options options = {.target = "/nowhere/log"};
    assert_int_equal(log_start(&options, error, sizeof(error)), -ENOENT);
    assert_string_equal(error, "cannot open the log /nowhere/log: No such file or directory");
    log_stop(0);
    log_reopen();
}

/* ---- many threads ---- */

#define PER_THREAD 20000

static void *log_numbers(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    if (log_thread_attach("producer") < 0)
        return argument;
    for (uint64_t i = 0; i < PER_THREAD; i++)
        log_number(thread, i);
    log_thread_detach();
    return NULL;
}

static void test_threads_keep_order_and_count(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    start(path);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, log_numbers, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    log_stop(STOP_MS);

    struct found found;
    find_in_file(path, &found);
    struct log_counts counts = counts_now();
    assert_int_equal(found.lines, counts.written);
    assert_int_equal(found.told, counts.dropped);
    assert_int_equal(THREADS * PER_THREAD + found.notes, counts.written + counts.dropped);
}

/* ---- readers that stop ---- */

#define FLOOD 20000 /* lines: more than a pipe, a batch and a ring hold */

static void test_a_stopped_reader_delays_nobody(void **state)
{
    (void)state;
    int reader = open_fifo();
    start(path);
    for (uint64_t i = 0; i < FLOOD; i++)
        log_number(0, i);
    uint64_t before_ms = clock_now_ms();
    log_stop(50);
    assert_in_range(clock_now_ms() - before_ms, 50, HANG_MS);

    struct found found = {.lines = 0};
    find_in_pipe(reader, &found);
    struct log_counts counts = counts_now();
    assert_true(counts.dropped > 0);
    assert_int_equal(found.lines, counts.written);
    assert_int_equal(counts.written + counts.dropped, FLOOD + found.notes);
    close(reader);
}

static void test_a_reader_that_goes_on_is_told(void **state)
{
    (void)state;
    int reader = open_fifo();
    start(path);
    for (uint64_t i = 0; i < FLOOD; i++)
        log_number(0, i);
    uint64_t dropped = counts_now().dropped;
    assert_true(dropped > 0);

    struct found found = {.lines = 0};
    uint64_t deadline_ms = clock_now_ms() + HANG_MS;
    while (found.lines + dropped < FLOOD + found.notes) {
        struct pollfd ready = {.fd = reader, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, HANG_MS), 1);
        find_in_pipe(reader, &found);
        assert_true(clock_now_ms() < deadline_ms);
    }
    log_number(0, FLOOD);
    log_stop(STOP_MS);
    find_in_pipe(reader, &found);
    assert_true(found.notes > 0);
    assert_int_equal(found.told, dropped);
    assert_int_equal(found.next[0], FLOOD + 1);
    assert_int_equal(found.lines, counts_now().written);
    assert_int_equal(FLOOD + 1 + found.notes, counts_now().written + counts_now().dropped);
    close(reader);
}

/* No SIGPIPE either: it would end this test. */
static void test_a_reader_that_is_gone(void **state)
{
    (void)state;
    int reader = open_fifo();
    start(path);
    close(reader);
    for (uint64_t i = 0; i < 10; i++)
        log_number(0, i);
    wait_for_lines(10);
    assert_int_equal(counts_now().dropped, 10);

    reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    log_number(0, 10);
    log_stop(STOP_MS);
    struct found found = {.lines = 0};
    find_in_pipe(reader, &found);
    assert_int_equal(found.told, 10);
    assert_int_equal(found.next[0], 11);
    close(reader);
}

/* A shared descriptor is waited for and not blocked in, though it may block. */
static void test_a_stopped_reader_of_stderr(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(ends[1], STDERR_FILENO);
    start("stderr");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    for (uint64_t i = 0; i < FLOOD; i++)
        log_number(0, i);
    log_stop(20);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    struct found found = {.lines = 0};
    find_in_pipe(ends[0], &found);
    assert_int_equal(found.lines, counts_now().written);
    assert_int_equal(counts_now().written + counts_now().dropped, FLOOD + found.notes);
    close(ends[0]);
}

/* Opens a terminal that nobody may open again, so that the log has to share our blocking
 * descriptor. */
static int start_on_terminal(void)
{
    uid_t uid = geteuid();
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    assert_true(master >= 0 && unlockpt(master) == 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(terminal >= 0 && fchmod(terminal, 0) == 0);
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(terminal, STDERR_FILENO);
    if (uid == 0)
        assert_int_equal(seteuid(65534), 0);
    start("stderr");
    if (uid == 0)
        assert_int_equal(seteuid(0), 0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(terminal);
    return master;
}

/* Threads of this process; a sanitizer may have one too. */
static unsigned count_threads(void)
{
    struct stat info;
    assert_int_equal(stat("/proc/self/task", &info), 0);
    return (unsigned)info.st_nlink - 2;
}

/*
 * A terminal says that it is writable while it has room for a byte, so the writer is caught inside
 * of write(2). It is left behind, and still counts its lines when it comes out.
 */
static void test_a_writer_that_cannot_be_ended(void **state)
{
    (void)state;
    unsigned threads = count_threads();
    int master = start_on_terminal();
    for (uint64_t i = 0; i < FLOOD; i++)
        log_number(0, i);
    log_stop(20);
    struct log_counts counts = counts_now();
    assert_true(counts.written + counts.dropped < FLOOD);

    char bytes[4096];
    uint64_t deadline_ms = clock_now_ms() + HANG_MS;
    while (count_threads() > threads) {
        struct pollfd ready = {.fd = master, .events = POLLIN};
        if (poll(&ready, 1, 0) > 0)
            assert_true(read(master, bytes, sizeof(bytes)) > 0 || errno == EIO);
        assert_true(clock_now_ms() < deadline_ms);
    }
    counts = counts_now();
    assert_in_range(counts.written + counts.dropped, FLOOD, FLOOD + 10); /* with the writer's own */
    close(master);
}

/* ---- files that move, disks that fill up ---- */

static void test_reopen_after_a_rename(void **state)
{
    (void)state;
    start(path);
    log_number(0, 0);
    wait_for_lines(1);
    assert_int_equal(rename(path, other), 0);
    log_reopen();
    log_number(0, 1);
    log_stop(STOP_MS);

    struct found found;
    find_in_file(other, &found);
    assert_int_equal(found.lines, 1);
    find_in_file(path, &found);
    assert_int_equal(found.lines, 1);
    assert_int_equal(found.next[0], 2);
}

static void test_reopen_happens_while_idle(void **state)
{
    (void)state;
    start(path);
    log_number(0, 0);
    wait_for_lines(1);
    assert_int_equal(rename(path, other), 0);
    log_reopen();
    uint64_t deadline_ms = clock_now_ms() + HANG_MS;
    while (access(path, F_OK) != 0) {
        assert_true(clock_now_ms() < deadline_ms);
        sched_yield();
    }
}

static void test_failed_reopen_is_told_in_the_old_file(void **state)
{
    (void)state;
    start(path);
    log_number(0, 0);
    wait_for_lines(1);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    log_reopen();
    wait_for_lines(2);
    log_number(0, 1);
    log_stop(STOP_MS);
    assert_int_equal(rmdir(path), 0);

    char text[2048] = "";
    int fd = open(other, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    assert_non_null(strstr(text, " warn log not opened again, going on with the old file path="));
    assert_non_null(strstr(text, " error=\"Is a directory\"\n"));
    assert_non_null(strstr(text, " number=1 "));
}

static void test_a_device_that_is_always_full(void **state)
{
    (void)state;
    start("/dev/full");
    for (uint64_t i = 0; i < 100; i++)
        log_number(0, i);
    log_stop(STOP_MS);
    assert_int_equal(counts_now().written, 0);
    assert_int_equal(counts_now().dropped, 100);
}

static void fill(const char *name, size_t bytes)
{
    static const char zeros[4096];
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < bytes; i += sizeof(zeros))
        assert_int_equal(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
    close(fd);
}

/*
 * Needs a file system of its own, hence root; without root the same rules are tested on /dev/full
 * above and, with a limit on the file's size, in test_log_target.
 */
static void test_a_disk_that_is_full_for_a_while(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNS) < 0) {
        assert_int_equal(errno, EPERM);
        return;
    }
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("weir-test", folder, "tmpfs", 0, "size=128k"), 0);
    fill(other, 65536);
    start(path);
    for (uint64_t i = 0; i < 1000; i++)
        log_number(0, i);
    wait_for_lines(1000 - 1); /* one may be half written */
    assert_int_equal(unlink(other), 0);
    for (uint64_t i = 1000; i < 1010; i++)
        log_number(0, i);
    log_stop(STOP_MS);

    struct found found;
    find_in_file(path, &found);
    struct log_counts counts = counts_now();
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
    assert_true(counts.dropped > 0);
    assert_true(found.notes > 0);
    assert_int_equal(found.next[0], 1010);
    assert_int_equal(found.lines, counts.written);
    assert_int_equal(found.told, counts.dropped);
    assert_int_equal(1010 + found.notes, counts.written + counts.dropped);
}

static void test_no_descriptor_is_left(void **state)
{
    (void)state;
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    start(path);
    log_number(0, 0);
    log_reopen();
    log_stop(STOP_MS);
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    assert_int_equal(after, before);
}

static void test_told_again_after_a_second(void **state)
{
    uint64_t told_ms = 0;

    (void)state;
    assert_true(log_is_due(&told_ms, 5000));
    assert_false(log_is_due(&told_ms, 5000));
    assert_false(log_is_due(&told_ms, 5999));
    assert_true(log_is_due(&told_ms, 6000));
    assert_int_equal(told_ms, 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_reach_the_file_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_idle_writer_wakes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_before_and_after_it_is_stderr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unattached_thread_writes_to_stderr, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_stderr_as_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels_and_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_says_why_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_keep_order_and_count, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stopped_reader_delays_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_that_goes_on_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_reader_that_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stopped_reader_of_stderr, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_writer_that_cannot_be_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen_after_a_rename, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reopen_happens_while_idle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_reopen_is_told_in_the_old_file, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_device_that_is_always_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_disk_that_is_full_for_a_while, setup, teardown),
        cmocka_unit_test(test_told_again_after_a_second),
        cmocka_unit_test_setup_teardown(test_no_descriptor_is_left, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
