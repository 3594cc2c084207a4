/* Shares by weight at any load, and the less loaded of two. */
#include "lb/sched/sched.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

#define SEED 11
#define PICKS 200000u
#define SESSIONS_MAX 256u

struct traffic {
    struct fixture *fixture;
    struct random_state random;
    uint32_t count;
    uint32_t session[SESSIONS_MAX]; /* on which server each is */
};

static struct traffic traffic_of(struct fixture *fixture, uint32_t sessions)
{
    struct traffic traffic = {.fixture = fixture, .count = sessions};
    random_init(&traffic.random, SEED);
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 0; i < fixture->count; i++)
        fixture->live[i].load = 0;
    for (uint32_t i = 0; i < sessions; i++) {
        traffic.session[i] = fixture_pick(fixture, 0);
        fixture->live[traffic.session[i]].load++;
    }
    return traffic;
}

/* A session ends, and its client comes back at once. */
static uint32_t reconnect(struct traffic *traffic, uint32_t session)
{
    struct fixture *fixture = traffic->fixture;
    fixture->live[traffic->session[session]].load--;
    uint32_t pick = fixture_pick(fixture, 0);
    fixture->live[pick].load++;
    fixture->picks[pick]++;
    traffic->session[session] = pick;
    return pick;
}

static void run(struct traffic *traffic, uint32_t picks)
{
    for (uint32_t i = 0; i < picks; i++)
        reconnect(traffic, random_below(&traffic->random, traffic->count));
}

static void check_shares_at_any_load(const uint32_t *weights, uint32_t count)
{
    static const uint32_t sessions[] = {1, 2, 3, 5, 8, 16, 64, SESSIONS_MAX};
    struct fixture *fixture = fixture_new(count);
    fixture_weigh(fixture, weights);
    fixture_view(fixture, "p2c", SEED);
    for (size_t i = 0; i < ARRAY_LEN(sessions); i++) {
        struct traffic traffic = traffic_of(fixture, sessions[i]);
        run(&traffic, PICKS);
        fixture_check_shares(fixture, PICKS, 0.04);
    }
    fixture_end(fixture);
}

static void shares_are_the_weights(void **state)
{
    (void)state;
    static const uint32_t same[] = {1, 1, 1, 1}, close[] = {100, 101, 102}, rising[] = {1, 2, 3},
                          uneven[] = {10, 1}, mixed[] = {8, 1, 8, 4, 8, 2};
    check_shares_at_any_load(same, ARRAY_LEN(same));
    check_shares_at_any_load(close, ARRAY_LEN(close));
    check_shares_at_any_load(rising, ARRAY_LEN(rising));
    check_shares_at_any_load(uneven, ARRAY_LEN(uneven));
    check_shares_at_any_load(mixed, ARRAY_LEN(mixed));
}

static void shares_hold_beside_an_unusable_member(void **state)
{
    (void)state;
    static const uint32_t weights[] = {3, 1, 2, 3};
    struct fixture *fixture = fixture_new(4);
    fixture_weigh(fixture, weights);
    fixture->member[2].usable = false;
    fixture_view(fixture, "p2c", SEED);
    struct traffic traffic = traffic_of(fixture, 40);
    run(&traffic, PICKS);
    fixture_check_shares(fixture, PICKS, 0.03);
    fixture_end(fixture);
}

/* The two are never the same server: with two servers that is the least load, always. */
static void of_two_the_less_loaded(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(2);
    fixture_view(fixture, "p2c", SEED);
    for (uint32_t i = 0; i < 1000; i++) {
        fixture->live[0].load = i % 7;
        fixture->live[1].load = i % 5;
        uint32_t pick = fixture_pick(fixture, 0);
        if (i % 7 != i % 5)
            assert_int_equal(pick, i % 7 < i % 5 ? 0 : 1);
    }
    fixture_end(fixture);
}

static uint32_t most_loaded(const struct fixture *fixture)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < fixture->count; i++)
        most = MAX(most, fixture->live[i].load);
    return most;
}

/* n sessions on n servers: the fullest has about ln ln n, by chance alone ln n / ln ln n. */
static void the_fullest_is_not_far_above(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(1000);
    fixture_view(fixture, "p2c", SEED);
    for (unsigned i = 0; i < 1000; i++)
        fixture->live[fixture_pick(fixture, 0)].load++;
    assert_in_range(most_loaded(fixture), 1, 4);

    for (unsigned i = 0; i < 1000; i++)
        fixture->live[i].load = 0;
    fixture_view(fixture, "random", SEED);
    for (unsigned i = 0; i < 1000; i++)
        fixture->live[fixture_pick(fixture, 0)].load++;
    assert_true(most_loaded(fixture) > 4);
    fixture_end(fixture);
}

/* A server that takes ten times as long gets fewer, not more sessions at a time. */
static void a_slow_server_is_spared(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(5);
    fixture_view(fixture, "p2c", SEED);
    struct traffic traffic = traffic_of(fixture, 100);
    for (uint32_t i = 0; i < PICKS; i++) {
        uint32_t session = random_below(&traffic.random, traffic.count);
        if (traffic.session[session] != 0 || random_below(&traffic.random, 10) == 0)
            reconnect(&traffic, session);
    }
    for (uint32_t i = 0; i < 5; i++)
        assert_in_range(fixture->live[i].load, 17, 24);
    assert_true(fixture->picks[0] < fixture->picks[1] / 5);
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_the_weights),
        cmocka_unit_test(shares_hold_beside_an_unusable_member),
        cmocka_unit_test(of_two_the_less_loaded),
        cmocka_unit_test(the_fullest_is_not_far_above),
        cmocka_unit_test(a_slow_server_is_spared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
