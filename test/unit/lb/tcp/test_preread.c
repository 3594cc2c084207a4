/* What a client sends first: the PROXY header in and out, one deadline, and nothing by default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/edge.h"

#include <arpa/inet.h>
#include <stdlib.h>

static void test_every_split_of_a_header(void **state)
{
    (void)state;
    for (size_t split = 0; split <= strlen(EDGE_LINE); split++) {
        struct world w;
        char first[sizeof(EDGE_LINE)] = "";

        edge_open(&w);
        memcpy(first, EDGE_LINE, split);
        struct chain chain = world_client(&w);
        edge_say(chain.client, first);
        world_settle(&w);
        if (split < strlen(EDGE_LINE)) {
            assert_int_equal(chain.session->state, SESSION_PREREAD);
            edge_say(chain.client, &EDGE_LINE[split]);
        }
        edge_say(chain.client, "hello");
        chain.server = world_served(&w, 0);
        edge_gets(&w, chain.server, "hello");
        assert_int_equal(chain.session->client.v4.sin_addr.s_addr, inet_addr("192.0.2.7"));
        assert_int_equal(inet_address_port(&chain.session->client), 4711);
        assert_int_equal(chain.session->direction[CLIENT].bytes, 5);
        chain_finish(&w, &chain);
        world_close(&w);
    }
}

static void test_the_header_goes_on_with_the_first_data(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    w.pool.send_proxy = CONFIG_SEND_PROXY_V1;
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE "hello");
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, EDGE_LINE "hello");
    edge_say(chain.client, "more");
    edge_gets(&w, chain.server, "more");
    assert_int_equal(world_metric(&w, METRIC_BYTES_IN), 9);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* A server that speaks first has its header at once, and the client's data after it. */
static void test_a_header_without_data(void **state)
{
    struct world w;
    char expected[256];
    union inet_address own;
    socklen_t length = sizeof(own);

    (void)state;
    world_init(&w);
    w.pool.send_proxy = CONFIG_SEND_PROXY_V1;
    world_open_with(&w, WORLD_START_MS, 100);
    struct chain chain = world_chain(&w, 0);
    assert_int_equal(getsockname(chain.client, &own.any, &length), 0);
    snprintf(expected, sizeof(expected), "PROXY TCP4 127.0.0.1 127.0.0.1 %u %u\r\n",
             inet_address_port(&own), ntohs(w.entry_address.sin_port));
    edge_gets(&w, chain.server, expected);
    edge_say(chain.server, "220 ready");
    edge_gets(&w, chain.client, "220 ready");
    edge_say(chain.client, "EHLO");
    edge_gets(&w, chain.server, "EHLO");
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Only the header had gone: the next server gets it too, and all of the client's bytes. */
static void test_another_server_gets_the_header_too(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    w.pool.send_proxy = CONFIG_SEND_PROXY_V1;
    w.usable[1] = true;
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE);
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, EDGE_LINE);
    chain_reset(&chain.server);
    chain.server = world_served(&w, 1);
    edge_gets(&w, chain.server, EDGE_LINE);
    edge_say(chain.client, "hello");
    edge_gets(&w, chain.server, "hello");
    chain_finish(&w, &chain);
    world_close(&w);
}

static void assert_wrong(const char *bytes)
{
    struct world w;

    edge_open(&w);
    struct chain chain = world_client(&w);
    edge_say(chain.client, bytes);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_PREREAD_WRONG);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_int_equal(world_metric(&w, METRIC_PREREAD_WRONG), 1);
    chain_hang_up(&chain);
    world_close(&w);
}

static void test_wrong_ones(void **state)
{
    (void)state;
    assert_wrong("GET / HTTP/1.1\r\n\r\n");
    assert_wrong("PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n");
    assert_wrong("PROXY TCP4 192.0.2.7 198.51.100.1  4711 443\r\n");
}

static void test_bytes_do_not_extend_the_deadline(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    struct chain chain = world_client(&w);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(send(chain.client, &EDGE_LINE[i], 1, MSG_NOSIGNAL), 1);
        world_settle(&w);
        world_pass(&w, 110);
        assert_int_equal(chain.session->state, SESSION_PREREAD);
    }
    world_pass(&w, 20);
    assert_ended(chain.session, SESSION_END_PREREAD_TIMEOUT);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_int_equal(world_metric(&w, METRIC_PREREAD_TIMEOUTS), 1);
    chain_hang_up(&chain);
    world_close(&w);
}

static void test_a_fin_before_the_header_is_whole(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    struct chain chain = world_client(&w);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_CLIENT_GONE);
    chain_hang_up(&chain);

    chain = world_client(&w);
    edge_say(chain.client, "PROXY TC");
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_PREREAD_WRONG);
    chain_hang_up(&chain);
    world_close(&w);
}

static void test_a_fin_behind_the_header_is_a_half_close(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE "bye");
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, "bye");
    assert_int_equal(world_sees(&w, chain.server), 0);
    edge_say(chain.server, "answer");
    edge_gets(&w, chain.client, "answer");
    assert_int_equal(shutdown(chain.server, SHUT_WR), 0);
    assert_int_equal(world_sees(&w, chain.client), 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_DONE);
    chain_hang_up(&chain);
    world_close(&w);
}

/* The bytes go with the session as they came, and are read anew. */
static void test_half_a_header_in_another_process(void **state)
{
    struct world w;
    struct session_record record;

    (void)state;
    edge_open(&w);
    struct chain chain = world_client(&w);
    edge_say(chain.client, "PROXY TCP4 192.0.2.7 ");
    WORLD_UNTIL(&w, chain.session->preread->used == 21);
    assert_int_equal(session_export(chain.session, &record), 0);
    assert_int_equal(record.state, SESSION_PREREAD);
    assert_int_equal(record.held[CLIENT], 21);
    tcp_reap(w.tcp);
    assert_int_equal(session_import(w.tcp, &w.policy, NULL, &record), 0);
    free(record.data);
    chain.session = world_newest(&w);
    edge_say(chain.client, &(EDGE_LINE "hello")[21]);
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, "hello");
    chain_finish(&w, &chain);
    world_close(&w);
}

/* More than a preread begins with, and the deadline goes on from where it was. */
static void test_a_long_header_in_another_process(void **state)
{
    static uint8_t bytes[4000];
    struct world w;
    struct session_record record;

    (void)state;
    edge_begin_v2(bytes, sizeof(bytes));
    edge_open(&w);
    struct chain chain = world_client(&w);
    edge_send(chain.client, bytes, 3000);
    WORLD_UNTIL(&w, chain.session->preread->used == 3000);
    world_pass(&w, 500);
    assert_int_equal(session_export(chain.session, &record), 0);
    assert_int_equal(record.held[CLIENT], 3000);
    tcp_reap(w.tcp);
    assert_int_equal(session_import(w.tcp, &w.policy, NULL, &record), 0);
    free(record.data);
    chain.session = world_newest(&w);
    assert_in_range(chain.session->preread->size, 3000, w.policy.preread_max);
    assert_memory_equal(chain.session->preread->bytes, bytes, 3000);
    world_pass(&w, 490);
    assert_int_equal(chain.session->state, SESSION_PREREAD);
    world_pass(&w, 20);
    assert_ended(chain.session, SESSION_END_PREREAD_TIMEOUT);
    chain_hang_up(&chain);
    world_close(&w);
}

/* Once it is told, it waits as all do who have no server: by the pool's time, and counted. */
static void test_the_deadline_ends_with_the_header(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    w.pool.connect_timeout_ms = 5000;
    w.usable[0] = false;
    struct chain chain = world_client(&w);
    world_pass(&w, 500);
    edge_say(chain.client, EDGE_LINE);
    WORLD_UNTIL(&w, chain.session->state == SESSION_QUEUED);
    assert_int_equal(world_metric(&w, METRIC_QUEUED), 1);
    world_pass(&w, 4990);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    world_pass(&w, 20);
    assert_ended(chain.session, SESSION_END_NO_SERVER);
    assert_int_equal(world_metric(&w, METRIC_PREREAD_TIMEOUTS), 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* Where it came from, by whom, and by which route, is known there too. */
static void test_who_it_is_in_another_process(void **state)
{
    static char any[] = "", pool[] = "routed";
    struct network told_from;
    struct config_route route = {
        .sni = any, .alpn = any, .from = {.network = &told_from, .count = 1}, .pool = pool};
    struct world w;
    struct session_record record;
    const char *why;

    (void)state;
    assert_int_equal(network_parse(&told_from, "192.0.2.0/24", &why), 0);
    edge_open(&w);
    w.policy.routes = &route;
    w.policy.route_count = 1;
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE "hello");
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, "hello");
    struct server *server = server_take(chain.session->server);
    assert_true(server_enter(server));
    assert_int_equal(session_export(chain.session, &record), 0);
    assert_string_equal(record.pool, "routed");
    tcp_reap(w.tcp);
    assert_int_equal(session_import(w.tcp, &w.policy, server, &record), 0);
    chain.session = world_newest(&w);
    assert_string_equal(chain.session->pool_name, "routed");
    assert_int_equal(inet_address_port(&chain.session->client), 4711);
    assert_int_equal(inet_address_port(&chain.session->preread->destination), 443);
    assert_int_equal(chain.session->preread->peer.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Whom a header told is known anew, and is not judged anew: its source has used its rate. Before
 * the header is whole nobody was judged. */
static void test_who_was_let_in_is_in_another_process(void **state)
{
    struct world w;
    struct session_record record;
    struct gate_options options = {
        .source_max = 1, .source_rate = 1, .prefix_v4 = 32, .prefix_v6 = 64};
    struct gate_counts counts;

    (void)state;
    edge_open(&w);
    assert_int_equal(gate_new(&w.policy.gate, &options), 0);
    w.usable[0] = false;
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE);
    WORLD_UNTIL(&w, chain.session->state == SESSION_QUEUED);
    assert_int_equal(session_export(chain.session, &record), 0);
    assert_int_equal(record.state, SESSION_PREREAD);
    assert_int_equal(record.admitted, 1);
    tcp_reap(w.tcp);
    assert_int_equal(session_import(w.tcp, &w.policy, NULL, &record), 0);
    free(record.data);
    chain.session = world_newest(&w);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    assert_int_not_equal(chain.session->ticket, GATE_NO_TICKET);
    gate_read(w.policy.gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 1);
    assert_int_equal(counts.verdict[GATE_SESSIONS] + counts.verdict[GATE_RATE], 0);

    struct chain second = world_client(&w);
    edge_say(second.client, "PROXY TCP4 192.0.2.7 ");
    WORLD_UNTIL(&w, second.session->preread->used == 21);
    assert_int_equal(session_export(second.session, &record), 0);
    assert_int_equal(record.admitted, 0);
    tcp_reap(w.tcp);
    assert_int_equal(session_import(w.tcp, &w.policy, NULL, &record), 0);
    free(record.data);
    second.session = world_newest(&w);
    assert_int_equal(second.session->ticket, GATE_NO_TICKET);
    edge_say(second.client, &EDGE_LINE[21]);
    WORLD_UNTIL(&w, second.session->state == SESSION_ENDED);
    assert_ended(second.session, SESSION_END_REFUSED);
    chain_hang_up(&second);
    session_end(chain.session, SESSION_END_KILLED);
    chain_hang_up(&chain);
    world_close(&w);
    gate_free(&w.policy.gate);
}

static void test_refused_by_the_address_that_was_told(void **state)
{
    struct world w;
    struct network denied[1];
    struct gate_options options = {.deny = {{denied, 1}}, .prefix_v4 = 32, .prefix_v6 = 64};
    const char *why;

    (void)state;
    edge_open(&w);
    assert_int_equal(network_parse(&denied[0], "192.0.2.0/24", &why), 0);
    assert_int_equal(gate_new(&w.policy.gate, &options), 0);
    struct chain chain = world_client(&w);
    edge_say(chain.client, EDGE_LINE "hello");
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_REFUSED);
    assert_int_equal(world_metric(&w, METRIC_SESSIONS_REFUSED), 1);
    chain_hang_up(&chain);
    world_close(&w);
    gate_free(&w.policy.gate);
}

/* Who speaks for others is denied as one of them when a header has told it, and not before. */
static void test_a_sender_is_not_the_client_that_is_denied(void **state)
{
    struct world w;
    struct gate_options options = {.deny = {{edge_loopback, 1}}, .prefix_v4 = 32, .prefix_v6 = 64};
    struct traffic_filter filter = {.is_within = true, .is_denied = true};
    uint32_t cursor = 0;

    (void)state;
    edge_open(&w);
    filter.within = edge_loopback[0];
    assert_int_equal(gate_new(&w.policy.gate, &options), 0);
    struct chain chain = world_client(&w);
    edge_say(chain.client, "PROXY TCP4 192.0.2.7 ");
    WORLD_UNTIL(&w, chain.session->preread->used == 21);
    assert_int_equal(tcp_kill(w.tcp, &filter, SESSION_END_KILLED, &cursor, UINT64_MAX), 0);
    edge_say(chain.client, &(EDGE_LINE "hello")[21]);
    chain.server = world_served(&w, 0);
    edge_gets(&w, chain.server, "hello");
    cursor = 0;
    assert_int_equal(tcp_kill(w.tcp, &filter, SESSION_END_KILLED, &cursor, UINT64_MAX), 0);
    chain_finish(&w, &chain);
    world_close(&w);
    gate_free(&w.policy.gate);
}

/* The refused never become sessions, and the ticket of one that ends admits the next. */
static void test_one_session_of_a_source_at_once(void **state)
{
    struct world w;
    struct gate_options options = {.source_max = 1, .prefix_v4 = 32, .prefix_v6 = 64};

    (void)state;
    world_init(&w);
    assert_int_equal(gate_new(&w.policy.gate, &options), 0);
    w.policy.refuse = CONFIG_REFUSE_CLOSE;
    world_open_with(&w, WORLD_START_MS, 100);
    struct chain chain = world_chain(&w, 0);
    int refused = world_dial(&w, 0);
    world_take_in(&w);
    assert_int_equal(tcp_sessions(w.tcp), 1);
    assert_int_equal(world_sees(&w, refused), 0); /* a FIN, as refuse = "close" has it */
    close(refused);
    chain_finish(&w, &chain);
    chain = world_chain(&w, 0);
    chain_finish(&w, &chain);
    assert_int_equal(world_metric(&w, METRIC_SESSIONS_REFUSED), 1);
    world_close(&w);
    gate_free(&w.policy.gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_of_a_header),
        cmocka_unit_test(test_the_header_goes_on_with_the_first_data),
        cmocka_unit_test(test_a_header_without_data),
        cmocka_unit_test(test_another_server_gets_the_header_too),
        cmocka_unit_test(test_wrong_ones),
        cmocka_unit_test(test_bytes_do_not_extend_the_deadline),
        cmocka_unit_test(test_a_fin_before_the_header_is_whole),
        cmocka_unit_test(test_a_fin_behind_the_header_is_a_half_close),
        cmocka_unit_test(test_half_a_header_in_another_process),
        cmocka_unit_test(test_a_long_header_in_another_process),
        cmocka_unit_test(test_the_deadline_ends_with_the_header),
        cmocka_unit_test(test_who_it_is_in_another_process),
        cmocka_unit_test(test_who_was_let_in_is_in_another_process),
        cmocka_unit_test(test_refused_by_the_address_that_was_told),
        cmocka_unit_test(test_a_sender_is_not_the_client_that_is_denied),
        cmocka_unit_test(test_one_session_of_a_source_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
