/* Loops beyond the plain ones of test_request.c: rings, both families, and ports that change hands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

/* What a refused newcomer must leave behind: nothing. */
static void assert_nothing_taken(struct world *w, uint32_t flows)
{
    assert_int_equal(udp_flows(w->udp), flows);
    assert_int_equal(world_load(w, 0), flows);
    assert_int_equal(atomic_load(&w->server[0]->references), 1 + flows);
}

static uint16_t own_count(struct world *w, const union inet_address *address)
{
    return atomic_load(&w->shared.own_port[inet_address_port(address)]);
}

/* An IPv4 address of loopback, to the port of a listener of both families. */
static union inet_address entry_v4(const struct world *w)
{
    union inet_address entry = endpoint_of("127.0.0.1:0");

    entry.v4.sin_port = w->entry.v6.sin6_port;
    return entry;
}

/* ---- from a port of ours ---- */

/* The first listener's server is the second one, and the other way round. */
static void a_ring_of_two_listeners_is_cut(void **state)
{
    struct world w;
    struct udp_policy policy;
    union inet_address other;
    int client;

    (void)state;
    world_init(&w);
    world_prepare(&w);
    w.entry = world_listen(&w, &w.policy, "127.0.0.1:0", &w.flows, w.limit);
    policy = w.policy;
    other = world_listen(&w, &policy, "127.0.0.1:0", &w.flows, w.limit);
    udp_start(w.udp);
    w.server[0]->address.inet = other;
    client = world_client();
    for (int i = 0; i < 3; i++)
        world_say(&w, client, "round and round");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 3);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 3);
    assert_nothing_taken(&w, 1);
    close(client);
    world_close(&w);
}

/* IPv4 comes mapped on a socket of both families; a port of ours is one there, too. */
static void a_mapped_address_of_ours_is_ours(void **state)
{
    struct world w;
    union inet_address entry;
    int client;

    (void)state;
    world_init(&w);
    world_open_at(&w, "[::]:0");
    entry = entry_v4(&w);
    w.server[0]->address.inet = entry;
    client = world_client();
    peer_send(client, "?", 1, &entry);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 1);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 1);
    assert_nothing_taken(&w, 1);
    close(client);
    world_close(&w);
}

static void an_ipv6_address_of_ours_is_ours(void **state)
{
    struct world w;
    union inet_address asker, elsewhere;
    int client, server;

    (void)state;
    world_open(&w);
    server = peer_socket("[::1]:0");
    w.server[0]->address.inet = peer_name(server);
    w.server[0]->address.length = sizeof(struct sockaddr_in6);
    client = world_client();
    world_say(&w, client, "?");
    asker = world_hear(&w, server, "?");
    assert_int_equal(own_count(&w, &asker), 1);
    assert_true(upstream_is_own(w.udp, &asker));
    elsewhere = asker;
    elsewhere.v6.sin6_addr.s6_addr[15] = 2;
    assert_false(upstream_is_own(w.udp, &elsewhere));
    close(server);
    close(client);
    world_close(&w);
}

/* The same port at an address that is none of ours is a client's. */
static void a_port_of_ours_elsewhere_is_a_client(void **state)
{
    struct world w;
    union inet_address asker;
    char text[ADDRESS_TEXT_MAX];
    int client, namesake;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    asker.v4.sin_addr.s_addr = htonl(0x7f000002);
    namesake = peer_socket(inet_address_format(&asker, text));
    asker = world_ask(&w, namesake, 0, "me too");
    world_answer(&w, 0, &asker, namesake, "yes");
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 0);
    assert_int_equal(udp_flows(w.udp), 2);
    close(namesake);
    close(client);
    world_close(&w);
}

/* A flow that moves gives its port back with its socket; one that ends, too. */
static void ports_are_ours_as_long_as_their_sockets(void **state)
{
    struct world w;
    union inet_address first, second;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    first = world_ask(&w, client, 0, "?");
    assert_int_equal(own_count(&w, &first), 1);
    w.usable[1] = true;
    atomic_store(&w.server[0]->live.suspect, 1);
    second = world_ask(&w, client, 1, "?");
    assert_int_not_equal(inet_address_port(&first), inet_address_port(&second));
    assert_int_equal(own_count(&w, &first), 0);
    assert_int_equal(own_count(&w, &second), 1);
    assert_false(upstream_is_own(w.udp, &first));
    assert_true(upstream_is_own(w.udp, &second));
    world_kill_all(&w);
    assert_int_equal(own_count(&w, &second), 0);
    assert_false(upstream_is_own(w.udp, &second));
    close(client);
    world_close(&w);
}

/* Another program may have the port then, and is a client like any other. */
static void who_gets_a_port_of_ours_later_is_a_client(void **state)
{
    struct world w;
    union inet_address asker;
    char text[ADDRESS_TEXT_MAX];
    int client, heir;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    world_kill_all(&w);
    heir = peer_socket(inet_address_format(&asker, text));
    (void)world_ask(&w, heir, 0, "mine");
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 0);
    close(heir);
    close(client);
    world_close(&w);
}

/* ---- from the server ---- */

static void a_mapped_server_is_known_as_one(void **state)
{
    struct world w;
    union inet_address entry;

    (void)state;
    world_init(&w);
    world_open_at(&w, "[::]:0");
    entry = entry_v4(&w);
    peer_send(w.socket[0], "me", 2, &entry);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 1);
    assert_nothing_taken(&w, 0);
    peer_send(w.socket[1], "you", 3, &entry);
    (void)world_hear(&w, w.socket[0], "you");
    world_close(&w);
}

static void each_datagram_of_a_loop_is_counted(void **state)
{
    struct world w;
    uint8_t bytes[1000];

    (void)state;
    world_open(&w);
    peer_fill(bytes, sizeof(bytes), 1);
    peer_send_train(w.socket[0], bytes, sizeof(bytes), 300, &w.entry);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 4);
    assert_nothing_taken(&w, 0);
    world_silence(&w, w.socket[0]);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_of_two_listeners_is_cut),
        cmocka_unit_test(a_mapped_address_of_ours_is_ours),
        cmocka_unit_test(an_ipv6_address_of_ours_is_ours),
        cmocka_unit_test(a_port_of_ours_elsewhere_is_a_client),
        cmocka_unit_test(ports_are_ours_as_long_as_their_sockets),
        cmocka_unit_test(who_gets_a_port_of_ours_later_is_a_client),
        cmocka_unit_test(a_mapped_server_is_known_as_one),
        cmocka_unit_test(each_datagram_of_a_loop_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
