/* Clients that headers tell of, where flows are at their limit. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_may_go_for_its_own_successor),
        cmocka_unit_test(many_clients_of_one_sender_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
