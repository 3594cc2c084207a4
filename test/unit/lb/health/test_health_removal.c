/*
 * Targets and the schedule go at every awkward moment: with a probe under way, from within their
 * own callbacks and those of others. AddressSanitizer is the judge of most of it.
 */
#include "test/unit/lb/health/fake.h"

static struct config_health silent_settings(struct fake_server **out, uint16_t count)
{
    struct config_health settings = fake_settings();
    settings.fall = 1;
    world_begin(1);
    for (uint16_t i = 0; i < count; i++) {
        out[i] = fake_add(&settings, i, HEALTH_UP);
        out[i]->answer = FAKE_IS_SILENT;
    }
    return settings;
}

static void no_callback_follows_a_removal(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    world_run_to_start(server);
    health_suspect(world.health, server->target);
    health_remove(world.health, &server->target);
    assert_null(server->target);
    assert_true(server->stopped);
    assert_int_equal(server->stop_verdict, PROBE_CANCELLED);
    assert_int_equal(health_next(world.health), FAKE_NEVER);
    world_run_for(10000);
    assert_null(server->probe);
    assert_int_equal(server->starts, 1);
    assert_int_equal(server->changes + server->clears, 0);
    world_end();
}

/* The kind had its verdict when it was told to stop. */
static void a_verdict_after_a_removal_is_not_told(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    world_run_to_start(server);
    health_remove(world.health, &server->target);
    fake_end(server, PROBE_FAIL, "connection refused");
    assert_int_equal(server->changes, 0);
    world_end();
}

static void removal_between_deadline_and_close(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    world_run_to_start(server);
    world.now += 400;
    health_advance(world.health, world.now);
    assert_true(server->stopped);
    health_remove(world.health, &server->target);
    world_run_for(1000);
    assert_int_equal(server->changes, 0);
    world_end();
}

static void removal_before_the_first_probe(void **state)
{
    (void)state;
    struct fake_server *server[2];
    silent_settings(server, 2);
    health_remove(world.health, &server[0]->target); /* still hasty */
    health_advance(world.health, world.now);
    health_remove(world.health, &server[1]->target); /* has its time */
    world_run_for(1000);
    assert_int_equal(server[0]->starts + server[1]->starts, 0);
    world_end();
}

static void remove_itself(struct fake_server *server)
{
    health_remove(world.health, &server->target);
}

static void a_target_may_go_in_its_own_change(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    server->on_change = remove_itself;
    world_run_to_start(server);
    world_run_for(400);
    assert_int_equal(server->changes, 1);
    assert_null(server->target);
    world_run_for(10000);
    assert_int_equal(server->starts, 1);
    world_end();
}

/* Both callbacks were due: the first takes the target away, so the second must not come. */
static void a_doubt_is_not_cleared_after_a_removal(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    server->on_change = remove_itself;
    health_suspect(world.health, server->target);
    world_run_to_start(server);
    world_run_for(400);
    assert_int_equal(server->changes, 1);
    assert_int_equal(server->clears, 0);
    world_end();
}

static void a_target_may_go_when_it_is_cleared(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    server->answer = FAKE_PASSES;
    server->on_clear = remove_itself;
    health_suspect(world.health, server->target);
    world_run_to_start(server);
    world_run_for(400);
    assert_int_equal(server->clears, 1);
    assert_null(server->target);
    world_end();
}

static void remove_all(struct fake_server *server)
{
    (void)server;
    for (size_t i = 0; i < FAKE_SERVERS; i++) {
        if (world.server[i].target != NULL)
            health_remove(world.health, &world.server[i].target);
    }
}

/* Targets without a probe are cleared from within the wheel, several of them in one turn. */
static void others_may_go_from_within_the_wheel(void **state)
{
    (void)state;
    char none[] = "none";
    struct fake_server *server[3];
    struct config_health settings = silent_settings(server, 1);
    settings.type = none;
    for (uint16_t i = 1; i < 3; i++) {
        server[i] = fake_add(&settings, i, HEALTH_UP);
        server[i]->on_clear = remove_all;
        health_suspect(world.health, server[i]->target);
    }
    world_run_for(HEALTH_SUSPECT_MS);
    assert_int_equal(server[1]->clears + server[2]->clears, 1);
    world_run_for(10000);
    world_end();
}

static void free_all(struct fake_server *server)
{
    (void)server;
    health_free(&world.health, fake_freed, &world);
}

static void the_schedule_may_go_from_within_the_wheel(void **state)
{
    (void)state;
    char none[] = "none";
    struct fake_server *server[2];
    struct config_health settings = silent_settings(server, 1);
    settings.type = none;
    server[1] = fake_add(&settings, 1, HEALTH_UP);
    server[1]->on_clear = free_all;
    health_suspect(world.health, server[1]->target);
    world_run_for(HEALTH_SUSPECT_MS);
    assert_int_equal(server[1]->clears, 1);
    assert_null(world.health);
    world_end();
}

static void the_schedule_may_go_in_a_change(void **state)
{
    (void)state;
    struct fake_server *server[2];
    silent_settings(server, 2);
    server[0]->on_change = free_all;
    world_run_to_start(server[0]);
    world_run_for(400);
    assert_int_equal(server[0]->changes, 1);
    assert_null(world.health);
    world_end();
}

static void the_schedule_may_go_while_one_is_added(void **state)
{
    (void)state;
    char none[] = "none";
    struct config_health settings = fake_settings();
    settings.type = none;
    world_begin(1);
    world.server[0].on_change = free_all;
    fake_add(&settings, 0, HEALTH_UNKNOWN);
    assert_true(world.freed);
}

static void the_schedule_waits_for_probes_under_way(void **state)
{
    (void)state;
    struct fake_server *server[3];
    silent_settings(server, 3);
    world_run_for(200);
    health_remove(world.health, &server[0]->target);
    health_free(&world.health, fake_freed, &world);
    assert_null(world.health);
    for (unsigned i = 0; i < 3; i++) {
        assert_false(world.freed);
        assert_true(server[i]->stopped);
        fake_end(server[i], PROBE_CANCELLED, "removed");
        assert_int_equal(server[i]->changes, 0);
    }
    assert_true(world.freed);
}

static void an_idle_schedule_goes_at_once(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    health_free(&world.health, fake_freed, &world);
    assert_true(world.freed);
}

static void add_another(struct fake_server *server)
{
    struct config_health settings = fake_settings();
    (void)server;
    fake_add(&settings, 9, HEALTH_UNKNOWN);
}

static void a_target_may_be_added_in_a_callback(void **state)
{
    (void)state;
    struct fake_server *server;
    silent_settings(&server, 1);
    server->on_change = add_another;
    world_run_to_start(server);
    world_run_for(400 + 200);
    assert_int_equal(world.server[9].state, HEALTH_UP);
    world_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_callback_follows_a_removal),
        cmocka_unit_test(a_verdict_after_a_removal_is_not_told),
        cmocka_unit_test(removal_between_deadline_and_close),
        cmocka_unit_test(removal_before_the_first_probe),
        cmocka_unit_test(a_target_may_go_in_its_own_change),
        cmocka_unit_test(a_doubt_is_not_cleared_after_a_removal),
        cmocka_unit_test(a_target_may_go_when_it_is_cleared),
        cmocka_unit_test(others_may_go_from_within_the_wheel),
        cmocka_unit_test(the_schedule_may_go_from_within_the_wheel),
        cmocka_unit_test(the_schedule_may_go_in_a_change),
        cmocka_unit_test(the_schedule_may_go_while_one_is_added),
        cmocka_unit_test(the_schedule_waits_for_probes_under_way),
        cmocka_unit_test(an_idle_schedule_goes_at_once),
        cmocka_unit_test(a_target_may_be_added_in_a_callback),
    };
    return cmocka_run_group_tests(tests, fake_quiet_log, fake_end_log);
}
