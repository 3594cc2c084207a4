/*
 * The schedule in injected time, over a fake kind of probe: when probes start, what their verdicts
 * add up to, and who is told.
 */
#include "test/unit/lb/health/fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct fake_server *add_up(struct config_health *settings)
{
    world_begin(1);
    return fake_add(settings, 0, HEALTH_UP);
}

static uint64_t start_of(const struct fake_server *server, unsigned number)
{
    assert_true(number < server->starts);
    return server->started_at[number];
}

/* ---- First probes ---- */

static void first_probes_are_spread_over_200_ms(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    unsigned bucket[4] = {0};
    world_begin(7);
    for (uint16_t i = 0; i < FAKE_SERVERS; i++)
        fake_add(&settings, i, HEALTH_UNKNOWN);
    world_run_for(200);
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        assert_int_equal(world.server[i].starts, 1);
        bucket[MIN((start_of(&world.server[i], 0) - FAKE_EPOCH) / 50, 3)]++;
    }
    for (size_t i = 0; i < ARRAY_LEN(bucket); i++)
        assert_in_range(bucket[i], FAKE_SERVERS / 8, FAKE_SERVERS / 2);
    world_end();
}

static void one_pass_makes_an_unknown_server_up(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UNKNOWN);
    world_run_for(200);
    assert_int_equal(server->state, HEALTH_UP);
    assert_int_equal(server->changes, 1);
    assert_string_equal(server->reason, "the probe passed: connected");
    world_run_for(60000);
    assert_int_equal(server->changes, 1);
    world_end();
}

static void one_failure_makes_an_unknown_server_down(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UNKNOWN);
    server->answer = FAKE_FAILS;
    world_run_for(200);
    assert_int_equal(server->state, HEALTH_DOWN);
    assert_int_equal(server->changes, 1);
    assert_string_equal(server->reason, "the probe failed: connection refused");
    world_end();
}

/* A schedule that has slept for long has an old idea of the time. */
static void a_late_comer_is_not_taken_for_a_stall(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.timeout = 60000;
    world_begin(1);
    struct fake_server *first = fake_add(&settings, 0, HEALTH_UP);
    first->answer = FAKE_IS_SILENT;
    world_run_for(30000);
    struct fake_server *second = fake_add(&settings, 1, HEALTH_UNKNOWN);
    world_run_for(200);
    assert_int_equal(second->state, HEALTH_UP);
    assert_int_equal(first->cancels, 0);
    assert_int_equal(first->starts, 1);
    world_end();
}

/*
 * The wheel has slept since both probes started. When the second answers, its next start goes into
 * a slot of the wheel that began seconds before, and health_next says so.
 */
static void an_old_slot_is_not_taken_for_a_stall(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.timeout = 60000;
    settings.interval = 31000;
    world_begin(1);
    struct fake_server *silent = fake_add(&settings, 0, HEALTH_UP);
    struct fake_server *slow = fake_add(&settings, 1, HEALTH_UP);
    silent->answer = FAKE_IS_SILENT;
    slow->latency_ms = 30000;
    world_run_for(200);
    while (slow->probe != NULL)
        assert_true(world_step(FAKE_EPOCH + 31000));
    assert_true(health_next(world.health) + 1000 < world.now);
    world_run_for(0);
    assert_int_equal(silent->cancels, 0);
    world_run_to_start(slow);
    assert_int_equal(start_of(slow, 1) - start_of(slow, 0), 31000);
    world_end();
}

static void a_state_carries_over(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    world_begin(1);
    struct fake_server *up = fake_add(&settings, 0, HEALTH_UP);
    struct fake_server *down = fake_add(&settings, 1, HEALTH_DOWN);
    up->answer = FAKE_FAILS;
    down->answer = FAKE_PASSES;
    world_run_for(200);
    assert_int_equal(up->starts, 1);
    assert_int_equal(down->starts, 1);
    assert_int_equal(up->changes + down->changes, 0);
    world_run_for(5000);
    assert_int_equal(up->state, HEALTH_DOWN);
    assert_int_equal(down->state, HEALTH_UP);
    world_end();
}

/* ---- Rise, fall and intervals ---- */

static void fall_and_rise_are_counted(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_FAILS;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(server->changes, 0);
        world_run_to_start(server);
        world_run_for(0);
    }
    assert_int_equal(server->changes, 1);
    assert_string_equal(server->reason, "3 of 3 probes failed: connection refused");

    server->answer = FAKE_PASSES;
    world_run_to_start(server);
    world_run_for(0);
    assert_int_equal(server->changes, 1);
    world_run_to_start(server);
    world_run_for(0);
    assert_int_equal(server->changes, 2);
    assert_int_equal(server->state, HEALTH_UP);
    assert_string_equal(server->reason, "2 of 2 probes passed: connected");
    world_end();
}

static void a_pass_in_between_begins_the_count_anew(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    for (unsigned i = 0; i < 30; i++) {
        server->answer = i % 3 == 2 ? FAKE_PASSES : FAKE_FAILS;
        world_run_to_start(server);
        world_run_for(0);
    }
    assert_int_equal(server->changes, 0);
    world_end();
}

/* However long the answer takes. */
static void intervals_run_from_start_to_start_by_state(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    server->latency_ms = 333;
    world_run_to_start(server);
    world_run_to_start(server);
    assert_int_equal(start_of(server, 1) - start_of(server, 0), 2000); /* up */

    server->answer = FAKE_FAILS; /* the probe under way is the first to fail */
    for (unsigned i = 2; i <= 5; i++)
        world_run_to_start(server);
    assert_int_equal(start_of(server, 2) - start_of(server, 1), 500); /* counting */
    assert_int_equal(start_of(server, 3) - start_of(server, 2), 500);
    assert_int_equal(server->state, HEALTH_DOWN);
    assert_int_equal(start_of(server, 4) - start_of(server, 3), 1000); /* down */
    assert_int_equal(start_of(server, 5) - start_of(server, 4), 1000);

    server->answer = FAKE_PASSES;
    world_run_to_start(server);
    world_run_to_start(server);
    assert_int_equal(start_of(server, 6) - start_of(server, 5), 500);
    assert_int_equal(start_of(server, 7) - start_of(server, 6), 2000);
    world_end();
}

static void an_answer_later_than_the_interval_is_followed_at_once(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.interval_changing = 100;
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    world_run_to_start(server);
    assert_int_equal(start_of(server, 1) - start_of(server, 0), 400);
    world_end();
}

static void jitter_only_adds_and_no_more_than_its_share(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.jitter = 10;
    struct fake_server *server = add_up(&settings);
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (unsigned i = 0; i < 400; i++)
        world_run_to_start(server);
    for (unsigned i = 1; i < 400; i++) {
        uint64_t interval = start_of(server, i) - start_of(server, i - 1);
        least = MIN(least, interval);
        most = MAX(most, interval);
    }
    assert_in_range(least, 2000, 2010);
    assert_in_range(most, 2190, 2200);
    world_end();
}

/* ---- The deadline ---- */

static void no_answer_in_time_is_a_failure(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    world_run_for(399);
    assert_non_null(server->probe);
    assert_int_equal(server->changes, 0);
    world_run_for(1);
    assert_null(server->probe);
    assert_int_equal(server->stop_verdict, PROBE_FAIL);
    assert_int_equal(server->state, HEALTH_DOWN);
    assert_string_equal(server->reason, "the probe failed: no answer within 400 ms");
    world_end();
}

/* The kind had come to its verdict, and only its socket was still closing. */
static void an_answer_that_crosses_the_deadline_counts(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    world.now += 400;
    health_advance(world.health, world.now);
    assert_true(server->stopped);
    fake_end(server, PROBE_PASS, "connected");
    assert_int_equal(server->changes, 0);
    world_end();
}

/* DESIGN §8: down is known within fall × interval × (1 + jitter) + timeout. */
static void down_is_known_within_the_bound(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.jitter = 20;
    settings.interval_changing = settings.interval;
    for (uint64_t seed = 0; seed < 300; seed++) {
        world_begin(seed);
        struct fake_server *server = fake_add(&settings, 0, HEALTH_UP);
        server->latency_ms = seed % 50;
        /* It may fail at any moment of a cycle, also between a probe and its answer. */
        world_run_for(20000 + seed * 13);
        uint64_t failed_at = world.now;
        server->answer = seed % 2 == 0 ? FAKE_IS_SILENT : FAKE_FAILS;
        uint64_t bound = 3 * (2000 + 400) + 400;
        world_run_for(bound);
        assert_int_equal(server->state, HEALTH_DOWN);
        assert_true(server->changed_at - failed_at <= bound);
        world_end();
    }
}

/* ---- Stalls ---- */

static void ten_seconds_of_standing_still_mark_nothing_down(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    world_begin(1);
    for (uint16_t i = 0; i < FAKE_SERVERS; i++)
        fake_add(&settings, i, HEALTH_UNKNOWN)->latency_ms = 300;
    world_run_for(10150);

    world.now += 10000;
    uint64_t resumed_at = world.now;
    health_advance(world.health, world.now);
    world_run_for(200);
    unsigned voided = 0;
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        const struct fake_server *server = &world.server[i];
        voided += server->cancels;
        assert_int_equal(server->changes, 1);
        assert_int_equal(server->state, HEALTH_UP);
        assert_true(start_of(server, server->starts - 1) >= resumed_at);
    }
    assert_true(voided > 0);
    world_run_for(5000);
    for (size_t i = 0; i < FAKE_SERVERS; i++)
        assert_int_equal(world.server[i].changes, 1);
    world_end();
}

/* The server closed because we were silent, and the loop tells that before it runs its timers. */
static void a_verdict_that_comes_before_the_late_tick_is_void(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UP);
    struct fake_server *other = fake_add(&settings, 1, HEALTH_UP);
    server->answer = other->answer = FAKE_IS_SILENT;
    while (server->probe == NULL || other->probe == NULL)
        assert_true(world_step(world.now + 1000));
    world.now += 10000;
    fake_end(server, PROBE_FAIL, "connection reset by peer");
    assert_int_equal(server->changes, 0);
    assert_true(other->stopped);
    assert_int_equal(other->stop_verdict, PROBE_CANCELLED);

    server->answer = other->answer = FAKE_PASSES;
    world_run_for(200);
    assert_int_equal(server->starts, 2);
    assert_int_equal(other->starts, 2);
    assert_int_equal(server->changes + other->changes, 0);
    world_end();
}

static void a_second_late_is_not_yet_a_stall(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    world_run_for(399); /* the wheel has come to the deadline itself, not to a slot before it */
    world.now += 1 + 1000;
    health_advance(world.health, world.now);
    world_run_for(0);
    assert_int_equal(server->state, HEALTH_DOWN);
    world_end();
}

static void a_voided_probe_counts_nowhere(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    world_run_for(399);
    world.now += 1 + 1001;
    health_advance(world.health, world.now);
    /* Its kind had a verdict of its own on the way. */
    fake_end(server, PROBE_FAIL, "connection reset by peer");
    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(report.probes, 0);
    assert_int_equal(report.streak, 0);
    world_end();
}

/* ---- Suspects ---- */

static void a_suspect_is_probed_at_once_and_cleared_once(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    unsigned starts = server->starts;
    health_suspect(world.health, server->target);
    health_suspect(world.health, server->target);
    assert_true(health_next(world.health) <= world.now);
    world_run_for(0);
    assert_int_equal(server->starts, starts + 1);
    assert_int_equal(server->clears, 1);
    assert_int_equal(server->cleared_at, world.now);
    world_run_for(60000);
    assert_int_equal(server->clears, 1);
    world_end();
}

static void intervals_go_on_from_the_suspect_probe(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    health_suspect(world.health, server->target);
    world_run_to_start(server);
    world_run_to_start(server);
    assert_int_equal(start_of(server, 2) - start_of(server, 1), 2000);
    world_end();
}

static void told_down_before_the_mark_goes(struct fake_server *server)
{
    assert_int_equal(server->state, HEALTH_DOWN);
}

static void a_suspect_that_fails_is_down_first(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    server->answer = FAKE_FAILS;
    server->on_clear = told_down_before_the_mark_goes;
    health_suspect(world.health, server->target);
    world_run_for(0);
    assert_int_equal(server->clears, 1);
    world_end();
}

static void a_doubt_outlives_the_failures_before_down(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    unsigned starts = server->starts;
    server->answer = FAKE_FAILS;
    server->on_clear = told_down_before_the_mark_goes;
    health_suspect(world.health, server->target);
    while (server->state == HEALTH_UP) {
        assert_int_equal(server->clears, 0);
        world_run_to_start(server);
        world_run_for(0);
    }
    assert_int_equal(server->starts, starts + 3);
    assert_int_equal(server->clears, 1);
    world_end();
}

static void a_doubt_ends_with_the_first_pass(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    server->answer = FAKE_FAILS;
    health_suspect(world.health, server->target);
    world_run_for(0);
    assert_int_equal(server->clears, 0);
    server->answer = FAKE_PASSES;
    world_run_to_start(server);
    world_run_for(0);
    assert_int_equal(server->clears, 1);
    assert_int_equal(server->state, HEALTH_UP);
    world_end();
}

/* It may have asked before what the worker saw. */
static void a_probe_under_way_does_not_answer_a_doubt(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    server->latency_ms = 50;
    world_run_to_start(server);
    world_run_for(10);
    health_suspect(world.health, server->target);
    world_run_for(40);
    assert_int_equal(server->starts, 1);
    assert_int_equal(server->clears, 0);
    world_run_to_start(server);
    assert_int_equal(start_of(server, 1) - start_of(server, 0), 100);
    world_run_for(50);
    assert_int_equal(server->clears, 1);
    world_end();
}

static void suspect_again(struct fake_server *server)
{
    health_suspect(world.health, server->target);
}

static void doubts_cannot_hurry_more_than_ten_a_second(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    server->on_clear = suspect_again;
    world_run_for(5000);
    health_suspect(world.health, server->target);
    unsigned before = server->starts;
    world_run_for(5000);
    assert_in_range(server->starts - before, 49, 51);
    world_end();
}

/* ---- Type none ---- */

static void without_a_probe_it_is_up_from_within_the_call(void **state)
{
    (void)state;
    char none[] = "none";
    struct config_health settings = fake_settings();
    settings.type = none;
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UNKNOWN);
    assert_int_equal(server->changes, 1);
    assert_int_equal(server->state, HEALTH_UP);
    assert_int_equal(health_next(world.health), FAKE_NEVER);

    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(report.state, HEALTH_UP);
    assert_string_equal(report.reason, "not probed");
    world_end();
}

static void without_a_probe_a_doubt_ends_by_itself(void **state)
{
    (void)state;
    char none[] = "none";
    struct config_health settings = fake_settings();
    settings.type = none;
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UNKNOWN);
    world_run_for(12345);
    health_suspect(world.health, server->target);
    health_suspect(world.health, server->target);
    uint64_t doubted_at = world.now;
    world_run_for(1999);
    assert_int_equal(server->clears, 0);
    world_run_for(1);
    assert_int_equal(server->clears, 1);
    assert_int_equal(server->cleared_at, doubted_at + HEALTH_SUSPECT_MS);
    world_run_for(60000);
    assert_int_equal(server->clears, 1);
    assert_int_equal(server->starts, 0);
    world_end();
}

/* ---- Probes that cannot start ---- */

static void a_probe_that_cannot_start_counts_neither_way(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    world_begin(1);
    struct fake_server *server = fake_add(&settings, 0, HEALTH_UNKNOWN);
    server->refusal = -EMFILE;
    world_run_for(10000);
    assert_int_equal(server->changes, 0);
    assert_int_equal(start_of(server, 1) - start_of(server, 0), 500);
    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(report.probes, 0);
    assert_string_equal(report.last_detail, "cannot start: too many open files");

    server->refusal = 0;
    world_run_for(500);
    assert_int_equal(server->state, HEALTH_UP);
    world_end();
}

static void a_doubt_waits_until_a_probe_can_start(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    world_run_for(1000);
    server->refusal = -EMFILE;
    health_suspect(world.health, server->target);
    world_run_for(3000);
    assert_int_equal(server->clears, 0);
    server->refusal = 0;
    world_run_for(2000);
    assert_int_equal(server->clears, 1);
    world_end();
}

/* ---- What is copied, what is reported ---- */

static void settings_and_address_are_copied(void **state)
{
    (void)state;
    world_begin(1);
    struct config_health settings = fake_settings();
    settings.type = strdup("fake");
    settings.body = strdup("ok");
    settings.port = 3;
    fake_add(&settings, 0, HEALTH_UNKNOWN);
    free(settings.type);
    free(settings.body);
    memset(&settings, 0xee, sizeof(settings));
    /* The settings' port leads to another server. */
    world_run_to_start(&world.server[3]);
    const struct config_health *copy = world.server[3].probe->settings;
    assert_string_equal(copy->body, "ok");
    assert_string_equal(copy->path, "");
    world_end();
}

static void an_unknown_type_is_refused(void **state)
{
    (void)state;
    char type[] = "smtp";
    struct config_health settings = fake_settings();
    settings.type = type;
    struct address address = {.length = sizeof(address.v4)};
    struct health_target *target = NULL;
    world_begin(1);
    assert_int_equal(
        health_add(world.health, &settings, &address, "web/a", HEALTH_UNKNOWN, NULL, &target),
        -EINVAL);
    assert_null(target);
    world_end();
}

static void the_report_tells_the_last_probe_and_the_last_change(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    struct fake_server *server = add_up(&settings);
    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(report.state, HEALTH_UP);
    assert_int_equal(report.changed_at_ms, 0);
    assert_string_equal(report.reason, "");

    server->answer = FAKE_FAILS;
    server->latency_ms = 25;
    for (unsigned i = 0; i < 4; i++)
        world_run_to_start(server);
    health_report(server->target, &report);
    assert_int_equal(report.state, HEALTH_DOWN);
    assert_int_equal(report.changed_at_ms, start_of(server, 2) + 25);
    assert_string_equal(report.reason, server->reason);
    assert_int_equal(report.probes, 3);
    assert_int_equal(report.failures, 3);
    assert_int_equal(report.last_ms, 25);
    assert_string_equal(report.last_detail, "connection refused");

    server->answer = FAKE_PASSES;
    world_run_for(25);
    health_report(server->target, &report);
    assert_int_equal(report.streak, 1);
    assert_int_equal(report.failures, 3);
    world_end();
}

/* The detail of the longest Unix path is cut, and no more. */
static void long_details_are_cut(void **state)
{
    (void)state;
    struct config_health settings = fake_settings();
    settings.fall = 1;
    struct fake_server *server = add_up(&settings);
    server->answer = FAKE_IS_SILENT;
    world_run_to_start(server);
    char detail[600];
    memset(detail, 'x', sizeof(detail) - 1);
    detail[sizeof(detail) - 1] = '\0';
    fake_end(server, PROBE_FAIL, detail);
    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(strlen(report.last_detail), sizeof(report.last_detail) - 1);
    world_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_probes_are_spread_over_200_ms),
        cmocka_unit_test(one_pass_makes_an_unknown_server_up),
        cmocka_unit_test(one_failure_makes_an_unknown_server_down),
        cmocka_unit_test(a_late_comer_is_not_taken_for_a_stall),
        cmocka_unit_test(an_old_slot_is_not_taken_for_a_stall),
        cmocka_unit_test(a_state_carries_over),
        cmocka_unit_test(fall_and_rise_are_counted),
        cmocka_unit_test(a_pass_in_between_begins_the_count_anew),
        cmocka_unit_test(intervals_run_from_start_to_start_by_state),
        cmocka_unit_test(an_answer_later_than_the_interval_is_followed_at_once),
        cmocka_unit_test(jitter_only_adds_and_no_more_than_its_share),
        cmocka_unit_test(no_answer_in_time_is_a_failure),
        cmocka_unit_test(an_answer_that_crosses_the_deadline_counts),
        cmocka_unit_test(down_is_known_within_the_bound),
        cmocka_unit_test(ten_seconds_of_standing_still_mark_nothing_down),
        cmocka_unit_test(a_verdict_that_comes_before_the_late_tick_is_void),
        cmocka_unit_test(a_second_late_is_not_yet_a_stall),
        cmocka_unit_test(a_voided_probe_counts_nowhere),
        cmocka_unit_test(a_suspect_is_probed_at_once_and_cleared_once),
        cmocka_unit_test(intervals_go_on_from_the_suspect_probe),
        cmocka_unit_test(a_suspect_that_fails_is_down_first),
        cmocka_unit_test(a_doubt_outlives_the_failures_before_down),
        cmocka_unit_test(a_doubt_ends_with_the_first_pass),
        cmocka_unit_test(a_probe_under_way_does_not_answer_a_doubt),
        cmocka_unit_test(doubts_cannot_hurry_more_than_ten_a_second),
        cmocka_unit_test(without_a_probe_it_is_up_from_within_the_call),
        cmocka_unit_test(without_a_probe_a_doubt_ends_by_itself),
        cmocka_unit_test(a_probe_that_cannot_start_counts_neither_way),
        cmocka_unit_test(a_doubt_waits_until_a_probe_can_start),
        cmocka_unit_test(settings_and_address_are_copied),
        cmocka_unit_test(an_unknown_type_is_refused),
        cmocka_unit_test(the_report_tells_the_last_probe_and_the_last_change),
        cmocka_unit_test(long_details_are_cut),
    };
    return cmocka_run_group_tests(tests, fake_quiet_log, fake_end_log);
}
