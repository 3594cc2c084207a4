/*
 * Sockets to servers: their rest between two flows, in which late replies reach nobody; whom they
 * serve again; and that they are known as ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"
#include "test/unit/sources.h"

#include <sys/syscall.h>

#define QUARANTINE_MS 2000
#define SPARE_MS 10000

/* ---- the kernel ---- */

/* epoll_ctl(2) fails so often. */
static int full;

/* In front of the C library's. */
int epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    if (full > 0) {
        full--;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
}

/* ---- one exchange ends a flow ---- */

static void open_dns(struct world *w)
{
    world_init(w);
    w->policy.responses = 1;
    w->policy.quarantine_ms = QUARANTINE_MS;
}

/* A client asks server `i` and gets its answer; returns the address that weir asked from. */
static union inet_address exchange(struct world *w, size_t i)
{
    int client = world_client();
    union inet_address asker = world_ask(w, client, i, "?");

    world_answer(w, i, &asker, client, "!");
    assert_flow_ended(world_newest(w), FLOW_END_DONE);
    world_reap(w);
    close(client);
    return asker;
}

static bool is_same(union inet_address a, union inet_address b)
{
    return inet_address_equal(&a, &b);
}

static void a_socket_serves_again_after_its_rest(void **state)
{
    struct world w;
    union inet_address first;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    first = exchange(&w, 0);
    assert_int_equal(w.udp->resting, 1);
    assert_int_equal(world_load(&w, 0), 0);
    world_pass(&w, QUARANTINE_MS);
    assert_true(is_same(exchange(&w, 0), first));
    assert_int_equal(w.udp->resting, 1);
    assert_int_equal(world_metric(&w, METRIC_SOCKETS_REUSED), 1);
    world_close(&w);
}

static void no_socket_serves_before_it_has_rested(void **state)
{
    struct world w;
    union inet_address first;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    first = exchange(&w, 0);
    world_pass(&w, QUARANTINE_MS - 1);
    assert_false(is_same(exchange(&w, 0), first));
    assert_int_equal(w.udp->resting, 2);
    assert_int_equal(world_metric(&w, METRIC_SOCKETS_REUSED), 0);
    world_pass(&w, 1);
    assert_true(is_same(exchange(&w, 0), first));
    world_close(&w);
}

/* A copy of the reply, or one to a request that the client has sent twice. */
static void a_late_reply_reaches_nobody(void **state)
{
    struct world w;
    union inet_address asker, again;
    int client[2];

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    client[0] = world_client();
    asker = world_ask(&w, client[0], 0, "?");
    world_answer(&w, 0, &asker, client[0], "!");
    world_pass(&w, QUARANTINE_MS - 100);
    peer_send(w.socket[0], "late", 4, &asker);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_LATE), 1);

    /* Of two that wait in the socket when it is taken, the next client hears neither. */
    world_pass(&w, 100);
    peer_send(w.socket[0], "later", 5, &asker);
    peer_send(w.socket[0], "latest", 6, &asker);
    client[1] = world_client();
    again = world_ask(&w, client[1], 0, "??");
    assert_true(is_same(asker, again));
    assert_int_equal(world_metric(&w, METRIC_DROP_LATE), 3);
    world_answer(&w, 0, &again, client[1], "!!");
    world_silence(&w, client[0]);
    world_silence(&w, client[1]);
    close(client[0]);
    close(client[1]);
    world_close(&w);
}

/* In the batch of the one that ended the flow, too. */
static void replies_beyond_what_is_owed_are_late(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    for (int i = 0; i < 3; i++)
        peer_send(w.socket[0], "!", 1, &asker);
    world_hear(&w, client, "!");
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_LATE), 2);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), 1);
    close(client);
    world_close(&w);
}

/* More than is worth reading: another one is opened. */
static void a_socket_full_of_late_replies_is_thrown_away(void **state)
{
    struct world w;
    union inet_address first;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    first = exchange(&w, 0);
    world_pass(&w, QUARANTINE_MS);
    client = world_client();
    world_say(&w, client, "?");
    for (int i = 0; i < 100; i++)
        peer_send(w.socket[0], "late", 4, &first);
    assert_false(is_same(world_hear(&w, w.socket[0], "?"), first));
    assert_int_equal(world_metric(&w, METRIC_SOCKETS_REUSED), 0);
    assert_int_equal(w.udp->resting, 0);
    close(client);
    world_close(&w);
}

static void only_the_same_server_is_served(void **state)
{
    struct world w;
    union inet_address first;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    first = exchange(&w, 0);
    world_pass(&w, QUARANTINE_MS);
    w.usable[0] = false;
    w.usable[1] = true;
    assert_false(is_same(exchange(&w, 1), first));
    assert_int_equal(w.udp->resting, 2);
    w.usable[0] = true;
    assert_true(is_same(exchange(&w, 0), first));
    world_close(&w);
}

/* In one bin with those of another server. */
static void of_two_servers_in_one_bin_each_gets_its_own(void **state)
{
    struct world w;
    union inet_address first[2];

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    w.server[1]->id = w.server[0]->id + SPARE_BINS;
    first[0] = exchange(&w, 0);
    w.usable[0] = false;
    w.usable[1] = true;
    first[1] = exchange(&w, 1);
    world_pass(&w, QUARANTINE_MS);
    assert_true(is_same(exchange(&w, 1), first[1]));
    w.usable[0] = true;
    assert_true(is_same(exchange(&w, 0), first[0]));
    world_close(&w);
}

/* Whether datagrams may be cut on the way is a matter of the socket. */
static void a_socket_with_df_serves_those_who_want_it(void **state)
{
    struct world w;
    struct udp_policy whole;
    _Atomic uint32_t flows = 0;
    union inet_address entry[2], first;

    (void)state;
    open_dns(&w);
    world_prepare(&w);
    whole = w.policy;
    whole.fragment = false;
    entry[0] = world_listen(&w, &w.policy, "127.0.0.1:0", &w.flows, w.limit);
    entry[1] = world_listen(&w, &whole, "127.0.0.1:0", &flows, w.limit);
    udp_start(w.udp);
    w.entry = entry[0];
    first = exchange(&w, 0);
    world_pass(&w, QUARANTINE_MS);
    w.entry = entry[1];
    assert_false(is_same(exchange(&w, 0), first));
    w.entry = entry[0];
    assert_true(is_same(exchange(&w, 0), first));
    world_close(&w);
}

static void a_spare_socket_closes_after_its_time(void **state)
{
    struct world w;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    (void)exchange(&w, 0);
    world_pass(&w, QUARANTINE_MS);
    world_pass(&w, SPARE_MS - 1);
    assert_int_equal(w.udp->resting, 1);
    world_pass(&w, 1);
    assert_int_equal(w.udp->resting, 0);
    world_reap(&w);
    assert_int_equal(w.udp->upstreams.used, 0);
    world_close(&w);
}

static void no_more_rest_than_there_is_room_for(void **state)
{
    struct world w;
    int client[3];
    union inet_address asker[3];

    (void)state;
    open_dns(&w);
    w.rest_limit = 2;
    world_open_at(&w, "127.0.0.1:0");
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        world_answer(&w, 0, &asker[i], client[i], "!");
        assert_int_equal(w.udp->resting, MIN(i + 1, 2u));
        close(client[i]);
    }
    assert_int_equal(udp_flows(w.udp), 0);
    world_close(&w);
}

/* Its flow was killed, or silent: who knows what is still to come. */
static void only_one_that_got_all_it_was_owed_rests(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    world_kill_all(&w);
    assert_int_equal(w.udp->resting, 0);
    (void)world_ask(&w, client, 0, "?");
    world_pass(&w, w.policy.idle_timeout_ms);
    assert_flow_ended(world_newest(&w), FLOW_END_IDLE_TIMEOUT);
    assert_int_equal(w.udp->resting, 0);
    close(client);
    world_close(&w);
}

/* A refusal that waits in a socket at rest harms nobody: neither the server nor the next flow. */
static void a_refusal_during_the_rest_is_read(void **state)
{
    struct world w;
    union inet_address first, address;
    struct upstream *upstream;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    first = world_ask(&w, client, 0, "?");
    upstream = world_newest(&w)->upstream;
    world_answer(&w, 0, &first, client, "!");
    world_reap(&w);
    address = peer_name(w.socket[0]);
    world_refuse(&w, 0);
    assert_int_equal(send(upstream->fd, "x", 1, 0), 1);
    world_settle(&w);
    assert_int_equal(send(upstream->fd, "x", 1, 0), 1); /* once more, and it waits */
    world_pass(&w, QUARANTINE_MS);
    w.socket[0] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w.socket[0], &address.any, sizeof(address.v4)), 0);
    assert_true(is_same(world_ask(&w, client, 0, "??"), first));
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_REFUSED), 0);
    close(client);
    world_close(&w);
}

/* ---- from where ---- */

static struct ports_book book;

static void a_server_is_asked_from_the_source(void **state)
{
    struct world w;
    union inet_address asker, source = endpoint_of("127.0.0.5:0");

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    ports_book_init(&book);
    sources_give(&book, w.server[0], PORTS_UDP, (const char *const[]){"127.0.0.5"}, 1);
    asker = exchange(&w, 0);
    assert_true(inet_address_same_host(&asker, &source));
    assert_true(upstream_is_own(w.udp, &asker));
    world_pass(&w, QUARANTINE_MS);
    assert_true(is_same(exchange(&w, 0), asker));
    ports_book_deinit(&book);
    world_close(&w);
}

static void a_source_that_is_not_there_costs_a_datagram(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    ports_book_init(&book);
    sources_give(&book, w.server[0], PORTS_UDP, (const char *const[]){"192.0.2.5"}, 1);
    client = world_client();
    world_say(&w, client, "?");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_NO_RESOURCES) == 1);
    assert_int_equal(w.suspected[0], 0);
    close(client);
    ports_book_deinit(&book);
    world_close(&w);
}

static bool may_be_transparent(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool may = setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &(int){1}, sizeof(int)) == 0;

    close(fd);
    return may;
}

/* Its socket serves no other client, so it does not rest; and its address is not one of ours. */
static void a_server_is_asked_from_the_client(void **state)
{
    struct world w;
    union inet_address asker[2];
    int client[2];

    (void)state;
    if (!may_be_transparent())
        skip();
    open_dns(&w);
    w.pool.source_client = true;
    world_open_at(&w, "127.0.0.1:0");
    for (int i = 0; i < 2; i++) {
        client[i] = peer_socket(i == 0 ? "127.0.0.77:0" : "127.0.0.78:0");
        union inet_address own = peer_name(client[i]);
        asker[i] = world_ask(&w, client[i], 0, "?");
        assert_true(inet_address_same_host(&asker[i], &own));
        assert_false(upstream_is_own(w.udp, &asker[i]));
        assert_int_equal(w.udp->own_count, 0);
    }
    for (int i = 0; i < 2; i++) {
        world_answer(&w, 0, &asker[i], client[i], "!");
        assert_int_equal(w.udp->resting, 0);
    }
    /* A further one of the same client is its own again. */
    asker[0] = world_ask(&w, client[0], 0, "?");
    world_answer(&w, 0, &asker[0], client[0], "!");
    close(client[0]);
    close(client[1]);
    world_close(&w);
}

static void a_client_that_cannot_be_the_source_is_dropped(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_dns(&w);
    w.pool.source_client = true;
    world_open_at(&w, "[::1]:0");
    client = peer_socket("[::1]:0");
    world_say(&w, client, "?");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_NO_SOURCE) == 1);
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(world_load(&w, 0), 0);
    assert_int_equal(udp_flows(w.udp), 0);
    close(client);
    world_close(&w);
}

/* ---- ours ---- */

static void our_ports_are_counted(void **state)
{
    struct world w;
    union inet_address asker, elsewhere;
    uint16_t port;
    int client;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    port = inet_address_port(&asker);
    assert_int_equal(atomic_load(&w.shared.own_port[port]), 1);
    assert_true(upstream_is_own(w.udp, &asker));
    elsewhere = asker;
    elsewhere.v4.sin_addr.s_addr = htonl(0x7f000002);
    assert_false(upstream_is_own(w.udp, &elsewhere));
    elsewhere = peer_name(client);
    assert_false(upstream_is_own(w.udp, &elsewhere));
    /* On a socket of both families the same comes mapped. */
    elsewhere = endpoint_of("[::ffff:127.0.0.1]:1");
    elsewhere.v6.sin6_port = asker.v4.sin_port;
    assert_true(upstream_is_own(w.udp, &elsewhere));

    world_answer(&w, 0, &asker, client, "!");
    assert_int_equal(atomic_load(&w.shared.own_port[port]), 1); /* at rest */
    world_pass(&w, QUARANTINE_MS);
    world_pass(&w, SPARE_MS);
    assert_int_equal(atomic_load(&w.shared.own_port[port]), 0);
    assert_false(upstream_is_own(w.udp, &asker));
    close(client);
    world_close(&w);
}

/* As many addresses as a pool's source can have, each in turn. */
static void all_addresses_of_a_source_are_known(void **state)
{
    char text[CONFIG_SOURCES_MAX][ADDRESS_TEXT_MAX];
    const char *host[CONFIG_SOURCES_MAX];
    union inet_address asker[CONFIG_SOURCES_MAX];
    int client[CONFIG_SOURCES_MAX];
    struct world w;

    (void)state;
    open_dns(&w);
    world_open_at(&w, "127.0.0.1:0");
    ports_book_init(&book);
    for (int i = 0; i < CONFIG_SOURCES_MAX; i++) {
        snprintf(text[i], sizeof(text[i]), "127.0.1.%d", i + 1);
        host[i] = text[i];
    }
    sources_give(&book, w.server[0], PORTS_UDP, host, CONFIG_SOURCES_MAX);
    for (int i = 0; i < CONFIG_SOURCES_MAX; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
        for (int j = 0; j < i; j++)
            assert_false(inet_address_same_host(&asker[i], &asker[j]));
    }
    for (int i = 0; i < CONFIG_SOURCES_MAX; i++) {
        assert_true(upstream_is_own(w.udp, &asker[i]));
        close(client[i]);
    }
    ports_book_deinit(&book);
    world_close(&w);
}

/* ---- no room in the epoll set ---- */

static void a_full_epoll_set_costs_a_datagram(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    full = 1;
    world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(full, 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_NO_RESOURCES), 1);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(w.udp->resting, 0);
    assert_int_equal(world_load(&w, 0), 0);
    (void)world_ask(&w, client, 0, "?");
    close(client);
    world_close(&w);
}

static void a_listener_is_put_into_it_later(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    full = 2;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_UDP_RECEIVES), 0);
    world_pass(&w, 100);
    world_pass(&w, 100);
    (void)world_hear(&w, w.socket[0], "?");
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_asked_from_the_source),
        cmocka_unit_test(a_source_that_is_not_there_costs_a_datagram),
        cmocka_unit_test(a_server_is_asked_from_the_client),
        cmocka_unit_test(a_client_that_cannot_be_the_source_is_dropped),
        cmocka_unit_test(a_socket_serves_again_after_its_rest),
        cmocka_unit_test(no_socket_serves_before_it_has_rested),
        cmocka_unit_test(a_late_reply_reaches_nobody),
        cmocka_unit_test(replies_beyond_what_is_owed_are_late),
        cmocka_unit_test(a_socket_full_of_late_replies_is_thrown_away),
        cmocka_unit_test(only_the_same_server_is_served),
        cmocka_unit_test(of_two_servers_in_one_bin_each_gets_its_own),
        cmocka_unit_test(a_socket_with_df_serves_those_who_want_it),
        cmocka_unit_test(a_spare_socket_closes_after_its_time),
        cmocka_unit_test(no_more_rest_than_there_is_room_for),
        cmocka_unit_test(only_one_that_got_all_it_was_owed_rests),
        cmocka_unit_test(a_refusal_during_the_rest_is_read),
        cmocka_unit_test(our_ports_are_counted),
        cmocka_unit_test(all_addresses_of_a_source_are_known),
        cmocka_unit_test(a_full_epoll_set_costs_a_datagram),
        cmocka_unit_test(a_listener_is_put_into_it_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
