/*
 * From servers to clients: whole, from the address that the client used, joined where they can be,
 * and no more than a request allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#include <ifaddrs.h>

static uint8_t text[65536];
#define UDP_GRO_OPTION 104

/* ---- whole ---- */

static void sizes_pass_whole_at(const char *entry, const char *from)
{
    static const size_t sizes[] = {0, 1, 1472, 1473, 65507, 0, 65507};
    static uint8_t heard[65536];
    struct world w;
    union inet_address asker, sender;
    int client;

    world_init(&w);
    world_open_at(&w, entry);
    client = peer_socket(from);
    asker = world_ask(&w, client, 0, "?");
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        peer_send(w.socket[0], text + i, sizes[i], &asker);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(world_read(&w, client, heard, sizeof(heard), &sender), sizes[i]);
        assert_true(memcmp(heard, text + i, sizes[i]) == 0);
        assert_true(inet_address_equal(&sender, &w.entry));
    }
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), ARRAY_LEN(sizes));
    close(client);
    world_close(&w);
}

static void all_sizes_pass_whole(void **state)
{
    (void)state;
    sizes_pass_whole_at("127.0.0.1:0", "127.0.0.1:0");
}

static void all_sizes_pass_whole_over_ipv6(void **state)
{
    (void)state;
    sizes_pass_whole_at("[::1]:0", "[::1]:0");
}

/* ---- from the address that was used ---- */

static void answers_from(const char *entry, const char *client_text, const char *used)
{
    struct world w;
    union inet_address to, asker;
    int client;

    world_init(&w);
    world_open_at(&w, entry);
    to = endpoint_of(used);
    if (to.any.sa_family == AF_INET)
        to.v4.sin_port = htons(inet_address_port(&w.entry));
    else
        to.v6.sin6_port = htons(inet_address_port(&w.entry));
    w.entry = to;
    client = peer_socket(client_text);
    asker = world_ask(&w, client, 0, "?");
    world_answer(&w, 0, &asker, client, "!");
    /* Joined ones as well: with packet info and a size to cut at. */
    for (size_t i = 0; i < 5; i++)
        peer_send(w.socket[0], text + 100 * i, 100, &asker);
    to = world_hear_train(&w, client, text, 500, 100);
    assert_true(inet_address_equal(&to, &w.entry));
    assert_true(world_metric(&w, METRIC_GSO_SENT) > 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_SEND_ERROR), 0);
    close(client);
    world_close(&w);
}

static void replies_leave_from_the_address_that_was_used(void **state)
{
    (void)state;
    answers_from("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:0");
    answers_from("0.0.0.0:0", "127.0.0.1:0", "127.0.0.9:0");
    answers_from("*:0", "[::1]:0", "[::1]:0");
}

/* IPv4 on a socket of both families. */
static void so_they_do_mapped(void **state)
{
    (void)state;
    answers_from("*:0", "127.0.0.1:0", "127.0.0.1:0");
    answers_from("*:0", "127.0.0.2:0", "127.0.0.9:0");
}

/* A client that uses two of our addresses has two flows. */
static void two_addresses_of_ours_are_two_flows(void **state)
{
    struct world w;
    union inet_address asker[2];
    int client;

    (void)state;
    world_init(&w);
    world_open_at(&w, "0.0.0.0:0");
    client = world_client();
    asker[0] = world_ask(&w, client, 0, "?");
    w.entry.v4.sin_addr.s_addr = htonl(0x7f000002);
    asker[1] = world_ask(&w, client, 0, "?");
    assert_int_equal(udp_flows(w.udp), 2);
    world_answer(&w, 0, &asker[1], client, "from 2");
    w.entry.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    world_answer(&w, 0, &asker[0], client, "from 1");
    close(client);
    world_close(&w);
}

/* The address of a client, and of its flow, is told as IPv4. */
static void mapped_clients_are_shown_as_ipv4(void **state)
{
    struct world w;
    struct flow_info row;
    struct traffic_filter all = {0};
    uint32_t cursor = 0;
    union inet_address name;
    int client;

    (void)state;
    world_init(&w);
    world_open_at(&w, "*:0");
    name = endpoint_of("127.0.0.1:0");
    name.v4.sin_port = htons(inet_address_port(&w.entry));
    w.entry = name;
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    assert_int_equal(udp_list(w.udp, &all, &cursor, &row, 1, UINT64_MAX), 1);
    name = peer_name(client);
    assert_true(inet_address_equal(&row.client, &name));
    close(client);
    world_close(&w);
}

/* The first link-local address of this machine, with its interface. */
static bool find_link_local(union inet_address *out)
{
    struct ifaddrs *all, *one;
    bool found = false;

    assert_int_equal(getifaddrs(&all), 0);
    for (one = all; one != NULL && !found; one = one->ifa_next) {
        if (one->ifa_addr == NULL || one->ifa_addr->sa_family != AF_INET6)
            continue;
        memcpy(&out->v6, one->ifa_addr, sizeof(out->v6));
        found = IN6_IS_ADDR_LINKLOCAL(&out->v6.sin6_addr) && out->v6.sin6_scope_id != 0;
    }
    freeifaddrs(all);
    return found;
}

static void link_local_ones_leave_by_their_interface(void **state)
{
    struct world w;
    union inet_address own, asker;
    int client;

    (void)state;
    if (!find_link_local(&own))
        skip(); /* no interface has one */
    world_init(&w);
    world_open_at(&w, "*:0");
    client = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    own.v6.sin6_port = 0;
    assert_int_equal(bind(client, &own.any, sizeof(own.v6)), 0);
    own.v6.sin6_port = w.entry.v6.sin6_port;
    w.entry = own;
    asker = world_ask(&w, client, 0, "?");
    assert_int_equal(world_newest(&w)->local.interface, own.v6.sin6_scope_id);
    world_answer(&w, 0, &asker, client, "!");
    close(client);
    world_close(&w);
}

/* ---- joined ---- */

static void replies_of_a_turn_are_joined(void **state)
{
    struct world w;
    union inet_address asker;
    uint64_t before;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    before = world_metric(&w, METRIC_UDP_SENDS);
    for (size_t i = 0; i < 10; i++)
        peer_send(w.socket[0], text + 1000 * i, i < 9 ? 1000 : 400, &asker);
    world_fence(&w);
    world_turn(&w, 0);
    assert_int_equal(world_metric(&w, METRIC_UDP_SENDS), before + 1);
    assert_int_equal(world_metric(&w, METRIC_GSO_SENT), 1);
    assert_int_equal(world_metric(&w, METRIC_GSO_DATAGRAMS), 10);
    (void)world_hear_train(&w, client, text, 9400, 1000);
    close(client);
    world_close(&w);
}

/* Of a hundred flows, more than one outbox or tray takes: all of them, each to its client. */
static void a_turn_may_have_many_replies(void **state)
{
    enum { CLIENTS = 100 };
    struct world w;
    int client[CLIENTS];
    union inet_address asker[CLIENTS];
    char number[16];

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < CLIENTS; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    for (size_t i = 0; i < 2 * CLIENTS; i++) {
        snprintf(number, sizeof(number), "%zu", i);
        peer_send(w.socket[0], number, strlen(number), &asker[i % CLIENTS]);
    }
    for (size_t i = 0; i < 2 * CLIENTS; i++) {
        snprintf(number, sizeof(number), "%zu", i);
        (void)world_hear(&w, client[i % CLIENTS], number);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        world_silence(&w, client[i]);
        close(client[i]);
    }
    world_close(&w);
}

/* More than a budget of one socket's replies: the rest by the run queue. */
static void a_long_queue_is_read_to_its_end(void **state)
{
    enum { REPLIES = 200 };
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    for (size_t i = 0; i < REPLIES; i++)
        peer_send(w.socket[0], text + i, 1 + i % 7, &asker);
    for (size_t i = 0; i < REPLIES; i++)
        (void)world_hear_train(&w, client, text + i, 1 + i % 7, 7);
    assert_false(poller_has_tasks(&w.poller));
    close(client);
    world_close(&w);
}

/* A flow of many replies has the kernel join them from then on. */
static void a_stream_comes_in_trains(void **state)
{
    struct world w;
    union inet_address asker;
    int client, value = 0;
    socklen_t length = sizeof(value);

    (void)state;
    world_init(&w);
    w.policy.rcvbuf = 300000;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    for (size_t i = 0; i < 16; i++)
        world_answer(&w, 0, &asker, client, "!");
    assert_false(world_newest(&w)->upstream->gro);
    peer_send_train(w.socket[0], text, 2000, 1000, &asker);
    (void)world_hear_train(&w, client, text, 2000, 1000);
    assert_int_equal(world_metric(&w, METRIC_GRO_RECEIVED), 0);
    assert_true(world_newest(&w)->upstream->gro);
    assert_int_equal(
        getsockopt(world_newest(&w)->upstream->fd, IPPROTO_UDP, UDP_GRO_OPTION, &value, &length),
        0);
    assert_int_equal(value, 1);

    peer_send_train(w.socket[0], text, 44 * 1472 + 5, 1472, &asker);
    (void)world_hear_train(&w, client, text, 44 * 1472 + 5, 1472);
    assert_int_equal(world_metric(&w, METRIC_GRO_RECEIVED), 1);
    assert_int_equal(world_metric(&w, METRIC_GRO_DATAGRAMS), 45);
    assert_int_equal(world_newest(&w)->datagrams_out, 16 + 2 + 45);
    close(client);
    world_close(&w);
}

/* ---- no more than a request allows ---- */

static void open_capped(struct world *w, uint32_t replies, uint64_t bytes)
{
    world_init(w);
    w->policy.max_replies = replies;
    w->policy.max_reply_bytes = bytes;
    world_open_at(w, "127.0.0.1:0");
}

static void replies_beyond_the_cap_are_dropped(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    open_capped(&w, 2, 0);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    for (int i = 0; i < 5; i++)
        peer_send(w.socket[0], "!", 1, &asker);
    world_hear(&w, client, "!");
    world_hear(&w, client, "!");
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_AMPLIFICATION), 3);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), 2);
    /* The next request allows two more. */
    (void)world_ask(&w, client, 0, "?");
    for (int i = 0; i < 3; i++)
        peer_send(w.socket[0], "!", 1, &asker);
    world_hear(&w, client, "!");
    world_hear(&w, client, "!");
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_AMPLIFICATION), 4);
    close(client);
    world_close(&w);
}

static void so_are_bytes(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    open_capped(&w, 0, 100);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    peer_send(w.socket[0], text, 60, &asker);
    (void)world_hear_train(&w, client, text, 60, 60);
    peer_send(w.socket[0], text, 41, &asker); /* one too many */
    world_silence(&w, client);
    peer_send(w.socket[0], text, 40, &asker); /* just what is left */
    (void)world_hear_train(&w, client, text, 40, 40);
    peer_send(w.socket[0], text, 0, &asker); /* an empty one has no bytes */
    assert_int_equal(world_read(&w, client, text, 1, NULL), 0);
    peer_send(w.socket[0], text, 1, &asker);
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_AMPLIFICATION), 2);
    close(client);
    world_close(&w);
}

/* As much of a train as is allowed, in whole datagrams. */
static void a_train_is_cut_at_the_cap(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    open_capped(&w, 3, 250);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    peer_option(world_newest(&w)->upstream->fd, IPPROTO_UDP, UDP_GRO_OPTION, 1);
    peer_send_train(w.socket[0], text, 1000, 100, &asker);
    (void)world_hear_train(&w, client, text, 200, 100);
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_AMPLIFICATION), 8);
    /* By count, with bytes to spare. */
    peer_send_train(w.socket[0], text, 30, 10, &asker);
    (void)world_hear_train(&w, client, text, 10, 10);
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_DROP_AMPLIFICATION), 10);
    close(client);
    world_close(&w);
}

/* They prolong no flow either: a server cannot keep its flow alive with what nobody gets. */
static void what_is_dropped_is_no_activity(void **state)
{
    struct world w;
    union inet_address asker;
    struct flow *flow;
    int client;

    (void)state;
    open_capped(&w, 1, 0);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    world_answer(&w, 0, &asker, client, "!");
    world_pass(&w, 59999);
    peer_send(w.socket[0], "!", 1, &asker);
    world_silence(&w, client);
    world_pass(&w, 1);
    assert_flow_ended(flow, FLOW_END_IDLE_TIMEOUT);
    close(client);
    world_close(&w);
}

/* ---- clients that are gone ---- */

/* Their machines refuse the replies, which a listener's socket never hears of. */
static void a_client_that_is_gone_harms_nobody(void **state)
{
    struct world w;
    union inet_address asker[2];
    int client[2];

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < 2; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    close(client[0]);
    for (int i = 0; i < 3; i++) {
        peer_send(w.socket[0], "?", 1, &asker[0]);
        world_answer(&w, 0, &asker[1], client[1], "!");
    }
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), 6);
    close(client[1]);
    world_close(&w);
}

/* Only the server that was asked is heard: not another one, and not from another port. */
static void strangers_are_not_passed_on(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    (void)sendto(w.socket[1], "!", 1, 0, &asker.any, sizeof(asker.v4));
    world_silence(&w, client);
    assert_int_equal(world_metric(&w, METRIC_BYTES_OUT), 0);
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sizes_pass_whole),
        cmocka_unit_test(all_sizes_pass_whole_over_ipv6),
        cmocka_unit_test(replies_leave_from_the_address_that_was_used),
        cmocka_unit_test(so_they_do_mapped),
        cmocka_unit_test(two_addresses_of_ours_are_two_flows),
        cmocka_unit_test(mapped_clients_are_shown_as_ipv4),
        cmocka_unit_test(link_local_ones_leave_by_their_interface),
        cmocka_unit_test(replies_of_a_turn_are_joined),
        cmocka_unit_test(a_turn_may_have_many_replies),
        cmocka_unit_test(a_long_queue_is_read_to_its_end),
        cmocka_unit_test(a_stream_comes_in_trains),
        cmocka_unit_test(replies_beyond_the_cap_are_dropped),
        cmocka_unit_test(so_are_bytes),
        cmocka_unit_test(a_train_is_cut_at_the_cap),
        cmocka_unit_test(what_is_dropped_is_no_activity),
        cmocka_unit_test(a_client_that_is_gone_harms_nobody),
        cmocka_unit_test(strangers_are_not_passed_on),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
