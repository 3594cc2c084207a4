/* The life of a flow: begun by a datagram, kept by datagrams, ended through one door. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

/* ---- beginning ---- */

static void the_first_datagram_begins_a_flow(void **state)
{
    struct world w;
    union inet_address asker, client_address;
    struct flow *flow;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    client_address = peer_name(client);
    asker = world_ask(&w, client, 0, "who?");
    assert_int_equal(udp_flows(w.udp), 1);
    flow = world_newest(&w);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    assert_false(flow->settled);
    assert_true(inet_address_equal(&flow->client, &client_address));
    assert_ptr_equal(flow->server, w.server[0]);
    assert_int_equal(flow->datagrams_in, 1);
    assert_int_equal(flow->bytes_in, 4);
    assert_int_equal(flow->id & 0xff, 0);
    assert_int_equal(world_load(&w, 0), 1);
    assert_int_equal(atomic_load(&w.shared.flows), 1);
    assert_int_equal(atomic_load(&w.flows), 1);
    world_answer(&w, 0, &asker, client, "me");
    assert_int_equal(flow->datagrams_out, 1);
    assert_int_equal(flow->bytes_out, 2);
    assert_int_equal(world_cell(&w.server[0]->cell[0].bytes_in), 4);
    assert_int_equal(world_cell(&w.server[0]->cell[0].bytes_out), 2);
    assert_int_equal(world_metric(&w, METRIC_BYTES_IN), 4);
    assert_int_equal(world_metric(&w, METRIC_BYTES_OUT), 2);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 1);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_OUT), 1);
    assert_int_equal(world_metric(&w, METRIC_FLOWS), 1);
    close(client);
    world_close(&w);
}

static void the_next_ones_are_of_the_same_flow(void **state)
{
    struct world w;
    union inet_address first, next;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    first = world_ask(&w, client, 0, "one");
    assert_false(list_empty(&w.udp->port[0]->fresh));
    w.usable[0] = false;
    w.usable[1] = true;
    next = world_ask(&w, client, 0, "two");
    assert_true(inet_address_equal(&first, &next));
    assert_int_equal(udp_flows(w.udp), 1);
    assert_true(world_newest(&w)->settled);
    assert_true(list_empty(&w.udp->port[0]->fresh));
    assert_false(list_empty(&w.udp->port[0]->settled));
    close(client);
    world_close(&w);
}

static void each_client_has_a_flow_and_gets_its_own_replies(void **state)
{
    struct world w;
    union inet_address asker[3];
    int client[3];

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < 3; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    assert_int_equal(udp_flows(w.udp), 3);
    world_answer(&w, 0, &asker[2], client[2], "third");
    world_answer(&w, 0, &asker[0], client[0], "first");
    world_answer(&w, 0, &asker[1], client[1], "second");
    for (size_t i = 0; i < 3; i++) {
        world_silence(&w, client[i]);
        close(client[i]);
    }
    world_close(&w);
}

/* The key of hash schedulers: the client's address, and its port when the pool says so. */
static void the_choice_gets_the_clients_hash(void **state)
{
    struct world w;
    union inet_address address;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    address = peer_name(client);
    (void)world_ask(&w, client, 0, "?");
    assert_true(w.last_key == inet_address_hash(&address, false, 0));
    world_kill_all(&w);
    w.pool.hash_port = true;
    (void)world_ask(&w, client, 0, "?");
    assert_true(w.last_key == inet_address_hash(&address, true, 0));
    close(client);
    world_close(&w);
}

static void without_a_server_there_is_no_flow(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    client = world_client();
    world_say(&w, client, "?");
    world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_NO_SERVER), 2);
    assert_int_equal(world_metric(&w, METRIC_FLOWS), 0);
    assert_int_equal(atomic_load(&w.flows), 0);

    /* A full one is none. */
    w.usable[0] = true;
    atomic_store(&w.server[0]->live.limit, 1);
    (void)world_ask(&w, client, 0, "?");
    int other = world_client();
    world_say(&w, other, "?");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_NO_SERVER), 3);
    assert_int_equal(udp_flows(w.udp), 1);
    close(other);
    close(client);
    world_close(&w);
}

/* ---- idle time ---- */

static void an_idle_flow_expires_at_the_timeout(void **state)
{
    struct world w;
    struct flow *flow;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    world_pass(&w, 59999);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    world_pass(&w, 1);
    assert_flow_ended(flow, FLOW_END_IDLE_TIMEOUT);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(world_load(&w, 0), 0);
    assert_int_equal(atomic_load(&w.flows), 0);
    assert_int_equal(atomic_load(&w.shared.flows), 0);
    assert_int_equal(w.udp->resting, 0);
    close(client);
    world_close(&w);
}

/* A datagram of either side moves a stamp; the timer looks at it when it is due. */
static void traffic_of_either_side_keeps_a_flow(void **state)
{
    struct world w;
    struct flow *flow;
    union inet_address asker;
    uint64_t due_ms;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    due_ms = flow->timer.due_ms;
    world_pass(&w, 40000);
    world_answer(&w, 0, &asker, client, "!");
    assert_int_equal(flow->timer.due_ms, due_ms);
    world_pass(&w, 20000);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    assert_int_equal(flow->timer.due_ms, due_ms + 40000);
    world_pass(&w, 30000);
    (void)world_ask(&w, client, 0, "??");
    world_pass(&w, 59999);
    assert_int_equal(flow->state, FLOW_ACTIVE);
    world_pass(&w, 1);
    assert_flow_ended(flow, FLOW_END_IDLE_TIMEOUT);
    close(client);
    world_close(&w);
}

static void a_client_that_comes_back_gets_a_new_flow(void **state)
{
    struct world w;
    union inet_address first, second;
    uint64_t id;
    int client;

    (void)state;
    world_open(&w);
    w.reaps = true;
    client = world_client();
    first = world_ask(&w, client, 0, "?");
    id = world_newest(&w)->id;
    world_pass(&w, 60000);
    second = world_ask(&w, client, 0, "?");
    assert_true(world_newest(&w)->id > id);
    assert_int_equal(world_metric(&w, METRIC_FLOWS), 2);
    /* What the first one's server says now finds nobody: its socket is closed. */
    if (!inet_address_equal(&first, &second))
        (void)sendto(w.socket[0], "late", 4, 0, &first.any, peer_length(&first));
    world_silence(&w, client);
    close(client);
    world_close(&w);
}

/* ---- what is owed ---- */

static void the_last_reply_that_is_owed_ends_a_flow(void **state)
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
    assert_int_equal(flow->state, FLOW_ACTIVE);
    (void)world_ask(&w, client, 0, "?");
    world_answer(&w, 0, &asker, client, "2");
    world_answer(&w, 0, &asker, client, "3");
    assert_int_equal(flow->state, FLOW_ACTIVE);
    assert_int_equal(flow->owed, 1);
    world_answer(&w, 0, &asker, client, "4");
    assert_flow_ended(flow, FLOW_END_DONE);
    assert_string_equal(flow_end_by(FLOW_END_DONE), "server");
    assert_int_equal(w.udp->resting, 1);
    assert_int_equal(world_load(&w, 0), 0);
    close(client);
    world_close(&w);
}

/* The reply must not find the client of another flow. */
static void a_flow_that_is_owed_a_reply_closes_its_socket(void **state)
{
    struct world w;
    struct flow *flow;
    union inet_address asker;
    int client;

    (void)state;
    world_init(&w);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    (void)world_ask(&w, client, 0, "?");
    world_answer(&w, 0, &asker, client, "!");
    flow = world_newest(&w);
    assert_int_equal(flow->owed, 1);
    world_pass(&w, 60000);
    assert_flow_ended(flow, FLOW_END_IDLE_TIMEOUT);
    assert_int_equal(w.udp->resting, 0);
    close(client);
    world_close(&w);
}

static void without_responses_replies_end_nothing(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    for (int i = 0; i < 3; i++)
        world_answer(&w, 0, &asker, client, "!");
    assert_int_equal(world_newest(&w)->state, FLOW_ACTIVE);
    close(client);
    world_close(&w);
}

/* ---- spent ---- */

static void after_its_requests_a_client_gets_another_flow(void **state)
{
    struct world w;
    struct flow *first, *second;
    union inet_address asker[2];
    int client;

    (void)state;
    world_init(&w);
    w.policy.requests = 2;
    w.rotates = true;
    w.usable[1] = true;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker[1] = world_ask(&w, client, 1, "1");
    first = world_newest(&w);
    assert_int_equal(first->state, FLOW_ACTIVE);
    (void)world_ask(&w, client, 1, "2");
    assert_int_equal(first->state, FLOW_SPENT);
    asker[0] = world_ask(&w, client, 0, "3");
    second = world_newest(&w);
    assert_ptr_not_equal(second, first);
    assert_int_equal(udp_flows(w.udp), 2);
    /* Both still get their replies. */
    world_answer(&w, 1, &asker[1], client, "to 2");
    world_answer(&w, 0, &asker[0], client, "to 3");
    world_pass(&w, 60000);
    assert_flow_ended(first, FLOW_END_IDLE_TIMEOUT);
    assert_flow_ended(second, FLOW_END_IDLE_TIMEOUT);
    close(client);
    world_close(&w);
}

static void a_spent_flow_ends_with_its_last_reply(void **state)
{
    struct world w;
    struct flow *flow;
    union inet_address asker;
    int client;

    (void)state;
    world_init(&w);
    w.policy.requests = 1;
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    assert_int_equal(flow->state, FLOW_SPENT);
    world_answer(&w, 0, &asker, client, "!");
    assert_flow_ended(flow, FLOW_END_DONE);
    close(client);
    world_close(&w);
}

/* ---- the end ---- */

static void the_end_is_idempotent(void **state)
{
    struct world w;
    struct flow *flow;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    flow = world_newest(&w);
    flow_end(flow, FLOW_END_KILLED);
    flow_end(flow, FLOW_END_IDLE_TIMEOUT);
    assert_flow_ended(flow, FLOW_END_KILLED);
    assert_int_equal(world_metric(&w, METRIC_FLOWS_ENDED), 1);
    assert_int_equal(world_load(&w, 0), 0);
    close(client);
    world_close(&w);
}

/* The memory goes when no event is left that could name it. */
static void memory_goes_with_the_reaper(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    world_kill_all(&w);
    assert_int_equal(w.udp->flows.used, 1);
    assert_int_equal(w.udp->upstreams.used, 1);
    world_reap(&w);
    assert_int_equal(w.udp->flows.used, 0);
    assert_int_equal(w.udp->upstreams.used, 0);
    close(client);
    world_close(&w);
}

/* Of a flow that ended in this turn, too: its replies wait in the batch. */
static void replies_leave_before_their_flow_goes(void **state)
{
    struct world w;
    union inet_address asker;
    int client;

    (void)state;
    world_open(&w);
    w.reaps = true;
    client = world_client();
    asker = world_ask(&w, client, 0, "?");
    peer_send(w.socket[0], "!", 1, &asker);
    world_fence(&w);
    poller_wait(&w.poller, 0);
    assert_true(poller_has_tasks(&w.poller));
    world_kill_all(&w);
    world_reap(&w);
    assert_int_equal(w.udp->flows.used, 0);
    (void)world_hear(&w, client, "!");
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_datagram_begins_a_flow),
        cmocka_unit_test(the_next_ones_are_of_the_same_flow),
        cmocka_unit_test(each_client_has_a_flow_and_gets_its_own_replies),
        cmocka_unit_test(the_choice_gets_the_clients_hash),
        cmocka_unit_test(without_a_server_there_is_no_flow),
        cmocka_unit_test(an_idle_flow_expires_at_the_timeout),
        cmocka_unit_test(traffic_of_either_side_keeps_a_flow),
        cmocka_unit_test(a_client_that_comes_back_gets_a_new_flow),
        cmocka_unit_test(the_last_reply_that_is_owed_ends_a_flow),
        cmocka_unit_test(a_flow_that_is_owed_a_reply_closes_its_socket),
        cmocka_unit_test(without_responses_replies_end_nothing),
        cmocka_unit_test(after_its_requests_a_client_gets_another_flow),
        cmocka_unit_test(a_spent_flow_ends_with_its_last_reply),
        cmocka_unit_test(the_end_is_idempotent),
        cmocka_unit_test(memory_goes_with_the_reaper),
        cmocka_unit_test(replies_leave_before_their_flow_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
