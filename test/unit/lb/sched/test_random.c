/* Shares by weight, whatever happens to some of the servers. */
#include "lb/sched/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

#define SEED 7
#define PICKS 200000u

static const uint32_t weights[] = {1, 2, 3, 10, 4};

static struct fixture *random_pool(void)
{
    struct fixture *fixture = fixture_new(ARRAY_LEN(weights));
    fixture_weigh(fixture, weights);
    fixture_view(fixture, "random", SEED);
    return fixture;
}

static void shares_are_the_weights(void **state)
{
    (void)state;
    struct fixture *fixture = random_pool();
    fixture_count(fixture, PICKS);
    fixture_check_shares(fixture, PICKS, 0.02);

    fixture->member[3].usable = false;
    fixture_view(fixture, "random", SEED);
    fixture_count(fixture, PICKS);
    fixture_check_shares(fixture, PICKS, 0.02);
    fixture_end(fixture);
}

/* What a suspect or full server does not get goes to the others by weight. */
static void shares_hold_beside_a_suspect(void **state)
{
    (void)state;
    struct fixture *fixture = random_pool();
    fixture->live[3].suspect = 1;
    fixture_count(fixture, PICKS);
    fixture->member[3].usable = false; /* what it amounts to */
    fixture_check_shares(fixture, PICKS, 0.03);
    fixture_end(fixture);
}

static void shares_hold_when_all_are_suspect(void **state)
{
    (void)state;
    struct fixture *fixture = random_pool();
    for (uint32_t i = 0; i < fixture->count; i++)
        fixture->live[i].suspect = 1;
    fixture_count(fixture, PICKS);
    fixture_check_shares(fixture, PICKS, 0.02);
    fixture_end(fixture);
}

static void workers_pick_differently(void **state)
{
    (void)state;
    struct fixture *fixture = random_pool();
    struct sched_cursor *other = sched_cursor_new(fixture->sched, NULL, SEED + 1);
    unsigned same = 0;
    for (unsigned i = 0; i < 1000; i++)
        same += fixture_pick(fixture, 0) == sched_pick(fixture->sched, other, 0, &fixture->tried);
    assert_true(same < 500);
    sched_cursor_free(&other);
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_the_weights),
        cmocka_unit_test(shares_hold_beside_a_suspect),
        cmocka_unit_test(shares_hold_when_all_are_suspect),
        cmocka_unit_test(workers_pick_differently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
