/* What operators say while weir runs: which word counts, when it ends, and who may still look. */
#include "lb/gate/gate.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/addresses.h"

static struct gate *made(const struct gate_options *options)
{
    struct gate *gate = NULL;
    assert_int_equal(gate_new(&gate, options), 0);
    return gate;
}

static bool comes_in(struct gate *gate, const char *host)
{
    const union inet_address address = host_of(host);
    uint32_t ticket;
    enum gate_verdict verdict = gate_enter(gate, &address, 0, &ticket);
    gate_leave(gate, ticket);
    return verdict == GATE_ADMITTED;
}

static void put(struct gate *gate, const char *network, bool denies, uint64_t until_ms)
{
    struct gate_rule rule = {
        .network = network_of(network), .denies = denies, .until_ms = until_ms};
    assert_int_equal(gate_rule_put(gate, &rule), 0);
}

static void deny(struct gate *gate, const char *network)
{
    put(gate, network, true, UINT64_MAX);
}

static void allow(struct gate *gate, const char *network)
{
    put(gate, network, false, UINT64_MAX);
}

static int expire(struct gate *gate, uint64_t now_ms)
{
    size_t before, after, dropped;
    (void)gate_rules(gate, &before);
    int rc = gate_rules_expire(gate, now_ms, &dropped);
    (void)gate_rules(gate, &after);
    assert_int_equal(dropped, before - after);
    return rc;
}

static int forget(struct gate *gate, const char *network)
{
    struct network wanted = network_of(network);
    return gate_rule_drop(gate, &wanted);
}

/* ---- Which word counts ---- */

static void a_gate_without_limits_is_open_until_a_rule(void **state)
{
    (void)state;
    struct gate *gate = made(&(struct gate_options){0});
    assert_true(gate_is_open(NULL));
    assert_true(gate_is_open(gate));
    deny(gate, "192.0.2.0/24");
    assert_false(gate_is_open(gate));
    assert_false(comes_in(gate, "192.0.2.1"));
    assert_true(comes_in(gate, "198.51.100.1"));
    assert_int_equal(forget(gate, "192.0.2.0/24"), 0);
    assert_true(gate_is_open(gate));
    assert_true(comes_in(gate, "192.0.2.1"));
    gate_free(&gate);
}

/* It overrides what is denied; who is in no network comes in as before. */
static void a_first_rule_that_allows_shuts_nobody_out(void **state)
{
    (void)state;
    struct network denied = network_of("10.0.0.0/8");
    struct gate *gate = made(&(struct gate_options){.deny = {{&denied, 1}}});
    allow(gate, "10.1.0.0/16");
    assert_true(gate_admits_others(gate));
    assert_true(comes_in(gate, "10.1.2.3"));
    assert_false(comes_in(gate, "10.2.2.3"));
    assert_true(comes_in(gate, "192.0.2.1"));
    gate_free(&gate);
}

static void the_longest_counts_whoever_said_it(void **state)
{
    (void)state;
    struct network allowed[] = {network_of("10.0.0.0/8"), network_of("2001:db8::/32")};
    struct network denied[] = {network_of("10.1.1.0/24")};
    struct gate *gate =
        made(&(struct gate_options){.allow = {{allowed, 2}}, .deny = {{denied, 1}}});
    deny(gate, "10.1.0.0/16");
    allow(gate, "10.1.1.128/25");
    deny(gate, "2001:db8:1::/48");
    assert_true(comes_in(gate, "10.2.0.1"));
    assert_false(comes_in(gate, "10.1.2.1"));
    assert_false(comes_in(gate, "10.1.1.1"));
    assert_true(comes_in(gate, "10.1.1.129"));
    assert_true(comes_in(gate, "2001:db8:2::1"));
    assert_false(comes_in(gate, "2001:db8:1::1"));
    assert_false(comes_in(gate, "192.0.2.1"));
    gate_free(&gate);
}

static void of_the_very_same_network_the_operators_word_counts(void **state)
{
    (void)state;
    struct network denied[] = {network_of("10.0.0.0/8")}, allowed[] = {network_of("192.0.2.0/24")};
    struct gate *gate =
        made(&(struct gate_options){.allow = {{allowed, 1}}, .deny = {{denied, 1}}});
    allow(gate, "10.0.0.0/8");
    deny(gate, "192.0.2.0/24");
    assert_true(comes_in(gate, "10.0.0.1"));
    assert_false(comes_in(gate, "192.0.2.1"));
    /* And of his own words the last. */
    deny(gate, "10.0.0.0/8");
    assert_false(comes_in(gate, "10.0.0.1"));
    size_t count;
    gate_rules(gate, &count);
    assert_int_equal(count, 2);
    assert_int_equal(forget(gate, "192.0.2.0/24"), 0);
    assert_true(comes_in(gate, "192.0.2.1"));
    assert_int_equal(forget(gate, "192.0.2.0/24"), -ENOENT);
    assert_int_equal(forget(gate, "10.0.0.0/9"), -ENOENT);
    gate_free(&gate);
}

/* ---- Bounds and ends ---- */

static void there_may_be_so_many(void **state)
{
    (void)state;
    struct gate *gate = made(&(struct gate_options){0});
    char text[32];
    for (unsigned i = 0; i < GATE_RULES_MAX; i++) {
        snprintf(text, sizeof(text), "10.%u.%u.0/24", i >> 8, i & 255);
        deny(gate, text);
        /* No other thread looks. */
        gate_retire(gate);
        gate_reclaim(gate);
    }
    struct gate_rule one_more = {.network = network_of("192.0.2.0/24"), .until_ms = UINT64_MAX};
    assert_int_equal(gate_rule_put(gate, &one_more), -ENOSPC);
    assert_true(comes_in(gate, "192.0.2.1"));
    assert_false(comes_in(gate, "10.15.255.1"));
    allow(gate, "10.0.0.0/24"); /* in the place of another */
    assert_true(comes_in(gate, "10.0.0.1"));
    assert_int_equal(forget(gate, "10.3.0.0/24"), 0);
    assert_int_equal(gate_rule_put(gate, &one_more), 0);
    gate_free(&gate);
}

static void a_rule_may_have_an_end(void **state)
{
    (void)state;
    struct gate *gate = made(&(struct gate_options){0});
    assert_int_equal(gate_rules_next_ms(gate), UINT64_MAX);
    put(gate, "192.0.2.0/24", true, 2000);
    put(gate, "198.51.100.0/24", true, 1000);
    deny(gate, "203.0.113.0/24");
    assert_int_equal(gate_rules_next_ms(gate), 1000);
    assert_int_equal(expire(gate, 999), 0);
    assert_false(comes_in(gate, "198.51.100.1"));
    assert_int_equal(expire(gate, 1000), 0);
    assert_true(comes_in(gate, "198.51.100.1"));
    assert_false(comes_in(gate, "192.0.2.1"));
    assert_int_equal(gate_rules_next_ms(gate), 2000);
    /* Said again it has another end. */
    put(gate, "192.0.2.0/24", true, 5000);
    assert_int_equal(expire(gate, 4999), 0);
    assert_false(comes_in(gate, "192.0.2.1"));
    assert_int_equal(expire(gate, 9000), 0);
    size_t count;
    const struct gate_rule *rule = gate_rules(gate, &count);
    assert_int_equal(count, 1);
    assert_int_equal(rule[0].until_ms, UINT64_MAX);
    assert_false(comes_in(gate, "203.0.113.1"));
    gate_free(&gate);
}

static void old_ones_are_kept_until_all_were_seen(void **state)
{
    (void)state;
    struct gate *gate = made(&(struct gate_options){0});
    assert_true(gate_is_settled(gate));
    deny(gate, "192.0.2.0/24"); /* there was none before */
    assert_true(gate_is_settled(gate));
    allow(gate, "192.0.2.0/24");
    assert_false(gate_is_settled(gate));
    gate_retire(gate);
    assert_int_equal(forget(gate, "192.0.2.0/24"), 0);
    gate_reclaim(gate);
    assert_false(gate_is_settled(gate));
    gate_retire(gate);
    gate_reclaim(gate);
    assert_true(gate_is_settled(gate));
    gate_free(&gate);
}

/* ---- Threads: those who enter never wait, and never see what is no more ---- */

#define THREADS 4
#define CHANGES 100

struct crowd {
    struct gate *gate;
    _Atomic uint32_t asked; /* whoever has seen this number is between two look-ups */
    _Atomic uint32_t seen[THREADS];
    atomic_bool over;
};

struct member {
    struct crowd *crowd;
    unsigned number;
    uint64_t admitted;
    pthread_t thread;
};

static void *enter_again_and_again(void *arg)
{
    struct member *member = arg;
    struct crowd *crowd = member->crowd;
    struct address always, now_and_then;
    const char *why;
    uint32_t ticket;
    (void)!address_parse(&always, "203.0.113.1:1", &why);
    (void)!address_parse(&now_and_then, "192.0.2.1:1", &why);
    while (!atomic_load(&crowd->over)) {
        uint32_t asked = atomic_load(&crowd->asked);
        BUG_ON(gate_enter(crowd->gate, &always.inet, 0, &ticket) != GATE_DENIED);
        member->admitted +=
            gate_enter(crowd->gate, &now_and_then.inet, 0, &ticket) == GATE_ADMITTED;
        atomic_store(&crowd->seen[member->number], asked);
    }
    return NULL;
}

static void see_all(struct crowd *crowd)
{
    uint32_t asked = atomic_fetch_add(&crowd->asked, 1) + 1;
    for (unsigned i = 0; i < THREADS; i++)
        while ((int32_t)(atomic_load(&crowd->seen[i]) - asked) < 0)
            sched_yield();
}

static void changes_while_others_enter(void **state)
{
    (void)state;
    struct network denied = network_of("203.0.113.0/24");
    struct crowd crowd = {.gate = made(&(struct gate_options){.deny = {{&denied, 1}}})};
    struct member member[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        member[i] = (struct member){.crowd = &crowd, .number = i};
        assert_int_equal(pthread_create(&member[i].thread, NULL, enter_again_and_again, &member[i]),
                         0);
    }
    for (unsigned i = 0; i < CHANGES; i++) {
        deny(crowd.gate, "192.0.2.0/24");
        allow(crowd.gate, "192.0.2.1");
        put(crowd.gate, "198.51.100.0/24", true, i);
        gate_retire(crowd.gate);
        see_all(&crowd);
        gate_reclaim(crowd.gate);
        assert_int_equal(forget(crowd.gate, "192.0.2.1"), 0);
        assert_int_equal(expire(crowd.gate, i), 0);
    }
    atomic_store(&crowd.over, true);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(member[i].thread, NULL), 0);
    gate_free(&crowd.gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gate_without_limits_is_open_until_a_rule),
        cmocka_unit_test(a_first_rule_that_allows_shuts_nobody_out),
        cmocka_unit_test(the_longest_counts_whoever_said_it),
        cmocka_unit_test(of_the_very_same_network_the_operators_word_counts),
        cmocka_unit_test(there_may_be_so_many),
        cmocka_unit_test(a_rule_may_have_an_end),
        cmocka_unit_test(old_ones_are_kept_until_all_were_seen),
        cmocka_unit_test(changes_while_others_enter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
