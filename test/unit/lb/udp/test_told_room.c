/* Clients that headers tell of, where there is little room: for flows, or for their headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/scene.h"

#define MOST 50
#define CLIENTS 3000

/* The one that makes room is the one that tells of the newcomer. */
static void a_flow_may_go_for_its_own_successor(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.policy.requests = 1;
    s.w.limit = 1;
    s.w.reaps = true;
    scene_start(&s);
    (void)scene_ask(&s, ALICE, 0, "1");
    for (int i = 0; i < 3; i++)
        (void)world_ask(&s.w, s.front, 0, "next");
    assert_client(world_newest(&s.w), ALICE);
    assert_int_equal(world_metric(&s.w, METRIC_FLOWS_EVICTED), 3);
    assert_int_equal(udp_flows(s.w.udp), 1);
    scene_close(&s);
}

static uint32_t last_ones(const struct udp *udp)
{
    uint32_t count = 0;

    for (uint64_t i = 0; i <= udp->bucket_mask; i++) {
        for (const struct kept_told *at = udp->teller[i]; at != NULL; at = at->chain)
            count++;
    }
    return count;
}

/* Whatever a front tells, there are so many flows, and of each sender one client is the last. */
static void many_clients_of_one_sender_are_bounded(void **state)
{
    struct scene s;
    char client[64];

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.limit = MOST;
    s.w.reaps = true;
    scene_start(&s);
    for (int i = 0; i < CLIENTS; i++) {
        snprintf(client, sizeof(client), "10.%d.%d.1:%d", i / 250, i % 250, i + 1);
        (void)scene_ask(&s, client, 0, "?");
        assert_true(udp_flows(s.w.udp) <= MOST);
        assert_int_equal(last_ones(s.w.udp), 1);
    }
    assert_true(s.w.udp->flows.span <= 4 * MOST);
    assert_int_equal(world_metric(&s.w, METRIC_FLOWS_EVICTED), CLIENTS - MOST);
    world_kill_all(&s.w);
    assert_int_equal(last_ones(s.w.udp), 0);
    scene_close(&s);
}

/* A first header that fills a datagram: the bytes of one TLV are passed on. */
static void fill_a_header(struct scene *s)
{
    static uint8_t bytes[HEADED_MAX], tlv[DATAGRAM_MAX - 28 - 1];
    struct proxy_write header = headed_of(ALICE, "192.0.2.1:53");

    tlv[0] = 0xea;
    tlv[1] = (uint8_t)((sizeof(tlv) - 3) >> 8);
    tlv[2] = (uint8_t)((sizeof(tlv) - 3) & 0xff);
    header.extra = (struct proxy_tlv_view){tlv, sizeof(tlv)};
    peer_send(s->front, bytes, headed_write(bytes, &header, "1", 1), &s->w.entry);
    assert_int_equal(headed_read(&s->w, s->w.socket[0], "1", 1, NULL).tlvs.length, sizeof(tlv));
}

/* Headers have become longer meanwhile. What cannot be told to another server stays: its socket is
 * the one that the rest of the batch goes to. */
static void who_cannot_tell_again_does_not_move(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, CONFIG_PROXY_REQUIRED);
    s.w.pool.send_proxy = CONFIG_SEND_PROXY_V2;
    s.w.pool.send_proxy_udp = CONFIG_SEND_PROXY_FIRST;
    s.w.pool.send_proxy_tlvs = CONFIG_TLV_RECEIVED;
    scene_start(&s);
    fill_a_header(&s);
    s.w.pool.send_proxy_tlvs |= CONFIG_TLV_CRC32C;
    s.w.usable[1] = true;
    world_refuse(&s.w, 0);
    peer_send(s.front, "2", 1, &s.w.entry);
    assert_int_equal(send(world_newest(&s.w)->upstream->fd, "earlier", 7, 0), 7);
    WORLD_UNTIL(&s.w, world_metric(&s.w, METRIC_DROP_REFUSED) > 0);
    assert_int_equal(world_newest(&s.w)->moves, 0);
    assert_int_equal(s.w.udp->requests.fd, world_newest(&s.w)->upstream->fd);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_may_go_for_its_own_successor),
        cmocka_unit_test(many_clients_of_one_sender_are_bounded),
        cmocka_unit_test(who_cannot_tell_again_does_not_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
