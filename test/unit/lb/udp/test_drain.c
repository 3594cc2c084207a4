/* Servers that drain, and weir that stops: flows end at a quiet moment, or when time is up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#define FLOWS 4

/* Flows 0, 1 and 2 are on server a, the last one is on b. */
struct crowd {
    struct world w;
    int client[FLOWS];
    struct flow *flow[FLOWS];
};

static void enter(struct crowd *crowd, size_t i, size_t server)
{
    struct world *w = &crowd->w;

    w->usable[0] = server == 0;
    w->usable[1] = server == 1;
    crowd->client[i] = world_client();
    (void)world_ask(w, crowd->client[i], server, "?");
    crowd->flow[i] = world_newest(w);
}

static void gather(struct crowd *crowd)
{
    world_open(&crowd->w);
    for (size_t i = 0; i < FLOWS; i++)
        enter(crowd, i, i == FLOWS - 1);
}

static void disperse(struct crowd *crowd)
{
    for (size_t i = 0; i < FLOWS; i++)
        close(crowd->client[i]);
    world_close(&crowd->w);
}

/* As control does it: the deadline last. */
static void begin_drain(struct world *w, uint64_t quiet_ms, uint64_t deadline_ms,
                        enum server_drain_cause cause)
{
    atomic_store(&w->server[0]->drain_quiet_ms, w->now_ms + quiet_ms);
    atomic_store(&w->server[0]->drain_cause, cause);
    atomic_store(&w->server[0]->drain_deadline_ms, w->now_ms + deadline_ms);
}

/* A whole round. */
static uint32_t drain_paced(struct world *w, uint32_t paced)
{
    uint32_t cursor = 0;
    uint32_t ended = udp_drain(w->udp, &cursor, paced, UINT64_MAX);

    assert_int_equal(cursor, UINT32_MAX);
    return ended;
}

static uint64_t drain_ends(struct world *w, enum server_drain_end how)
{
    return world_cell(&w->server[0]->cell[0].drain_ends[how]);
}

/* ---- one server ---- */

static void without_a_drain_nothing_ends(void **state)
{
    struct crowd crowd;

    (void)state;
    gather(&crowd);
    world_pass(&crowd.w, 30000);
    assert_int_equal(drain_paced(&crowd.w, UINT32_MAX), 0);
    assert_int_equal(udp_flows(crowd.w.udp), FLOWS);
    disperse(&crowd);
}

static void flows_end_at_a_quiet_moment(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    begin_drain(w, 5000, 10000, DRAIN_CAUSE_OPERATOR);
    world_pass(w, 4999); /* too early, however quiet */
    assert_int_equal(drain_paced(w, UINT32_MAX), 0);
    (void)world_ask(w, crowd.client[1], 0, "busy");
    world_pass(w, DRAIN_QUIET_MS - 1);
    assert_int_equal(drain_paced(w, UINT32_MAX), 2);
    assert_flow_ended(crowd.flow[0], FLOW_END_DRAIN_QUIET);
    assert_int_equal(crowd.flow[1]->state, FLOW_ACTIVE);
    assert_flow_ended(crowd.flow[2], FLOW_END_DRAIN_QUIET);
    world_pass(w, 1);
    assert_int_equal(drain_paced(w, UINT32_MAX), 1);
    assert_flow_ended(crowd.flow[1], FLOW_END_DRAIN_QUIET);
    assert_int_equal(crowd.flow[3]->state, FLOW_ACTIVE); /* of the other server */
    assert_int_equal(world_load(w, 0), 0);
    assert_int_equal(drain_ends(w, DRAIN_END_QUIET), 3);
    assert_int_equal(drain_ends(w, DRAIN_END_DEADLINE), 0);
    assert_int_equal(w->udp->resting, 0);
    disperse(&crowd);
}

/* A reply is a sign of life as much as a request. */
static void a_reply_breaks_the_silence(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;
    union inet_address asker;

    (void)state;
    gather(&crowd);
    asker = world_ask(w, crowd.client[0], 0, "?");
    begin_drain(w, 0, 10000, DRAIN_CAUSE_OPERATOR);
    world_pass(w, DRAIN_QUIET_MS);
    world_answer(w, 0, &asker, crowd.client[0], "!");
    assert_int_equal(drain_paced(w, UINT32_MAX), 2);
    assert_int_equal(crowd.flow[0]->state, FLOW_ACTIVE);
    disperse(&crowd);
}

static void quiet_ends_are_paced(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    begin_drain(w, 0, 60000, DRAIN_CAUSE_OPERATOR);
    world_pass(w, DRAIN_QUIET_MS);
    assert_int_equal(drain_paced(w, 0), 0);
    assert_int_equal(world_load(w, 0), 3);
    assert_int_equal(drain_paced(w, 2), 2);
    assert_int_equal(world_load(w, 0), 1);
    assert_int_equal(drain_paced(w, 2), 1);
    assert_int_equal(world_load(w, 0), 0);
    assert_int_equal(world_load(w, 1), 1);
    disperse(&crowd);
}

static void a_slice_without_time_gets_on(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;
    uint32_t cursor = 0, ended = 0;
    unsigned slices = 0;

    (void)state;
    gather(&crowd);
    begin_drain(w, 0, 60000, DRAIN_CAUSE_OPERATOR);
    world_pass(w, DRAIN_QUIET_MS);
    for (; cursor != UINT32_MAX; slices++)
        ended += udp_drain(w->udp, &cursor, UINT32_MAX, 0);
    assert_int_equal(ended, 3);
    assert_int_equal(slices, FLOWS + 1);
    disperse(&crowd);
}

static void check_deadline(enum server_drain_cause cause, enum flow_end_reason reason)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    gather(&crowd);
    begin_drain(w, 0, 5000, cause);
    world_pass(w, 4999);
    (void)world_ask(w, crowd.client[0], 0, "busy");
    assert_int_equal(drain_paced(w, 0), 0);
    assert_int_equal(world_load(w, 0), 3);
    world_pass(w, 1);
    /* Busy or quiet, and at no pace: those that are reset are not counted against it. */
    assert_int_equal(drain_paced(w, 0), 0);
    for (size_t i = 0; i + 1 < FLOWS; i++)
        assert_flow_ended(crowd.flow[i], reason);
    assert_int_equal(crowd.flow[FLOWS - 1]->state, FLOW_ACTIVE);
    assert_int_equal(world_load(w, 0), 0);
    assert_int_equal(drain_ends(w, DRAIN_END_DEADLINE), 3);
    assert_int_equal(drain_ends(w, DRAIN_END_QUIET), 0);
    disperse(&crowd);
}

static void the_deadline_of_an_operator_ends_all(void **state)
{
    (void)state;
    check_deadline(DRAIN_CAUSE_OPERATOR, FLOW_END_DRAIN_DEADLINE);
}

static void the_deadline_of_a_server_that_went_down_says_so(void **state)
{
    (void)state;
    check_deadline(DRAIN_CAUSE_DOWN, FLOW_END_SERVER_DOWN);
}

static void a_flow_that_is_owed_a_reply_is_not_quiet(void **state)
{
    struct world w;
    struct flow *flow;
    union inet_address asker;
    int client;

    (void)state;
    world_init(&w);
    w.policy.responses = 2;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    world_answer(&w, 0, &asker, client, "1");
    begin_drain(&w, 0, 40000, DRAIN_CAUSE_OPERATOR);
    world_pass(&w, 39999);
    assert_int_equal(flow->owed, 1);
    assert_int_equal(drain_paced(&w, UINT32_MAX), 0);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    world_answer(&w, 0, &asker, client, "2");
    assert_flow_ended(flow, FLOW_END_DONE);
    assert_int_equal(drain_ends(&w, DRAIN_END_SELF), 1);
    close(client);
    world_close(&w);
}

static void but_the_deadline_does_not_wait_for_it(void **state)
{
    struct world w;
    struct flow *flow;
    int client;

    (void)state;
    world_init(&w);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    begin_drain(&w, 0, 5000, DRAIN_CAUSE_OPERATOR);
    world_pass(&w, 5000);
    assert_int_equal(drain_paced(&w, UINT32_MAX), 0);
    assert_flow_ended(flow, FLOW_END_DRAIN_DEADLINE);
    assert_int_equal(drain_ends(&w, DRAIN_END_DEADLINE), 1);
    close(client);
    world_close(&w);
}

/* ---- weir stops ---- */

static void no_new_clients_but_known_ones_are_served(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;
    union inet_address asker;
    int stranger;

    (void)state;
    gather(&crowd);
    udp_drain_all(w->udp);
    stranger = world_client();
    world_say(w, stranger, "?");
    world_say(w, stranger, "?");
    world_settle(w);
    assert_int_equal(world_metric(w, METRIC_DROP_STOPPING), 2);
    assert_int_equal(udp_flows(w->udp), FLOWS);
    world_silence(w, w->socket[1]);
    asker = world_ask(w, crowd.client[0], 0, "known");
    world_answer(w, 0, &asker, crowd.client[0], "yes");
    assert_int_equal(world_metric(w, METRIC_DROP_STOPPING), 2);
    close(stranger);
    disperse(&crowd);
}

/* Each datagram chooses: to a server that the client has no flow on, it would be a new one. */
static void per_packet_flows_are_no_way_around(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.per_packet = true;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    udp_drain_all(w.udp);
    (void)world_ask(&w, client, 0, "known");
    w.usable[0] = false;
    w.usable[1] = true;
    world_say(&w, client, "new");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_STOPPING), 1);
    assert_int_equal(world_load(&w, 1), 0);
    assert_int_equal(udp_flows(w.udp), 1);
    close(client);
    world_close(&w);
}

static void the_silent_end_and_the_busy_stay(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    world_pass(w, DRAIN_QUIET_MS / 2);
    (void)world_ask(w, crowd.client[1], 0, "busy");
    udp_drain_all(w->udp);
    world_pass(w, DRAIN_QUIET_MS / 2 - 1);
    assert_int_equal(udp_flows(w->udp), FLOWS);
    world_pass(w, 1); /* of silence, not of stopping */
    assert_flow_ended(crowd.flow[0], FLOW_END_SHUTDOWN);
    assert_int_equal(crowd.flow[1]->state, FLOW_ACTIVE);
    assert_int_equal(udp_flows(w->udp), 1);
    (void)world_ask(w, crowd.client[1], 0, "busy");
    world_pass(w, DRAIN_QUIET_MS - 1);
    assert_int_equal(crowd.flow[1]->state, FLOW_ACTIVE);
    world_pass(w, 1);
    assert_flow_ended(crowd.flow[1], FLOW_END_SHUTDOWN);
    assert_int_equal(udp_flows(w->udp), 0);
    disperse(&crowd);
}

static void the_long_silent_end_at_once(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    flow_end(crowd.flow[2], FLOW_END_KILLED); /* and one is on its way out */
    world_pass(w, 30000);
    udp_drain_all(w->udp);
    world_pass(w, 1);
    assert_flow_ended(crowd.flow[0], FLOW_END_SHUTDOWN);
    assert_flow_ended(crowd.flow[1], FLOW_END_SHUTDOWN);
    assert_flow_ended(crowd.flow[2], FLOW_END_KILLED);
    assert_int_equal(udp_flows(w->udp), 0);
    disperse(&crowd);
}

/* A timeout that is shorter than the wait for silence stays one. */
static void a_short_timeout_is_not_prolonged(void **state)
{
    struct world w;
    struct flow *flow;
    int client;

    (void)state;
    world_init(&w);
    w.policy.idle_timeout_ms = 300;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    udp_drain_all(w.udp);
    world_pass(&w, 299);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    world_pass(&w, 1);
    assert_flow_ended(flow, FLOW_END_SHUTDOWN);
    close(client);
    world_close(&w);
}

/* One in quarantine, a spare one, and one whose flow has yet to end: none waits for another flow.
 */
static void no_socket_rests(void **state)
{
    struct world w;
    union inet_address asker[3];
    int client[3];

    (void)state;
    world_init(&w);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    world_answer(&w, 0, &asker[0], client[0], "!");
    world_pass(&w, 2000);
    world_answer(&w, 0, &asker[1], client[1], "!");
    assert_int_equal(w.udp->resting, 2);
    udp_drain_all(w.udp);
    assert_int_equal(w.udp->resting, 0);
    world_answer(&w, 0, &asker[2], client[2], "!");
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(w.udp->resting, 0);
    world_reap(&w);
    assert_int_equal(w.udp->upstreams.used, 0);
    assert_int_equal(world_metric(&w, METRIC_SOCKETS_REUSED), 0);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        close(client[i]);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_drain_nothing_ends),
        cmocka_unit_test(flows_end_at_a_quiet_moment),
        cmocka_unit_test(a_reply_breaks_the_silence),
        cmocka_unit_test(quiet_ends_are_paced),
        cmocka_unit_test(a_slice_without_time_gets_on),
        cmocka_unit_test(the_deadline_of_an_operator_ends_all),
        cmocka_unit_test(the_deadline_of_a_server_that_went_down_says_so),
        cmocka_unit_test(a_flow_that_is_owed_a_reply_is_not_quiet),
        cmocka_unit_test(but_the_deadline_does_not_wait_for_it),
        cmocka_unit_test(no_new_clients_but_known_ones_are_served),
        cmocka_unit_test(per_packet_flows_are_no_way_around),
        cmocka_unit_test(the_silent_end_and_the_busy_stay),
        cmocka_unit_test(the_long_silent_end_at_once),
        cmocka_unit_test(a_short_timeout_is_not_prolonged),
        cmocka_unit_test(no_socket_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
