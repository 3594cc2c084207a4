/* Flows whose server refuses, is suspect, or is deserted: they move with their next datagram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#include <sys/resource.h>

/* A client with a flow on server a; server b is there too. */
struct pair {
    struct world w;
    int client;
    struct flow *flow;
};

static void open_pair_with(struct pair *pair, uint32_t responses)
{
    world_init(&pair->w);
    pair->w.policy.responses = responses;
    pair->w.usable[1] = true;
    world_open_at(&pair->w, "127.0.0.1:0");
    pair->client = world_client();
    (void)world_ask(&pair->w, pair->client, 0, "?");
    pair->flow = world_newest(&pair->w);
}

static void open_pair(struct pair *pair)
{
    open_pair_with(pair, 0);
}

static void close_pair(struct pair *pair)
{
    close(pair->client);
    world_close(&pair->w);
}

static void assert_on(struct pair *pair, size_t i, uint32_t moves)
{
    assert_int_equal(udp_flows(pair->w.udp), 1);
    assert_int_equal(pair->flow->state, FLOW_ACTIVE);
    assert_ptr_equal(pair->flow->server, pair->w.server[i]);
    assert_int_equal(pair->flow->moves, moves);
    assert_int_equal(world_metric(&pair->w, METRIC_FLOWS_MOVED), moves);
    assert_int_equal(world_load(&pair->w, i), 1);
    assert_int_equal(world_load(&pair->w, 1 - i), 0);
}

static void mark_deserted(struct pair *pair, size_t i)
{
    atomic_store(&pair->w.server[i]->deserted, true);
}

/* ---- refused ---- */

static void a_refusal_makes_the_server_suspect_and_its_flows_move(void **state)
{
    struct pair pair;
    union inet_address asker;

    (void)state;
    open_pair(&pair);
    world_refuse(&pair.w, 0);
    world_say(&pair.w, pair.client, "lost");
    WORLD_UNTIL(&pair.w, pair.w.suspected[0] == 1);
    assert_int_equal(world_cell(&pair.w.server[0]->cell[0].refused), 1);
    assert_int_equal(world_metric(&pair.w, METRIC_DROP_REFUSED), 1);
    assert_on(&pair, 0, 0);
    asker = world_ask(&pair.w, pair.client, 1, "here?");
    assert_on(&pair, 1, 1);
    assert_int_equal(world_cell(&pair.w.server[0]->cell[0].flows_left), 1);
    assert_int_equal(world_cell(&pair.w.server[1]->cell[0].flows), 1);
    world_answer(&pair.w, 1, &asker, pair.client, "here.");
    close_pair(&pair);
}

/* The send is told of it, before the event is seen: that datagram goes to the other server. */
static void a_refusal_told_to_a_send_costs_no_further_datagram(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    world_refuse(&pair.w, 0);
    world_say(&pair.w, pair.client, "one");
    world_say(&pair.w, pair.client, "the other");
    assert_int_equal(send(pair.flow->upstream->fd, "lost", 4, 0), 4);
    (void)world_hear(&pair.w, pair.w.socket[1], "one");
    (void)world_hear(&pair.w, pair.w.socket[1], "the other");
    assert_on(&pair, 1, 1);
    assert_int_equal(pair.w.suspected[0], 1);
    assert_int_equal(world_metric(&pair.w, METRIC_DROP_REFUSED), 1);
    assert_int_equal(world_metric(&pair.w, METRIC_DATAGRAMS_IN), 3);
    close_pair(&pair);
}

static void a_suspect_server_is_left_without_a_refusal_of_ones_own(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    atomic_store(&pair.w.server[0]->live.suspect, 1);
    (void)world_ask(&pair.w, pair.client, 1, "?");
    assert_on(&pair, 1, 1);
    (void)world_ask(&pair.w, pair.client, 1, "?");
    assert_on(&pair, 1, 1);
    close_pair(&pair);
}

/* Two that are suspect would play ball with it. */
static void no_flow_moves_to_a_suspect_server(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    atomic_store(&pair.w.server[0]->live.suspect, 1);
    atomic_store(&pair.w.server[1]->live.suspect, 1);
    (void)world_ask(&pair.w, pair.client, 0, "?");
    assert_on(&pair, 0, 0);
    close_pair(&pair);
}

/* It is tried until it is back. */
static void the_only_server_keeps_its_flows(void **state)
{
    struct pair pair;
    union inet_address address;

    (void)state;
    open_pair(&pair);
    pair.w.usable[1] = false;
    address = peer_name(pair.w.socket[0]);
    world_refuse(&pair.w, 0);
    for (unsigned i = 1; i <= 3; i++) {
        world_say(&pair.w, pair.client, "?");
        WORLD_UNTIL(&pair.w, pair.w.suspected[0] == i);
    }
    assert_on(&pair, 0, 0);
    pair.w.socket[0] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(pair.w.socket[0], &address.any, sizeof(address.v4)), 0);
    (void)world_ask(&pair.w, pair.client, 0, "back?");
    close_pair(&pair);
}

static void replies_of_the_one_that_was_left_reach_nobody(void **state)
{
    struct pair pair;
    union inet_address before;

    (void)state;
    open_pair(&pair);
    before = world_ask(&pair.w, pair.client, 0, "?");
    atomic_store(&pair.w.server[0]->live.suspect, 1);
    (void)world_ask(&pair.w, pair.client, 1, "?");
    (void)sendto(pair.w.socket[0], "late", 4, 0, &before.any, sizeof(before.v4));
    world_silence(&pair.w, pair.client);
    close_pair(&pair);
}

static void without_descriptors_a_flow_stays(void **state)
{
    struct pair pair;
    struct rlimit limit, before;
    int next;

    (void)state;
    open_pair(&pair);
    atomic_store(&pair.w.server[0]->live.suspect, 1);
    next = dup(pair.client);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    (void)world_ask(&pair.w, pair.client, 0, "?");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_on(&pair, 0, 0);
    close_pair(&pair);
}

/* ---- deserted ---- */

static void flows_leave_a_deserted_server(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    mark_deserted(&pair, 0);
    pair.w.usable[0] = false;
    (void)world_ask(&pair.w, pair.client, 1, "?");
    assert_on(&pair, 1, 1);
    close_pair(&pair);
}

/* Better than the one that is down. */
static void even_to_a_suspect_one(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    mark_deserted(&pair, 0);
    pair.w.usable[0] = false;
    atomic_store(&pair.w.server[1]->live.suspect, 1);
    (void)world_ask(&pair.w, pair.client, 1, "?");
    assert_on(&pair, 1, 1);
    close_pair(&pair);
}

static void with_nowhere_to_go_datagrams_are_dropped(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    mark_deserted(&pair, 0);
    pair.w.usable[0] = pair.w.usable[1] = false;
    world_say(&pair.w, pair.client, "one");
    world_say(&pair.w, pair.client, "the other");
    world_settle(&pair.w);
    assert_int_equal(world_metric(&pair.w, METRIC_DROP_NO_SERVER), 2);
    world_silence(&pair.w, pair.w.socket[0]);
    assert_on(&pair, 0, 0);
    /* Until there is one. */
    pair.w.usable[1] = true;
    (void)world_ask(&pair.w, pair.client, 1, "?");
    assert_on(&pair, 1, 1);
    close_pair(&pair);
}

/* It would answer itself. */
static void no_flow_moves_to_its_own_client(void **state)
{
    struct world w;
    struct flow *flow;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    (void)world_ask(&w, w.socket[1], 0, "?");
    flow = world_newest(&w);
    atomic_store(&w.server[0]->deserted, true);
    world_say(&w, w.socket[1], "??");
    world_settle(&w);
    assert_ptr_equal(flow->server, w.server[0]);
    assert_int_equal(world_metric(&w, METRIC_DROP_NO_SERVER), 1);
    assert_int_equal(world_load(&w, 1), 0);
    world_silence(&w, w.socket[1]);
    world_close(&w);
}

/* Each of its datagrams chooses anew: there is nothing to move. */
static void flows_of_a_datagram_each_do_not_move(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.per_packet = true;
    w.usable[1] = true;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    atomic_store(&w.server[0]->live.suspect, 1);
    (void)world_ask(&w, client, 0, "?");
    world_refuse(&w, 0);
    world_say(&w, client, "lost");
    WORLD_UNTIL(&w, w.suspected[0] == 1);
    w.usable[0] = false;
    (void)world_ask(&w, client, 1, "?");
    assert_int_equal(world_metric(&w, METRIC_FLOWS_MOVED), 0);
    assert_int_equal(udp_flows(w.udp), 2);
    close(client);
    world_close(&w);
}

/* ---- what is owed ---- */

/* What the first one owed will not come; what the second one was asked will. */
static void a_moved_flow_waits_for_what_it_asked_last(void **state)
{
    struct pair pair;
    union inet_address asker;

    (void)state;
    open_pair_with(&pair, 2);
    assert_int_equal(pair.flow->owed, 2);
    atomic_store(&pair.w.server[0]->live.suspect, 1);
    world_say(&pair.w, pair.client, "one");
    world_say(&pair.w, pair.client, "two");
    world_fence(&pair.w);
    asker = world_hear(&pair.w, pair.w.socket[1], "one");
    (void)world_hear(&pair.w, pair.w.socket[1], "two");
    assert_int_equal(pair.flow->owed, 4);
    for (int i = 0; i < 3; i++)
        world_answer(&pair.w, 1, &asker, pair.client, "!");
    assert_on(&pair, 1, 1);
    world_answer(&pair.w, 1, &asker, pair.client, "!");
    assert_flow_ended(pair.flow, FLOW_END_DONE);
    close_pair(&pair);
}

static void one_moved_by_a_refusal_too(void **state)
{
    struct pair pair;
    union inet_address asker;

    (void)state;
    open_pair_with(&pair, 1);
    world_refuse(&pair.w, 0);
    world_say(&pair.w, pair.client, "one");
    world_say(&pair.w, pair.client, "other");
    assert_int_equal(send(pair.flow->upstream->fd, "lost", 4, 0), 4);
    asker = world_hear(&pair.w, pair.w.socket[1], "one");
    (void)world_hear(&pair.w, pair.w.socket[1], "other");
    assert_int_equal(pair.flow->owed, 2);
    world_answer(&pair.w, 1, &asker, pair.client, "!");
    assert_on(&pair, 1, 1);
    world_answer(&pair.w, 1, &asker, pair.client, "!");
    assert_flow_ended(pair.flow, FLOW_END_DONE);
    close_pair(&pair);
}

/* ---- other errors ---- */

static void other_errors_move_nothing(void **state)
{
    struct pair pair;

    (void)state;
    open_pair(&pair);
    assert_int_equal(request_failed(pair.w.udp, pair.flow, EAGAIN), -1);
    assert_int_equal(request_failed(pair.w.udp, pair.flow, EPERM), -1);
    assert_int_equal(request_failed(pair.w.udp, pair.flow, EINVAL), -1);
    /* Perhaps of an earlier datagram, which a narrow path turned back: once more, as it is. */
    assert_int_equal(request_failed(pair.w.udp, pair.flow, EMSGSIZE), pair.flow->upstream->fd);
    assert_on(&pair, 0, 0);
    assert_int_equal(pair.w.suspected[0], 0);
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_makes_the_server_suspect_and_its_flows_move),
        cmocka_unit_test(a_refusal_told_to_a_send_costs_no_further_datagram),
        cmocka_unit_test(a_suspect_server_is_left_without_a_refusal_of_ones_own),
        cmocka_unit_test(no_flow_moves_to_a_suspect_server),
        cmocka_unit_test(the_only_server_keeps_its_flows),
        cmocka_unit_test(replies_of_the_one_that_was_left_reach_nobody),
        cmocka_unit_test(without_descriptors_a_flow_stays),
        cmocka_unit_test(flows_leave_a_deserted_server),
        cmocka_unit_test(even_to_a_suspect_one),
        cmocka_unit_test(with_nowhere_to_go_datagrams_are_dropped),
        cmocka_unit_test(no_flow_moves_to_its_own_client),
        cmocka_unit_test(flows_of_a_datagram_each_do_not_move),
        cmocka_unit_test(a_moved_flow_waits_for_what_it_asked_last),
        cmocka_unit_test(one_moved_by_a_refusal_too),
        cmocka_unit_test(other_errors_move_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
