/*
 * How the refused are turned away. Over loopback, where a hop limit of 1 is enough: what a dropped
 * client would not see behind a router (test/e2e/test_refuse.py) it sees here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"

#include <poll.h>

/* Of a client refused by its own address; the peer's socket is closed. */
static int refused(struct world *w)
{
    int client = world_dial(w, 0);

    world_take_in(w);
    assert_int_equal(tcp_sessions(w->tcp), 0);
    return client;
}

static struct gate *nobody(void)
{
    struct network all = {.bits = 0};
    struct gate *gate;

    assert_int_equal(gate_new(&gate, &(struct gate_options){.deny = {{&all, 1}}}), 0);
    return gate;
}

static void open_refusing(struct world *w, enum config_refuse refuse)
{
    world_init(w);
    w->policy.gate = nobody();
    w->policy.refuse = refuse;
    world_open_with(w, WORLD_START_MS, 100);
}

static void close_refusing(struct world *w)
{
    world_close(w);
    gate_free(&w->policy.gate);
}

static void is_a_reset(void **state)
{
    struct world w;

    (void)state;
    open_refusing(&w, CONFIG_REFUSE_RESET);
    int client = refused(&w);
    assert_int_equal(world_sees(&w, client), ECONNRESET);
    close(client);
    close_refusing(&w);
}

static void is_a_fin(void **state)
{
    struct world w;

    (void)state;
    open_refusing(&w, CONFIG_REFUSE_CLOSE);
    int client = refused(&w);
    assert_int_equal(world_sees(&w, client), 0);
    close(client);
    close_refusing(&w);
}

static bool hears_a_reset(int client, int wait_ms)
{
    struct pollfd watch = {.fd = client};

    return poll(&watch, 1, wait_ms) > 0 && (watch.revents & POLLERR) != 0;
}

/* What it sends, before and after, is not answered: neither by the socket nor by the kernel. */
static void a_drop_answers_nothing(void **state)
{
    struct world w;

    (void)state;
    open_refusing(&w, CONFIG_REFUSE_DROP);
    int client = world_dial(&w, 0);
    assert_int_equal(send(client, "early", 5, MSG_NOSIGNAL), 5);
    world_take_in(&w);
    assert_int_equal(world_sees(&w, client), 0);
    assert_int_equal(send(client, "late", 4, MSG_NOSIGNAL), 4);
    assert_false(hears_a_reset(client, 300));
    close(client);
    close_refusing(&w);
}

/* Silence holds kernel memory; who comes when all of it is given out is reset. */
static void few_are_dropped_silently(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_refusing(&w, CONFIG_REFUSE_DROP);
    for (unsigned i = 0; i < REFUSE_SILENT_BURST; i++) {
        client = refused(&w);
        assert_int_equal(world_sees(&w, client), 0);
        close(client);
    }
    client = refused(&w);
    assert_int_equal(world_sees(&w, client), ECONNRESET);
    close(client);
    world_pass(&w, REFUSE_SILENCE_MS);
    client = refused(&w);
    assert_int_equal(world_sees(&w, client), 0);
    close(client);
    close_refusing(&w);
}

/* By the same door as the others: whom a PROXY header told of, and whom no route fits. */
static void sessions_are_refused_alike(void **state)
{
    struct config_route inside = {.sni = "", .alpn = "", .pool = "pool"};
    struct network lan = {.address = IN6ADDR_LOOPBACK_INIT, .bits = 128};
    struct world w;

    (void)state;
    inside.from = (struct config_networks){.network = &lan, .count = 1};
    world_init(&w);
    w.policy.routes = &inside;
    w.policy.route_count = 1;
    w.policy.refuse_unrouted = true;
    w.policy.refuse = CONFIG_REFUSE_DROP;
    world_open_with(&w, WORLD_START_MS, 100);
    int client = refused(&w);
    assert_int_equal(world_sees(&w, client), 0);
    assert_int_equal(send(client, "late", 4, MSG_NOSIGNAL), 4);
    assert_false(hears_a_reset(client, 300));
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_a_reset),
        cmocka_unit_test(is_a_fin),
        cmocka_unit_test(a_drop_answers_nothing),
        cmocka_unit_test(few_are_dropped_silently),
        cmocka_unit_test(sessions_are_refused_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
