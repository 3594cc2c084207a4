/* How much of what a client sends first is kept: as much as preread_max says, and little at first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/edge.h"

static void as_many_bytes_of_a_header_as_may_be(void **state)
{
    static uint8_t bytes[3001];
    struct world w;

    (void)state;
    edge_open(&w);
    w.policy.preread_max = 3000;
    edge_begin_v2(bytes, 3000);
    struct chain chain = world_client(&w);
    edge_send(chain.client, bytes, 2999);
    WORLD_UNTIL(&w, chain.session->preread->used == 2999);
    assert_int_equal(chain.session->preread->size, 3000);
    edge_send(chain.client, bytes + 2999, 1);
    chain.server = world_served(&w, 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    assert_int_equal(inet_address_port(&chain.session->client), 4711);
    edge_say(chain.client, "hello");
    edge_gets(&w, chain.server, "hello");
    chain_finish(&w, &chain);

    /* Its length is enough to refuse it. */
    edge_begin_v2(bytes, 3001);
    chain = world_client(&w);
    edge_send(chain.client, bytes, 16);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_PREREAD_WRONG);
    chain_hang_up(&chain);
    world_close(&w);
}

static void begin_hello(uint8_t *bytes, size_t size)
{
    static const uint8_t begin[] = {0x16, 0x03, 0x01, 0, 0, 0x01, 0, 0, 0, 0x03, 0x03};
    const size_t head = 5 + 4 + 2 + 32;
    uint8_t *at = bytes + head;

    memset(bytes, 0, size);
    memcpy(bytes, begin, sizeof(begin));
    bytes[3] = (uint8_t)((size - 5) >> 8);
    bytes[4] = (uint8_t)(size - 5);
    bytes[7] = (uint8_t)((size - 9) >> 8);
    bytes[8] = (uint8_t)(size - 9);
    memcpy(at, (const uint8_t[]){0, 0, 2, 0x13, 0x01, 1, 0}, 7); /* session, ciphers, compression */
    at += 7;
    size_t rest = (size_t)(bytes + size - at) - 2;
    at[0] = (uint8_t)(rest >> 8);
    at[1] = (uint8_t)rest;
    at[3] = 21; /* padding */
    at[4] = (uint8_t)((rest - 4) >> 8);
    at[5] = (uint8_t)(rest - 4);
}

static void as_many_bytes_of_a_hello_as_may_be(void **state)
{
    static char any[] = "", pool[] = "web";
    static uint8_t bytes[3001];
    struct config_route route = {
        .sni = any, .alpn = any, .protocol = CONFIG_ROUTE_TLS, .pool = pool};
    struct world w;

    (void)state;
    edge_open(&w);
    w.policy.proxy_in = CONFIG_PROXY_OFF;
    w.policy.routes = &route;
    w.policy.route_count = 1;
    w.policy.preread_max = 3000;
    begin_hello(bytes, 3000);
    struct chain chain = world_client(&w);
    edge_send(chain.client, bytes, 3000);
    chain.server = world_served(&w, 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    chain_hang_up(&chain);

    begin_hello(bytes, 3001);
    chain = world_client(&w);
    edge_send(chain.client, bytes, 3001);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_PREREAD_WRONG);
    chain_hang_up(&chain);
    world_close(&w);
}

/* However much may be sent, who sends no more than a byte takes less than 8 KiB. */
static void one_byte_takes_little(void **state)
{
    struct world w;

    (void)state;
    edge_open(&w);
    w.policy.preread_max = 65536;
    struct chain chain = world_client(&w);
    edge_say(chain.client, "P");
    WORLD_UNTIL(&w, chain.session->preread->used == 1);
    assert_in_range(chain.session->preread->size, 1, 8191);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_bytes_of_a_header_as_may_be),
        cmocka_unit_test(as_many_bytes_of_a_hello_as_may_be),
        cmocka_unit_test(one_byte_takes_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
