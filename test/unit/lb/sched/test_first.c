/* The order of the configuration is the order of picks. */
#include "lb/sched/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

static void the_first_usable_is_picked(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(4);
    /* Ids and weights do not matter. */
    static const uint32_t weights[] = {1, 5, 100, 1000};
    fixture_weigh(fixture, weights);
    fixture->member[0].id = 9;
    fixture_view(fixture, "first", 1);
    for (uint64_t key = 0; key < 10; key++)
        assert_int_equal(fixture_pick(fixture, key), 0);

    fixture->member[0].usable = false;
    fixture_view(fixture, "first", 1);
    assert_int_equal(fixture_pick(fixture, 0), 1);
    sched_tried_add(&fixture->tried, fixture->member[1].id);
    assert_int_equal(fixture_pick(fixture, 0), 2);
    fixture->tried.count = 0;
    fixture->member[0].usable = true;
    fixture_view(fixture, "first", 1);
    assert_int_equal(fixture_pick(fixture, 0), 0);
    fixture_end(fixture);
}

static void a_full_one_runs_over_into_the_next(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(3);
    for (uint32_t i = 0; i < 3; i++)
        fixture->live[i].limit = i + 1;
    fixture_view(fixture, "first", 1);
    static const uint32_t expected[] = {0, 1, 1, 2, 2, 2, SCHED_NONE};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        uint32_t pick = fixture_pick(fixture, 0);
        assert_int_equal(pick, expected[i]);
        if (pick != SCHED_NONE)
            fixture->live[pick].load++;
    }
    fixture->live[1].load--;
    assert_int_equal(fixture_pick(fixture, 0), 1);
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_usable_is_picked),
        cmocka_unit_test(a_full_one_runs_over_into_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
