/* The generator beside the published one, and the evenness of what it is asked for. */
#include "common/random.h"

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/death.h"

/* The first numbers of the authors' program (prng.di.unimi.it) from the state 1, 2, 3, 4. */
static void is_xoshiro256starstar(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        11520, 0, 1509978240, 1215971899390074240, 1216172134540287360, 607988272756665600,
    };
    struct random_state random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(random_next(&random), expected[i]);
}

/* Likewise splitmix64 from 0, which fills the state. */
static void seeds_by_splitmix(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 0);
    assert_int_equal(random.word[0], UINT64_C(0xe220a8397b1dcdaf));
    assert_int_equal(random.word[1], UINT64_C(0x6e789e6aa1b965f4));
    assert_int_equal(random.word[2], UINT64_C(0x06c45d188009454f));
    assert_int_equal(random.word[3], UINT64_C(0xf88bb8a8724c81ec));
}

static void repeats_by_seed(void **state)
{
    (void)state;
    struct random_state a, b, c;
    random_init(&a, 9);
    random_init(&b, 9);
    random_init(&c, 10);
    for (int i = 0; i < 100; i++) {
        uint64_t number = random_next(&a);
        assert_int_equal(random_next(&b), number);
        assert_true(random_next(&c) != number);
    }
}

static void seeds_differ(void **state)
{
    (void)state;
    assert_true(random_seed() != random_seed());
}

static void stays_below(void **state)
{
    (void)state;
    static const uint32_t bounds[] = {1, 2, 3, 1000, 65537, 0x80000001, UINT32_MAX};
    struct random_state random;
    random_init(&random, 3);
    for (size_t b = 0; b < ARRAY_LEN(bounds); b++) {
        for (int i = 0; i < 10000; i++)
            assert_true(random_below(&random, bounds[b]) < bounds[b]);
    }
}

/* Chi-square with 9 degrees of freedom: above 33.7 once in 10,000 seeds, and the seed is fixed. */
static void is_even(void **state)
{
    (void)state;
    enum { CELLS = 10, DRAWS = 100000 };
    unsigned count[CELLS] = {0};
    struct random_state random;
    random_init(&random, 4);
    for (int i = 0; i < DRAWS; i++)
        count[random_below(&random, CELLS)]++;
    double chi_square = 0;
    for (int i = 0; i < CELLS; i++) {
        double off = count[i] - (double)DRAWS / CELLS;
        chi_square += off * off / ((double)DRAWS / CELLS);
    }
    assert_true(chi_square < 33.7);
}

/* With a bound of 3 << 30 a plain multiply gives every third result twice as often. */
static void has_no_multiply_bias(void **state)
{
    (void)state;
    enum { DRAWS = 90000 };
    unsigned count[3] = {0};
    struct random_state random;
    random_init(&random, 6);
    for (int i = 0; i < DRAWS; i++)
        count[random_below(&random, UINT32_C(3) << 30) % 3]++;
    for (int i = 0; i < 3; i++)
        assert_true(count[i] > DRAWS / 3 * 97 / 100 && count[i] < DRAWS / 3 * 103 / 100);
}

static void ask_for_none(void *random)
{
    random_below(random, 0);
}

static void stops_at_misuse(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 1);
    assert_bug(ask_for_none, &random, "bound == 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_xoshiro256starstar), cmocka_unit_test(seeds_by_splitmix),
        cmocka_unit_test(repeats_by_seed),       cmocka_unit_test(seeds_differ),
        cmocka_unit_test(stays_below),           cmocka_unit_test(is_even),
        cmocka_unit_test(has_no_multiply_bias),  cmocka_unit_test(stops_at_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
