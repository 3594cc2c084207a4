/* The circle of weights: arcs as long as the weights, and how far two points must be apart. */
#include "lb/sched/weighted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT_MAX 300u

static struct sched_candidate candidate[COUNT_MAX];
static struct sched sched = {.candidate = candidate};

static void weigh(const uint32_t *weights, uint32_t count)
{
    sched.count = count;
    for (uint32_t i = 0; i < count; i++)
        candidate[i].weight = weights[i];
}

/* The first point of the arc on which the sum of weights is `sum`. */
static uint64_t point_of(uint64_t sum, uint64_t total)
{
    return (uint64_t)((((unsigned __int128)sum << 64) + total - 1) / total);
}

/* Both ends of each arc belong to it, and the points beside them do not. */
static void check_arcs(void)
{
    struct weighted weighted;
    assert_int_equal(weighted_init(&weighted, &sched), 0);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < sched.count; i++) {
        uint64_t begin = point_of(sum, weighted.total);
        sum += candidate[i].weight;
        uint64_t last = point_of(sum, weighted.total) - 1; /* 2^64 - 1 for the last one */
        assert_int_equal(weighted_at(&weighted, begin), i);
        assert_int_equal(weighted_at(&weighted, begin + (last - begin) / 2), i);
        assert_int_equal(weighted_at(&weighted, last), i);
    }
    assert_int_equal(sum, weighted.total);
    weighted_deinit(&weighted);
}

static void arcs_are_as_long_as_weights(void **state)
{
    (void)state;
    static const uint32_t few[] = {1, 2, 3}, one[] = {7},
                          wide[] = {1, UINT32_MAX, 1, 1, UINT32_MAX};
    weigh(one, 1);
    check_arcs();
    weigh(few, 3);
    check_arcs();
    weigh(wide, 5);
    check_arcs();

    uint32_t many[COUNT_MAX];
    for (uint32_t i = 0; i < COUNT_MAX; i++)
        many[i] = i < COUNT_MAX / 2 ? 1 : i * i;
    weigh(many, COUNT_MAX);
    check_arcs();
}

static void points_a_gap_apart_differ(void **state)
{
    (void)state;
    static const uint32_t weights[] = {3, 1, 4, 1, 5, 9, 2, 6};
    weigh(weights, ARRAY_LEN(weights));
    struct weighted weighted;
    assert_int_equal(weighted_init(&weighted, &sched), 0);
    uint64_t gap = weighted_gap(&weighted);
    struct random_state random;
    random_init(&random, 1);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t point = random_next(&random);
        assert_int_not_equal(weighted_at(&weighted, point), weighted_at(&weighted, point + gap));
        assert_int_not_equal(weighted_at(&weighted, point), weighted_at(&weighted, point - gap));
    }
    weighted_deinit(&weighted);
}

static uint64_t gap_of(const uint32_t *weights, uint32_t count)
{
    weigh(weights, count);
    struct weighted weighted;
    assert_int_equal(weighted_init(&weighted, &sched), 0);
    uint64_t gap = weighted_gap(&weighted);
    weighted_deinit(&weighted);
    return gap;
}

static void a_gap_is_the_longest_arc_or_half(void **state)
{
    (void)state;
    static const uint32_t one[] = {5}, two[] = {5, 5}, half[] = {1, 2, 3}, more[] = {1, 9},
                          third[] = {1, 1, 1};
    const uint64_t half_circle = UINT64_C(1) << 63;
    assert_int_equal(gap_of(one, 1), half_circle);
    assert_int_equal(gap_of(two, 2), half_circle);
    assert_int_equal(gap_of(half, 3), half_circle);
    assert_int_equal(gap_of(more, 2), half_circle);
    assert_int_equal(gap_of(third, 3), UINT64_MAX / 3 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arcs_are_as_long_as_weights),
        cmocka_unit_test(points_a_gap_apart_differ),
        cmocka_unit_test(a_gap_is_the_longest_arc_or_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
