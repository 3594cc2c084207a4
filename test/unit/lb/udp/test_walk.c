/* Walks over flows in slices: what they find, what they end, and that each slice gets on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#define FLOWS 5
#define SIDE (FLOWS - 1)

/* Flows 0, 2, 4 are on server a, 1 and 3 on server b; the last one came by another listener. */
struct crowd {
    struct world w;
    struct udp_policy side;
    _Atomic uint32_t side_flows;
    union inet_address side_entry;
    int client[FLOWS];
    struct flow *flow[FLOWS];
};

static void serve_on(struct world *w, size_t i)
{
    for (size_t server = 0; server < WORLD_SERVERS; server++)
        w->usable[server] = server == i;
}

static void enter(struct crowd *crowd, size_t i)
{
    struct world *w = &crowd->w;

    serve_on(w, i % 2);
    crowd->client[i] = world_client();
    peer_send(crowd->client[i], "?", 1, i == SIDE ? &crowd->side_entry : &w->entry);
    (void)world_hear(w, w->socket[i % 2], "?");
    crowd->flow[i] = world_newest(w);
}

static void gather(struct crowd *crowd)
{
    struct world *w = &crowd->w;

    world_init(w);
    world_prepare(w);
    w->entry = world_listen(w, &w->policy, "127.0.0.1:0", &w->flows, w->limit);
    crowd->side = w->policy;
    snprintf(crowd->side.listener, sizeof(crowd->side.listener), "side");
    crowd->side_flows = 0;
    crowd->side_entry = world_listen(w, &crowd->side, "127.0.0.1:0", &crowd->side_flows, w->limit);
    udp_start(w->udp);
    for (size_t i = 0; i < FLOWS; i++)
        enter(crowd, i);
}

static void disperse(struct crowd *crowd)
{
    for (size_t i = 0; i < FLOWS; i++)
        close(crowd->client[i]);
    world_kill_all(&crowd->w);
    assert_int_equal(atomic_load(&crowd->side_flows), 0);
    world_close(&crowd->w);
}

/* How many match; the last of them in *out. */
static uint32_t find(struct world *w, const struct traffic_filter *filter, struct flow_info *out)
{
    struct flow_info rows[FLOWS + 1];
    uint32_t cursor = 0;
    uint32_t count = udp_list(w->udp, filter, &cursor, rows, ARRAY_LEN(rows), UINT64_MAX);

    assert_int_equal(cursor, UINT32_MAX);
    *out = (struct flow_info){0};
    if (count > 0)
        *out = rows[count - 1];
    return count;
}

/* ---- rows and filters ---- */

static void a_row_describes_its_flow(void **state)
{
    struct crowd crowd;
    struct world *w = &crowd.w;
    struct traffic_filter filter = {0};
    union inet_address asker, client;
    struct flow_info row;

    (void)state;
    gather(&crowd);
    asker = world_ask(w, crowd.client[1], 1, "three");
    world_answer(w, 1, &asker, crowd.client[1], "fifteen");
    world_pass(w, 1234);
    crowd.flow[1]->started_us -= 5000000;
    client = peer_name(crowd.client[1]);
    filter.id = crowd.flow[1]->id;
    assert_int_equal(find(w, &filter, &row), 1);
    assert_int_equal(row.id, filter.id);
    assert_string_equal(row.listener, "front");
    assert_string_equal(row.pool, "dns");
    assert_string_equal(row.server, "b");
    assert_true(inet_address_equal(&row.client, &client));
    assert_string_equal(flow_state_name(row.state), "active");
    assert_in_range(row.age_ms, 5000, 5000 + PEER_PATIENCE_MS);
    assert_int_equal(row.idle_ms, 1234);
    assert_int_equal(row.datagrams_in, 2);
    assert_int_equal(row.datagrams_out, 1);
    assert_int_equal(row.bytes_in, 6);
    assert_int_equal(row.bytes_out, 7);
    disperse(&crowd);
}

static void filters_match(void **state)
{
    static const struct {
        struct traffic_filter filter;
        uint32_t count;
    } cases[] = {
        {{.id = 0}, FLOWS},
        {{.id = 999999}, 0},
        {{.listener = "front"}, FLOWS - 1},
        {{.listener = "side"}, 1},
        {{.listener = "fron"}, 0},
        {{.pool = "dns"}, FLOWS},
        {{.pool = "web"}, 0},
        {{.server = "a"}, 3},
        {{.server = "b"}, 2},
        {{.server = "c"}, 0},
        {{.server = "a", .listener = "side"}, 1},
        {{.server = "b", .listener = "side"}, 0},
        {{.client = "127.0.0.1", .server = "b"}, 2},
        {{.client = "127.0.0.2"}, 0},
    };
    struct crowd crowd;
    struct flow_info row;

    (void)state;
    gather(&crowd);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(find(&crowd.w, &cases[i].filter, &row), cases[i].count);
    disperse(&crowd);
}

static void clients_match_with_and_without_port(void **state)
{
    struct crowd crowd;
    struct traffic_filter filter = {0};
    struct flow_info row;
    union inet_address client;

    (void)state;
    gather(&crowd);
    client = peer_name(crowd.client[2]);
    inet_address_format(&client, filter.client);
    assert_int_equal(find(&crowd.w, &filter, &row), 1);
    assert_int_equal(row.id, crowd.flow[2]->id);
    client.v4.sin_port = htons(1);
    inet_address_format(&client, filter.client);
    assert_int_equal(find(&crowd.w, &filter, &row), 0);
    disperse(&crowd);
}

/* A socket of both families has them mapped; people do not write them so. */
static void an_ipv4_client_of_an_ipv6_listener_is_one(void **state)
{
    struct world w;
    struct traffic_filter filter = {.client = "127.0.0.1"};
    struct flow_info row;
    union inet_address client, entry = peer_address("127.0.0.1:0");
    int fd;

    (void)state;
    world_init(&w);
    world_open_at(&w, "[::]:0");
    fd = world_client();
    client = peer_name(fd);
    entry.v4.sin_port = w.entry.v6.sin6_port;
    peer_send(fd, "?", 1, &entry);
    (void)world_hear(&w, w.socket[0], "?");
    assert_int_equal(world_newest(&w)->client.any.sa_family, AF_INET6);
    assert_int_equal(find(&w, &filter, &row), 1);
    assert_true(inet_address_equal(&row.client, &client));
    close(fd);
    world_close(&w);
}

static void spent_flows_are_listed_and_ended_ones_are_not(void **state)
{
    static const struct traffic_filter all;
    struct world w;
    struct flow_info row;
    int client;

    (void)state;
    world_init(&w);
    w.policy.requests = 1;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    assert_int_equal(find(&w, &all, &row), 1);
    assert_string_equal(flow_state_name(row.state), "spent");
    flow_end(world_newest(&w), FLOW_END_KILLED);
    assert_int_equal(find(&w, &all, &row), 0); /* not reaped yet */
    close(client);
    world_close(&w);
}

/* ---- slices ---- */

static void a_list_comes_in_pages(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct flow_info rows[2];
    uint32_t cursor = 0;
    uint32_t found = 0;

    (void)state;
    gather(&crowd);
    while (cursor != UINT32_MAX) {
        uint32_t count = udp_list(crowd.w.udp, &all, &cursor, rows, 2, UINT64_MAX);
        assert_true(count <= 2);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(rows[i].id, crowd.flow[found++]->id);
    }
    assert_int_equal(found, FLOWS);
    assert_int_equal(udp_list(crowd.w.udp, &all, &cursor, rows, 2, UINT64_MAX), 0);
    assert_int_equal(cursor, UINT32_MAX);
    disperse(&crowd);
}

/* Its time is up before it began: it gets on all the same, a little. */
static void a_slice_without_time_gets_on(void **state)
{
    static const struct traffic_filter nobody = {.id = 999999};
    struct crowd crowd;
    struct flow_info row;
    uint32_t cursor = 0;
    unsigned slices = 0;

    (void)state;
    gather(&crowd);
    for (; cursor != UINT32_MAX; slices++) {
        uint32_t before = cursor;
        assert_int_equal(udp_list(crowd.w.udp, &nobody, &cursor, &row, 1, 0), 0);
        assert_true(cursor > before);
    }
    assert_true(slices > 1);
    disperse(&crowd);
}

/* Where many have been and gone, too. */
static void empty_places_take_time_as_well(void **state)
{
    static const struct traffic_filter all;
    struct world w;
    struct flow_info row;
    int client[200];
    uint32_t cursor = 0;
    unsigned slices = 0;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        client[i] = world_client();
        (void)world_ask(&w, client[i], 0, "?");
    }
    world_kill_all(&w);
    world_reap(&w);
    for (; cursor != UINT32_MAX; slices++) {
        uint32_t before = cursor;
        assert_int_equal(udp_list(w.udp, &all, &cursor, &row, 1, 0), 0);
        assert_true(cursor > before);
    }
    assert_in_range(slices, 2, ARRAY_LEN(client) / 10);
    cursor = 0;
    assert_int_equal(udp_list(w.udp, &all, &cursor, &row, 1, UINT64_MAX), 0);
    assert_int_equal(cursor, UINT32_MAX);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        close(client[i]);
    world_close(&w);
}

static unsigned times(const struct flow_info *rows, uint32_t count, const struct flow *flow)
{
    unsigned met = 0;

    for (uint32_t i = 0; i < count; i++)
        met += rows[i].id == flow->id;
    return met;
}

/* One that lives through the whole walk is met exactly once, whoever comes and goes. */
static void flows_come_and_go_between_slices(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct flow_info rows[2 + FLOWS];
    uint64_t gone;
    uint32_t cursor = 0, found;

    (void)state;
    gather(&crowd);
    found = udp_list(crowd.w.udp, &all, &cursor, rows, 2, UINT64_MAX);
    assert_int_equal(found, 2);
    gone = crowd.flow[3]->id;
    flow_end(crowd.flow[0], FLOW_END_KILLED); /* behind the cursor, and ahead of it */
    flow_end(crowd.flow[3], FLOW_END_KILLED);
    world_reap(&crowd.w);
    close(crowd.client[0]);
    enter(&crowd, 0);
    found += udp_list(crowd.w.udp, &all, &cursor, &rows[2], FLOWS, UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
    assert_int_equal(times(rows, found, crowd.flow[1]), 1);
    assert_int_equal(times(rows, found, crowd.flow[2]), 1);
    assert_int_equal(times(rows, found, crowd.flow[4]), 1);
    assert_true(times(rows, found, crowd.flow[0]) <= 1);
    for (uint32_t i = 0; i < found; i++)
        assert_true(rows[i].id != gone);
    disperse(&crowd);
}

/* ---- ending ---- */

static uint32_t kill_matches(struct world *w, const struct traffic_filter *filter)
{
    uint32_t cursor = 0;
    uint32_t killed = udp_kill(w->udp, filter, FLOW_END_KILLED, &cursor, UINT64_MAX);

    assert_int_equal(cursor, UINT32_MAX);
    return killed;
}

static void kills_what_matches(void **state)
{
    static const struct traffic_filter filter = {.server = "a"};
    struct crowd crowd;

    (void)state;
    gather(&crowd);
    assert_int_equal(kill_matches(&crowd.w, &filter), 3);
    for (size_t i = 0; i < FLOWS; i++) {
        if (i % 2 == 0)
            assert_flow_ended(crowd.flow[i], FLOW_END_KILLED);
        else
            assert_int_equal(crowd.flow[i]->state, FLOW_ACTIVE);
    }
    assert_int_equal(udp_flows(crowd.w.udp), 2);
    assert_int_equal(world_load(&crowd.w, 0), 0);
    assert_int_equal(world_load(&crowd.w, 1), 2);
    assert_int_equal(atomic_load(&crowd.side_flows), 0);
    assert_int_equal(kill_matches(&crowd.w, &filter), 0); /* ended already, and still there */
    disperse(&crowd);
}

static void kills_one_by_its_id_and_those_of_a_listener(void **state)
{
    struct traffic_filter filter = {0};
    struct crowd crowd;

    (void)state;
    gather(&crowd);
    filter.id = crowd.flow[3]->id;
    assert_int_equal(kill_matches(&crowd.w, &filter), 1);
    assert_flow_ended(crowd.flow[3], FLOW_END_KILLED);
    filter = (struct traffic_filter){.listener = "side"};
    assert_int_equal(kill_matches(&crowd.w, &filter), 1);
    assert_flow_ended(crowd.flow[SIDE], FLOW_END_KILLED);
    assert_int_equal(udp_flows(crowd.w.udp), FLOWS - 2);
    disperse(&crowd);
}

static void a_kill_without_time_gets_on(void **state)
{
    static const struct traffic_filter filter = {.server = "b"};
    struct crowd crowd;
    uint32_t cursor = 0;
    unsigned killed = 0, slices = 0;

    (void)state;
    gather(&crowd);
    for (; cursor != UINT32_MAX; slices++)
        killed += udp_kill(crowd.w.udp, &filter, FLOW_END_KILLED, &cursor, 0);
    assert_int_equal(killed, 2);
    assert_int_equal(slices, FLOWS + 1);
    disperse(&crowd);
}

/* The client is not: its next datagram begins another flow. */
static void a_client_may_come_back(void **state)
{
    struct traffic_filter filter = {0};
    struct crowd crowd;
    struct world *w = &crowd.w;

    (void)state;
    gather(&crowd);
    filter.id = crowd.flow[0]->id;
    assert_int_equal(kill_matches(w, &filter), 1);
    serve_on(w, 2);
    (void)world_ask(w, crowd.client[0], 2, "again");
    assert_int_equal(udp_flows(w->udp), FLOWS);
    assert_true(world_newest(w)->id > crowd.flow[SIDE]->id);
    disperse(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_describes_its_flow),
        cmocka_unit_test(filters_match),
        cmocka_unit_test(clients_match_with_and_without_port),
        cmocka_unit_test(an_ipv4_client_of_an_ipv6_listener_is_one),
        cmocka_unit_test(spent_flows_are_listed_and_ended_ones_are_not),
        cmocka_unit_test(a_list_comes_in_pages),
        cmocka_unit_test(a_slice_without_time_gets_on),
        cmocka_unit_test(empty_places_take_time_as_well),
        cmocka_unit_test(flows_come_and_go_between_slices),
        cmocka_unit_test(kills_what_matches),
        cmocka_unit_test(kills_one_by_its_id_and_those_of_a_listener),
        cmocka_unit_test(a_kill_without_time_gets_on),
        cmocka_unit_test(a_client_may_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
