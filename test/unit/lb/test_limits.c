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

#define LISTENERS_MAX 5

static struct config_pool pool;
static struct config_listener listener[LISTENERS_MAX];
static struct config config;
static char error[512];

static int setup(void **state)
{
    (void)state;
    pool = (struct config_pool){.server_count = 3};
    memset(listener, 0, sizeof(listener));
    config = (struct config){
        .weir = {.workers = 1},
        .pools = &pool,
        .pool_count = 1,
        .listeners = listener,
        .listener_count = 1,
    };
    error[0] = '\0';
    return 0;
}

static int setup_udp(void **state)
{
    setup(state);
    listener[0].protocol = CONFIG_PROTOCOL_UDP;
    return 0;
}

/* The second listener carries UDP. */
static int setup_both(void **state)
{
    setup(state);
    listener[1].protocol = CONFIG_PROTOCOL_UDP;
    config.listener_count = 2;
    return 0;
}

static struct limits compute(uint64_t descriptors, uint64_t pipe_pages)
{
    struct limits limits = {0};
    assert_int_equal(
        limits_compute(&config, descriptors, pipe_pages, &limits, error, sizeof(error)), 0);
    /* Whatever the figures, they must fit. */
    uint64_t sum = limits.reserved + 2 * (uint64_t)limits.pipes + 2 * (uint64_t)limits.sessions +
                   limits.flows + limits.resting;
    assert_true(sum <= limits.descriptors);
    assert_true(limits.resting <= limits.descriptors / 4);
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
    assert_int_equal(limits.flows, 0);
    assert_int_equal(limits.resting, 0);
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
    for (uint64_t more = 0; more < 100; more++) {
        assert_int_equal(compute(106816 + more, 0).sessions, 50000);
        assert_false(compute(106816 + more, 0).lowered);
    }
    assert_int_equal(compute(106816 - 32, 0).sessions, 49985);
}

static void too_few_are_refused(void **state)
{
    (void)state;
    struct limits limits = {.sessions = 4711};
    assert_int_equal(limits_compute(&config, 128, 0, &limits, error, sizeof(error)), -EMFILE);
    assert_int_equal(limits.sessions, 4711);
    assert_says("128 descriptors are too few: weir needs 140 for itself");
    assert_says("and 2 for each session; set RLIMIT_NOFILE to 192 at least");
    assert_true(compute(192, 0).sessions >= 16);
}

static void too_few_for_udp_are_refused(void **state)
{
    (void)state;
    struct limits limits;
    assert_int_equal(limits_compute(&config, 128, 0, &limits, error, sizeof(error)), -EMFILE);
    assert_says("weir needs 140 for itself and 1 for each flow; set RLIMIT_NOFILE to 192 at least");
    assert_true(compute(192, 0).flows >= 16);
}

static void too_few_for_both_are_refused(void **state)
{
    (void)state;
    struct limits limits;
    assert_int_equal(limits_compute(&config, 128, 0, &limits, error, sizeof(error)), -EMFILE);
    assert_says("weir needs 141 for itself, 2 for each session and 1 for each flow; "
                "set RLIMIT_NOFILE to 224 at least");
    limits = compute(224, 0);
    assert_true(limits.sessions >= 16 && limits.flows >= 16);
}

/* ---- flows ---- */

static void of_udp_alone_a_quarter_rests(void **state)
{
    (void)state;
    config.weir.max_connections = 50000; /* which nobody has */
    struct limits limits = compute(20000, DEFAULT_PIPE_PAGES);
    assert_int_equal(limits.resting, 5000);
    assert_int_equal(limits.flows, 20000 - 140 - 5000);
    assert_int_equal(limits.sessions, 0);
    assert_int_equal(limits.pipes, 0);
    assert_false(limits.lowered);
    assert_false(limits.flows_lowered);
    assert_string_equal(error, "");
}

static void both_protocols_have_a_half(void **state)
{
    (void)state;
    struct limits limits = compute(20000, DEFAULT_PIPE_PAGES);
    uint64_t left = 20000 - 141 - 1250;
    assert_int_equal(limits.pipes, 625);
    assert_int_equal(limits.sessions, (left - left / 2) / 2);
    assert_int_equal(limits.flows + limits.resting, left / 2);
    assert_int_equal(limits.resting, left / 2 / 2);
    assert_string_equal(error, "");
}

static void one_has_what_the_other_does_not_ask_for(void **state)
{
    (void)state;
    uint64_t left = 20000 - 141 - 1250;
    config.weir.max_connections = 500;
    struct limits limits = compute(20000, DEFAULT_PIPE_PAGES);
    assert_int_equal(limits.sessions, 500);
    assert_int_equal(limits.flows + limits.resting, left - 1000);
    assert_int_equal(limits.resting, 5000);

    config.weir.max_connections = 0;
    listener[1].max_flows = 300;
    limits = compute(20000, DEFAULT_PIPE_PAGES);
    assert_int_equal(limits.flows, 300);
    assert_int_equal(limits.resting, 300);
    assert_int_equal(limits.sessions, (left - 600) / 2);

    config.weir.max_connections = 500;
    limits = compute(20000, DEFAULT_PIPE_PAGES);
    assert_int_equal(limits.sessions, 500);
    assert_int_equal(limits.flows, 300);
    assert_string_equal(error, "");
}

/* One without a limit of its own may have all there are. */
static void max_flows_bound_the_process_when_all_have_one(void **state)
{
    (void)state;
    config.listener_count = 2;
    listener[1].protocol = CONFIG_PROTOCOL_UDP;
    listener[0].max_flows = 100;
    assert_int_equal(compute(20000, 0).flows, 20000 - 141 - 5000);
    listener[1].max_flows = 30;
    assert_int_equal(compute(20000, 0).flows, 130);
    assert_string_equal(error, "");
}

static void little_that_is_asked_for_is_no_reason_to_refuse(void **state)
{
    (void)state;
    config.weir.max_connections = 1;
    listener[1].max_flows = 1;
    struct limits limits = compute(20000, 0);
    assert_int_equal(limits.sessions, 1);
    assert_int_equal(limits.flows, 1);
}

static void too_many_flows_are_lowered_and_told(void **state)
{
    (void)state;
    config.listener_count = 2;
    listener[1].protocol = CONFIG_PROTOCOL_UDP;
    listener[0].max_flows = 40000;
    listener[1].max_flows = 10000;
    struct limits limits = compute(20000, 0);
    assert_int_equal(limits.flows, 14859);
    assert_true(limits.flows_lowered);
    assert_string_equal(error, "the sum of max_flows is lowered from 50000 to 14859: of 20000 "
                               "descriptors weir keeps 141 for itself and 5000 for sockets between "
                               "flows, and a flow takes 1; RLIMIT_NOFILE = 66880 would do");
    assert_int_equal(compute(66880, 0).flows, 50000);
    assert_string_equal(error, "");
}

static void both_warnings_are_told(void **state)
{
    (void)state;
    config.weir.max_connections = 100000000;
    listener[1].max_flows = 100000000;
    struct limits limits = compute(20000, 0);
    assert_true(limits.lowered && limits.flows_lowered);
    char *second = strchr(error, '\n');
    assert_non_null(second);
    *second++ = '\0';
    assert_string_equal(error, "max_connections is lowered from 100000000 to 4652: of 20000 "
                               "descriptors weir keeps 141 for itself, 1250 for pipes and 9304 for "
                               "flows, and a session takes 2; RLIMIT_NOFILE = 426666816 would do");
    assert_string_equal(second, "the sum of max_flows is lowered from 100000000 to 4652: of 20000 "
                                "descriptors weir keeps 141 for itself, 1250 for pipes, 9304 for "
                                "sessions and 4652 for sockets between flows, and a flow takes 1; "
                                "RLIMIT_NOFILE = 426666816 would do");
    assert_true(compute(426666816, 0).sessions == 100000000);
    assert_true(compute(426666816, 0).flows == 100000000);
    assert_string_equal(error, "");
}

static void fits_for_every_figure(void **state)
{
    (void)state;
    for (uint64_t descriptors = 0; descriptors < 5000; descriptors++) {
        struct limits limits;
        if (limits_compute(&config, descriptors, 0, &limits, error, sizeof(error)) != 0)
            assert_true(descriptors < 192);
        else
            assert_true(compute(descriptors, 0).sessions >= 16);
    }
}

static void fits_for_every_figure_of_both(void **state)
{
    (void)state;
    static const int64_t asked[] = {0, 1, 50, 400, 3000};
    for (size_t i = 0; i < ARRAY_LEN(asked) * ARRAY_LEN(asked); i++) {
        config.weir.max_connections = asked[i / ARRAY_LEN(asked)];
        listener[1].max_flows = asked[i % ARRAY_LEN(asked)];
        for (uint64_t descriptors = 224; descriptors < 10000; descriptors += 7) {
            struct limits limits = compute(descriptors, 0);
            assert_true(limits.sessions >= 16 || limits.sessions == config.weir.max_connections);
            assert_true(limits.flows >= 16 || limits.flows == listener[1].max_flows);
        }
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
        cmocka_unit_test_setup(too_few_for_udp_are_refused, setup_udp),
        cmocka_unit_test_setup(too_few_for_both_are_refused, setup_both),
        cmocka_unit_test_setup(of_udp_alone_a_quarter_rests, setup_udp),
        cmocka_unit_test_setup(both_protocols_have_a_half, setup_both),
        cmocka_unit_test_setup(one_has_what_the_other_does_not_ask_for, setup_both),
        cmocka_unit_test_setup(max_flows_bound_the_process_when_all_have_one, setup_udp),
        cmocka_unit_test_setup(little_that_is_asked_for_is_no_reason_to_refuse, setup_both),
        cmocka_unit_test_setup(too_many_flows_are_lowered_and_told, setup_udp),
        cmocka_unit_test_setup(both_warnings_are_told, setup_both),
        cmocka_unit_test_setup(fits_for_every_figure, setup),
        cmocka_unit_test_setup(fits_for_every_figure_of_both, setup_both),
        cmocka_unit_test_setup(survives_huge_figures, setup),
        cmocka_unit_test_setup(reads_what_the_system_grants, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
