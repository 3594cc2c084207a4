/* Exact shares, evenly spread, and no beginning anew with each view. */
#include "lb/sched/sched.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

#define SEED 5

static struct fixture *pool(const uint32_t *weights, uint32_t count, uint64_t seed)
{
    struct fixture *fixture = fixture_new(count);
    if (weights != NULL)
        fixture_weigh(fixture, weights);
    fixture_view(fixture, "round-robin", seed);
    return fixture;
}

static void equal_servers_are_picked_in_order(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 7, 100};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = pool(NULL, counts[i], SEED);
        uint32_t first = fixture_pick(fixture, 0);
        for (uint32_t k = 1; k < 5 * counts[i]; k++)
            assert_int_equal(fixture_pick(fixture, 0), (first + k) % counts[i]);
        fixture_end(fixture);
    }
}

static void workers_begin_at_different_places(void **state)
{
    (void)state;
    bool first[20] = {false};
    unsigned different = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct fixture *fixture = pool(NULL, 20, seed);
        uint32_t pick = fixture_pick(fixture, 0);
        different += !first[pick];
        first[pick] = true;
        fixture_end(fixture);
    }
    assert_true(different > 8);
}

/* In each run of as many picks as the sum of the weights, from wherever it begins. */
static void a_cycle_gives_each_its_weight(void **state)
{
    (void)state;
    static const uint32_t rising[] = {1, 2, 3}, heavy[] = {5, 1, 1}, odd[] = {7, 3, 11, 1, 1, 4},
                          large[] = {100, 101, 300, 40, 7};
    static const struct {
        const uint32_t *weights;
        uint32_t count;
    } pools[] = {{rising, 3}, {heavy, 3}, {odd, 6}, {large, 5}};
    for (size_t i = 0; i < ARRAY_LEN(pools); i++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct fixture *fixture = pool(pools[i].weights, pools[i].count, seed);
            for (unsigned cycle = 0; cycle < 30; cycle++) {
                fixture_count(fixture, (uint32_t)fixture_weight(fixture));
                for (uint32_t k = 0; k < fixture->count; k++)
                    assert_int_equal(fixture->picks[k], fixture->member[k].weight);
            }
            fixture_end(fixture);
        }
}

/* How many picks a server was at most from its share, at any time. */
static double worst_deviation(struct fixture *fixture, uint32_t n)
{
    double total = (double)fixture_weight(fixture), worst = 0;
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 1; i <= n; i++) {
        fixture->picks[fixture_pick(fixture, 0)]++;
        for (uint32_t k = 0; k < fixture->count; k++) {
            double share = i * (double)fixture->member[k].weight / total;
            double deviation = fixture->picks[k] - share;
            worst = MAX(worst, MAX(deviation, -deviation));
        }
    }
    return worst;
}

static void turns_are_evenly_spread(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, SEED);
    for (unsigned round = 0; round < 60; round++) {
        uint32_t count = 2 + random_below(&random, 100);
        uint32_t kinds = 1 + random_below(&random, 5), weight[FIXTURE_MAX], kind[5];
        for (uint32_t i = 0; i < kinds; i++)
            kind[i] = 1 + random_below(&random, 1000);
        for (uint32_t i = 0; i < count; i++)
            weight[i] = kind[i * kinds / count]; /* in blocks: the hard case */
        weight[random_below(&random, count)] = 1 + random_below(&random, 50000);
        struct fixture *fixture = pool(weight, count, round);
        double deviation = worst_deviation(fixture, 5000);
        if (deviation > 2.5)
            fail_msg("%.2f picks off with %u servers of %u weights", deviation, count, kinds);
        fixture_end(fixture);
    }
}

/* The longest run of a server that should have every second pick. */
static void a_heavy_server_is_not_picked_in_bursts(void **state)
{
    (void)state;
    uint32_t weights[11] = {10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct fixture *fixture = pool(weights, 11, SEED);
    unsigned run = 0, others = 0;
    for (unsigned i = 0; i < 2000; i++) {
        bool heavy = fixture_pick(fixture, 0) == 0;
        run = heavy ? run + 1 : 0;
        others = heavy ? 0 : others + 1;
        assert_true(run <= 2 && others <= 2);
    }
    fixture_end(fixture);
}

/* ---- what cannot be picked ---- */

static void shares_hold_beside_an_unusable_member(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 4};
    struct fixture *fixture = pool(weights, 4, SEED);
    fixture->member[3].usable = false;
    fixture_view(fixture, "round-robin", SEED);
    fixture_count(fixture, 6000);
    fixture_check_shares(fixture, 6000, 0.002);
    fixture_end(fixture);
}

static void shares_hold_beside_a_suspect(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 1000, 2};
    struct fixture *fixture = pool(weights, 5, SEED);
    fixture->live[3].suspect = 1;
    fixture_count(fixture, 8000);
    fixture->member[3].usable = false; /* what it amounts to */
    fixture_check_shares(fixture, 8000, 0.02);

    /* It has its share again at once, and no more: nothing was saved up. */
    fixture->member[3].usable = true;
    fixture->live[3].suspect = 0;
    fixture_count(fixture, 1008);
    assert_in_range(fixture->picks[3], 980, 1005);
    fixture_end(fixture);
}

static void shares_hold_when_all_are_suspect(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 10, 4};
    struct fixture *fixture = pool(weights, 5, SEED);
    for (uint32_t i = 0; i < 5; i++)
        fixture->live[i].suspect = 1;
    fixture_count(fixture, 20000);
    fixture_check_shares(fixture, 20000, 0.002);
    fixture_end(fixture);
}

/* A retry takes another server, and the shares of all stay what they are. */
static void retries_keep_the_shares(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3};
    struct fixture *fixture = pool(weights, 3, SEED);
    uint32_t picks[3] = {0};
    for (unsigned i = 0; i < 60000; i++) {
        fixture->tried.count = 0;
        if (i % 10 == 0)
            sched_tried_add(&fixture->tried, 1 + i / 10 % 3);
        picks[fixture_pick(fixture, 0)]++;
    }
    memcpy(fixture->picks, picks, sizeof(picks));
    fixture_check_shares(fixture, 60000, 0.1);
    fixture_end(fixture);
}

/* One that alone could be picked for long is not left out afterwards. */
static void a_busy_time_is_not_held_against_a_server(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct fixture *fixture = pool(NULL, COUNT, SEED);
    for (uint32_t i = 1; i < COUNT; i++)
        fixture->live[i].suspect = 1;
    for (unsigned i = 0; i < 20 * COUNT; i++)
        assert_int_equal(fixture_pick(fixture, 0), 0);
    for (uint32_t i = 1; i < COUNT; i++)
        fixture->live[i].suspect = 0;
    fixture_count(fixture, 10 * COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_in_range(fixture->picks[i], 8, 12);
    fixture_end(fixture);
}

/* ---- new views ---- */

static void a_new_view_changes_no_turn(void **state)
{
    (void)state;
    static const uint32_t weights[] = {5, 1, 1, 8, 3};
    struct fixture *one = pool(weights, 5, SEED), *other = pool(weights, 5, SEED);
    for (unsigned i = 0; i < 1000; i++) {
        if (i % 3 == 0)
            fixture_view(other, "round-robin", i);
        assert_int_equal(fixture_pick(one, 0), fixture_pick(other, 0));
    }
    fixture_end(one);
    fixture_end(other);
}

/* A flapping server, and a place in the configuration that changes: the others keep their turns. */
static void a_flapping_member_disturbs_nobody(void **state)
{
    (void)state;
    struct fixture *fixture = pool(NULL, 5, SEED);
    uint32_t picks[5] = {0};
    for (unsigned view = 0; view < 20000; view++) {
        fixture->member[2].usable = view % 2 == 0;
        fixture_view(fixture, "round-robin", SEED);
        for (unsigned i = 0; i < 3; i++)
            picks[fixture_pick(fixture, 0)]++;
    }
    uint32_t others = picks[0] + picks[1] + picks[3] + picks[4];
    for (uint32_t i = 0; i < 5; i++) {
        if (i != 2)
            assert_in_range(picks[i], others / 4 - others / 100, others / 4 + others / 100);
    }
    assert_in_range(picks[2], 3000, 9000); /* a fifth of half of the picks, about */
    fixture_end(fixture);
}

static void a_new_weight_counts_from_now_on(void **state)
{
    (void)state;
    struct fixture *fixture = pool(NULL, 4, SEED);
    for (uint32_t weight = 1; weight <= 40; weight++) {
        fixture->member[1].weight = weight;
        fixture_view(fixture, "round-robin", SEED);
        uint32_t cycle = weight + 3;
        fixture_count(fixture, 10 * cycle);
        assert_in_range(fixture->picks[1], 10 * weight - 2, 10 * weight + 2);
        assert_in_range(fixture->picks[0], 9, 11);
    }
    fixture_end(fixture);
}

/* Servers come at the front of the configuration: ids, not places, tell who is who. */
static void an_added_server_joins_in(void **state)
{
    (void)state;
    struct fixture *fixture = pool(NULL, 6, SEED);
    for (uint32_t i = 0; i < 6; i++)
        fixture->member[i].usable = i >= 2;
    fixture_view(fixture, "round-robin", SEED);
    uint32_t last = fixture_pick(fixture, 0);
    struct sched_member moved = fixture->member[2];
    fixture->member[2] = fixture->member[5];
    fixture->member[5] = moved;
    fixture->member[0].usable = true;
    fixture->member[0].id = 100;
    fixture_view(fixture, "round-robin", SEED);
    fixture_count(fixture, 4);
    uint32_t place = last == 2 ? 5 : last == 5 ? 2 : last;
    assert_true(fixture->picks[place] <= 1);
    fixture_count(fixture, 5000);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(fixture->picks[i], i == 1 ? 0 : 1000);
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_servers_are_picked_in_order),
        cmocka_unit_test(workers_begin_at_different_places),
        cmocka_unit_test(a_cycle_gives_each_its_weight),
        cmocka_unit_test(turns_are_evenly_spread),
        cmocka_unit_test(a_heavy_server_is_not_picked_in_bursts),
        cmocka_unit_test(shares_hold_beside_an_unusable_member),
        cmocka_unit_test(shares_hold_beside_a_suspect),
        cmocka_unit_test(shares_hold_when_all_are_suspect),
        cmocka_unit_test(retries_keep_the_shares),
        cmocka_unit_test(a_busy_time_is_not_held_against_a_server),
        cmocka_unit_test(a_new_view_changes_no_turn),
        cmocka_unit_test(a_flapping_member_disturbs_nobody),
        cmocka_unit_test(a_new_weight_counts_from_now_on),
        cmocka_unit_test(an_added_server_joins_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
