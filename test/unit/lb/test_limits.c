/*
 * How descriptors are shared out.
 */
#include "lb/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#define DEFAULT_PIPE_PAGES 16384 /* of the kernel */

static struct config_pool pool;
static struct config config;
static char error[512];

static int setup(void **state)
{
    (void)state;
    pool = (struct config_pool){.server_count = 3};
    config = (struct config){
        .weir = {.workers = 1},
        .pools = &pool,
        .pool_count = 1,
        .listener_count = 1,
    };
    error[0] = '\0';
    return 0;
}

static struct limits compute(uint64_t descriptors, uint64_t pipe_pages)
{
    struct limits limits = {0};
    assert_int_equal(
        limits_compute(&config, descriptors, pipe_pages, &limits, error, sizeof(error)), 0);
    /* Whatever the figures, they must fit. */
    uint64_t sum = limits.reserved + 2 * (uint64_t)limits.pipes + 2 * (uint64_t)limits.sessions;
    assert_true(sum <= limits.descriptors);
    return limits;
}

static void assert_says(const char *words)
{
    if (strstr(error, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error, words);
}

static void all_the_rest_is_for_sessions(void **state)
{
    (void)state;
    struct limits limits = compute(20000, DEFAULT_PIPE_PAGES);
    assert_int_equal(limits.descriptors, 20000);
    assert_int_equal(limits.reserved, 64 + 64 + 8 + 1 + 3);
    assert_int_equal(limits.pipes, 625);
    assert_int_equal(limits.sessions, (20000 - 140 - 1250) / 2);
    assert_true(limits.sessions >= 9200);
    assert_false(limits.lowered);
    assert_string_equal(error, "");
}

static void workers_and_listeners_and_probes_cost(void **state)
{
    (void)state;
    config.weir.workers = 4;
    config.listener_count = 5;
    pool.server_count = 5000; /* but no more than 1024 probes at once */
    assert_int_equal(compute(20000, 0).reserved, 128 + 4 * 8 + 4 * 5 + 1024);
}

static void the_pipe_quota_of_the_user_counts(void **state)
{
    (void)state;
    assert_int_equal(compute(1000000, DEFAULT_PIPE_PAGES).pipes, 1024);
    assert_int_equal(compute(1000000, 0).pipes, 31250);
    assert_int_equal(compute(20000, 160).pipes, 10);
    assert_int_equal(compute(20000, 15).pipes, 0);
}

static void what_was_asked_is_enough(void **state)
{
    (void)state;
    config.weir.max_connections = 500;
    struct limits limits = compute(20000, 0);
    assert_int_equal(limits.sessions, 500);
    assert_false(limits.lowered);
    config.weir.max_connections = 9305;
    limits = compute(20000, 0);
    assert_int_equal(limits.sessions, 9305);
    assert_false(limits.lowered);
    assert_string_equal(error, "");
}

static void too_much_is_lowered_and_told(void **state)
{
    (void)state;
    config.weir.max_connections = 50000;
    struct limits limits = compute(20000, 0);
    assert_int_equal(limits.sessions, 9305);
    assert_true(limits.lowered);
    assert_says("lowered from 50000 to 9305");
    assert_says("of 20000 descriptors weir keeps 140 for itself and 1250 for pipes");
    assert_says("RLIMIT_NOFILE = 106816 would do");
    assert_int_equal(compute(106816, 0).sessions, 50000);
    assert_false(compute(106816, 0).lowered);
}

static void too_few_are_refused(void **state)
{
    (void)state;
    struct limits limits = {.sessions = 4711};
    assert_int_equal(limits_compute(&config, 128, 0, &limits, error, sizeof(error)), -EMFILE);
    assert_int_equal(limits.sessions, 4711);
    assert_says("128 descriptors are too few: weir needs 140 for itself");
    assert_says("set RLIMIT_NOFILE to 184 at least");
    assert_true(compute(184, 0).sessions >= 16);
}

static void fits_for_every_figure(void **state)
{
    (void)state;
    for (uint64_t descriptors = 0; descriptors < 5000; descriptors++) {
        struct limits limits;
        if (limits_compute(&config, descriptors, 0, &limits, error, sizeof(error)) != 0)
            assert_true(descriptors < 184);
        else
            assert_true(compute(descriptors, 0).sessions >= 16);
    }
}

static void survives_huge_figures(void **state)
{
    (void)state;
    config.weir.max_connections = INT64_MAX;
    struct limits limits = compute(UINT64_MAX, 0);
    assert_true(limits.sessions > 900000000);
    assert_true(limits.lowered);
}

static void reads_what_the_system_grants(void **state)
{
    (void)state;
    uint64_t descriptors = 0, pages = UINT64_MAX;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit low = {MIN(before.rlim_max, (rlim_t)64), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    limits_read(&descriptors, &pages);
    assert_int_equal(descriptors, before.rlim_max);
    assert_int_not_equal(pages, UINT64_MAX);
    struct rlimit after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_int_equal(after.rlim_cur, before.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(all_the_rest_is_for_sessions, setup),
        cmocka_unit_test_setup(workers_and_listeners_and_probes_cost, setup),
        cmocka_unit_test_setup(the_pipe_quota_of_the_user_counts, setup),
        cmocka_unit_test_setup(what_was_asked_is_enough, setup),
        cmocka_unit_test_setup(too_much_is_lowered_and_told, setup),
        cmocka_unit_test_setup(too_few_are_refused, setup),
        cmocka_unit_test_setup(fits_for_every_figure, setup),
        cmocka_unit_test_setup(survives_huge_figures, setup),
        cmocka_unit_test_setup(reads_what_the_system_grants, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
