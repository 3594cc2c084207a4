/* Ends by order, by a drain, by a reset, and of a side that nothing is heard of any more. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"

static uint32_t kill_all(struct world *w, enum session_end_reason reason)
{
    static const struct traffic_filter all;
    uint32_t cursor = 0;

    return tcp_kill(w->tcp, &all, reason, &cursor, UINT64_MAX);
}

static void ends_by_order(void **state)
{
    static const enum session_end_reason orders[] = {SESSION_END_KILLED, SESSION_END_SHUTDOWN};
    struct world w;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct chain chain = world_chain(&w, 0);
        assert_int_equal(kill_all(&w, orders[i]), 1);
        assert_ended(chain.session, orders[i]);
        assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
        assert_int_equal(world_sees(&w, chain.server), ECONNRESET);
        chain_hang_up(&chain);
    }
    world_close(&w);
}

static void drain(struct world *w, uint64_t quiet_ms, uint64_t deadline_ms,
                  enum server_drain_cause cause)
{
    atomic_store(&w->server[0]->drain_quiet_ms, quiet_ms);
    atomic_store(&w->server[0]->drain_cause, cause);
    atomic_store(&w->server[0]->drain_deadline_ms, deadline_ms);
}

static void look_after_drains(struct world *w)
{
    uint32_t cursor = 0;

    tcp_drain(w->tcp, &cursor, 10, UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
}

static void a_draining_server_is_left_at_a_quiet_moment(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    drain(&w, w.now_ms + 5000, w.now_ms + 10000, DRAIN_CAUSE_OPERATOR);
    world_pass(&w, 4999);
    look_after_drains(&w);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    chain_greet(&w, &chain);
    world_pass(&w, DRAIN_QUIET_MS - 1);
    look_after_drains(&w);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    world_pass(&w, 1);
    look_after_drains(&w);
    assert_ended(chain.session, SESSION_END_DRAIN_QUIET);
    assert_int_equal(world_sees(&w, chain.client), 0);
    assert_int_equal(world_sees(&w, chain.server), 0);
    assert_int_equal(world_cell(&w.server[0]->cell[0].drain_ends[DRAIN_END_QUIET]), 1);
    chain_hang_up(&chain);
    world_close(&w);
}

static void a_drain_has_a_deadline(void **state)
{
    static const struct {
        enum server_drain_cause cause;
        enum session_end_reason reason;
    } causes[] = {{DRAIN_CAUSE_OPERATOR, SESSION_END_DRAIN_DEADLINE},
                  {DRAIN_CAUSE_DOWN, SESSION_END_SERVER_DOWN}};
    struct world w;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < ARRAY_LEN(causes); i++) {
        struct chain chain = world_chain(&w, 0);
        drain(&w, UINT64_MAX, w.now_ms + 5000, causes[i].cause);
        world_pass(&w, 4999);
        look_after_drains(&w);
        assert_int_equal(chain.session->state, SESSION_RELAYING);
        world_pass(&w, 1);
        look_after_drains(&w);
        assert_ended(chain.session, causes[i].reason);
        assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
        assert_int_equal(world_cell(&w.server[0]->cell[0].drain_ends[DRAIN_END_DEADLINE]), i + 1);
        chain_hang_up(&chain);
    }
    world_close(&w);
}

static void a_client_may_reset(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    chain_reset(&chain.client);
    assert_int_equal(world_sees(&w, chain.server), ECONNRESET);
    assert_ended(chain.session, SESSION_END_CLIENT_RESET);
    assert_int_equal(w.suspected[0], 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* TCP_USER_TIMEOUT gives a side up whose window stays shut; the kernel's own clock, some 200 ms. */
static void a_side_may_be_lost(void **state)
{
    static const enum session_end_reason reasons[] = {SESSION_END_CLIENT_LOST,
                                                      SESSION_END_SERVER_LOST};

    (void)state;
    for (unsigned lost = CLIENT; lost <= SERVER; lost++) {
        struct world w;
        world_init(&w);
        w.policy.user_timeout_ms = 1;
        world_open_with(&w, WORLD_START_MS, 100);
        struct chain chain = world_chain(&w, 0);
        int talker = lost == CLIENT ? chain.server : chain.client;
        chain_greet(&w, &chain);
        for (uint64_t fed = 0; chain.session->side[lost].error == 0;) {
            fed += pair_feed(talker, fed, 1 << 20);
            world_turn(&w, 10);
        }
        assert_int_equal(chain.session->side[lost].error, ETIMEDOUT);
        world_pass(&w, w.policy.reset_flush_timeout_ms);
        assert_ended(chain.session, reasons[lost]);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_by_order),
        cmocka_unit_test(a_draining_server_is_left_at_a_quiet_moment),
        cmocka_unit_test(a_drain_has_a_deadline),
        cmocka_unit_test(a_client_may_reset),
        cmocka_unit_test(a_side_may_be_lost),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
