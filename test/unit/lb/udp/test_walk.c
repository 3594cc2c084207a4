/* Walks in slices: what they find, what they end, and that each slice gets on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#define CLIENTS 5

/* Clients 0, 2, 4 on server a, 1, 3 on server b; the last one came by another listener. */
struct crowd {
    struct world w;
    struct udp_policy side;
    _Atomic uint32_t side_flows;
    int client[CLIENTS];
    union inet_address asker[CLIENTS];
    struct flow *flow[CLIENTS];
};

static void enter(struct crowd *crowd, size_t i)
{
    struct world *w = &crowd->w;

    w->usable[0] = i % 2 == 0;
    w->usable[1] = i % 2 == 1;
    crowd->client[i] = world_client();
    crowd->asker[i] = world_ask(w, crowd->client[i], i % 2, "?");
    crowd->flow[i] = world_newest(w);
}

static void gather(struct crowd *crowd)
{
    struct world *w = &crowd->w;
    union inet_address front, side;

    world_init(w);
    world_prepare(w);
    crowd->side = w->policy;
    crowd->side_flows = 0;
    snprintf(crowd->side.listener, sizeof(crowd->side.listener), "side");
    front = world_listen(w, &w->policy, "127.0.0.1:0", &w->flows, w->limit);
    side = world_listen(w, &crowd->side, "127.0.0.1:0", &crowd->side_flows, w->limit);
    udp_start(w->udp);
    for (size_t i = 0; i < CLIENTS; i++) {
        w->entry = i + 1 < CLIENTS ? front : side;
        enter(crowd, i);
    }
    w->entry = front;
}

static void disperse(struct crowd *crowd)
{
    for (size_t i = 0; i < CLIENTS; i++)
        close(crowd->client[i]);
    world_close(&crowd->w);
    assert_int_equal(atomic_load(&crowd->side_flows), 0);
}

/* ---- looking ---- */

/* How many match; the last of them in *out. */
static uint32_t find(struct crowd *crowd, const struct traffic_filter *filter,
                     struct flow_info *out)
{
    struct flow_info rows[CLIENTS + 1];
    uint32_t cursor = 0;
    uint32_t count;

    *out = (struct flow_info){0};
    count = udp_list(crowd->w.udp, filter, &cursor, rows, ARRAY_LEN(rows), UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
    if (count > 0)
        *out = rows[count - 1];
    return count;
}

static void a_row_describes_its_flow(void **state)
{
    struct crowd crowd;
    struct flow_info row;
    struct traffic_filter filter = {0};
    union inet_address name;

    (void)state;
    gather(&crowd);
    world_answer(&crowd.w, 1, &crowd.asker[1], crowd.client[1], "hello");
    world_pass(&crowd.w, 1234);
    filter.id = crowd.flow[1]->id;
    assert_int_equal(find(&crowd, &filter, &row), 1);
    assert_int_equal(row.id, filter.id);
    assert_string_equal(row.listener, "front");
    assert_string_equal(row.pool, "dns");
    assert_string_equal(row.server, "b");
    assert_int_equal(row.state, FLOW_ACTIVE);
    assert_int_equal(row.idle_ms, 1234);
    assert_true(row.age_ms < PEER_PATIENCE_MS); /* of the real clock, which did not move so far */
    assert_int_equal(row.datagrams_in, 1);
    assert_int_equal(row.datagrams_out, 1);
    assert_int_equal(row.bytes_in, 1);
    assert_int_equal(row.bytes_out, 5);
    name = peer_name(crowd.client[1]);
    assert_true(inet_address_equal(&row.client, &name));
    disperse(&crowd);
}

static void filters_match(void **state)
{
    struct crowd crowd;
    struct flow_info row;
    struct traffic_filter filter = {0};
    union inet_address name;

    (void)state;
    gather(&crowd);
    assert_int_equal(find(&crowd, &filter, &row), CLIENTS);
    filter = (struct traffic_filter){.id = 999};
    assert_int_equal(find(&crowd, &filter, &row), 0);
    filter = (struct traffic_filter){.listener = "front"};
    assert_int_equal(find(&crowd, &filter, &row), CLIENTS - 1);
    filter = (struct traffic_filter){.listener = "side"};
    assert_int_equal(find(&crowd, &filter, &row), 1);
    filter = (struct traffic_filter){.pool = "dns"};
    assert_int_equal(find(&crowd, &filter, &row), CLIENTS);
    filter = (struct traffic_filter){.server = "b"};
    assert_int_equal(find(&crowd, &filter, &row), 2);
    filter = (struct traffic_filter){.server = "b", .listener = "side"};
    assert_int_equal(find(&crowd, &filter, &row), 0);
    filter = (struct traffic_filter){.client = "127.0.0.1"};
    assert_int_equal(find(&crowd, &filter, &row), CLIENTS);
    name = peer_name(crowd.client[2]);
    inet_address_format(&name, filter.client);
    assert_int_equal(find(&crowd, &filter, &row), 1);
    assert_int_equal(row.id, crowd.flow[2]->id);
    disperse(&crowd);
}

/* A socket of both families has them mapped; people do not write them so. */
static void an_ipv4_client_of_an_ipv6_listener_is_one(void **state)
{
    static const struct traffic_filter filter = {.client = "127.0.0.1"};
    struct world w;
    struct flow_info row;
    union inet_address name, entry = endpoint_of("127.0.0.1:0");
    uint32_t cursor = 0;
    int client;

    (void)state;
    world_init(&w);
    world_open_at(&w, "[::]:0");
    client = world_client();
    name = peer_name(client);
    entry.v4.sin_port = w.entry.v6.sin6_port;
    peer_send(client, "?", 1, &entry);
    (void)world_hear(&w, w.socket[0], "?");
    assert_int_equal(udp_list(w.udp, &filter, &cursor, &row, 1, UINT64_MAX), 1);
    assert_true(inet_address_equal(&row.client, &name));
    close(client);
    world_close(&w);
}

static void spent_flows_are_listed_and_ended_ones_are_not(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct flow_info row;

    (void)state;
    gather(&crowd);
    flow_spend(crowd.flow[CLIENTS - 1]);
    assert_int_equal(find(&crowd, &all, &row), CLIENTS);
    assert_int_equal(row.state, FLOW_SPENT);
    flow_end(crowd.flow[CLIENTS - 1], FLOW_END_KILLED);
    assert_int_equal(find(&crowd, &all, &row), CLIENTS - 1); /* its memory is still there */
    disperse(&crowd);
}

static void a_list_comes_in_pages(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct flow_info row;
    uint32_t cursor = 0;
    unsigned found = 0;

    (void)state;
    gather(&crowd);
    while (cursor != UINT32_MAX) {
        uint32_t count = udp_list(crowd.w.udp, &all, &cursor, &row, 1, UINT64_MAX);
        assert_true(count <= 1);
        if (count == 1)
            assert_int_equal(row.id, crowd.flow[found++]->id);
    }
    assert_int_equal(found, CLIENTS);
    assert_int_equal(udp_list(crowd.w.udp, &all, &cursor, &row, 1, UINT64_MAX), 0);
    disperse(&crowd);
}

/* Its time is up before it began: it gets on all the same, a little. */
static void a_slice_without_time_gets_on(void **state)
{
    struct traffic_filter nobody = {.id = 999};
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
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        close(client[i]);
    world_close(&w);
}

/* One that lives through the whole walk is met exactly once, whoever comes and goes. */
static void flows_come_and_go_between_slices(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct flow_info rows[2 + CLIENTS];
    uint32_t cursor = 0, found;
    unsigned met = 0;

    (void)state;
    gather(&crowd);
    found = udp_list(crowd.w.udp, &all, &cursor, rows, 2, UINT64_MAX);
    assert_int_equal(found, 2);
    flow_end(crowd.flow[0], FLOW_END_KILLED);
    flow_end(crowd.flow[3], FLOW_END_KILLED);
    world_reap(&crowd.w);
    close(crowd.client[0]);
    enter(&crowd, 0);
    found += udp_list(crowd.w.udp, &all, &cursor, &rows[2], CLIENTS, UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
    for (uint32_t i = 0; i < found; i++)
        met += rows[i].id == crowd.flow[1]->id || rows[i].id == crowd.flow[2]->id ||
               rows[i].id == crowd.flow[4]->id;
    assert_int_equal(met, 3);
    disperse(&crowd);
}

/* ---- killing ---- */

static void kills_what_matches(void **state)
{
    struct crowd crowd;
    struct traffic_filter filter = {.server = "a"};
    uint32_t cursor = 0;
    unsigned killed = 0, slices = 0;

    (void)state;
    gather(&crowd);
    for (; cursor != UINT32_MAX; slices++)
        killed += udp_kill(crowd.w.udp, &filter, FLOW_END_KILLED, &cursor, 0);
    assert_int_equal(killed, 3);
    assert_true(slices > 1);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (i % 2 == 0)
            assert_flow_ended(crowd.flow[i], FLOW_END_KILLED);
        else
            assert_int_equal(crowd.flow[i]->state, FLOW_ACTIVE);
    }
    assert_string_equal(flow_end_by(FLOW_END_KILLED), "operator");
    cursor = 0; /* those that have ended and not gone yet are not met again */
    assert_int_equal(udp_kill(crowd.w.udp, &filter, FLOW_END_KILLED, &cursor, UINT64_MAX), 0);
    disperse(&crowd);
}

static void a_killed_clients_next_datagram_begins_anew(void **state)
{
    struct crowd crowd;
    struct traffic_filter filter = {0};
    uint32_t cursor = 0;
    uint64_t id;

    (void)state;
    gather(&crowd);
    filter.id = id = crowd.flow[0]->id;
    assert_int_equal(udp_kill(crowd.w.udp, &filter, FLOW_END_KILLED, &cursor, UINT64_MAX), 1);
    crowd.w.usable[0] = false;
    crowd.w.usable[1] = true;
    (void)world_ask(&crowd.w, crowd.client[0], 1, "?");
    assert_true(world_newest(&crowd.w)->id != id);
    disperse(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_describes_its_flow),
        cmocka_unit_test(filters_match),
        cmocka_unit_test(an_ipv4_client_of_an_ipv6_listener_is_one),
        cmocka_unit_test(spent_flows_are_listed_and_ended_ones_are_not),
        cmocka_unit_test(a_list_comes_in_pages),
        cmocka_unit_test(a_slice_without_time_gets_on),
        cmocka_unit_test(empty_places_take_time_as_well),
        cmocka_unit_test(flows_come_and_go_between_slices),
        cmocka_unit_test(kills_what_matches),
        cmocka_unit_test(a_killed_clients_next_datagram_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
