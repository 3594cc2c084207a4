/* The least load: exactly with few servers, nearly with many. */
#include "lb/sched/sched.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

#define SEED 13
#define MANY 1000u

static struct fixture *pool(uint32_t count)
{
    struct fixture *fixture = fixture_new(count);
    fixture_view(fixture, "least-connections", SEED);
    return fixture;
}

static uint32_t least_load(const struct fixture *fixture)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < fixture->count; i++)
        least = MIN(least, fixture->live[i].load);
    return least;
}

static uint32_t most_load(const struct fixture *fixture)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < fixture->count; i++)
        most = MAX(most, fixture->live[i].load);
    return most;
}

static void few_servers_are_level(void **state)
{
    (void)state;
    struct fixture *fixture = pool(64);
    struct random_state random;
    random_init(&random, SEED);
    for (uint32_t i = 0; i < 64; i++)
        fixture->live[i].load = random_below(&random, 20);
    for (unsigned i = 0; i < 5000; i++) {
        uint32_t pick = fixture_pick(fixture, 0);
        assert_int_equal(fixture->live[pick].load, least_load(fixture));
        fixture->live[pick].load++;
    }
    fixture_end(fixture);
}

static void loads_follow_the_weights(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3};
    static const uint32_t counts[] = {3, 300};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = fixture_new(counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++)
            fixture->member[k].weight = weights[k % 3];
        fixture_view(fixture, "least-connections", SEED);
        for (uint32_t k = 0; k < 20 * counts[i]; k++)
            fixture->live[fixture_pick(fixture, 0)].load++;
        for (uint32_t k = 0; k < counts[i]; k++)
            assert_in_range(fixture->live[k].load, 10 * weights[k % 3] - 1,
                            10 * weights[k % 3] + 1);
        fixture_end(fixture);
    }
}

/* Short sessions leave all loads at 0: the first server must not get all of them. */
static void level_servers_take_turns(void **state)
{
    (void)state;
    static const uint32_t counts[] = {3, 64};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = pool(counts[i]);
        uint32_t first = fixture_pick(fixture, 0);
        for (uint32_t k = 1; k < 3 * counts[i]; k++)
            assert_int_equal(fixture_pick(fixture, 0), (first + k) % counts[i]);
        fixture_end(fixture);
    }
    struct fixture *fixture = pool(MANY);
    fixture_count(fixture, 20 * MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_in_range(fixture->picks[i], 15, 25);
    fixture_end(fixture);
}

/* Loads that only this cursor raises are known, so they are exactly level. */
static void many_servers_are_level(void **state)
{
    (void)state;
    struct fixture *fixture = pool(MANY);
    for (unsigned i = 0; i < 20 * MANY; i++)
        fixture->live[fixture_pick(fixture, 0)].load++;
    assert_int_equal(least_load(fixture), 20);
    assert_int_equal(most_load(fixture), 20);
    fixture_end(fixture);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Sessions end unseen: 99 of 100 picks are at most one session above the true least. */
static void many_servers_are_nearly_level(void **state)
{
    (void)state;
    enum { SESSIONS = 10 * MANY, SAMPLES = 20000 };
    struct fixture *fixture = pool(MANY);
    struct random_state random;
    random_init(&random, SEED);
    static uint32_t session[SESSIONS], excess[SAMPLES];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        session[i] = fixture_pick(fixture, 0);
        fixture->live[session[i]].load++;
    }
    for (uint32_t i = 0; i < SESSIONS + SAMPLES; i++) {
        uint32_t ends = random_below(&random, SESSIONS);
        fixture->live[session[ends]].load--;
        uint32_t pick = fixture_pick(fixture, 0);
        if (i >= SESSIONS)
            excess[i - SESSIONS] = fixture->live[pick].load - least_load(fixture);
        fixture->live[pick].load++;
        session[ends] = pick;
    }
    qsort(excess, SAMPLES, sizeof(excess[0]), compare);
    assert_in_range(excess[SAMPLES * 99 / 100], 0, 1);
    assert_in_range(excess[SAMPLES - 1], 0, 3);
    fixture_end(fixture);
}

/* Two workers know of each other's sessions only from the counters. */
static void two_workers_are_level_together(void **state)
{
    (void)state;
    struct fixture *fixture = pool(MANY);
    struct sched_cursor *other = sched_cursor_new(fixture->sched, NULL, SEED + 1);
    for (unsigned i = 0; i < 10 * MANY; i++) {
        fixture->live[fixture_pick(fixture, 0)].load++;
        fixture->live[sched_pick(fixture->sched, other, 0, &fixture->tried)].load++;
    }
    assert_in_range(least_load(fixture), 19, 20);
    assert_in_range(most_load(fixture), 20, 21);
    sched_cursor_free(&other);
    fixture_end(fixture);
}

/* A whole round of the refresh is what it takes at most. */
static void an_emptied_server_is_found_soon(void **state)
{
    (void)state;
    struct fixture *fixture = pool(MANY);
    for (uint32_t i = 0; i < MANY; i++)
        fixture->live[i].load = 50;
    fixture_view(fixture, "least-connections", SEED);
    fixture->live[123].load = 0;
    unsigned picks = 0;
    while (fixture_pick(fixture, 0) != 123)
        assert_true(++picks < 40);
    /* The same for one that was full, and one that was suspect. */
    fixture->live[123].load = 50;
    fixture->live[5].limit = 50;
    fixture->live[6].suspect = 1;
    fixture_view(fixture, "least-connections", SEED);
    fixture->live[5].load = 0;
    fixture->live[6].suspect = 0;
    fixture->live[6].load = 1;
    bool found[MANY] = {false};
    for (unsigned i = 0; i < 80; i++) {
        uint32_t pick = fixture_pick(fixture, 0);
        found[pick] = true;
        fixture->live[pick].load++;
    }
    assert_true(found[5] && found[6]);
    fixture_end(fixture);
}

/* What one session has tried is there for the next. */
static void a_tried_server_stays_in_its_place(void **state)
{
    (void)state;
    struct fixture *fixture = pool(MANY);
    for (uint32_t i = 0; i < MANY; i++)
        fixture->live[i].load = 50;
    fixture->live[7].load = 0;
    fixture_view(fixture, "least-connections", SEED);
    sched_tried_add(&fixture->tried, fixture->member[7].id);
    assert_int_not_equal(fixture_pick(fixture, 0), 7);
    fixture->tried.count = 0;
    assert_int_equal(fixture_pick(fixture, 0), 7);
    fixture_end(fixture);
}

/* The least load of all is on a server ten times slower: it gets its sessions, and keeps level. */
static void a_slow_server_keeps_level(void **state)
{
    (void)state;
    enum { SESSIONS = 60 };
    struct fixture *fixture = pool(3);
    struct random_state random;
    random_init(&random, SEED);
    uint32_t session[SESSIONS];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        session[i] = fixture_pick(fixture, 0);
        fixture->live[session[i]].load++;
    }
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t ends = random_below(&random, SESSIONS);
        if (session[ends] == 2 && random_below(&random, 10) > 0)
            continue;
        fixture->live[session[ends]].load--;
        session[ends] = fixture_pick(fixture, 0);
        fixture->live[session[ends]].load++;
        assert_true(most_load(fixture) - least_load(fixture) <= 1);
    }
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_servers_are_level),
        cmocka_unit_test(loads_follow_the_weights),
        cmocka_unit_test(level_servers_take_turns),
        cmocka_unit_test(many_servers_are_level),
        cmocka_unit_test(many_servers_are_nearly_level),
        cmocka_unit_test(two_workers_are_level_together),
        cmocka_unit_test(an_emptied_server_is_found_soon),
        cmocka_unit_test(a_tried_server_stays_in_its_place),
        cmocka_unit_test(a_slow_server_keeps_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
