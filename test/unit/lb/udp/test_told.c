/* Clients that PROXY headers tell of: whose flow a datagram is, and where replies go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/scene.h"

static void add_gate(struct scene *s, const struct gate_options *options)
{
    assert_int_equal(gate_new(&s->gate, options), 0);
    s->w.policy.gate = s->gate;
}

/* ---- whom it tells of ---- */

static void the_header_is_cut_off_and_believed(void **state)
{
    struct scene s;
    struct flow_info info;
    struct traffic_filter all = {0};
    union inet_address asker, client = endpoint_of(ALICE), sender;
    uint32_t cursor = 0;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    asker = scene_ask(&s, ALICE, 0, "asked");
    world_answer(&s.w, 0, &asker, s.front, "answered");
    assert_int_equal(s.w.last_key, inet_address_hash(&client, false, 0));
    assert_client(world_newest(&s.w), ALICE);
    sender = peer_name(s.front);
    assert_true(inet_address_equal(&world_newest(&s.w)->client, &sender));
    assert_int_equal(udp_list(s.w.udp, &all, &cursor, &info, 1, UINT64_MAX), 1);
    assert_true(inet_address_equal(&info.client, &client));
    scene_close(&s);
}

static void an_empty_datagram_has_a_client_too(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "");
    assert_client(world_newest(&s.w), ALICE);
    scene_close(&s);
}

/* One socket of the front, many clients: each has its flow, and replies come back where they were
 * asked. */
static void clients_of_one_sender_have_flows_of_their_own(void **state)
{
    struct scene s;
    union inet_address alice, bob, again;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    alice = scene_ask(&s, ALICE, 0, "a");
    bob = scene_ask(&s, BOB, 0, "b");
    assert_false(inet_address_equal(&alice, &bob));
    again = scene_ask(&s, ALICE, 0, "a again");
    assert_true(inet_address_equal(&alice, &again));
    assert_int_equal(udp_flows(s.w.udp), 2);
    world_answer(&s.w, 0, &bob, s.front, "to b");
    world_answer(&s.w, 0, &alice, s.front, "to a");
    scene_close(&s);
}

/* The destination that was told tells flows apart as well: it is passed on to servers. */
static void what_a_client_has_used_tells_apart(void **state)
{
    struct proxy_write other = headed_of(ALICE, "192.0.2.2:53");
    struct scene s;
    uint8_t bytes[256];

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "one");
    peer_send(s.front, bytes, headed_write(bytes, &other, "two", 3), &s.w.entry);
    (void)world_hear(&s.w, s.w.socket[0], "two");
    assert_int_equal(udp_flows(s.w.udp), 2);
    scene_close(&s);
}

/* An IPv4-mapped address is the IPv4 address. */
static void told_addresses_are_folded(void **state)
{
    struct proxy_write mapped = headed_of("[::ffff:198.51.100.1]:1001", "[::ffff:192.0.2.1]:53");
    struct scene s;
    uint8_t bytes[256];

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "v4");
    peer_send(s.front, bytes, headed_write(bytes, &mapped, "mapped", 6), &s.w.entry);
    (void)world_hear(&s.w, s.w.socket[0], "mapped");
    assert_int_equal(udp_flows(s.w.udp), 1);
    scene_close(&s);
}

/* On a socket of both families the sender's address is a mapped one. */
static void senders_are_known_on_a_wildcard_of_both_families(void **state)
{
    struct scene s;
    union inet_address to = endpoint_of("127.0.0.9:0"), asker, from;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    scene_start_at(&s, "[::]:0");
    to.v4.sin_port = s.w.entry.v6.sin6_port;
    s.w.entry = to;
    asker = scene_ask(&s, ALICE, 0, "asked");
    peer_send(s.w.socket[0], "plain", 5, &asker);
    from = world_hear(&s.w, s.front, "plain");
    assert_true(inet_address_equal(&from, &to));
    world_say(&s.w, s.front, "next");
    (void)world_hear(&s.w, s.w.socket[0], "next");
    assert_int_equal(udp_flows(s.w.udp), 1);
    scene_close(&s);
}

/* ---- without a header ---- */

static void what_follows_is_of_the_client_told_last(void **state)
{
    struct scene s;
    union inet_address alice, bob, from;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    alice = scene_ask(&s, ALICE, 0, "a");
    from = world_ask(&s.w, s.front, 0, "a goes on");
    assert_true(inet_address_equal(&from, &alice));
    bob = scene_ask(&s, BOB, 0, "b");
    from = world_ask(&s.w, s.front, 0, "b goes on");
    assert_true(inet_address_equal(&from, &bob));
    (void)scene_ask(&s, ALICE, 0, "a is back");
    from = world_ask(&s.w, s.front, 0, "and goes on");
    assert_true(inet_address_equal(&from, &alice));
    assert_int_equal(udp_flows(s.w.udp), 2);
    assert_int_equal(world_metric(&s.w, METRIC_DROP_HEADER_MISSING), 0);
    scene_close(&s);
}

/* Two sockets of a front are two senders. */
static void another_port_is_another_sender(void **state)
{
    struct scene s;
    int other;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    other = world_client();
    (void)scene_ask(&s, ALICE, 0, "a");
    world_say(&s.w, other, "who?");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 1);
    headed_say(&s.w, other, ALICE, "a, from there");
    (void)world_hear(&s.w, s.w.socket[0], "a, from there");
    assert_int_equal(udp_flows(s.w.udp), 2);
    close(other);
    scene_close(&s);
}

static void what_is_required_must_be_there(void **state)
{
    static const char *const rows[] = {"", "x", "\r\n", "\r\n\r\n", "PROX", "hello"};
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        world_say(&s.w, s.front, rows[i]);
        scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, i + 1);
    }
    assert_int_equal(udp_flows(s.w.udp), 0);
    scene_close(&s);
}

static void without_one_the_sender_may_speak_for_itself(void **state)
{
    struct scene s;
    union inet_address sender, is;

    (void)state;
    scene_open(&s, CONFIG_PROXY_OPTIONAL);
    (void)world_ask(&s.w, s.front, 0, "\r\n\r\n");
    sender = peer_name(s.front);
    is = flow_client(world_newest(&s.w));
    assert_true(inet_address_equal(&sender, &is));
    (void)scene_ask(&s, ALICE, 0, "a");
    assert_client(world_newest(&s.w), ALICE);
    (void)world_ask(&s.w, s.front, 0, "a goes on");
    assert_int_equal(world_newest(&s.w)->datagrams_in, 2);
    assert_int_equal(udp_flows(s.w.udp), 2);
    scene_close(&s);
}

/* When the flow ends, so does what the sender has said. */
static void a_flow_that_ended_has_no_more_to_say(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "a");
    world_kill_all(&s.w);
    world_say(&s.w, s.front, "who?");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 1);
    (void)scene_ask(&s, ALICE, 0, "a");
    world_pass(&s.w, s.w.policy.idle_timeout_ms);
    assert_flow_ended(world_newest(&s.w), FLOW_END_IDLE_TIMEOUT);
    world_reap(&s.w);
    world_say(&s.w, s.front, "who?");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 2);
    scene_close(&s);
}

/* The end of one that was not the last changes nothing. */
static void the_end_of_another_is_none_of_its_business(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, ALICE, 0, "a");
    struct flow *alice = world_newest(&s.w);
    (void)scene_ask(&s, BOB, 0, "b");
    flow_end(alice, FLOW_END_KILLED);
    (void)world_ask(&s.w, s.front, 0, "b goes on");
    assert_client(world_newest(&s.w), BOB);
    scene_close(&s);
}

/* A flow that takes no more has a successor of the same client. */
static void a_spent_flow_hands_its_client_on(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.policy.requests = 2;
    scene_start(&s);
    (void)scene_ask(&s, ALICE, 0, "1");
    for (int i = 2; i < 6; i++) {
        (void)world_ask(&s.w, s.front, 0, "next");
        assert_client(world_newest(&s.w), ALICE);
    }
    assert_int_equal(udp_flows(s.w.udp), 3);
    scene_close(&s);
}

static void per_packet_datagrams_have_a_client_on_each_server(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.policy.per_packet = true;
    s.w.usable[1] = s.w.rotates = true;
    s.w.chosen = 2;
    scene_start(&s);
    (void)scene_ask(&s, ALICE, 0, "1");
    (void)world_ask(&s.w, s.front, 1, "2");
    assert_client(world_newest(&s.w), ALICE);
    s.w.chosen = 2;
    (void)scene_ask(&s, ALICE, 0, "3");
    (void)world_ask(&s.w, s.front, 1, "4");
    assert_int_equal(udp_flows(s.w.udp), 2);
    scene_close(&s);
}

/* ---- LOCAL ---- */

static void say_local(struct scene *s, const char *text)
{
    struct proxy_write local = {.version = 2, .local = true};
    uint8_t bytes[256];

    peer_send(s->front, bytes, headed_write(bytes, &local, text, strlen(text)), &s->w.entry);
}

/* A probe of the front: it speaks for itself, for as long as that header goes. */
static void local_is_the_senders_own_word(void **state)
{
    struct scene s;
    union inet_address sender, is, asker;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    say_local(&s, "probe");
    asker = world_hear(&s.w, s.w.socket[0], "probe");
    world_answer(&s.w, 0, &asker, s.front, "well");
    sender = peer_name(s.front);
    is = flow_client(world_newest(&s.w));
    assert_true(inet_address_equal(&sender, &is));
    world_say(&s.w, s.front, "who?");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 1);
    (void)scene_ask(&s, ALICE, 0, "a");
    say_local(&s, "probe");
    (void)world_hear(&s.w, s.w.socket[0], "probe");
    world_say(&s.w, s.front, "who?");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 2);
    assert_int_equal(udp_flows(s.w.udp), 2);
    scene_close(&s);
}

/* ---- who may tell ---- */

static void others_are_not_believed(void **state)
{
    struct scene s;
    union inet_address is;
    int stranger;
    struct proxy_write header = headed_of(ALICE, "192.0.2.1:53");
    uint8_t bytes[256];
    size_t length = headed_write(bytes, &header, "a", 1);

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    stranger = peer_socket("127.0.0.2:0");
    peer_send(stranger, bytes, length, &s.w.entry);
    scene_assert_dropped(&s, METRIC_DROP_DENIED, 1);
    world_say(&s.w, stranger, "plain");
    scene_assert_dropped(&s, METRIC_DROP_DENIED, 2);
    close(stranger);
    scene_close(&s);

    scene_open(&s, CONFIG_PROXY_OPTIONAL);
    stranger = peer_socket("127.0.0.2:0");
    peer_send(stranger, bytes, length, &s.w.entry);
    (void)world_hear_train(&s.w, s.w.socket[0], bytes, length, length);
    is = flow_client(world_newest(&s.w));
    header.source = peer_name(stranger);
    assert_true(inet_address_equal(&is, &header.source));
    close(stranger);
    scene_close(&s);
}

static void with_it_off_a_header_is_bytes(void **state)
{
    struct scene s;
    struct proxy_write header = headed_of(ALICE, "192.0.2.1:53");
    uint8_t bytes[256];
    size_t length = headed_write(bytes, &header, "a", 1);

    (void)state;
    scene_open(&s, CONFIG_PROXY_OFF);
    assert_null(s.w.udp->teller);
    peer_send(s.front, bytes, length, &s.w.entry);
    (void)world_hear_train(&s.w, s.w.socket[0], bytes, length, length);
    scene_close(&s);
}

/* ---- who may come in ---- */

static void limits_are_of_the_client_told(void **state)
{
    struct network bobs;
    struct gate_options options = {
        .deny = {{&bobs, 1}}, .source_max = 1, .prefix_v4 = 32, .prefix_v6 = 64};
    struct scene s;
    const char *why;

    (void)state;
    assert_int_equal(network_parse(&bobs, "2001:db8::/32", &why), 0);
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    add_gate(&s, &options);
    scene_start(&s);
    (void)scene_ask(&s, ALICE, 0, "a");
    headed_say(&s.w, s.front, BOB, "b");
    scene_assert_dropped(&s, METRIC_DROP_DENIED, 1);
    headed_say(&s.w, s.front, "198.51.100.1:9", "a has one already");
    scene_assert_dropped(&s, METRIC_DROP_DENIED, 2);
    (void)scene_ask(&s, "198.51.100.9:9", 0, "another may");
    scene_close(&s);
}

/* The refused must not go on as the one before them. */
static void the_refused_are_nobody(void **state)
{
    struct network bobs;
    struct gate_options options = {.deny = {{&bobs, 1}}, .prefix_v4 = 32, .prefix_v6 = 64};
    struct scene s;
    const char *why;

    (void)state;
    assert_int_equal(network_parse(&bobs, "2001:db8::/32", &why), 0);
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    add_gate(&s, &options);
    scene_start(&s);
    (void)scene_ask(&s, ALICE, 0, "a");
    headed_say(&s.w, s.front, BOB, "b");
    world_say(&s.w, s.front, "b goes on");
    scene_assert_dropped(&s, METRIC_DROP_HEADER_MISSING, 1);
    assert_int_equal(world_metric(&s.w, METRIC_DROP_DENIED), 1);
    (void)scene_ask(&s, ALICE, 0, "a is back");
    (void)world_ask(&s.w, s.front, 0, "and goes on");
    scene_close(&s);
}

/* ---- loops ---- */

static void a_client_that_is_the_server_is_a_loop(void **state)
{
    struct scene s;
    union inet_address own;
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    headed_say(&s.w, s.front, s.w.server[0]->address_text, "round");
    scene_assert_dropped(&s, METRIC_DROP_LOOP, 1);
    own = scene_ask(&s, ALICE, 0, "a");
    headed_say(&s.w, s.front, inet_address_format(&own, text), "and round");
    scene_assert_dropped(&s, METRIC_DROP_LOOP, 2);
    scene_close(&s);
}

/* Nor does a flow move to its own client. */
static void a_flow_does_not_move_to_whom_it_was_told_of(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    (void)scene_ask(&s, s.w.server[1]->address_text, 0, "b asks a");
    s.w.usable[1] = true;
    atomic_store(&s.w.server[0]->live.suspect, 1);
    (void)scene_ask(&s, s.w.server[1]->address_text, 0, "still");
    assert_int_equal(world_newest(&s.w)->moves, 0);
    scene_close(&s);
}

/* ---- passed on ---- */

static void what_was_told_is_told_on(void **state)
{
    static const uint8_t tlv[] = {0xea, 0, 2, 'h', 'i'};
    struct proxy_write header = headed_of(ALICE, "192.0.2.1:53");
    struct scene s;
    struct proxy_header heard;
    uint8_t bytes[256];
    size_t length;

    (void)state;
    header.extra = (struct proxy_tlv_view){tlv, sizeof(tlv)};
    length = headed_write(bytes, &header, "a", 1);
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.pool.send_proxy = CONFIG_SEND_PROXY_V2;
    s.w.pool.send_proxy_udp = CONFIG_SEND_PROXY_EACH;
    s.w.pool.send_proxy_tlvs = CONFIG_TLV_RECEIVED | CONFIG_TLV_CRC32C;
    scene_start(&s);
    peer_send(s.front, bytes, length, &s.w.entry);
    for (int i = 0; i < 2; i++) {
        heard = headed_read(&s.w, s.w.socket[0], i == 0 ? "a" : "b", 1, NULL);
        headed_assert(&heard, &header.source, &header.destination);
        assert_int_equal(heard.tlvs.length, sizeof(tlv) + 7);
        assert_memory_equal(heard.tlvs.bytes, tlv, sizeof(tlv));
        world_say(&s.w, s.front, "b");
    }
    (void)headed_read(&s.w, s.w.socket[0], "b", 1, NULL);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_header_is_cut_off_and_believed),
        cmocka_unit_test(an_empty_datagram_has_a_client_too),
        cmocka_unit_test(clients_of_one_sender_have_flows_of_their_own),
        cmocka_unit_test(what_a_client_has_used_tells_apart),
        cmocka_unit_test(told_addresses_are_folded),
        cmocka_unit_test(senders_are_known_on_a_wildcard_of_both_families),
        cmocka_unit_test(what_follows_is_of_the_client_told_last),
        cmocka_unit_test(another_port_is_another_sender),
        cmocka_unit_test(what_is_required_must_be_there),
        cmocka_unit_test(without_one_the_sender_may_speak_for_itself),
        cmocka_unit_test(a_flow_that_ended_has_no_more_to_say),
        cmocka_unit_test(the_end_of_another_is_none_of_its_business),
        cmocka_unit_test(a_spent_flow_hands_its_client_on),
        cmocka_unit_test(per_packet_datagrams_have_a_client_on_each_server),
        cmocka_unit_test(local_is_the_senders_own_word),
        cmocka_unit_test(others_are_not_believed),
        cmocka_unit_test(with_it_off_a_header_is_bytes),
        cmocka_unit_test(limits_are_of_the_client_told),
        cmocka_unit_test(the_refused_are_nobody),
        cmocka_unit_test(a_client_that_is_the_server_is_a_loop),
        cmocka_unit_test(a_flow_does_not_move_to_whom_it_was_told_of),
        cmocka_unit_test(what_was_told_is_told_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
