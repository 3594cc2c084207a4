/*
 * A session takes a port of one of our addresses and gives it back exactly once, however it ends;
 * and goes on to the next address, or the next server, where there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"
#include "test/unit/network.h"
#include "test/unit/sources.h"

#include <sys/resource.h>

static struct ports_book book;

/* Server `i` is connected to from these two. */
static void give_sources(struct world *w, size_t i)
{
    static const char *const hosts[] = {"127.0.0.5", "127.0.0.6"};

    sources_give(&book, w->server[i], PORTS_TCP, hosts, ARRAY_LEN(hosts));
}

static void open_with_sources(struct world *w)
{
    world_open(w);
    ports_book_init(&book);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        give_sources(w, i);
}

/* Sockets of the server's, by address. */
static void assert_ports(const struct world *w, size_t i, uint32_t first, uint32_t second)
{
    const struct ports *ports = w->server[i]->ports[PORTS_TCP];

    assert_int_equal(ports_open(ports->tally[0]), first);
    assert_int_equal(ports_open(ports->tally[1]), second);
}

static void close_all(struct world *w)
{
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        assert_ports(w, i, 0, 0);
    ports_book_deinit(&book);
    world_close(w);
}

static char last_digit_of_peer(int fd)
{
    struct sockaddr_in peer;
    socklen_t length = sizeof(peer);

    assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &length), 0);
    return (char)('0' + (ntohl(peer.sin_addr.s_addr) & 0xff));
}

static void addresses_take_turns(void **state)
{
    struct world w;
    struct chain chain[4];

    (void)state;
    open_with_sources(&w);
    for (int i = 0; i < 4; i++) {
        chain[i] = world_chain(&w, 0);
        assert_int_equal(last_digit_of_peer(chain[i].server), i % 2 == 0 ? '5' : '6');
    }
    assert_ports(&w, 0, 2, 2);
    chain_finish(&w, &chain[0]);
    chain_finish(&w, &chain[1]);
    chain_reset(&chain[2].client);
    WORLD_UNTIL(&w, chain[2].session->state == SESSION_ENDED);
    chain_hang_up(&chain[2]);
    session_end(chain[3].session, SESSION_END_KILLED);
    session_end(chain[3].session, SESSION_END_KILLED);
    chain_hang_up(&chain[3]);
    close_all(&w);
}

static void a_refused_connect_gives_it_back(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    open_with_sources(&w);
    w.usable[1] = true;
    world_refuse(&w, 0);
    chain = world_client(&w);
    chain.server = world_served(&w, 1);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    assert_ports(&w, 0, 0, 0);
    assert_ports(&w, 1, 1, 0);
    chain_finish(&w, &chain);
    close_all(&w);
}

/* No socket can be had for it: that says nothing of the address. */
static void a_connect_that_never_began_gives_it_back(void **state)
{
    struct world w;
    struct chain chain;
    struct rlimit before, none;

    (void)state;
    open_with_sources(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    w.usable[0] = true;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    tcp_wake_queued(w.tcp, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_ended(chain.session, SESSION_END_NO_RESOURCES);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 0);
    assert_int_equal(w.starved, 1);
    assert_ports(&w, 0, 0, 0);
    chain_hang_up(&chain);
    close_all(&w);
}

static void a_connect_without_an_answer_gives_it_back(void **state)
{
    struct world w;
    struct chain chain;
    int filler[2];

    (void)state;
    open_with_sources(&w);
    w.pool.retries = 0;
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    assert_ports(&w, 0, 1, 0);
    world_pass(&w, w.pool.connect_timeout_ms + 10);
    assert_ended(chain.session, SESSION_END_CONNECT_TIMEOUT);
    chain_hang_up(&chain);
    world_answer_syns(filler);
    close_all(&w);
}

static void it_goes_along_with_a_hand_over(void **state)
{
    struct world w;
    struct chain chain[2];
    struct session_record record;

    (void)state;
    open_with_sources(&w);
    chain[0] = world_chain(&w, 0);
    chain[1] = world_chain(&w, 0);
    assert_int_equal(session_export(chain[1].session, &record), 0);
    assert_ports(&w, 0, 1, 0);
    assert_true(server_enter(w.server[0]));
    assert_int_equal(session_import(w.tcp, &w.policy, server_take(w.server[0]), &record), 0);
    assert_ports(&w, 0, 1, 1);
    chain[1].session = tcp_find(w.tcp, record.id);
    free(record.data);
    chain_finish(&w, &chain[0]);
    chain_finish(&w, &chain[1]);
    close_all(&w);
}

/* ---- none left: in a network with two ports for each address towards each server ---- */

/* Somebody else's connections to server `i`. */
static void take_ports(struct world *w, size_t i, const char *from, int fds[2])
{
    union inet_address source = host_of(from);

    for (int n = 0; n < 2; n++) {
        fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pair_option(fds[n], IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        assert_int_equal(bind(fds[n], &source.any, sizeof(source.v4)), 0);
        assert_int_equal(connect(fds[n], &w->server[i]->address.any, sizeof(source.v4)), 0);
        /* Of no use to the test but for its port. */
        close(accept(w->listener[i], NULL, NULL));
    }
}

static void free_ports(int fds[2])
{
    pair_reset(fds[0]);
    pair_reset(fds[1]);
}

static void open_narrow(struct world *w)
{
    open_with_sources(w);
    assert_true(network_set("ipv4/ip_local_port_range", "40000 40001"));
}

static void meet_one_without_ports(void)
{
    struct world w;
    struct chain chain;
    int taken[2];

    open_narrow(&w);
    take_ports(&w, 0, "127.0.0.5", taken);
    chain = world_chain(&w, 0);
    assert_int_equal(last_digit_of_peer(chain.server), '6');
    assert_ports(&w, 0, 0, 1);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 0);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    chain_hang_up(&chain);
    free_ports(taken);
    close_all(&w);
}

static void the_next_address_is_tried_at_once(void **state)
{
    (void)state;
    network_run(meet_one_without_ports);
}

/* Somebody else's connections to server `i`, from both of our addresses. */
static void take_all_ports(struct world *w, size_t i, int fds[2][2])
{
    take_ports(w, i, "127.0.0.5", fds[0]);
    take_ports(w, i, "127.0.0.6", fds[1]);
}

static void free_all_ports(int fds[2][2])
{
    free_ports(fds[0]);
    free_ports(fds[1]);
}

static void meet_none_with_ports(void)
{
    struct world w;
    struct chain chain;
    int taken[2][2];

    open_narrow(&w);
    take_all_ports(&w, 0, taken);
    chain = world_client(&w);
    assert_ended(chain.session, SESSION_END_NO_RESOURCES);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    assert_int_equal(world_cell(&w.server[0]->cell[0].no_port), 1);
    assert_int_equal(world_metric(&w, METRIC_CONNECT_FAILURES), 0);
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(w.starved, 0); /* the next client may be for another server */
    chain_hang_up(&chain);
    free_all_ports(taken);
    close_all(&w);
}

static void without_any_the_session_ends(void **state)
{
    (void)state;
    network_run(meet_none_with_ports);
}

static void meet_another_server(void)
{
    struct world w;
    struct chain chain;
    int taken[2][2];

    open_narrow(&w);
    w.usable[1] = true;
    take_all_ports(&w, 0, taken);
    chain = world_client(&w);
    chain.server = world_served(&w, 1);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(world_load(&w, 0), 0);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    chain_hang_up(&chain);
    free_all_ports(taken);
    close_all(&w);
}

static void another_server_may_have_some(void **state)
{
    (void)state;
    network_run(meet_another_server);
}

/* What the first server was tried with is not the second one's to be given back. */
static void meet_refusal_and_then_no_port(void)
{
    struct world w;
    struct chain chain;
    int taken[2][2];

    open_narrow(&w);
    w.usable[1] = true;
    world_refuse(&w, 0);
    take_all_ports(&w, 1, taken);
    chain = world_client(&w);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_NO_RESOURCES);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    assert_int_equal(w.suspected[0], 1);
    assert_ports(&w, 0, 0, 0);
    assert_ports(&w, 1, 0, 0);
    chain_hang_up(&chain);
    free_all_ports(taken);
    close_all(&w);
}

static void a_port_is_given_back_to_its_server_alone(void **state)
{
    (void)state;
    network_run(meet_refusal_and_then_no_port);
}

/* A try is left, and it goes to the server that has not been asked. */
static void meet_no_port_and_then_refusal(void)
{
    struct world w;
    struct chain chain;
    int taken[2][2];

    open_narrow(&w);
    w.usable[1] = w.usable[2] = true;
    take_all_ports(&w, 0, taken);
    world_refuse(&w, 1);
    chain = world_client(&w);
    chain.server = world_served(&w, 2);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    assert_int_equal(chain.session->tries, 3);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(w.suspected[1], 1);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    chain_hang_up(&chain);
    free_all_ports(taken);
    close_all(&w);
}

static void who_had_no_port_is_not_asked_again(void **state)
{
    (void)state;
    network_run(meet_no_port_and_then_refusal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_take_turns),
        cmocka_unit_test(a_refused_connect_gives_it_back),
        cmocka_unit_test(a_connect_that_never_began_gives_it_back),
        cmocka_unit_test(a_connect_without_an_answer_gives_it_back),
        cmocka_unit_test(it_goes_along_with_a_hand_over),
        cmocka_unit_test(the_next_address_is_tried_at_once),
        cmocka_unit_test(without_any_the_session_ends),
        cmocka_unit_test(another_server_may_have_some),
        cmocka_unit_test(a_port_is_given_back_to_its_server_alone),
        cmocka_unit_test(who_had_no_port_is_not_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
