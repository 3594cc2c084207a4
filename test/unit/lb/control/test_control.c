/*
 * Control with its workers, in this process: starts that fail at every step, signals, the end, and
 * what operators do.
 */
#include "lb/control/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/control/private.h"
#include "test/unit/lb/worker/site.h"

#include <signal.h>
#include <string.h>

#define WORKERS 2

struct seat {
    struct site site;
    struct control *control;
    unsigned stops;
    char error[256];
};

static void on_stop(void *arg)
{
    struct seat *seat = arg;

    seat->stops++;
}

static void seat_make(struct seat *seat)
{
    const struct limits limits = {.sessions = 1000, .pipes = 32, .descriptors = 4096};

    site_listen(&seat->site);
    assert_int_equal(control_new(&seat->control, &seat->site.config, seat->site.listeners, &limits,
                                 seat->error, sizeof(seat->error)),
                     0);
    seat->site.listeners = NULL; /* control's now */
    control_on_stop(seat->control, on_stop, seat);
}

static void seat_open(struct seat *seat, int64_t workers)
{
    memset(seat, 0, sizeof(*seat));
    site_open(&seat->site, workers);
    seat_make(seat);
}

static void seat_start(struct seat *seat)
{
    if (control_start(seat->control, seat->error, sizeof(seat->error)) != 0)
        fail_msg("%s", seat->error);
}

static void seat_close(struct seat *seat)
{
    control_free(&seat->control);
    assert_null(seat->control);
    assert_int_equal(seat->stops, 1);
    site_close(&seat->site);
}

static struct pool_member *member(struct seat *seat)
{
    return &control_pools(seat->control)->pool[0].member[0];
}

/* A probe that is under way for the whole test: the server's queue takes it, nobody answers. */
static void probe_by_http(struct site *site)
{
    site->pool.health = (struct config_health){
        .type = "http",
        .interval = 3600000,
        .interval_changing = 3600000,
        .interval_down = 3600000,
        .timeout = 3600000,
        .rise = 1,
        .fall = 1,
        .path = "/",
        .host = "",
        .status = "200",
        .body = "",
    };
}

/* ---- starts ---- */

static void test_freed_before_the_start(void **state)
{
    struct seat seat;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_close(&seat);
}

/*
 * With every number of descriptors left, until they suffice: nothing stays behind, but for the one
 * epoll set that libuv 1.44 forgets when uv_loop_init(3) fails after it.
 */
static void test_a_start_fails_at_every_step(void **state)
{
    struct rlimit before, now;
    unsigned failures = 0, forgotten = 0;
    bool started = false;
    struct seat seat;

    (void)state;
    memset(&seat, 0, sizeof(seat));
    site_open(&seat.site, 3);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (rlim_t left = 0; !started; left++) {
        assert_true(left < 100);
        seat.stops = 0;
        unsigned descriptors = site_descriptors();
        seat_make(&seat);
        now = before;
        now.rlim_cur = (rlim_t)site_descriptors() + left;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
        seat.error[0] = '\0';
        started = control_start(seat.control, seat.error, sizeof(seat.error)) == 0;
        assert_true(started || seat.error[0] != '\0');
        failures += !started;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        control_free(&seat.control);
        assert_int_equal(seat.stops, 1);
        assert_in_range(site_descriptors() - descriptors, 0, 1);
        forgotten += site_descriptors() - descriptors;
    }
    assert_true(failures >= 3);
    seat.site.descriptors += forgotten;
    site_close(&seat.site);
}

static void test_a_probe_that_does_not_exist(void **state)
{
    struct seat seat;

    (void)state;
    memset(&seat, 0, sizeof(seat));
    site_open(&seat.site, WORKERS);
    seat.site.pool.health.type = "oracle";
    seat_make(&seat);
    assert_true(control_start(seat.control, seat.error, sizeof(seat.error)) < 0);
    assert_true(strstr(seat.error, "health") != NULL);
    seat_close(&seat);
}

static void test_running_once_all_servers_have_a_verdict(void **state)
{
    struct seat seat;

    (void)state;
    seat_open(&seat, WORKERS);
    assert_int_equal(control_state(seat.control), CONTROL_STARTING);
    seat_start(&seat);
    assert_int_equal(control_state(seat.control), CONTROL_RUNNING);
    seat_close(&seat);
}

/* ---- signals and the end ---- */

static void test_a_signal_before_ready(void **state)
{
    struct seat seat;

    (void)state;
    memset(&seat, 0, sizeof(seat));
    site_open(&seat.site, WORKERS);
    probe_by_http(&seat.site);
    seat_make(&seat);
    seat_start(&seat);
    assert_int_equal(control_state(seat.control), CONTROL_STARTING);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(control_run(seat.control), 0);
    assert_int_equal(control_state(seat.control), CONTROL_DRAINING);
    seat_close(&seat);
}

static void test_a_probe_is_under_way_at_the_end(void **state)
{
    struct seat seat;

    (void)state;
    memset(&seat, 0, sizeof(seat));
    site_open(&seat.site, WORKERS);
    probe_by_http(&seat.site);
    seat_make(&seat);
    seat_start(&seat);
    struct pollfd queue = {.fd = seat.site.server_fd, .events = POLLIN};
    SITE_UNTIL(control_loop(seat.control), poll(&queue, 1, 0) == 1);
    seat_close(&seat);
}

static void test_sessions_may_finish(void **state)
{
    struct seat seat;
    int client, server;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    site_session(&seat.site, &client, &server);
    assert_int_equal(raise(SIGINT), 0);
    SITE_UNTIL(control_loop(seat.control), control_state(seat.control) == CONTROL_DRAINING);
    SITE_UNTIL(control_loop(seat.control), seat.control->idle_workers == WORKERS - 1);
    assert_int_equal(seat.stops, 0);
    site_pass(client, server);
    site_pass(server, client);
    site_hang_up(&seat.site);
    assert_int_equal(control_run(seat.control), 0);
    assert_int_equal(seat.stops, 1);
    seat_close(&seat);
}

static void test_sessions_are_reset_at_the_deadline(void **state)
{
    struct seat seat;
    int client, server;

    (void)state;
    memset(&seat, 0, sizeof(seat));
    site_open(&seat.site, WORKERS);
    seat.site.config.weir.shutdown_deadline = 1;
    seat_make(&seat);
    seat_start(&seat);
    site_session(&seat.site, &client, &server);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(control_run(seat.control), 0);
    site_expect_reset(client);
    site_expect_reset(server);
    seat_close(&seat);
}

static void test_a_second_signal_ends_at_once(void **state)
{
    struct seat seat;
    int client, server;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    site_session(&seat.site, &client, &server);
    assert_int_equal(raise(SIGTERM), 0);
    SITE_UNTIL(control_loop(seat.control), control_state(seat.control) == CONTROL_DRAINING);
    assert_int_equal(raise(SIGTERM), 0);
    assert_int_equal(control_run(seat.control), 0);
    site_expect_reset(client);
    seat_close(&seat);
}

/* ---- what operators see and do ---- */

static void test_status(void **state)
{
    struct control_status status;
    struct seat seat;
    int client, server;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    for (int i = 0; i < 10; i++)
        site_session(&seat.site, &client, &server);
    control_status(seat.control, &status);
    assert_int_equal(status.state, CONTROL_RUNNING);
    assert_int_equal(status.workers, WORKERS);
    assert_int_equal(status.sessions, 10);
    assert_int_equal(status.limits.sessions, 1000);
    assert_int_equal(status.counter[METRIC_SESSIONS], 10);
    assert_true(status.worker_turn_us > 0);
    seat_close(&seat);
}

static void test_descriptors_are_counted(void **state)
{
    uint64_t before;
    int fd[200];

    (void)state;
    control_open_descriptors();
    before = site_descriptors();
    assert_int_equal(control_count_descriptors(), before);
    assert_int_equal(control_poll_descriptors(), before);
    for (size_t i = 0; i < ARRAY_LEN(fd); i++)
        fd[i] = dup(STDERR_FILENO);
    assert_int_equal(control_count_descriptors(), before + ARRAY_LEN(fd));
    assert_int_equal(control_poll_descriptors(), before + ARRAY_LEN(fd));
    for (size_t i = 0; i < ARRAY_LEN(fd); i += 2)
        close(fd[i]);
    assert_int_equal(control_poll_descriptors(), before + ARRAY_LEN(fd) / 2);
    for (size_t i = 1; i < ARRAY_LEN(fd); i += 2)
        close(fd[i]);
    control_close_descriptors();
}

static void test_maintenance_ends_the_probing_and_enabling_begins_it(void **state)
{
    struct seat seat;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    struct pool_member *a = member(&seat);
    assert_non_null(a->target);
    assert_int_equal(a->health, HEALTH_UP);
    control_set_admin(seat.control, a, SERVER_MAINTENANCE, 0, "a test");
    assert_null(a->target);
    assert_int_equal(a->health, HEALTH_UNKNOWN);
    control_set_admin(seat.control, a, SERVER_ENABLED, 0, "a test");
    assert_non_null(a->target);
    assert_int_equal(a->health, HEALTH_UP);
    seat_close(&seat);
}

/* A drain holds from the return on, whatever view the workers have; enabling lets the client in
 * that has waited. */
static void test_a_drained_server_takes_nobody(void **state)
{
    struct seat seat;
    int client, server;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    site_session(&seat.site, &client, &server);
    struct server *a = member(&seat)->server;
    control_set_admin(seat.control, member(&seat), SERVER_DRAIN, 60000, "a test");
    int waiting = site_dial(&seat.site);
    SITE_UNTIL(control_loop(seat.control), atomic_load(&seat.control->sessions) == 2);
    assert_int_equal(atomic_load(&a->live.load), 1);
    site_pass(client, server);
    control_set_admin(seat.control, member(&seat), SERVER_ENABLED, 0, "a test");
    struct pollfd queue = {.fd = seat.site.server_fd, .events = POLLIN};
    SITE_UNTIL(control_loop(seat.control), poll(&queue, 1, 0) == 1);
    site_pass(waiting, site_serve(&seat.site));
    seat_close(&seat);
}

static void test_a_drain_deadline_resets(void **state)
{
    struct seat seat;
    int client, server;

    (void)state;
    seat_open(&seat, WORKERS);
    seat_start(&seat);
    site_session(&seat.site, &client, &server);
    control_set_admin(seat.control, member(&seat), SERVER_DRAIN, 1, "a test");
    SITE_UNTIL(control_loop(seat.control), atomic_load(&seat.control->sessions) == 0);
    site_expect_reset(client);
    seat_close(&seat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed_before_the_start),
        cmocka_unit_test(test_a_start_fails_at_every_step),
        cmocka_unit_test(test_a_probe_that_does_not_exist),
        cmocka_unit_test(test_running_once_all_servers_have_a_verdict),
        cmocka_unit_test(test_a_signal_before_ready),
        cmocka_unit_test(test_a_probe_is_under_way_at_the_end),
        cmocka_unit_test(test_sessions_may_finish),
        cmocka_unit_test(test_sessions_are_reset_at_the_deadline),
        cmocka_unit_test(test_a_second_signal_ends_at_once),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_descriptors_are_counted),
        cmocka_unit_test(test_maintenance_ends_the_probing_and_enabling_begins_it),
        cmocka_unit_test(test_a_drained_server_takes_nobody),
        cmocka_unit_test(test_a_drain_deadline_resets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
