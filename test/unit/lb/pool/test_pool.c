/*
 * Members: who may get sessions, and the drains that operators and health begin and end.
 */
#include "lb/pool/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/pool/fixture.h"

#define NOW 50000

struct world {
    struct pools *pools;
    struct pool_member *a; /* of "web" */
};

static struct world world;

static int setup(void **state)
{
    (void)state;
    fixture_reset();
    world.pools = fixture_pools();
    world.a = fixture_member(world.pools, "web", "a");
    pool_member_set_health(world.a, HEALTH_UP, "the first probe passed", 10);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pools_free(&world.pools);
    return 0;
}

static void view_now(void)
{
    struct view *view = pools_view(world.pools);
    view_put(&view);
}

static void down(void)
{
    pool_member_set_health(world.a, HEALTH_DOWN, "3 of 3 probes failed", NOW);
}

/* What workers see. */
static void assert_drains(uint64_t quiet_ms, uint64_t deadline_ms, enum server_drain_cause cause)
{
    const struct server *server = world.a->server;
    assert_int_equal(atomic_load(&server->drain_deadline_ms), deadline_ms);
    assert_int_equal(atomic_load(&server->drain_quiet_ms), quiet_ms);
    assert_int_equal(atomic_load(&server->drain_cause), cause);
    assert_int_not_equal(world.a->drain_started_ms, 0);
}

static void assert_no_drain(void)
{
    assert_int_equal(atomic_load(&world.a->server->drain_deadline_ms), 0);
    assert_int_equal(world.a->drain_started_ms, 0);
}

static void assert_unusable(const char *words)
{
    const char *why_not = NULL;
    assert_false(pool_member_usable(world.a, &why_not));
    assert_string_equal(why_not, words);
}

/* ---- finding and usable ---- */

static void finds_by_name(void **state)
{
    (void)state;
    assert_null(pools_find(world.pools, "no"));
    assert_null(pool_find_member(pools_find(world.pools, "web"), "no"));
    struct pool_member *b = fixture_member(world.pools, "web", "b");
    assert_string_equal(b->server->address_text, "[2001:db8::1]:8002");
    assert_ptr_not_equal(world.a, fixture_member(world.pools, "db", "a"));
}

static void names_states(void **state)
{
    (void)state;
    assert_string_equal(server_admin_name(SERVER_ENABLED), "enabled");
    assert_string_equal(server_admin_name(SERVER_DRAIN), "drain");
    assert_string_equal(server_admin_name(SERVER_MAINTENANCE), "maintenance");
    assert_string_equal(health_state_name(HEALTH_UNKNOWN), "unknown");
    assert_string_equal(health_state_name(HEALTH_UP), "up");
    assert_string_equal(health_state_name(HEALTH_DOWN), "down");
}

static void says_why_a_server_is_not_used(void **state)
{
    (void)state;
    const char *why_not = "untouched";
    assert_true(pool_member_usable(world.a, &why_not));
    assert_string_equal(why_not, "untouched");
    pool_member_set_weight(world.a, 0);
    assert_unusable("its weight is 0");
    down();
    assert_unusable("down");
    pool_member_set_admin(world.a, SERVER_DRAIN, 1000, NOW);
    assert_unusable("draining");
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_unusable("in maintenance");
    assert_false(pool_member_usable(world.a, NULL));
}

static void unknown_counts_as_up_only_by_configuration(void **state)
{
    (void)state;
    pool_member_set_health(world.a, HEALTH_UNKNOWN, "not probed yet", NOW);
    assert_unusable("not probed yet");
    fixture_pool[0].health.start_up = true;
    assert_true(pool_member_usable(world.a, NULL));
}

static void tells_when_a_new_view_is_due(void **state)
{
    (void)state;
    view_now();
    assert_false(pools_dirty(world.pools));
    pool_member_set_weight(world.a, 100);
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW);
    pool_member_set_health(world.a, HEALTH_UP, "still", NOW);
    assert_false(pools_dirty(world.pools)); /* nothing of that was a change */
    pool_member_set_weight(world.a, 1);
    assert_true(pools_dirty(world.pools));
    view_now();
    pool_member_set_admin(world.a, SERVER_DRAIN, 1000, NOW);
    assert_true(pools_dirty(world.pools));
    view_now();
    down();
    assert_true(pools_dirty(world.pools));
    assert_false(world.pools->pool[1].dirty);
}

static void a_verdict_clears_the_suspicion(void **state)
{
    (void)state;
    atomic_store(&world.a->server->live.suspect, 1);
    pool_member_set_health(world.a, HEALTH_UP, "still", NOW);
    assert_int_equal(atomic_load(&world.a->server->live.suspect), 0);
    atomic_store(&world.a->server->live.suspect, 1);
    down();
    assert_int_equal(atomic_load(&world.a->server->live.suspect), 0);
}

/* The view that workers have may still show it as usable. */
static void refuses_before_the_next_view(void **state)
{
    (void)state;
    struct server *server = world.a->server;
    view_now();
    assert_true(server_enter(server));
    pool_member_set_admin(world.a, SERVER_DRAIN, 1000, NOW);
    assert_false(server_enter(server));
    assert_int_equal(atomic_load(&server->live.load), 1); /* the one that was there */
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW);
    assert_true(server_enter(server));
    pool_member_set_weight(world.a, 0);
    assert_false(server_enter(server));
    pool_member_set_weight(world.a, 10);
    down();
    assert_false(server_enter(server));
    server_leave(server);
    server_leave(server);
}

static void explains_itself(void **state)
{
    (void)state;
    assert_string_equal(fixture_member(world.pools, "web", "b")->reason, "not probed yet");
    assert_string_equal(world.a->reason, "the first probe passed");
    assert_int_equal(world.a->changed_at_ms, 10);
    pool_member_set_health(world.a, HEALTH_UP, "passed again", 20);
    assert_int_equal(world.a->changed_at_ms, 10); /* no change */
    pool_member_set_admin(world.a, SERVER_DRAIN, 1000, 30);
    assert_string_equal(world.a->reason, "drained by an operator");
    assert_int_equal(world.a->changed_at_ms, 30);
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, 40);
    assert_string_equal(world.a->reason, "enabled by an operator");
    down();
    assert_string_equal(world.a->reason, "3 of 3 probes failed");
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_string_equal(world.a->reason, "taken into maintenance by an operator");
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW);
    assert_string_equal(world.a->reason, "3 of 3 probes failed"); /* that is why it is not used */
}

/* ---- an operator's drain ---- */

static void an_operator_drains(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, 600, NOW);
    assert_drains(NOW + 300, NOW + 600, DRAIN_CAUSE_OPERATOR);
    assert_int_equal(world.a->drain_started_ms, NOW);
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW + 10);
    assert_no_drain();
    assert_true(pool_member_usable(world.a, NULL));
}

static void a_second_drain_moves_the_deadline(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, 600, NOW);
    pool_member_set_admin(world.a, SERVER_DRAIN, 5000, NOW + 100);
    assert_drains(NOW + 2600, NOW + 5100, DRAIN_CAUSE_OPERATOR);
    pool_member_set_admin(world.a, SERVER_DRAIN, 0, NOW + 200);
    assert_drains(NOW + 200, NOW + 200, DRAIN_CAUSE_OPERATOR);
}

static void a_drain_without_end_does_not_wrap(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, UINT64_MAX, NOW);
    assert_drains(NOW + UINT64_MAX / 2, UINT64_MAX, DRAIN_CAUSE_OPERATOR);
}

static void a_drain_at_time_nought_is_a_drain(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, 0, 0);
    assert_drains(0, 1, DRAIN_CAUSE_OPERATOR);
}

static void a_drain_counts_from_its_beginning(void **state)
{
    (void)state;
    cell_add(&world.a->server->cell[1].drain_ends[DRAIN_END_SELF], 7);
    pool_member_set_admin(world.a, SERVER_DRAIN, 600, NOW);
    assert_int_equal(world.a->drain_base[DRAIN_END_SELF], 7);
    cell_add(&world.a->server->cell[0].drain_ends[DRAIN_END_SELF], 2);
    down(); /* health falls in: the command still reports on itself */
    assert_int_equal(world.a->drain_base[DRAIN_END_SELF], 7);
    pool_member_set_admin(world.a, SERVER_DRAIN, 600, NOW + 50);
    assert_int_equal(world.a->drain_base[DRAIN_END_SELF], 9);
    assert_int_equal(world.a->drain_started_ms, NOW + 50);
}

static void maintenance_follows_on_down(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 7777, NOW);
    assert_drains(NOW + 500, NOW + 1000, DRAIN_CAUSE_OPERATOR);
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW);
    assert_no_drain();
    fixture_pool[0].on_down = CONFIG_DOWN_KILL;
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_drains(NOW, NOW, DRAIN_CAUSE_OPERATOR);
    fixture_pool[0].on_down = CONFIG_DOWN_KEEP;
    pool_member_set_admin(world.a, SERVER_DRAIN, 5000, NOW);
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_no_drain();
    assert_unusable("in maintenance");
}

/* ---- down and up ---- */

static void down_drains_and_up_ends_it(void **state)
{
    (void)state;
    down();
    assert_drains(NOW + 500, NOW + 1000, DRAIN_CAUSE_DOWN);
    pool_member_set_health(world.a, HEALTH_UP, "2 of 2 probes passed", NOW + 100);
    assert_no_drain();
    assert_true(pool_member_usable(world.a, NULL));
}

static void down_kills(void **state)
{
    (void)state;
    fixture_pool[0].on_down = CONFIG_DOWN_KILL;
    down();
    assert_drains(NOW, NOW, DRAIN_CAUSE_DOWN);
    pool_member_set_health(world.a, HEALTH_UP, "back", NOW + 100);
    assert_no_drain();
}

static void down_keeps(void **state)
{
    (void)state;
    fixture_pool[0].on_down = CONFIG_DOWN_KEEP;
    down();
    assert_no_drain();
    assert_unusable("down");
}

static void unknown_between_moves_no_deadline(void **state)
{
    (void)state;
    down();
    pool_member_set_health(world.a, HEALTH_UNKNOWN, "probed anew", NOW + 100);
    assert_drains(NOW + 500, NOW + 1000, DRAIN_CAUSE_DOWN);
    pool_member_set_health(world.a, HEALTH_DOWN, "failed", NOW + 200);
    assert_drains(NOW + 500, NOW + 1000, DRAIN_CAUSE_DOWN);
}

/* ---- both ---- */

static void up_ends_no_drain_of_an_operator(void **state)
{
    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, 600, NOW);
    down();
    assert_drains(NOW + 300, NOW + 600, DRAIN_CAUSE_OPERATOR); /* the sooner one */
    pool_member_set_health(world.a, HEALTH_UP, "back", NOW + 100);
    assert_drains(NOW + 300, NOW + 600, DRAIN_CAUSE_OPERATOR);
}

static void up_leaves_the_operators_later_deadline(void **state)
{
    (void)state;
    fixture_pool[0].on_down = CONFIG_DOWN_KILL;
    pool_member_set_admin(world.a, SERVER_DRAIN, 8000, NOW - 10);
    down();
    assert_drains(NOW, NOW, DRAIN_CAUSE_DOWN);
    pool_member_set_health(world.a, HEALTH_UP, "back", NOW + 100);
    assert_drains(NOW + 3990, NOW + 7990, DRAIN_CAUSE_OPERATOR);
}

static void enabling_leaves_what_down_began(void **state)
{
    (void)state;
    down();
    pool_member_set_admin(world.a, SERVER_DRAIN, 100, NOW + 1);
    assert_drains(NOW + 51, NOW + 101, DRAIN_CAUSE_OPERATOR);
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW + 2);
    assert_drains(NOW + 500, NOW + 1000, DRAIN_CAUSE_DOWN);
}

/* Flows stay with an operator's drain, and leave what is down or in maintenance. */
static void flows_desert_what_is_down(void **state)
{
    const _Atomic bool *deserted = &world.a->server->deserted;

    (void)state;
    pool_member_set_admin(world.a, SERVER_DRAIN, 5000, NOW);
    assert_false(atomic_load(deserted));
    down(); /* though the operator's deadline is the sooner one */
    assert_true(atomic_load(deserted));
    pool_member_set_health(world.a, HEALTH_UP, "back", NOW + 100);
    assert_false(atomic_load(deserted));
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_true(atomic_load(deserted));
    pool_member_set_admin(world.a, SERVER_ENABLED, 0, NOW);
    assert_false(atomic_load(deserted));
    fixture_pool[0].on_down = CONFIG_DOWN_KEEP;
    down();
    pool_member_set_admin(world.a, SERVER_MAINTENANCE, 0, NOW);
    assert_false(atomic_load(deserted));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Each server its own of TCP; of UDP all the same. */
static void servers_have_the_ports_of_their_sources(void **state)
{
    (void)state;
    fixture_sources();
    struct pools *pools = fixture_pools();
    struct server *a = fixture_member(pools, "web", "a")->server;
    struct server *b = fixture_member(pools, "web", "b")->server;
    struct server *db = fixture_member(pools, "db", "a")->server;
    assert_int_equal(a->ports[PORTS_TCP]->count, 2);
    assert_int_equal(a->ports[PORTS_UDP]->count, 2);
    assert_int_equal(b->ports[PORTS_TCP]->count, 1);
    assert_string_equal(b->ports[PORTS_TCP]->tally[0]->source_text, "2001:db8::5");
    assert_string_equal(b->ports[PORTS_TCP]->tally[0]->pool, "web");
    assert_string_equal(b->ports[PORTS_TCP]->tally[0]->name, "b");
    assert_null(db->ports[PORTS_TCP]); /* that pool has no sources */
    assert_null(db->ports[PORTS_UDP]);
    assert_int_equal(pools->ports.tally_count, 6);
    /* They stay as long as the server does. */
    struct server *kept = server_take(a);
    pools_free(&pools);
    uint8_t index = ports_take(kept->ports[PORTS_TCP], 0, 1);
    assert_int_not_equal(index, PORTS_NONE);
    ports_give(kept->ports[PORTS_TCP], index);
    server_put(&kept);
}

static void without_sources_there_are_none(void **state)
{
    (void)state;
    fixture_sources();
    fixture_pool[0].source = (struct config_sources){.client = true};
    struct pools *pools = fixture_pools();
    assert_null(fixture_member(pools, "web", "a")->server->ports[PORTS_TCP]);
    assert_int_equal(pools->ports.tally_count, 0);
    pools_free(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(finds_by_name),
        TEST(names_states),
        TEST(says_why_a_server_is_not_used),
        TEST(unknown_counts_as_up_only_by_configuration),
        TEST(tells_when_a_new_view_is_due),
        TEST(a_verdict_clears_the_suspicion),
        TEST(refuses_before_the_next_view),
        TEST(explains_itself),
        TEST(an_operator_drains),
        TEST(a_second_drain_moves_the_deadline),
        TEST(a_drain_without_end_does_not_wrap),
        TEST(a_drain_at_time_nought_is_a_drain),
        TEST(a_drain_counts_from_its_beginning),
        TEST(maintenance_follows_on_down),
        TEST(down_drains_and_up_ends_it),
        TEST(down_kills),
        TEST(down_keeps),
        TEST(unknown_between_moves_no_deadline),
        TEST(up_ends_no_drain_of_an_operator),
        TEST(up_leaves_the_operators_later_deadline),
        TEST(enabling_leaves_what_down_began),
        TEST(flows_desert_what_is_down),
        TEST(servers_have_the_ports_of_their_sources),
        TEST(without_sources_there_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
