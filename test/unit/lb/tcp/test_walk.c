/* Walks in slices: what they find, what they end, and that each slice gets on. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"

#define CHAINS 5

/* Chains 0, 2, 4 on server a, 1, 3 on server b; the last chain's listener has another name. */
struct crowd {
    struct world w;
    struct chain chain[CHAINS];
    struct tcp_policy other;
};

static void gather(struct crowd *crowd)
{
    world_open(&crowd->w);
    for (size_t i = 0; i < CHAINS; i++) {
        crowd->w.usable[0] = i % 2 == 0;
        crowd->w.usable[1] = i % 2 == 1;
        crowd->chain[i] = world_chain(&crowd->w, i % 2);
    }
    crowd->other = crowd->w.policy;
    snprintf(crowd->other.listener, sizeof(crowd->other.listener), "side");
    crowd->chain[CHAINS - 1].session->policy = &crowd->other;
}

static void disperse(struct crowd *crowd)
{
    static const struct traffic_filter all;
    uint32_t cursor = 0;

    crowd->chain[CHAINS - 1].session->policy = &crowd->w.policy;
    tcp_kill(crowd->w.tcp, &all, SESSION_END_KILLED, &cursor, UINT64_MAX);
    for (size_t i = 0; i < CHAINS; i++)
        chain_hang_up(&crowd->chain[i]);
    world_close(&crowd->w);
}

/* How many match; the last of them in *out. */
static uint32_t find(struct crowd *crowd, const struct traffic_filter *filter,
                     struct session_info *out)
{
    struct session_info rows[CHAINS + 1];
    uint32_t cursor = 0;
    *out = (struct session_info){0};
    uint32_t count = tcp_list(crowd->w.tcp, filter, &cursor, rows, ARRAY_LEN(rows), UINT64_MAX);

    assert_int_equal(cursor, UINT32_MAX);
    if (count > 0)
        *out = rows[count - 1];
    return count;
}

static void a_row_describes_its_session(void **state)
{
    struct crowd crowd;
    struct session_info row;
    struct traffic_filter filter = {0};

    (void)state;
    gather(&crowd);
    chain_greet(&crowd.w, &crowd.chain[1]);
    world_pass(&crowd.w, 1234);
    filter.id = crowd.chain[1].session->id;
    assert_int_equal(find(&crowd, &filter, &row), 1);
    assert_int_equal(row.id, filter.id);
    assert_string_equal(row.listener, "front");
    assert_string_equal(row.pool, "web");
    assert_string_equal(row.server, "b");
    assert_int_equal(row.state, SESSION_RELAYING);
    assert_string_equal(row.engine, "copy");
    assert_int_equal(row.idle_ms, 1234);
    assert_int_equal(row.bytes_in, 1);
    assert_int_equal(row.bytes_out, 1);
    assert_int_equal(row.client.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    disperse(&crowd);
}

static void filters_match(void **state)
{
    struct crowd crowd;
    struct session_info row;
    struct traffic_filter filter = {0};

    (void)state;
    gather(&crowd);
    assert_int_equal(find(&crowd, &filter, &row), CHAINS);

    filter = (struct traffic_filter){.id = 999};
    assert_int_equal(find(&crowd, &filter, &row), 0);
    filter = (struct traffic_filter){.listener = "front"};
    assert_int_equal(find(&crowd, &filter, &row), CHAINS - 1);
    filter = (struct traffic_filter){.listener = "side"};
    assert_int_equal(find(&crowd, &filter, &row), 1);
    filter = (struct traffic_filter){.pool = "web"};
    assert_int_equal(find(&crowd, &filter, &row), CHAINS);
    filter = (struct traffic_filter){.pool = "we"};
    assert_int_equal(find(&crowd, &filter, &row), 0);
    filter = (struct traffic_filter){.server = "b"};
    assert_int_equal(find(&crowd, &filter, &row), 2);
    filter = (struct traffic_filter){.server = "b", .listener = "side"};
    assert_int_equal(find(&crowd, &filter, &row), 0);
    disperse(&crowd);
}

static uint32_t find_client(struct crowd *crowd, const char *text)
{
    struct traffic_filter filter = {0};
    struct session_info row;

    snprintf(filter.client, sizeof(filter.client), "%s", text);
    return find(crowd, &filter, &row);
}

static void clients_match_with_and_without_port(void **state)
{
    struct crowd crowd;
    char text[ADDRESS_TEXT_MAX];
    union inet_address v6 = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(4711)}};

    (void)state;
    gather(&crowd);
    inet_address_format(&crowd.chain[2].session->client, text);
    assert_int_equal(find_client(&crowd, text), 1);
    assert_int_equal(find_client(&crowd, "127.0.0.1"), CHAINS);
    assert_int_equal(find_client(&crowd, "127.0.0.1:1"), 0);
    assert_int_equal(find_client(&crowd, "127.0.0"), 0);

    v6.v6.sin6_addr.s6_addr[15] = 1;
    crowd.chain[3].session->client = v6;
    assert_int_equal(find_client(&crowd, "[::1]:4711"), 1);
    assert_int_equal(find_client(&crowd, "[::1]"), 1);
    assert_int_equal(find_client(&crowd, "::1"), 1);
    assert_int_equal(find_client(&crowd, "[::1]:4712"), 0);
    assert_int_equal(find_client(&crowd, "::"), 0);
    disperse(&crowd);
}

static void a_list_comes_in_pages(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct session_info row;
    uint32_t cursor = 0;
    unsigned found = 0;

    (void)state;
    gather(&crowd);
    while (cursor != UINT32_MAX) {
        uint32_t count = tcp_list(crowd.w.tcp, &all, &cursor, &row, 1, UINT64_MAX);
        assert_true(count <= 1);
        if (count == 1)
            assert_int_equal(row.id, crowd.chain[found++].session->id);
    }
    assert_int_equal(found, CHAINS);
    assert_int_equal(tcp_list(crowd.w.tcp, &all, &cursor, &row, 1, UINT64_MAX), 0);
    disperse(&crowd);
}

/* Its time is up before it began: it gets on all the same, a little. */
static void a_slice_without_time_gets_on(void **state)
{
    struct traffic_filter nobody = {.id = 999};
    struct crowd crowd;
    struct session_info row;
    uint32_t cursor = 0;
    unsigned slices = 0;

    (void)state;
    gather(&crowd);
    for (; cursor != UINT32_MAX; slices++) {
        uint32_t before = cursor;
        assert_int_equal(tcp_list(crowd.w.tcp, &nobody, &cursor, &row, 1, 0), 0);
        assert_true(cursor > before);
    }
    assert_true(slices > 1);
    disperse(&crowd);
}

/* One that lives through the whole walk is met exactly once, whoever comes and goes. */
static void sessions_come_and_go_between_slices(void **state)
{
    static const struct traffic_filter all;
    struct crowd crowd;
    struct session_info rows[2 + CHAINS];
    uint32_t cursor = 0, found;
    unsigned met = 0;

    (void)state;
    gather(&crowd);
    found = tcp_list(crowd.w.tcp, &all, &cursor, rows, 2, UINT64_MAX);
    assert_int_equal(found, 2);
    session_end(crowd.chain[0].session, SESSION_END_KILLED);
    session_end(crowd.chain[3].session, SESSION_END_KILLED);
    tcp_reap(crowd.w.tcp);
    chain_hang_up(&crowd.chain[0]);
    crowd.w.usable[0] = true;
    crowd.chain[0] = world_chain(&crowd.w, 0);
    found += tcp_list(crowd.w.tcp, &all, &cursor, &rows[2], CHAINS, UINT64_MAX);
    assert_int_equal(cursor, UINT32_MAX);
    for (uint32_t i = 0; i < found; i++)
        met += rows[i].id == crowd.chain[1].session->id ||
               rows[i].id == crowd.chain[2].session->id || rows[i].id == crowd.chain[4].session->id;
    assert_int_equal(met, 3);
    disperse(&crowd);
}

static void kills_what_matches(void **state)
{
    struct crowd crowd;
    struct traffic_filter filter = {.server = "a"};
    uint32_t cursor = 0;
    unsigned killed = 0, slices = 0;

    (void)state;
    gather(&crowd);
    crowd.chain[CHAINS - 1].session->policy = &crowd.w.policy;
    for (; cursor != UINT32_MAX; slices++)
        killed += tcp_kill(crowd.w.tcp, &filter, SESSION_END_KILLED, &cursor, 0);
    assert_int_equal(killed, 3);
    assert_true(slices > 1);
    for (size_t i = 0; i < CHAINS; i++) {
        if (i % 2 == 0)
            assert_ended(crowd.chain[i].session, SESSION_END_KILLED);
        else
            assert_int_equal(crowd.chain[i].session->state, SESSION_RELAYING);
    }
    cursor = 0; /* those that have ended and not gone yet are not met again */
    assert_int_equal(tcp_kill(crowd.w.tcp, &filter, SESSION_END_KILLED, &cursor, UINT64_MAX), 0);
    crowd.chain[CHAINS - 1].session->policy = &crowd.other;
    disperse(&crowd);
}

static void drains_at_a_pace(void **state)
{
    struct crowd crowd;
    uint32_t cursor = 0;

    (void)state;
    gather(&crowd);
    crowd.chain[CHAINS - 1].session->policy = &crowd.w.policy;
    atomic_store(&crowd.w.server[0]->drain_quiet_ms, crowd.w.now_ms);
    atomic_store(&crowd.w.server[0]->drain_deadline_ms, crowd.w.now_ms + 60000);
    world_pass(&crowd.w, DRAIN_QUIET_MS);
    assert_int_equal(tcp_drain(crowd.w.tcp, &cursor, 2, UINT64_MAX), 2);
    assert_int_equal(world_load(&crowd.w, 0), 1);
    cursor = 0;
    assert_int_equal(tcp_drain(crowd.w.tcp, &cursor, 2, UINT64_MAX), 1);
    assert_int_equal(world_load(&crowd.w, 0), 0);
    assert_int_equal(world_load(&crowd.w, 1), 2); /* not draining */
    crowd.chain[CHAINS - 1].session->policy = &crowd.other;
    disperse(&crowd);
}

static void a_deadline_has_no_pace(void **state)
{
    struct crowd crowd;
    uint32_t cursor = 0;

    (void)state;
    gather(&crowd);
    crowd.chain[CHAINS - 1].session->policy = &crowd.w.policy;
    atomic_store(&crowd.w.server[0]->drain_deadline_ms, crowd.w.now_ms);
    while (cursor != UINT32_MAX)
        tcp_drain(crowd.w.tcp, &cursor, 1, 0);
    assert_int_equal(world_load(&crowd.w, 0), 0);
    crowd.chain[CHAINS - 1].session->policy = &crowd.other;
    disperse(&crowd);
}

static void finds_a_session_by_its_id(void **state)
{
    struct crowd crowd;

    (void)state;
    gather(&crowd);
    for (size_t i = 0; i < CHAINS; i++)
        assert_ptr_equal(tcp_find(crowd.w.tcp, crowd.chain[i].session->id), crowd.chain[i].session);
    assert_null(tcp_find(crowd.w.tcp, 999));
    disperse(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_describes_its_session),
        cmocka_unit_test(filters_match),
        cmocka_unit_test(clients_match_with_and_without_port),
        cmocka_unit_test(a_list_comes_in_pages),
        cmocka_unit_test(a_slice_without_time_gets_on),
        cmocka_unit_test(sessions_come_and_go_between_slices),
        cmocka_unit_test(kills_what_matches),
        cmocka_unit_test(drains_at_a_pace),
        cmocka_unit_test(a_deadline_has_no_pace),
        cmocka_unit_test(finds_a_session_by_its_id),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
