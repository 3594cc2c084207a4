/* Sessions that wait for a server: how long, in what order, and who goes away meanwhile. */
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

static void waits_until_a_server_is_usable(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    assert_int_equal(world_metric(&w, METRIC_QUEUED), 1);
    tcp_wake_queued(w.tcp, 0);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    w.usable[0] = true;
    tcp_wake_queued(w.tcp, 0);
    assert_int_equal(chain.session->state, SESSION_CONNECTING);
    chain.server = world_served(&w, 0);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

static void looks_again_by_itself(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    world_pass(&w, 100);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    w.usable[0] = true;
    world_pass(&w, 100);
    assert_int_equal(chain.session->state, SESSION_CONNECTING);
    chain.server = world_served(&w, 0);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

static void waits_no_longer_than_it_may(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    for (int i = 0; i < 999; i++)
        world_pass(&w, 1);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    world_pass(&w, 1);
    assert_ended(chain.session, SESSION_END_NO_SERVER);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    chain_hang_up(&chain);
    world_close(&w);
}

static void may_be_told_not_to_wait(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    w.pool.when_empty = CONFIG_EMPTY_RESET;
    chain = world_client(&w);
    assert_ended(chain.session, SESSION_END_NO_SERVER);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    chain_hang_up(&chain);
    world_close(&w);
}

/* A pool with one server waits for it, and tries again what it tried before. */
static void the_only_server_is_tried_again(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    world_refuse(&w, 0);
    chain = world_client(&w);
    WORLD_UNTIL(&w, chain.session->state == SESSION_QUEUED);
    assert_int_equal(chain.session->tries, 1);
    world_pass(&w, 100);
    WORLD_UNTIL(&w, chain.session->state == SESSION_QUEUED);
    world_pass(&w, 100);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_CONNECT_FAILED);
    assert_int_equal(chain.session->tries, 3);
    chain_hang_up(&chain);
    world_close(&w);
}

static void slots_go_to_who_waits_longest(void **state)
{
    struct world w;
    struct chain chain[4];

    (void)state;
    world_open(&w);
    atomic_store(&w.server[0]->live.limit, 1);
    for (size_t i = 0; i < ARRAY_LEN(chain); i++)
        chain[i] = world_client(&w);
    tcp_wake_queued(w.tcp, 0); /* in vain, and nobody loses his place */
    world_pass(&w, 100);
    for (size_t i = 0; i < ARRAY_LEN(chain); i++) {
        assert_int_equal(world_load(&w, 0), 1);
        assert_int_equal(chain[i].session->state, SESSION_CONNECTING);
        for (size_t later = i + 1; later < ARRAY_LEN(chain); later++)
            assert_int_equal(chain[later].session->state, SESSION_QUEUED);
        chain[i].server = world_served(&w, 0);
        chain_greet(&w, &chain[i]);
        chain_finish(&w, &chain[i]);
    }
    world_close(&w);
}

/* Another worker gave the slot back: nobody here was woken, and the next client is a new one. */
static void a_new_client_does_not_overtake(void **state)
{
    struct world w;
    struct chain first, second;

    (void)state;
    world_open(&w);
    atomic_store(&w.server[0]->live.limit, 1);
    assert_true(server_enter(w.server[0]));
    first = world_client(&w);
    assert_int_equal(first.session->state, SESSION_QUEUED);
    server_leave(w.server[0]);
    second = world_client(&w);
    assert_int_equal(first.session->state, SESSION_CONNECTING);
    assert_int_equal(second.session->state, SESSION_QUEUED);
    first.server = world_served(&w, 0);
    chain_greet(&w, &first);
    chain_finish(&w, &first);
    second.server = world_served(&w, 0);
    chain_greet(&w, &second);
    chain_finish(&w, &second);
    world_close(&w);
}

static void a_client_that_resets_waits_no_more(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_CLIENT_GONE);
    world_close(&w);
}

static void a_client_that_waits_may_half_close(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    world_settle(&w);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    w.usable[0] = true;
    tcp_wake_queued(w.tcp, 0);
    chain.server = world_served(&w, 0);
    assert_int_equal(world_sees(&w, chain.server), 0);
    chain_finish(&w, &chain);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_until_a_server_is_usable),
        cmocka_unit_test(looks_again_by_itself),
        cmocka_unit_test(waits_no_longer_than_it_may),
        cmocka_unit_test(may_be_told_not_to_wait),
        cmocka_unit_test(the_only_server_is_tried_again),
        cmocka_unit_test(slots_go_to_who_waits_longest),
        cmocka_unit_test(a_new_client_does_not_overtake),
        cmocka_unit_test(a_client_that_resets_waits_no_more),
        cmocka_unit_test(a_client_that_waits_may_half_close),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
