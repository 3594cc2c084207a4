/* Room for flows: caps of the listener and of the process, who goes first, and what runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#include <sys/resource.h>

#define CLIENTS 4

/* So many datagrams a listener takes before it looks how many more there are. */
#define SEEN_FIRST 256

struct crowd {
    struct world w;
    int client[CLIENTS + 1];
    struct flow *flow[CLIENTS + 1];
};

static void enter(struct crowd *crowd, size_t i)
{
    crowd->client[i] = world_client();
    (void)world_ask(&crowd->w, crowd->client[i], 0, "?");
    crowd->flow[i] = world_newest(&crowd->w);
}

/* The listener takes as many flows as are there. */
static void gather(struct crowd *crowd)
{
    world_init(&crowd->w);
    crowd->w.limit = CLIENTS;
    world_open_at(&crowd->w, "127.0.0.1:0");
    for (size_t i = 0; i < CLIENTS; i++)
        enter(crowd, i);
    crowd->client[CLIENTS] = world_client();
}

static void disperse(struct crowd *crowd)
{
    for (size_t i = 0; i < ARRAY_LEN(crowd->client); i++)
        close(crowd->client[i]);
    world_close(&crowd->w);
}

static void settle_all(struct crowd *crowd)
{
    for (size_t i = 0; i < CLIENTS; i++)
        (void)world_ask(&crowd->w, crowd->client[i], 0, "again");
}

static void the_oldest_without_a_second_datagram_goes_first(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    (void)world_ask(w, crowd.client[0], 0, "again");
    (void)world_ask(w, crowd.client[CLIENTS], 0, "?");
    assert_flow_ended(crowd.flow[1], FLOW_END_EVICTED);
    assert_int_equal(crowd.flow[0]->state, FLOW_ACTIVE);
    assert_int_equal(crowd.flow[2]->state, FLOW_ACTIVE);
    assert_int_equal(udp_flows(w->udp), CLIENTS);
    assert_int_equal(atomic_load(&w->flows), CLIENTS);
    assert_int_equal(world_metric(w, METRIC_FLOWS_EVICTED), 1);
    assert_int_equal(world_load(w, 0), CLIENTS);
    disperse(&crowd);
}

/* However long the settled ones have been silent. */
static void a_fresh_one_goes_before_a_silent_one(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    for (size_t i = 0; i + 1 < CLIENTS; i++)
        (void)world_ask(w, crowd.client[i], 0, "again");
    world_pass(w, 30000);
    (void)world_ask(w, crowd.client[CLIENTS], 0, "?");
    assert_flow_ended(crowd.flow[CLIENTS - 1], FLOW_END_EVICTED);
    disperse(&crowd);
}

static void a_settled_one_goes_only_when_silent(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    settle_all(&crowd);
    world_pass(w, 999);
    world_say(w, crowd.client[CLIENTS], "?");
    world_settle(w);
    assert_int_equal(world_metric(w, METRIC_DROP_FLOW_LIMIT), 1);
    assert_int_equal(world_metric(w, METRIC_FLOWS_EVICTED), 0);
    assert_int_equal(udp_flows(w->udp), CLIENTS);

    /* All but the last speak: the looks of the first round have turned the order. */
    world_pass(w, 1);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (i != 2)
            (void)world_ask(w, crowd.client[i], 0, "still here");
    }
    (void)world_ask(w, crowd.client[CLIENTS], 0, "?");
    assert_flow_ended(crowd.flow[2], FLOW_END_EVICTED);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(crowd.flow[i]->state, i == 2 ? FLOW_ENDED : FLOW_ACTIVE);
    disperse(&crowd);
}

/* A flood of clients that say one thing each: the known ones are served, the cap holds. */
static void a_flood_evicts_itself(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;
    int flood[40];

    (void)state;
    gather(&crowd);
    w->reaps = true;
    for (size_t i = 0; i + 1 < CLIENTS; i++)
        (void)world_ask(w, crowd.client[i], 0, "again");
    for (size_t i = 0; i < ARRAY_LEN(flood); i++) {
        flood[i] = world_client();
        world_say(w, flood[i], "flood");
    }
    world_settle(w);
    assert_int_equal(udp_flows(w->udp), CLIENTS);
    assert_int_equal(world_metric(w, METRIC_FLOWS_EVICTED), ARRAY_LEN(flood));
    assert_int_equal(world_metric(w, METRIC_DROP_FLOW_LIMIT), 0);
    /* Each got to the server before it had to go, also those of one batch. */
    for (size_t i = 0; i < ARRAY_LEN(flood); i++)
        (void)world_hear(w, w->socket[0], "flood");
    for (size_t i = 0; i + 1 < CLIENTS; i++) {
        assert_int_equal(crowd.flow[i]->state, FLOW_ACTIVE);
        (void)world_ask(w, crowd.client[i], 0, "known");
    }
    for (size_t i = 0; i < ARRAY_LEN(flood); i++)
        close(flood[i]);
    disperse(&crowd);
}

/* Fills the listener's queue up with the client's datagrams; returns how many. */
static unsigned fill_queue(struct world *w, int client)
{
    uint32_t memory[SK_MEMINFO_VARS], before;
    unsigned count = 0;

    assert_int_equal(drop_read_memory(w->udp->port[0]->fd, memory), 0);
    do {
        before = memory[SK_MEMINFO_RMEM_ALLOC];
        world_say(w, client, "k");
        world_fence(w);
        count++;
        assert_int_equal(drop_read_memory(w->udp->port[0]->fd, memory), 0);
    } while (memory[SK_MEMINFO_RMEM_ALLOC] + 2 * (memory[SK_MEMINFO_RMEM_ALLOC] - before) <
             memory[SK_MEMINFO_RCVBUF]);
    return count;
}

/* More waits than weir keeps up with: three quarters of the queue are for those it knows. */
static void a_crowded_listener_takes_no_newcomers(void **state)
{
    struct world w;
    int known, stranger;
    unsigned sent;

    (void)state;
    world_init(&w);
    w.policy.rcvbuf = 1 << 20;
    world_open_at(&w, "127.0.0.1:0");
    known = world_client();
    stranger = world_client();
    (void)world_ask(&w, known, 0, "first");
    for (sent = 0; sent < SEEN_FIRST; sent++)
        world_say(&w, known, "k");
    world_say(&w, stranger, "new");
    sent += fill_queue(&w, known);
    if (sent < 2 * SEEN_FIRST + 16)
        fail_msg("%u datagrams fill the queue: net.core.rmem_max is too small for this", sent);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_CROWDED), 1);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 1 + sent);
    assert_int_equal(world_metric(&w, METRIC_DROP_RECEIVE_QUEUE), 0);
    assert_int_equal(udp_flows(w.udp), 1);
    /* It is over once the queue has been emptied. */
    assert_false(w.udp->port[0]->crowded);
    world_say(&w, stranger, "new");
    WORLD_UNTIL(&w, udp_flows(w.udp) == 2);
    close(stranger);
    close(known);
    world_close(&w);
}

/* Two listeners: the process is full of the first one's flows. */
struct two {
    struct crowd crowd;
    struct udp_policy policy;
    _Atomic uint32_t flows;
    union inet_address entry;
};

static void gather_two(struct two *two)
{
    struct world *w = &two->crowd.w;

    world_init(w);
    two->flows = 0;
    w->shared.flow_limit = CLIENTS;
    world_prepare(w);
    w->entry = world_listen(w, &w->policy, "127.0.0.1:0", &w->flows, w->limit);
    two->policy = w->policy;
    two->entry = world_listen(w, &two->policy, "127.0.0.1:0", &two->flows, 2);
    udp_start(w->udp);
    for (size_t i = 0; i < CLIENTS; i++)
        enter(&two->crowd, i);
    two->crowd.client[CLIENTS] = world_client();
}

static void disperse_two(struct two *two)
{
    world_kill_all(&two->crowd.w);
    assert_int_equal(atomic_load(&two->flows), 0);
    disperse(&two->crowd);
}

static void the_listener_with_most_flows_makes_room_for_others(void **state)
{
    struct two two;
    struct world *w = &two.crowd.w;

    (void)state;
    gather_two(&two);
    peer_send(two.crowd.client[CLIENTS], "?", 1, &two.entry);
    (void)world_hear(w, w->socket[0], "?");
    assert_flow_ended(two.crowd.flow[0], FLOW_END_EVICTED);
    assert_int_equal(atomic_load(&w->flows), CLIENTS - 1);
    assert_int_equal(atomic_load(&two.flows), 1);
    assert_int_equal(atomic_load(&w->shared.flows), CLIENTS);
    /* And not the other way round. */
    peer_send(two.crowd.client[0], "?", 1, &w->entry);
    (void)world_hear(w, w->socket[0], "?");
    assert_flow_ended(two.crowd.flow[1], FLOW_END_EVICTED);
    assert_int_equal(atomic_load(&two.flows), 1);
    disperse_two(&two);
}

static void when_that_one_has_nobody_to_give_it_is_ones_own(void **state)
{
    struct two two;
    struct world *w = &two.crowd.w;
    struct flow *own;
    int third = world_client();

    (void)state;
    close(third);
    gather_two(&two);
    peer_send(two.crowd.client[CLIENTS], "?", 1, &two.entry);
    (void)world_hear(w, w->socket[0], "?");
    own = world_newest(w);
    for (size_t i = 1; i < CLIENTS; i++)
        (void)world_ask(w, two.crowd.client[i], 0, "again");
    third = world_client();
    peer_send(third, "?", 1, &two.entry);
    (void)world_hear(w, w->socket[0], "?");
    assert_flow_ended(own, FLOW_END_EVICTED);
    for (size_t i = 1; i < CLIENTS; i++)
        assert_int_equal(two.crowd.flow[i]->state, FLOW_ACTIVE);
    close(third);
    disperse_two(&two);
}

/* A listener at its own cap takes nothing from others. */
static void a_cap_of_the_listener_is_its_own_affair(void **state)
{
    struct two two;
    struct world *w = &two.crowd.w;
    int more[3];

    (void)state;
    gather_two(&two);
    w->shared.flow_limit = CLIENTS + 2;
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        more[i] = world_client();
        peer_send(more[i], "?", 1, &two.entry);
        (void)world_hear(w, w->socket[0], "?");
    }
    assert_int_equal(atomic_load(&two.flows), 2);
    assert_int_equal(atomic_load(&w->flows), CLIENTS);
    assert_int_equal(world_metric(w, METRIC_FLOWS_EVICTED), 1);
    for (size_t i = 0; i < ARRAY_LEN(more); i++)
        close(more[i]);
    disperse_two(&two);
}

static void set_descriptors(rlim_t most, rlim_t *out_before)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (out_before != NULL)
        *out_before = limit.rlim_cur;
    limit.rlim_cur = most;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void without_descriptors_a_datagram_is_dropped(void **state)
{
    struct world w;
    rlim_t before;
    int client, next;

    (void)state;
    world_open(&w);
    client = world_client();
    next = dup(client);
    close(next);
    set_descriptors((rlim_t)next, &before);
    world_say(&w, client, "?");
    WORLD_UNTIL(&w, world_metric(&w, METRIC_DROP_NO_RESOURCES) == 1);
    set_descriptors(before, NULL);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(world_load(&w, 0), 0);
    assert_int_equal(atomic_load(&w.flows), 0);
    assert_int_equal(atomic_load(&w.shared.flows), 0);
    assert_int_equal(w.suspected[0], 0);
    /* Nothing is left of it. */
    (void)world_ask(&w, client, 0, "?");
    close(client);
    world_close(&w);
}

/* No way to the server: that is the server's failure, and others have their turn. */
static void a_server_without_a_route_is_suspect(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    w.server[0]->address.inet = endpoint_of("255.255.255.255:53"); /* connect(2) refuses it */
    world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_REFUSED), 1);
    assert_int_equal(world_cell(&w.server[0]->cell[0].connect_failures), 1);
    assert_int_equal(w.suspected[0], 1);
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_without_a_second_datagram_goes_first),
        cmocka_unit_test(a_fresh_one_goes_before_a_silent_one),
        cmocka_unit_test(a_settled_one_goes_only_when_silent),
        cmocka_unit_test(a_flood_evicts_itself),
        cmocka_unit_test(a_crowded_listener_takes_no_newcomers),
        cmocka_unit_test(the_listener_with_most_flows_makes_room_for_others),
        cmocka_unit_test(when_that_one_has_nobody_to_give_it_is_ones_own),
        cmocka_unit_test(a_cap_of_the_listener_is_its_own_affair),
        cmocka_unit_test(without_descriptors_a_datagram_is_dropped),
        cmocka_unit_test(a_server_without_a_route_is_suspect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
