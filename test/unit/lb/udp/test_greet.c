/* PROXY headers that servers get in front of their clients' datagrams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/headed.h"

#include <stdlib.h>

static uint8_t text[65536];

static void init(struct world *w, enum config_send_proxy_udp which)
{
    world_init(w);
    w->pool.send_proxy = CONFIG_SEND_PROXY_V2;
    w->pool.send_proxy_udp = which;
}

static void open_sending(struct world *w, enum config_send_proxy_udp which)
{
    init(w, which);
    world_open_at(w, "127.0.0.1:0");
}

/* ---- which of them ---- */

static void each_has_a_header(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_EACH);
    client = world_client();
    for (int i = 0; i < 3; i++) {
        world_say(&w, client, i == 1 ? "" : "said");
        asker = headed_hear(&w, 0, client, i == 1 ? "" : "said");
    }
    world_answer(&w, 0, &asker, client, "replies have none");
    close(client);
    world_close(&w);
}

static void the_first_has_a_header(void **state)
{
    struct world w;
    int first, second;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_FIRST);
    first = world_client();
    second = world_client();
    world_say(&w, first, "first");
    (void)headed_hear(&w, 0, first, "first");
    (void)world_ask(&w, first, 0, "next");
    world_say(&w, second, "of another");
    (void)headed_hear(&w, 0, second, "of another");
    (void)world_ask(&w, first, 0, "and on");
    (void)world_ask(&w, second, 0, "and on");
    close(first);
    close(second);
    world_close(&w);
}

static void none_has_one_otherwise(void **state)
{
    static const enum config_send_proxy kinds[] = {CONFIG_SEND_PROXY_OFF, CONFIG_SEND_PROXY_V1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct world w;
        int client;
        open_sending(&w, CONFIG_SEND_PROXY_FIRST);
        w.pool.send_proxy = kinds[i];
        client = world_client();
        (void)world_ask(&w, client, 0, "plain");
        close(client);
        world_close(&w);
    }
}

/* Each server that datagrams of a client are spread over is told. */
static void per_packet_flows_tell_each_server(void **state)
{
    struct world w;
    int client;

    (void)state;
    init(&w, CONFIG_SEND_PROXY_FIRST);
    w.policy.per_packet = true;
    w.usable[1] = true;
    w.rotates = true;
    w.chosen = 2;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    world_say(&w, client, "1");
    (void)headed_hear(&w, 0, client, "1");
    world_say(&w, client, "2");
    (void)headed_hear(&w, 1, client, "2");
    w.chosen = 2;
    (void)world_ask(&w, client, 0, "3");
    (void)world_ask(&w, client, 1, "4");
    close(client);
    world_close(&w);
}

static union inet_address greeted_exchange(struct world *w, const char *what)
{
    int client = world_client();
    union inet_address asker;

    world_say(w, client, what);
    asker = headed_hear(w, 0, client, what);
    world_answer(w, 0, &asker, client, "yes");
    world_pass(w, w->policy.quarantine_ms);
    close(client);
    return asker;
}

static void a_flow_on_a_used_socket_tells_again(void **state)
{
    struct world w;
    union inet_address asker, again;

    (void)state;
    init(&w, CONFIG_SEND_PROXY_EACH);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    asker = greeted_exchange(&w, "first");
    again = greeted_exchange(&w, "second");
    assert_true(inet_address_equal(&asker, &again));
    world_close(&w);
}

/* Were its one header lost, the server would take the rest for the client that the socket had
 * before. */
static void a_flow_that_tells_once_shares_no_socket(void **state)
{
    struct world w;
    union inet_address asker, again;

    (void)state;
    init(&w, CONFIG_SEND_PROXY_FIRST);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    asker = greeted_exchange(&w, "first");
    assert_int_equal(w.udp->resting, 0);
    again = greeted_exchange(&w, "second");
    assert_false(inet_address_equal(&asker, &again));

    /* Nor one that rests since before the configuration was read anew. */
    w.pool.send_proxy_udp = CONFIG_SEND_PROXY_EACH;
    asker = greeted_exchange(&w, "third");
    assert_int_equal(w.udp->resting, 1);
    w.pool.send_proxy_udp = CONFIG_SEND_PROXY_FIRST;
    again = greeted_exchange(&w, "fourth");
    assert_false(inet_address_equal(&asker, &again));
    assert_int_equal(world_metric(&w, METRIC_SOCKETS_REUSED), 0);
    world_close(&w);
}

/* ---- what is in them ---- */

/* The address that was used, with the listener's port: on a wildcard as well. */
static void the_destination_is_what_the_client_used(void **state)
{
    static const struct {
        const char *bind, *client, *used;
    } rows[] = {
        {"0.0.0.0:0", "127.0.0.1:0", "127.0.0.9:0"},
        {"[::]:0", "127.0.0.1:0", "127.0.0.9:0"},
        {"[::]:0", "[::1]:0", "[::1]:0"},
        {"[::1]:0", "[::1]:0", "[::1]:0"},
        {"127.0.0.9:0", "127.0.0.1:0", "127.0.0.9:0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world w;
        union inet_address used = endpoint_of(rows[i].used), source;
        struct proxy_header header;
        int client;

        init(&w, CONFIG_SEND_PROXY_EACH);
        world_open_at(&w, rows[i].bind);
        used.v4.sin_port = htons(inet_address_port(&w.entry)); /* at one place in both families */
        client = peer_socket(rows[i].client);
        source = peer_name(client);
        peer_send(client, "?", 1, &used);
        header = headed_read(&w, w.socket[0], "?", 1, NULL);
        headed_assert(&header, &source, &used);
        close(client);
        world_close(&w);
    }
}

static void the_header_carries_what_was_asked_for(void **state)
{
    struct world w;
    struct proxy_header header;
    char id[32];
    int client;

    (void)state;
    init(&w, CONFIG_SEND_PROXY_EACH);
    w.pool.send_proxy_tlvs = CONFIG_TLV_UNIQUE_ID | CONFIG_TLV_CRC32C | CONFIG_TLV_AUTHORITY |
                             CONFIG_TLV_ALPN | CONFIG_TLV_RECEIVED;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    world_say(&w, client, "?");
    header = headed_read(&w, w.socket[0], "?", 1, NULL);
    snprintf(id, sizeof(id), "%llu", (unsigned long long)world_newest(&w)->id);
    assert_int_equal(header.unique_id.length, strlen(id));
    assert_memory_equal(header.unique_id.bytes, id, strlen(id));
    assert_int_equal(header.authority.length + header.alpn.length, 0);
    /* The reader has checked the sum; two TLVs are all. */
    assert_int_equal(header.tlvs.length, 3 + strlen(id) + 3 + 4);
    close(client);
    world_close(&w);
}

/* ---- batches ---- */

/* As many calls as without. */
static void a_run_is_one_message_all_the_same(void **state)
{
    uint64_t sends[2];

    (void)state;
    for (int on = 0; on < 2; on++) {
        struct world w;
        int client;

        init(&w, CONFIG_SEND_PROXY_EACH);
        w.pool.send_proxy = on ? CONFIG_SEND_PROXY_V2 : CONFIG_SEND_PROXY_OFF;
        world_open_at(&w, "127.0.0.1:0");
        client = world_client();
        peer_send_train(client, text, 40 * 1000 + 7, 1000, &w.entry);
        for (size_t at = 0; at < 40 * 1000 + 7; at += 1000) {
            size_t length = MIN(1000u, 40 * 1000 + 7 - at);
            if (on)
                (void)headed_read(&w, w.socket[0], text + at, length, NULL);
            else
                (void)world_hear_train(&w, w.socket[0], text + at, length, length);
        }
        sends[on] = world_metric(&w, METRIC_UDP_SENDS);
        assert_int_equal(world_metric(&w, METRIC_GSO_DATAGRAMS), 41);
        assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 41);
        close(client);
        world_close(&w);
    }
    assert_int_equal(sends[0], 1);
    assert_int_equal(sends[1], 1);
}

static void the_first_of_a_run_goes_ahead(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_FIRST);
    client = world_client();
    for (int round = 0; round < 2; round++) {
        peer_send_train(client, text, 10 * 100, 100, &w.entry);
        if (round == 0)
            (void)headed_read(&w, w.socket[0], text, 100, NULL);
        (void)world_hear_train(&w, w.socket[0], text + (round == 0 ? 100 : 0),
                               (round == 0 ? 9 : 10) * 100, 100);
        assert_int_equal(world_metric(&w, METRIC_UDP_SENDS), round == 0 ? 2 : 3);
    }
    close(client);
    world_close(&w);
}

/* ---- what is too large ---- */

/* An IPv4 header with a UDP port pair: 16 + 12 bytes. */
#define HEADER 28

static void a_header_can_make_it_too_large(void **state)
{
    static const enum config_send_proxy_udp kinds[] = {CONFIG_SEND_PROXY_EACH,
                                                       CONFIG_SEND_PROXY_FIRST};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct world w;
        int client;

        init(&w, kinds[i]);
        w.policy.fragment = i == 0;
        world_open_at(&w, "127.0.0.1:0");
        client = world_client();
        peer_send(client, text, DATAGRAM_MAX - HEADER + 1, &w.entry);
        world_settle(&w);
        assert_int_equal(world_metric(&w, METRIC_DROP_TOO_LARGE), 1);
        assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 0);
        /* Nothing was told by that. */
        peer_send(client, text, DATAGRAM_MAX - HEADER, &w.entry);
        (void)headed_read(&w, w.socket[0], text, DATAGRAM_MAX - HEADER, NULL);
        assert_int_equal(world_metric(&w, METRIC_DROP_TOO_LARGE), 1);
        close(client);
        world_close(&w);
    }
}

static void a_header_may_have_no_room_at_all(void **state)
{
    struct world w;
    struct told told = {.tlvs = {text, DATAGRAM_MAX}};
    struct flow *flow;
    int client;

    (void)state;
    text[0] = 0xea; /* one TLV of all the bytes */
    text[1] = (uint8_t)((DATAGRAM_MAX - 3) >> 8);
    text[2] = (uint8_t)((DATAGRAM_MAX - 3) & 0xff);
    init(&w, CONFIG_SEND_PROXY_EACH);
    w.pool.send_proxy_tlvs = CONFIG_TLV_RECEIVED;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    world_say(&w, client, "?");
    (void)headed_hear(&w, 0, client, "?");
    flow = world_newest(&w);
    told.client = told.destination = peer_name(client);
    assert_int_equal(told_keep(flow, &told), 0);
    for (int greeting = GREET_EACH; greeting <= GREET_NEXT; greeting++) {
        flow->greeting = (uint8_t)greeting;
        assert_false(greet_start(flow));
        greet_stop(flow);
    }
    free(flow->told);
    flow->told = NULL;
    peer_fill(text, 3, 1);
    close(client);
    world_close(&w);
}

/* ---- another server ---- */

static void who_moves_tells_again(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_FIRST);
    client = world_client();
    world_say(&w, client, "here");
    (void)headed_hear(&w, 0, client, "here");
    w.usable[0] = false;
    w.usable[1] = true;
    atomic_store(&w.server[0]->live.suspect, 1);
    world_say(&w, client, "there");
    (void)headed_hear(&w, 1, client, "there");
    (void)world_ask(&w, client, 1, "and on");
    close(client);
    world_close(&w);
}

/* A batch of five, of which the first finds server 0 gone: the refusal of an earlier one is told
 * when the next is sent, and that is the one that moves, to server 1. */
static int move_in_the_midst_of_a_batch(struct world *w, enum config_send_proxy_udp often)
{
    int client;

    open_sending(w, often);
    client = world_client();
    world_say(w, client, "here");
    (void)headed_hear(w, 0, client, "here");
    w->usable[1] = true;
    world_refuse(w, 0);
    peer_send_train(client, text, 500, 100, &w->entry);
    assert_int_equal(send(world_newest(w)->upstream->fd, "earlier", 7, 0), 7);
    return client;
}

static void who_moves_in_the_midst_of_a_batch_tells_again(void **state)
{
    struct world w;
    int client = move_in_the_midst_of_a_batch(&w, CONFIG_SEND_PROXY_FIRST);

    (void)state;
    (void)headed_read(&w, w.socket[1], text, 100, NULL);
    (void)world_hear_train(&w, w.socket[1], text + 100, 400, 100);
    assert_int_equal(world_newest(&w)->moves, 1);
    (void)world_ask(&w, client, 1, "and on");
    close(client);
    world_close(&w);
}

static void each_goes_on_having_one_where_it_moves(void **state)
{
    struct world w;
    int client = move_in_the_midst_of_a_batch(&w, CONFIG_SEND_PROXY_EACH);

    (void)state;
    for (size_t at = 0; at < 500; at += 100)
        (void)headed_read(&w, w.socket[1], text + at, 100, NULL);
    assert_int_equal(world_newest(&w)->moves, 1);
    close(client);
    world_close(&w);
}

/* Nobody was there to be told. */
static void who_was_refused_tells_again(void **state)
{
    struct world w;
    union inet_address place;
    char where[ADDRESS_TEXT_MAX];
    int client;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_FIRST);
    place = peer_name(w.socket[0]);
    world_refuse(&w, 0);
    client = world_client();
    world_say(&w, client, "lost");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_REFUSED) == 1);
    w.socket[0] = peer_socket(inet_address_format(&place, where));
    world_say(&w, client, "found");
    (void)headed_hear(&w, 0, client, "found");
    (void)world_ask(&w, client, 0, "and on");
    close(client);
    world_close(&w);
}

/* ---- clients that lie ---- */

/* A server that looks for headers in each datagram must not find a client's own. */
static void what_looks_like_a_header_gets_one(void **state)
{
    struct proxy_write lie = headed_of("198.51.100.66:666", "192.0.2.1:53");
    struct world w;
    uint8_t train[600];
    size_t length;
    int client;

    (void)state;
    open_sending(&w, CONFIG_SEND_PROXY_FIRST);
    client = world_client();
    length = headed_write(train, &lie, text, 72);
    assert_int_equal(length, 100);
    peer_send(client, train, length, &w.entry); /* the first: no more than one */
    (void)headed_read(&w, w.socket[0], train, length, NULL);
    peer_send(client, train, length, &w.entry);
    (void)headed_read(&w, w.socket[0], train, length, NULL);
    (void)world_ask(&w, client, 0, "and on");

    peer_fill(train, sizeof(train), 2);
    (void)headed_write(train + 200, &lie, text, 72);
    (void)headed_write(train + 300, &lie, text, 72);
    peer_send_train(client, train, 550, 100, &w.entry);
    (void)world_hear_train(&w, w.socket[0], train, 200, 100);
    (void)headed_read(&w, w.socket[0], train + 200, 100, NULL);
    (void)headed_read(&w, w.socket[0], train + 300, 100, NULL);
    (void)world_hear_train(&w, w.socket[0], train + 400, 150, 100);
    /* A line of version 1 is no header of datagrams, but those who read headers refuse it. */
    peer_send(client, "PROXY my words", 14, &w.entry);
    (void)headed_read(&w, w.socket[0], "PROXY my words", 14, NULL);
    peer_send(client, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE - 1, &w.entry);
    (void)world_hear_train(&w, w.socket[0], (const uint8_t *)PROXY_V2_SIGNATURE,
                           PROXY_V2_SIGNATURE_SIZE - 1, 100);
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_a_header),
        cmocka_unit_test(the_first_has_a_header),
        cmocka_unit_test(none_has_one_otherwise),
        cmocka_unit_test(per_packet_flows_tell_each_server),
        cmocka_unit_test(a_flow_on_a_used_socket_tells_again),
        cmocka_unit_test(a_flow_that_tells_once_shares_no_socket),
        cmocka_unit_test(the_destination_is_what_the_client_used),
        cmocka_unit_test(the_header_carries_what_was_asked_for),
        cmocka_unit_test(a_run_is_one_message_all_the_same),
        cmocka_unit_test(the_first_of_a_run_goes_ahead),
        cmocka_unit_test(a_header_can_make_it_too_large),
        cmocka_unit_test(a_header_may_have_no_room_at_all),
        cmocka_unit_test(who_moves_tells_again),
        cmocka_unit_test(who_moves_in_the_midst_of_a_batch_tells_again),
        cmocka_unit_test(each_goes_on_having_one_where_it_moves),
        cmocka_unit_test(who_was_refused_tells_again),
        cmocka_unit_test(what_looks_like_a_header_gets_one),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
