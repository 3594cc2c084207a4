/*
 * A worker with its thread: what control's orders do, and what is left after the end: nothing.
 */
#include "lb/worker/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/worker/bench.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- calloc in place of the C library's: fails for other threads than the test's, when told ----
 */

static atomic_bool is_short;
static _Atomic unsigned refusals;
static _Thread_local bool is_test;

/* Not watched by a sanitizer: its runtime gets here before it is ready for a new thread. */
__attribute__((no_sanitize("thread"))) void *calloc(size_t count, size_t size)
{
    /* Through a pointer, or the compiler would make a call of calloc out of malloc and memset. */
    static void *(*const volatile allocate)(size_t) = malloc;

    if (atomic_load(&is_short) && !is_test) {
        atomic_fetch_add(&refusals, 1);
        return NULL;
    }
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    void *memory = allocate(count * size);
    if (memory != NULL)
        memset(memory, 0, count * size);
    return memory;
}

/* ---- tests ---- */

static void test_starts_and_stops(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    bench_close(&bench);
}

static void test_nobody_is_served_before_the_first_view(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    site_dial(&bench.site);
    ask(&bench, false);
    assert_int_equal(bench.query.count, 0);
    give_view(&bench);
    site_serve(&bench.site);
    bench_close(&bench);
}

static void test_a_session_is_carried_shown_and_killed(void **state)
{
    struct bench bench;
    int client, server;

    (void)state;
    bench_open(&bench);
    give_view(&bench);
    site_session(&bench.site, &client, &server);
    ask(&bench, false);
    assert_int_equal(bench.query.count, 1);
    assert_string_equal(bench.query.row.session[0].listener, "front");
    assert_string_equal(bench.query.row.session[0].pool, "web");
    assert_string_equal(bench.query.row.session[0].server, "a");
    assert_int_equal(bench.query.row.session[0].state, SESSION_RELAYING);
    ask(&bench, true);
    assert_int_equal(bench.query.count, 1);
    site_expect_reset(client);
    site_expect_reset(server);
    ask(&bench, false);
    assert_int_equal(bench.query.count, 0);
    assert_int_equal(metrics_get(worker_metrics(bench.worker), METRIC_SESSIONS_ENDED), 1);
    assert_true(worker_longest_turn_us(bench.worker) > 0);
    bench_close(&bench);
}

static void test_views_follow_each_other_under_sessions(void **state)
{
    struct bench bench;
    int client, server;

    (void)state;
    bench_open(&bench);
    give_view(&bench);
    site_session(&bench.site, &client, &server);
    for (uint32_t i = 0; i < 200; i++) {
        pool_member_set_weight(&bench.pools->pool[0].member[0], 1 + i);
        give_view(&bench);
        give_view(&bench); /* the same once more */
    }
    site_pass(client, server);
    site_session(&bench.site, &client, &server);
    ask(&bench, false);
    assert_int_equal(bench.query.count, 2);
    bench_close(&bench);
}

/* Without memory for a view the one before serves on, and without any nobody is served; either way
 * the view is not forgotten. */
static void test_a_view_that_lacks_memory_comes_later(void **state)
{
    struct bench bench;

    (void)state;
    is_test = true;
    bench_open(&bench);
    ask(&bench, false); /* the thread runs: to begin, it may need memory itself */
    atomic_store(&refusals, 0);
    atomic_store(&is_short, true);
    give_view(&bench);
    int client = site_dial(&bench.site);
    while (atomic_load(&refusals) < 2) /* it has tried again */
        ask(&bench, false);
    pool_member_set_weight(&bench.pools->pool[0].member[0], 7);
    give_view(&bench); /* takes the place of the one that waits */
    ask(&bench, false);
    assert_int_equal(bench.query.count, 0);
    atomic_store(&is_short, false);
    site_pass(client, site_serve(&bench.site));

    atomic_store(&is_short, true); /* and the end comes while one waits */
    pool_member_set_weight(&bench.pools->pool[0].member[0], 8);
    give_view(&bench);
    ask(&bench, false);
    assert_int_equal(bench.query.count, 1);
    bench_close(&bench);
    atomic_store(&is_short, false);
}

static void test_a_refused_connect_is_told(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    assert_int_equal(shutdown(bench.site.server_fd, SHUT_RDWR), 0); /* refuses from now on */
    give_view(&bench);
    int client = site_dial(&bench.site);
    SITE_UNTIL(&bench.loop, bench.suspects == 1);
    site_expect_reset(client);
    bench_close(&bench);
}

static void test_a_drained_worker_is_idle_after_its_last_session(void **state)
{
    struct bench bench;
    int client, server;

    (void)state;
    bench_open(&bench);
    give_view(&bench);
    site_session(&bench.site, &client, &server);
    site_dial(&bench.site); /* in the queue, or taken: it is served all the same */
    assert_int_equal(worker_drain(bench.worker), 0);
    int second = site_serve(&bench.site);
    ask(&bench, false); /* comes after the drain */
    assert_int_equal(site_try_dial(&bench.site), -1);
    assert_int_equal(bench.idle, 0);
    site_pass(server, client);
    assert_int_equal(worker_drain(bench.worker), 0); /* twice is once */
    assert_true(second >= 0);
    site_hang_up(&bench.site);
    SITE_UNTIL(&bench.loop, bench.idle > 0);
    ask(&bench, false);
    assert_int_equal(bench.idle, 1);
    bench_close(&bench);
}

static void test_a_worker_without_sessions_is_idle_at_once(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    assert_int_equal(worker_drain(bench.worker), 0); /* not even a view */
    SITE_UNTIL(&bench.loop, bench.idle == 1);
    give_view(&bench);
    ask(&bench, false);
    assert_int_equal(site_try_dial(&bench.site), -1);
    bench_close(&bench);
}

static void test_all_sessions_are_ended_with_a_reason(void **state)
{
    struct bench bench;
    int client[100], server;

    (void)state;
    bench_open(&bench);
    give_view(&bench);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        site_session(&bench.site, &client[i], &server);
    assert_int_equal(worker_drain(bench.worker), 0);
    assert_int_equal(worker_end_all(bench.worker), 0);
    SITE_UNTIL(&bench.loop, bench.idle == 1);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        site_expect_reset(client[i]);
    bench_close(&bench);
}

static void test_stop_in_the_middle_of_everything(void **state)
{
    struct bench bench;
    int client, server;

    (void)state;
    bench_open(&bench);
    give_view(&bench);
    for (int i = 0; i < 20; i++)
        site_session(&bench.site, &client, &server);
    site_dial(&bench.site);
    bench.query = (struct worker_query){.done = bench_on_answer};
    worker_ask(bench.worker, &bench.query);
    give_view(&bench);
    assert_int_equal(worker_drain(bench.worker), 0);
    assert_int_equal(worker_end_all(bench.worker), 0);
    worker_stop(&bench.worker);
    site_expect_reset(client);
    assert_int_equal(bench.answers, 0);
    bench.worker = NULL;
    bench_close(&bench);
    assert_int_equal(bench.answers, 1); /* a mail that came before the box closed */
}

/* Orders race with the thread's own wake-ups, ends included. */
static void test_many_short_lives(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    for (int i = 0; i < 50; i++) {
        worker_stop(&bench.worker);
        listeners_close(&bench.site.listeners, 1);
        site_listen(&bench.site);
        bench_start(&bench);
        give_view(&bench);
        site_dial(&bench.site);
    }
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_and_stops),
        cmocka_unit_test(test_nobody_is_served_before_the_first_view),
        cmocka_unit_test(test_a_session_is_carried_shown_and_killed),
        cmocka_unit_test(test_views_follow_each_other_under_sessions),
        cmocka_unit_test(test_a_view_that_lacks_memory_comes_later),
        cmocka_unit_test(test_a_refused_connect_is_told),
        cmocka_unit_test(test_a_drained_worker_is_idle_after_its_last_session),
        cmocka_unit_test(test_a_worker_without_sessions_is_idle_at_once),
        cmocka_unit_test(test_all_sessions_are_ended_with_a_reason),
        cmocka_unit_test(test_stop_in_the_middle_of_everything),
        cmocka_unit_test(test_many_short_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
