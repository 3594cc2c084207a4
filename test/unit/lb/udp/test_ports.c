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

#define CLIENTS 4

/* Made before their network is short of ports. */
static int client_of[CLIENTS];

static void begin(struct world *w)
{
    open_with_sources(w);
    for (int i = 0; i < CLIENTS; i++)
        client_of[i] = world_client();
}

/* Two for each address. */
static void make_ports_scarce(void)
{
    assert_true(network_set("ipv4/ip_local_port_range", "40000 40001"));
}

/* So many clients of server 0 have been answered, and their sockets are spare. */
static void leave_spare_ones(struct world *w, int count)
{
    for (int i = 0; i < count; i++) {
        union inet_address asker = world_ask(w, client_of[i], 0, "?");
        world_answer(w, 0, &asker, client_of[i], "!");
        world_reap(w);
    }
    world_pass(w, QUARANTINE_MS);
    assert_int_equal(w->udp->resting, count);
    w->usable[0] = false;
    w->usable[1] = true;
}

/* NULL: none, and the kernel chooses. */
static void give_source(struct server *server, const char *host)
{
    ports_put(&server->ports[PORTS_UDP]);
    if (host != NULL)
        sources_give(&book, server, PORTS_UDP, &host, 1);
}

/* So many say something to server 1, and none gets through. */
static void ask_in_vain(struct world *w, uint64_t times)
{
    for (uint64_t i = 0; i < times; i++) {
        uint64_t before = world_metric(w, METRIC_NO_PORT);
        world_say(w, client_of[CLIENTS - 1], "?");
        WORLD_UNTIL(w, world_metric(w, METRIC_NO_PORT) == before + 1);
    }
}

static void end(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        close(client_of[i]);
    ports_book_deinit(&book);
    world_close(w);
}

/* The kernel chose what the other pool's list has. */
static void meet_spare_ones_without_a_list(void)
{
    struct world w;

    begin(&w);
    make_ports_scarce();
    give_source(w.server[0], NULL);
    give_source(w.server[1], "127.0.0.1");
    leave_spare_ones(&w, 2);
    (void)world_ask(&w, client_of[CLIENTS - 1], 1, "?");
    assert_int_equal(w.udp->resting, 1);
    assert_int_equal(world_metric(&w, METRIC_NO_PORT), 0);
    end(&w);
}

static void spare_ones_without_a_list_give_way(void **state)
{
    (void)state;
    network_run(meet_spare_ones_without_a_list);
}

/* The address is not this machine's: its ports are not what is missing. */
static void spare_ones_stay_for_an_address_that_is_not_there(void **state)
{
    struct world w;

    (void)state;
    begin(&w);
    give_source(w.server[1], "192.0.2.5");
    leave_spare_ones(&w, 1);
    ask_in_vain(&w, 3);
    assert_int_equal(w.udp->resting, 1);
    end(&w);
}

/* Other programs have all ports of the address that is asked for: those of others do not help. */
static void meet_none_that_help(void)
{
    struct world w;
    int taken[2];

    begin(&w);
    make_ports_scarce();
    give_source(w.server[1], "127.0.0.7");
    leave_spare_ones(&w, 3);
    take_ports("127.0.0.7:0", "127.0.0.99:53", taken);
    ask_in_vain(&w, 2);
    assert_int_equal(w.udp->resting, 3);
    free_ports(taken);
    end(&w);
}

static void spare_ones_stay_when_they_do_not_help(void **state)
{
    (void)state;
    network_run(meet_none_that_help);
}

/* And where any may help, one goes for each look of the kernel, which is not asked at once again.
 */
static void meet_none_where_any_may_help(void)
{
    struct world w;
    int taken[2];

    begin(&w);
    make_ports_scarce();
    give_source(w.server[1], NULL);
    leave_spare_ones(&w, 3);
    take_ports("127.0.0.7:0", "127.0.0.99:53", taken);
    ask_in_vain(&w, 3);
    assert_int_equal(w.udp->resting, 2);
    world_pass(&w, 100);
    ask_in_vain(&w, 3);
    assert_int_equal(w.udp->resting, 1);
    free_ports(taken);
    end(&w);
}

static void spare_ones_give_way_one_by_one(void **state)
{
    (void)state;
    network_run(meet_none_where_any_may_help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_and_its_rest_hold_one),
        cmocka_unit_test(outlives_the_server),
        cmocka_unit_test(the_next_address_and_then_none),
        cmocka_unit_test(spare_ones_give_way),
        cmocka_unit_test(spare_ones_without_a_list_give_way),
        cmocka_unit_test(spare_ones_stay_for_an_address_that_is_not_there),
        cmocka_unit_test(spare_ones_stay_when_they_do_not_help),
        cmocka_unit_test(spare_ones_give_way_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
