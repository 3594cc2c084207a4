/* The pool: its limits, what it keeps, and that it never hands out a small or a used pipe. */
#include "common/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/unit/death.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void gives_a_pipe_for_splice(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe;
    pipe_pool_init(&pool, 10, 10);
    assert_int_equal(pipe_pool_take(&pool, &pipe), 0);
    assert_true(fcntl(pipe.write, F_GETPIPE_SZ) >= PIPE_SIZE);
    assert_true(fcntl(pipe.read, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(pipe.write, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(pipe.read, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(pipe.write, F_GETFD) & FD_CLOEXEC);
    char byte = 'x';
    assert_int_equal(write(pipe.write, &byte, 1), 1);
    assert_int_equal(read(pipe.read, &byte, 1), 1);
    pipe_pool_put(&pool, &pipe, true);
    pipe_pool_deinit(&pool);
}

static void keeps_the_limit(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe[3];
    pipe_pool_init(&pool, 2, 1);
    assert_int_equal(pipe_pool_take(&pool, &pipe[0]), 0);
    assert_int_equal(pipe_pool_take(&pool, &pipe[1]), 0);
    assert_int_equal(pipe_pool_take(&pool, &pipe[2]), -ENOBUFS);
    assert_int_equal(pool.taken, 2);
    pipe_pool_put(&pool, &pipe[0], true);
    assert_int_equal(pipe_pool_take(&pool, &pipe[2]), 0);
    assert_int_equal(pipe_pool_take(&pool, &pipe[0]), -ENOBUFS);
    pipe_pool_put(&pool, &pipe[2], false);
    pipe_pool_put(&pool, &pipe[1], false);
    pipe_pool_deinit(&pool);
}

static void reuses_an_empty_pipe(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe;
    pipe_pool_init(&pool, 10, 1);
    assert_int_equal(pipe_pool_take(&pool, &pipe), 0);
    struct pipe_pair first = pipe;
    pipe_pool_put(&pool, &pipe, true);
    assert_int_equal(pipe.read, -1);
    assert_int_equal(pipe.write, -1);
    assert_int_equal(pool.resting, 1);
    assert_int_equal(pipe_pool_take(&pool, &pipe), 0);
    assert_int_equal(pipe.read, first.read);
    assert_int_equal(pipe.write, first.write);
    assert_int_equal(pool.resting, 0);
    pipe_pool_put(&pool, &pipe, true);
    pipe_pool_deinit(&pool);
    assert_false(is_open(first.read));
    assert_false(is_open(first.write));
}

static void closes_a_used_pipe(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe;
    pipe_pool_init(&pool, 10, 10);
    assert_int_equal(pipe_pool_take(&pool, &pipe), 0);
    struct pipe_pair used = pipe;
    pipe_pool_put(&pool, &pipe, false);
    assert_int_equal(pipe.read, -1);
    assert_int_equal(pool.resting, 0);
    assert_int_equal(pool.taken, 0);
    assert_false(is_open(used.read));
    assert_false(is_open(used.write));
    pipe_pool_deinit(&pool);
}

static void keeps_few_at_rest(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe[5];
    pipe_pool_init(&pool, 5, 2);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(pipe_pool_take(&pool, &pipe[i]), 0);
    struct pipe_pair last = pipe[4];
    for (size_t i = 0; i < 5; i++)
        pipe_pool_put(&pool, &pipe[i], true);
    assert_int_equal(pool.resting, 2);
    assert_int_equal(pool.taken, 0);
    assert_false(is_open(last.read));
    pipe_pool_deinit(&pool);

    pipe_pool_init(&pool, 1, 0);
    assert_int_equal(pipe_pool_take(&pool, &pipe[0]), 0);
    pipe_pool_put(&pool, &pipe[0], true);
    assert_int_equal(pool.resting, 0);
    pipe_pool_deinit(&pool);
}

static void tells_that_descriptors_are_gone(void **state)
{
    (void)state;
    struct pipe_pool pool;
    struct pipe_pair pipe = {.read = 77, .write = 78};
    struct rlimit before, none;
    pipe_pool_init(&pool, 10, 10);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = pipe_pool_take(&pool, &pipe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
    assert_int_equal(pipe.read, 77);
    assert_int_equal(pool.taken, 0);
    pipe_pool_deinit(&pool);
}

/* ---- The user's quota: in a child that is an ordinary user, as root has none. ---- */

#define LONELY_USER 64317 /* so that nobody else's pipes count */

enum { QUOTA_HELD, QUOTA_BROKEN, QUOTA_NOT_SHOWN };

/* 0 when there is none, or it cannot be told. */
static long soft_quota_pages(void)
{
    char line[32];
    FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
    if (file == NULL)
        return 0;
    long pages = fgets(line, sizeof(line), file) == NULL ? 0 : strtol(line, NULL, 10);
    fclose(file);
    return pages;
}

static int take_past_the_quota(void)
{
    struct pipe_pool pool;
    struct pipe_pair pipe;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (geteuid() == 0 && setresuid(LONELY_USER, LONELY_USER, LONELY_USER) != 0)
        return QUOTA_NOT_SHOWN;
    uint32_t quota = (uint32_t)(soft_quota_pages() * sysconf(_SC_PAGESIZE) / PIPE_SIZE);
    if (quota == 0 || files.rlim_cur < quota * 2 + 100)
        return QUOTA_NOT_SHOWN;

    pipe_pool_init(&pool, quota + 10, 0);
    int rc = 0;
    while (rc == 0)
        rc = pipe_pool_take(&pool, &pipe);
    return rc == -EPERM && pool.taken <= quota ? QUOTA_HELD : QUOTA_BROKEN;
}

static void refuses_a_small_pipe(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(take_past_the_quota());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == QUOTA_NOT_SHOWN)
        skip();
    assert_int_equal(WEXITSTATUS(status), QUOTA_HELD);
}

/* ---- Misuse ---- */

static void deinit_early(void *pool)
{
    struct pipe_pair pipe;
    if (pipe_pool_take(pool, &pipe) == 0)
        pipe_pool_deinit(pool);
}

static void stops_at_misuse(void **state)
{
    (void)state;
    struct pipe_pool pool;
    pipe_pool_init(&pool, 10, 10);
    assert_bug(deinit_early, &pool, "taken");
    pipe_pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_a_pipe_for_splice),
        cmocka_unit_test(keeps_the_limit),
        cmocka_unit_test(reuses_an_empty_pipe),
        cmocka_unit_test(closes_a_used_pipe),
        cmocka_unit_test(keeps_few_at_rest),
        cmocka_unit_test(tells_that_descriptors_are_gone),
        cmocka_unit_test(refuses_a_small_pipe),
        cmocka_unit_test(stops_at_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
