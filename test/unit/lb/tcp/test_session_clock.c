/* Far ahead, and where a clock of 32 or 63 bits would wrap: every timeout comes when it is due. */
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

/* Each span below begins before a wrap and ends behind it, at least with one of these. */
static const uint64_t starts[] = {
    0,
    (UINT64_C(1) << 31) - 500,
    (UINT64_C(1) << 32) - 30000,
    (UINT64_C(1) << 32) - 500,
    (UINT64_C(1) << 32) - 1,
    UINT64_C(1) << 32,
    (UINT64_C(1) << 36) - 500, /* the wheel's own horizon */
    (UINT64_C(1) << 63) - 30000,
    (UINT64_C(1) << 63) - 500,
    (UINT64_C(1) << 63) - 1,
    UINT64_C(1) << 63,
    UINT64_MAX - 200000, /* no further: a time that is not before UINT64_MAX means never */
};

/* Passes the span that `session` has, and shows that it ends with its last millisecond. */
static void assert_due(struct world *w, struct session *session, uint64_t span_ms,
                       enum session_end_reason reason)
{
    uint64_t due_ms = w->now_ms + span_ms;

    /* As the worker does: it sleeps until the wheel wants to be moved. */
    while (w->now_ms < due_ms - 1) {
        uint64_t next = wheel_next(&w->wheel);
        assert_true(next > w->now_ms);
        world_pass(w, MIN(next, due_ms - 1) - w->now_ms);
        assert_int_not_equal(session->state, SESSION_ENDED);
    }
    assert_int_equal(wheel_next(&w->wheel), due_ms);
    world_pass(w, 1);
    assert_ended(session, reason);
}

static void the_connect_timeout(struct world *w)
{
    struct chain chain;
    int filler[2];

    w->pool.retries = 0;
    world_swallow_syns(w, 0, filler);
    chain = world_client(w);
    assert_due(w, chain.session, 1000, SESSION_END_CONNECT_TIMEOUT);
    world_answer_syns(filler);
    chain_hang_up(&chain);
}

static void the_wait_for_a_server(struct world *w)
{
    struct chain chain;

    w->usable[0] = false;
    chain = world_client(w);
    assert_due(w, chain.session, 1000, SESSION_END_NO_SERVER);
    chain_hang_up(&chain);
}

static void the_idle_timeout(struct world *w)
{
    struct chain chain = world_chain(w, 0);

    assert_due(w, chain.session, 60000, SESSION_END_IDLE_TIMEOUT);
    chain_hang_up(&chain);
}

static void the_idle_timeout_put_off(struct world *w)
{
    struct chain chain = world_chain(w, 0);

    world_pass(w, 40000);
    chain_greet(w, &chain);
    assert_due(w, chain.session, 60000, SESSION_END_IDLE_TIMEOUT);
    chain_hang_up(&chain);
}

static void the_half_close_timeout(struct world *w)
{
    struct chain chain = world_chain(w, 0);

    world_pass(w, 30000);
    assert_int_equal(shutdown(chain.server, SHUT_WR), 0);
    assert_int_equal(world_sees(w, chain.client), 0);
    assert_due(w, chain.session, 5000, SESSION_END_HALF_CLOSE_TIMEOUT);
    chain_hang_up(&chain);
}

/* The client sleeps, so that the answer before the reset is never delivered whole. */
static void the_flush_of_a_reset(struct world *w)
{
    struct chain chain = {.client = world_dial(w, 4096)};
    uint64_t fed = 0;

    world_take_in(w);
    chain.session = world_newest(w);
    chain.server = world_served(w, 0);
    WORLD_UNTIL(w, chain.session->state == SESSION_RELAYING);
    WORLD_UNTIL(w, (fed += pair_feed(chain.server, fed, 60000 - fed), fed == 60000));
    WORLD_UNTIL(w, socket_unsent(chain.server) == 0);
    chain_reset(&chain.server);
    WORLD_UNTIL(w, chain.session->state == SESSION_RESETTING);
    assert_due(w, chain.session, 2000, SESSION_END_SERVER_RESET);
    chain_hang_up(&chain);
}

static void look_after_drains(struct world *w)
{
    uint32_t cursor = 0;

    tcp_drain(w->tcp, &cursor, 1, UINT64_MAX);
}

static void the_deadline_of_a_drain(struct world *w)
{
    struct chain chain = world_chain(w, 0);

    atomic_store(&w->server[0]->drain_quiet_ms, w->now_ms + 40000);
    atomic_store(&w->server[0]->drain_deadline_ms, w->now_ms + 40000);
    world_pass(w, 39999);
    look_after_drains(w);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    world_pass(w, 1);
    look_after_drains(w);
    assert_ended(chain.session, SESSION_END_DRAIN_DEADLINE);
    chain_hang_up(&chain);
}

static void the_quiet_moment_of_a_drain(struct world *w)
{
    struct chain chain = world_chain(w, 0);

    atomic_store(&w->server[0]->drain_quiet_ms, w->now_ms + 500);
    atomic_store(&w->server[0]->drain_deadline_ms, w->now_ms + 40000);
    world_pass(w, DRAIN_QUIET_MS - 1);
    look_after_drains(w);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    world_pass(w, 1);
    look_after_drains(w);
    assert_ended(chain.session, SESSION_END_DRAIN_QUIET);
    chain_hang_up(&chain);
}

static void everything_is_due_in_time(void **state)
{
    static void (*const spans[])(struct world *) = {
        the_connect_timeout,      the_wait_for_a_server,       the_idle_timeout,
        the_idle_timeout_put_off, the_half_close_timeout,      the_flush_of_a_reset,
        the_deadline_of_a_drain,  the_quiet_moment_of_a_drain,
    };

    (void)state;
    for (size_t start = 0; start < ARRAY_LEN(starts); start++) {
        for (size_t span = 0; span < ARRAY_LEN(spans); span++) {
            struct world w;
            world_init(&w);
            world_open_with(&w, starts[start], 100);
            spans[span](&w);
            world_close(&w);
        }
    }
}

/* A machine that slept: what came due meanwhile is done once, when it wakes. */
static void a_leap_ends_what_is_due(void **state)
{
    struct world w;
    struct chain idle, half;

    (void)state;
    world_open(&w);
    idle = world_chain(&w, 0);
    half = world_chain(&w, 0);
    assert_int_equal(shutdown(half.client, SHUT_WR), 0);
    assert_int_equal(world_sees(&w, half.server), 0);
    world_pass(&w, UINT64_C(1) << 40);
    assert_ended(idle.session, SESSION_END_IDLE_TIMEOUT);
    assert_ended(half.session, SESSION_END_HALF_CLOSE_TIMEOUT);
    chain_hang_up(&idle);
    chain_hang_up(&half);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_due_in_time),
        cmocka_unit_test(a_leap_ends_what_is_due),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
