/* Networks decide first, then sources; every verdict is counted once. */
#include "lb/gate/gate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "test/unit/addresses.h"

#define THREADS 4
#define ROUNDS 200000

static struct gate *made(const struct gate_options *options)
{
    struct gate *gate = NULL;
    assert_int_equal(gate_new(&gate, options), 0);
    return gate;
}

static enum gate_verdict enter(struct gate *gate, const char *text, uint32_t *out_ticket)
{
    union inet_address source = endpoint_of(text);
    return gate_enter(gate, &source, 0, out_ticket);
}

static void check(struct gate *gate, const char *text, enum gate_verdict verdict)
{
    uint32_t ticket = 4711;
    assert_int_equal(enter(gate, text, &ticket), verdict);
    if (verdict != GATE_ADMITTED)
        assert_int_equal(ticket, GATE_NO_TICKET);
}

static void has_a_word_for_every_verdict(void **state)
{
    (void)state;
    assert_string_equal(gate_verdict_word(GATE_ADMITTED), "admitted");
    assert_string_equal(gate_verdict_word(GATE_DENIED), "denied");
    assert_string_equal(gate_verdict_word(GATE_SESSIONS), "source-sessions");
    assert_string_equal(gate_verdict_word(GATE_RATE), "source-rate");
}

static void admits_all_without_options(void **state)
{
    (void)state;
    struct gate *gate = made(&(struct gate_options){0});
    uint32_t ticket = 0;
    assert_int_equal(enter(gate, "192.0.2.1:1", &ticket), GATE_ADMITTED);
    assert_int_equal(ticket, GATE_NO_TICKET);
    gate_leave(gate, ticket);
    check(gate, "[2001:db8::1]:1", GATE_ADMITTED);
    assert_false(gate_is_dry(gate));
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 2);
    assert_int_equal(counts.sources, 0);
    gate_free(&gate);
    assert_null(gate);
    gate_free(&gate);
}

static void the_longest_match_decides(void **state)
{
    (void)state;
    struct network allow[] = {network_of("10.0.0.0/8"), network_of("10.1.2.0/24"),
                              network_of("192.0.2.0/24")};
    struct network deny[] = {network_of("10.1.0.0/16"), network_of("192.0.2.0/24")};
    struct gate *gate = made(&(struct gate_options){.allow = {{allow, 3}}, .deny = {{deny, 2}}});
    check(gate, "10.0.0.1:1", GATE_ADMITTED);
    check(gate, "10.1.0.1:1", GATE_DENIED);
    check(gate, "10.1.2.1:1", GATE_ADMITTED);
    check(gate, "[::ffff:10.1.2.1]:1", GATE_ADMITTED);
    check(gate, "11.0.0.1:1", GATE_DENIED);
    check(gate, "[2001:db8::1]:1", GATE_DENIED);
    /* In both: denied. */
    check(gate, "192.0.2.1:1", GATE_DENIED);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 3);
    assert_int_equal(counts.verdict[GATE_DENIED], 4);
    gate_free(&gate);
}

static void without_allow_all_others_come_in(void **state)
{
    (void)state;
    struct network deny[] = {network_of("10.0.0.0/8")};
    struct gate *gate = made(&(struct gate_options){.deny = {{deny, 1}}});
    check(gate, "10.0.0.1:1", GATE_DENIED);
    check(gate, "11.0.0.1:1", GATE_ADMITTED);
    gate_free(&gate);
}

static void a_prefix_makes_a_source(void **state)
{
    (void)state;
    struct gate *gate =
        made(&(struct gate_options){.source_max = 1, .prefix_v4 = 24, .prefix_v6 = 64, .seed = 7});
    uint32_t ticket;
    assert_int_equal(enter(gate, "192.0.2.1:1", &ticket), GATE_ADMITTED);
    check(gate, "192.0.2.255:2", GATE_SESSIONS);
    check(gate, "[::ffff:192.0.2.3]:1", GATE_SESSIONS);
    check(gate, "192.0.3.1:1", GATE_ADMITTED);
    check(gate, "[2001:db8::1]:1", GATE_ADMITTED);
    check(gate, "[2001:db8::ffff:ffff:ffff:ffff]:1", GATE_SESSIONS);
    check(gate, "[2001:db8:0:1::1]:1", GATE_ADMITTED);
    gate_leave(gate, ticket);
    check(gate, "192.0.2.255:2", GATE_ADMITTED);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 5);
    assert_int_equal(counts.verdict[GATE_SESSIONS], 3);
    assert_int_equal(counts.sources, 4);
    gate_free(&gate);
}

static void limits_the_rate(void **state)
{
    (void)state;
    struct gate *gate =
        made(&(struct gate_options){.source_rate = 2, .prefix_v4 = 32, .prefix_v6 = 128});
    check(gate, "192.0.2.1:1", GATE_ADMITTED);
    check(gate, "192.0.2.1:2", GATE_ADMITTED);
    check(gate, "192.0.2.1:3", GATE_RATE);
    check(gate, "192.0.2.2:3", GATE_ADMITTED);
    gate_free(&gate);
}

static uint32_t charged_at(struct gate *gate, const char *text, uint64_t now_us, uint32_t count)
{
    union inet_address source = endpoint_of(text);
    return gate_charge(gate, &source, now_us, count);
}

static uint32_t charged(struct gate *gate, const char *text, uint32_t count)
{
    return charged_at(gate, text, 0, count);
}

static void limits_the_rate_of_datagrams(void **state)
{
    (void)state;
    struct network deny[] = {network_of("10.0.0.0/8")};
    struct gate *gate = made(&(struct gate_options){
        .deny = {{deny, 1}}, .datagram_rate = 10, .prefix_v4 = 24, .prefix_v6 = 64});
    assert_true(gate_limits_datagrams(gate));
    assert_false(gate_limits_datagrams(NULL));
    assert_int_equal(charged(gate, "192.0.2.1:1", 8), 8);
    assert_int_equal(charged(gate, "192.0.2.2:7", 8), 2);
    assert_int_equal(charged(gate, "[::ffff:192.0.2.3]:7", 1), 0);
    assert_int_equal(charged(gate, "192.0.3.1:1", 1), 1);
    assert_int_equal(charged(gate, "[2001:db8::1]:1", 10), 10);
    assert_int_equal(charged(gate, "[2001:db8::2]:1", 1), 0);
    /* Who may begin is another question, with counts of its own. */
    assert_int_equal(charged(gate, "10.0.0.1:1", 1), 1);
    check(gate, "192.0.2.1:1", GATE_ADMITTED);
    check(gate, "10.0.0.1:1", GATE_DENIED);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_true(counts.datagrams.is_limited);
    assert_int_equal(counts.datagrams.passed, 22);
    assert_int_equal(counts.datagrams.refused, 8);
    assert_int_equal(counts.datagrams.untracked, 0);
    assert_int_equal(counts.datagrams.sources, 4);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 1);
    assert_int_equal(counts.sources, 0);
    assert_string_equal(gate_datagram_word, "source-datagram-rate");
    gate_free(&gate);
}

static void a_full_table_stops_no_datagram(void **state)
{
    (void)state;
    struct gate *gate = made(
        &(struct gate_options){.datagram_rate = 10, .prefix_v4 = 32, .prefix_v6 = 64, .table = 8});
    for (unsigned i = 0; i < 10; i++) {
        char text[ADDRESS_TEXT_MAX];
        snprintf(text, sizeof(text), "192.0.2.%u:1", i);
        assert_int_equal(charged(gate, text, 20), i < 8 ? 10 : 20);
    }
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.datagrams.untracked, 40);
    assert_int_equal(counts.datagrams.evicted, 0);
    assert_int_equal(counts.datagrams.sources, 8);
    /* Their rate is whole again, so one of them makes room. */
    assert_int_equal(charged_at(gate, "192.0.2.10:1", 1100000, 20), 10);
    gate_read(gate, &counts);
    assert_int_equal(counts.datagrams.evicted, 1);
    assert_int_equal(counts.datagrams.sources, 8);
    assert_int_equal(counts.untracked + counts.evicted, 0);
    gate_free(&gate);
}

static void without_their_rate_datagrams_are_not_counted(void **state)
{
    (void)state;
    struct gate *gate =
        made(&(struct gate_options){.source_rate = 1, .prefix_v4 = 32, .prefix_v6 = 64});
    assert_false(gate_limits_datagrams(gate));
    assert_int_equal(charged(gate, "192.0.2.1:1", 1000), 1000);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_false(counts.datagrams.is_limited);
    assert_int_equal(counts.datagrams.passed, 0);
    gate_free(&gate);
}

static void a_dry_gate_says_what_it_would_do(void **state)
{
    (void)state;
    struct network deny[] = {network_of("10.0.0.0/8")};
    struct gate *gate = made(&(struct gate_options){
        .deny = {{deny, 1}}, .source_max = 1, .prefix_v4 = 32, .prefix_v6 = 128, .dry_run = true});
    assert_true(gate_is_dry(gate));
    check(gate, "10.0.0.1:1", GATE_DENIED);
    check(gate, "192.0.2.1:1", GATE_ADMITTED);
    check(gate, "192.0.2.1:1", GATE_SESSIONS);
    gate_free(&gate);
}

static void a_full_table_keeps_nobody_out(void **state)
{
    (void)state;
    struct gate *gate = made(
        &(struct gate_options){.source_max = 1, .prefix_v4 = 32, .prefix_v6 = 128, .table = 8});
    uint32_t ticket[10];
    for (unsigned i = 0; i < 10; i++) {
        char text[ADDRESS_TEXT_MAX];
        snprintf(text, sizeof(text), "192.0.2.%u:1", i);
        assert_int_equal(enter(gate, text, &ticket[i]), GATE_ADMITTED);
        assert_int_equal(ticket[i] == GATE_NO_TICKET, i >= 8);
    }
    gate_leave(gate, ticket[0]);
    check(gate, "192.0.2.8:1", GATE_ADMITTED);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 11);
    assert_int_equal(counts.untracked, 2);
    assert_int_equal(counts.evicted, 1);
    assert_int_equal(counts.sources, 8);
    gate_free(&gate);
}

/* Which of 200 addresses find a place in a table that is too small for them. */
static void who_has_a_place(uint64_t seed, bool has[200])
{
    struct gate *gate = made(&(struct gate_options){
        .source_max = 1, .prefix_v4 = 32, .prefix_v6 = 128, .table = 64, .seed = seed});
    for (unsigned i = 0; i < 200; i++) {
        char text[ADDRESS_TEXT_MAX];
        uint32_t ticket;
        snprintf(text, sizeof(text), "192.0.2.%u:1", i);
        assert_int_equal(enter(gate, text, &ticket), GATE_ADMITTED);
        has[i] = ticket != GATE_NO_TICKET;
    }
    gate_free(&gate);
}

/* Or clients could choose addresses that have to share a few places. */
static void the_seed_says_who_shares_places(void **state)
{
    (void)state;
    bool first[200], again[200], other[200];
    who_has_a_place(1, first);
    who_has_a_place(1, again);
    who_has_a_place(2, other);
    assert_memory_equal(first, again, sizeof(first));
    assert_memory_not_equal(first, other, sizeof(first));
}

static uint32_t adopt(struct gate *gate, const char *text)
{
    union inet_address source = endpoint_of(text);
    return gate_adopt(gate, &source, 0);
}

static void what_is_here_already_is_counted(void **state)
{
    (void)state;
    struct network deny[] = {network_of("192.0.2.0/24")};
    struct gate *gate = made(&(struct gate_options){
        .deny = {{deny, 1}}, .source_max = 1, .prefix_v4 = 24, .prefix_v6 = 64});
    uint32_t denied = adopt(gate, "192.0.2.1:1"), first = adopt(gate, "198.51.100.1:1"),
             second = adopt(gate, "198.51.100.2:1");
    assert_int_not_equal(denied, GATE_NO_TICKET);
    assert_int_not_equal(first, GATE_NO_TICKET);
    assert_int_equal(first, second);
    check(gate, "198.51.100.3:1", GATE_SESSIONS);
    gate_leave(gate, first);
    check(gate, "198.51.100.3:1", GATE_SESSIONS);
    gate_leave(gate, second);
    check(gate, "198.51.100.3:1", GATE_ADMITTED);
    gate_leave(gate, denied);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED], 1);
    assert_int_equal(counts.verdict[GATE_SESSIONS], 2);
    assert_int_equal(counts.verdict[GATE_DENIED], 0);
    gate_free(&gate);
    /* Where sessions are not counted there is nothing to give back. */
    assert_int_equal(adopt(NULL, "192.0.2.1:1"), GATE_NO_TICKET);
    gate = made(&(struct gate_options){.source_rate = 1});
    assert_int_equal(adopt(gate, "192.0.2.1:1"), GATE_NO_TICKET);
    check(gate, "192.0.2.1:1", GATE_ADMITTED);
    gate_free(&gate);
}

static void refuses_a_table_that_is_too_large(void **state)
{
    (void)state;
    struct gate *gate = NULL;
    struct gate_options options = {.source_max = 1, .table = UINT32_MAX};
    assert_int_not_equal(gate_new(&gate, &options), 0);
    assert_null(gate);
}

static void *come_and_go(void *data)
{
    struct gate *gate = data;
    union inet_address source = {.v4 = {.sin_family = AF_INET}};
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t ticket;
        source.v4.sin_addr.s_addr = i % 3000;
        if (i % 3 == 0)
            gate_leave(gate, gate_adopt(gate, &source, i));
        if (gate_enter(gate, &source, i, &ticket) == GATE_ADMITTED)
            gate_leave(gate, ticket);
    }
    return NULL;
}

static void threads_lose_no_count(void **state)
{
    (void)state;
    struct gate *gate = made(
        &(struct gate_options){.source_max = 2, .prefix_v4 = 32, .prefix_v6 = 128, .table = 1024});
    pthread_t thread[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, come_and_go, gate), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    struct gate_counts counts;
    gate_read(gate, &counts);
    assert_int_equal(counts.verdict[GATE_ADMITTED] + counts.verdict[GATE_SESSIONS],
                     (uint64_t)THREADS * ROUNDS);
    assert_true(counts.evicted > 0);
    /* All have left: as many as may come in at once do so again. */
    uint32_t ticket;
    assert_int_equal(enter(gate, "1.0.0.0:1", &ticket), GATE_ADMITTED);
    check(gate, "1.0.0.0:1", GATE_ADMITTED);
    check(gate, "1.0.0.0:1", GATE_SESSIONS);
    gate_free(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_a_word_for_every_verdict),
        cmocka_unit_test(admits_all_without_options),
        cmocka_unit_test(the_longest_match_decides),
        cmocka_unit_test(without_allow_all_others_come_in),
        cmocka_unit_test(a_prefix_makes_a_source),
        cmocka_unit_test(limits_the_rate),
        cmocka_unit_test(limits_the_rate_of_datagrams),
        cmocka_unit_test(a_full_table_stops_no_datagram),
        cmocka_unit_test(without_their_rate_datagrams_are_not_counted),
        cmocka_unit_test(a_dry_gate_says_what_it_would_do),
        cmocka_unit_test(a_full_table_keeps_nobody_out),
        cmocka_unit_test(the_seed_says_who_shares_places),
        cmocka_unit_test(what_is_here_already_is_counted),
        cmocka_unit_test(refuses_a_table_that_is_too_large),
        cmocka_unit_test(threads_lose_no_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
