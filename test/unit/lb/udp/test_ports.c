/* A socket to a server has a port of one of our addresses until it is closed, its rest included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"
#include "test/unit/network.h"
#include "test/unit/sources.h"

#define QUARANTINE_MS 2000
#define SPARE_MS 10000

static struct ports_book book;

static void open_with_sources(struct world *w)
{
    static const char *const hosts[] = {"127.0.0.5", "127.0.0.6"};

    world_init(w);
    w->policy.responses = 1;
    w->policy.quarantine_ms = QUARANTINE_MS;
    world_open_at(w, "127.0.0.1:0");
    ports_book_init(&book);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        sources_give(&book, w->server[i], PORTS_UDP, hosts, ARRAY_LEN(hosts));
}

static void assert_ports(const struct world *w, uint32_t first, uint32_t second)
{
    const struct ports *ports = w->server[0]->ports[PORTS_UDP];

    assert_int_equal(ports_open(ports->tally[0]), first);
    assert_int_equal(ports_open(ports->tally[1]), second);
}

static uint32_t ipv4_of(const union inet_address *address)
{
    return ntohl(address->v4.sin_addr.s_addr) & 0xff;
}

static void a_flow_and_its_rest_hold_one(void **state)
{
    struct world w;
    int client[2];
    union inet_address asker[2];

    (void)state;
    open_with_sources(&w);
    for (int i = 0; i < 2; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
        assert_int_equal(ipv4_of(&asker[i]), 5 + i);
    }
    assert_ports(&w, 1, 1);
    world_answer(&w, 0, &asker[0], client[0], "!");
    world_reap(&w);
    assert_ports(&w, 1, 1);
    world_pass(&w, QUARANTINE_MS);
    world_pass(&w, SPARE_MS);
    assert_ports(&w, 0, 1);
    world_kill_all(&w);
    assert_ports(&w, 0, 0);
    close(client[0]);
    close(client[1]);
    ports_book_deinit(&book);
    world_close(&w);
}

/* One at rest knows of its server no more. */
static void outlives_the_server(void **state)
{
    struct world w;
    union inet_address asker;
    struct ports *ports;
    int client;

    (void)state;
    open_with_sources(&w);
    client = world_client();
    ports = ports_ref(w.server[0]->ports[PORTS_UDP]);
    asker = world_ask(&w, client, 0, "?");
    world_answer(&w, 0, &asker, client, "!");
    world_reap(&w);
    ports_put(&w.server[0]->ports[PORTS_UDP]);
    ports_book_deinit(&book);
    assert_int_equal(ports_open(ports->tally[0]), 1);
    world_pass(&w, QUARANTINE_MS);
    world_pass(&w, SPARE_MS);
    assert_int_equal(ports_open(ports->tally[0]), 0);
    ports_put(&ports);
    close(client);
    world_close(&w);
}

/* ---- none left: in a network with two ports for each address ---- */

static void take_ports(const char *from, const char *to, int fds[2])
{
    union inet_address source = endpoint_of(from), server = endpoint_of(to);

    for (int n = 0; n < 2; n++) {
        fds[n] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fds[n], &source.any, sizeof(source.v4)), 0);
        assert_int_equal(connect(fds[n], &server.any, sizeof(server.v4)), 0);
    }
}

static void free_ports(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* Whoever they are connected to. */
static void meet_none_with_ports(void)
{
    struct world w;
    int taken[2][2];
    int client[2];
    union inet_address asker;

    open_with_sources(&w);
    client[0] = world_client();
    client[1] = world_client();
    assert_true(network_set("ipv4/ip_local_port_range", "40000 40001"));
    take_ports("127.0.0.5:0", "127.0.0.99:53", taken[0]);
    asker = world_ask(&w, client[0], 0, "?");
    assert_int_equal(ipv4_of(&asker), 6);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 0);
    world_kill_all(&w);
    world_reap(&w);

    take_ports("127.0.0.6:0", "127.0.0.99:53", taken[1]);
    world_say(&w, client[1], "?");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_NO_RESOURCES) == 1);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    assert_int_equal(world_cell(&w.server[0]->cell[0].no_port), 1);
    assert_int_equal(w.suspected[0], 0);
    assert_ports(&w, 0, 0);
    free_ports(taken[0]);
    free_ports(taken[1]);
    close(client[0]);
    close(client[1]);
    ports_book_deinit(&book);
    world_close(&w);
}

static void the_next_address_and_then_none(void **state)
{
    (void)state;
    network_run(meet_none_with_ports);
}

/* The spare sockets of one server have all ports, and another server is asked. */
static void meet_none_but_spare_ones(void)
{
    struct world w;
    int client[5];

    open_with_sources(&w);
    for (int i = 0; i < 5; i++)
        client[i] = world_client();
    assert_true(network_set("ipv4/ip_local_port_range", "40000 40001"));
    for (int i = 0; i < 4; i++) {
        union inet_address asker = world_ask(&w, client[i], 0, "?");
        world_answer(&w, 0, &asker, client[i], "!");
        world_reap(&w);
    }
    assert_int_equal(w.udp->resting, 4);
    w.usable[0] = false;
    w.usable[1] = true;

    /* While replies may yet come they keep their ports. */
    world_say(&w, client[4], "?");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_NO_RESOURCES) == 1);
    world_pass(&w, QUARANTINE_MS);
    union inet_address asker = world_ask(&w, client[4], 1, "?");
    assert_int_equal(w.udp->resting, 3);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 1);
    world_answer(&w, 1, &asker, client[4], "!");
    for (int i = 0; i < 5; i++)
        close(client[i]);
    ports_book_deinit(&book);
    world_close(&w);
}

static void spare_ones_give_way(void **state)
{
    (void)state;
    network_run(meet_none_but_spare_ones);
}

/* A pool whose address is not this machine's leaves spare sockets to the others, and so does one
 * whose own addresses have none of their ports. */
static void spare_ones_give_way_to_none_that_they_cannot_help(void **state)
{
    struct world w;
    int client[3];

    (void)state;
    open_with_sources(&w);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        client[i] = world_client();
    struct server *other = w.server[1];
    ports_put(&other->ports[PORTS_UDP]);
    sources_give(&book, other, PORTS_UDP, (const char *const[]){"192.0.2.5"}, 1);
    union inet_address asker = world_ask(&w, client[0], 0, "?");
    world_answer(&w, 0, &asker, client[0], "!");
    world_pass(&w, QUARANTINE_MS);
    assert_int_equal(w.udp->resting, 1);
    (void)world_ask(&w, client[2], 0, "?"); /* takes the one that rested */
    asker = world_ask(&w, client[0], 0, "?");
    world_answer(&w, 0, &asker, client[0], "!");
    world_pass(&w, QUARANTINE_MS);
    w.usable[0] = false;
    w.usable[1] = true;
    for (uint64_t i = 1; i <= 2; i++) {
        /* As if a flow held one of its ports: that is none that a spare socket has. */
        if (i == 2)
            atomic_fetch_add(&other->ports[PORTS_UDP]->tally[0]->taken, 1);
        world_say(&w, client[1], "?");
        WORLD_UNTIL(&w, world_metric(&w, METRIC_NO_PORT) == i);
        assert_int_equal(w.udp->resting, 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        close(client[i]);
    ports_book_deinit(&book);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_and_its_rest_hold_one),
        cmocka_unit_test(outlives_the_server),
        cmocka_unit_test(the_next_address_and_then_none),
        cmocka_unit_test(spare_ones_give_way),
        cmocka_unit_test(spare_ones_give_way_to_none_that_they_cannot_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
