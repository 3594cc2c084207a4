/* At most rate * t (rounded up) and a burst, over all threads; and who waits has a turn. */
#include "common/rate.h"

#include "common/random.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)
#define START (UINT64_C(40) * 365 * 86400 * SECOND) /* a machine that is up for long */

#define THREADS 4
#define ROUNDS 20000

static void rounds_the_interval_up(void **state)
{
    (void)state;
    struct rate rate = rate_make(3, 2, 1000000);
    assert_int_equal(rate.interval, 333334);
    assert_int_equal(rate.tolerance, 666668);
    rate = rate_make(5, 0, 1000000);
    assert_int_equal(rate.tolerance, rate.interval);
    rate = rate_make(UINT32_MAX, UINT32_MAX, 1000000000);
    assert_int_equal(rate.interval, 1);
    assert_int_equal(rate.tolerance, UINT32_MAX);
    rate = rate_make(0, 10, 1000000);
    assert_int_equal(rate.interval, 0);
}

static void has_room_for_whole_events(void **state)
{
    (void)state;
    struct rate rate = rate_make(10, 4, 1000);
    assert_int_equal(rate_room(&rate, 0), 4);
    assert_int_equal(rate_room(&rate, 1), 3);
    assert_int_equal(rate_room(&rate, 300), 1);
    assert_int_equal(rate_room(&rate, 301), 0);
    assert_int_equal(rate_room(&rate, 400), 0);
    assert_int_equal(rate_room(&rate, UINT64_MAX), 0);
}

static void without_a_rate_there_is_no_limit(void **state)
{
    (void)state;
    struct rate_meter zeroed = {0}, meter;
    assert_false(rate_meter_limits(&zeroed));
    rate_meter_init(&meter, 0, 10);
    assert_false(rate_meter_limits(&meter));
    rate_meter_init(&meter, 1, 0);
    assert_true(rate_meter_limits(&meter));
}

static bool now_at(struct rate_meter *meter, uint64_t now)
{
    struct rate_claim claim = {0};
    return rate_claim_now(meter, now, &claim) == 0;
}

/* A burst at once, then one for each interval, to the microsecond. */
static void check_rate(uint32_t per_second, uint32_t burst, uint64_t start)
{
    struct rate_meter meter;
    rate_meter_init(&meter, per_second, burst);
    for (uint32_t i = 0; i < burst; i++)
        assert_true(now_at(&meter, start));
    assert_false(now_at(&meter, start));
    /* In whole microseconds with a burst of 1 the rest of the last one is lost each time. */
    for (uint64_t i = 1; i <= 50; i++) {
        uint64_t after = meter.rate.tolerance - meter.rate.interval;
        uint64_t due = (meter.arrival - after + 999) / 1000;
        if (burst > 1)
            assert_int_equal(due, start + (i * meter.rate.interval + 999) / 1000);
        if (meter.rate.interval > 2000)
            assert_false(now_at(&meter, due - 1));
        assert_true(now_at(&meter, due));
    }
}

static void a_burst_and_then_one_for_each_interval(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 3, 7, 50, 999, 30000, 700000, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        check_rate(rates[i], 1, 1);
        check_rate(rates[i], MAX(rates[i] / 10, 1u), START);
        check_rate(rates[i], rates[i], START);
    }
}

static void rest_saves_up_no_more_than_a_burst(void **state)
{
    (void)state;
    struct rate_meter meter;
    rate_meter_init(&meter, 10, 3);
    assert_true(now_at(&meter, START));
    for (unsigned i = 0; i < 3; i++)
        assert_true(now_at(&meter, START + 1000 * SECOND));
    assert_false(now_at(&meter, START + 1000 * SECOND));
    /* A clock that lags gains nothing. */
    assert_false(now_at(&meter, START + 999 * SECOND));
}

static void those_who_wait_have_their_turns_in_order(void **state)
{
    (void)state;
    struct rate_meter meter;
    struct rate_claim first = {0}, second = {0}, third = {0};
    rate_meter_init(&meter, 10, 2);
    assert_int_equal(rate_claim(&meter, START, &first), 0);
    rate_claim_use(&first);
    assert_int_equal(rate_claim(&meter, START, &first), 0);
    rate_claim_use(&first);
    assert_int_equal(rate_claim(&meter, START, &first), 100000);
    assert_int_equal(rate_claim(&meter, START + 1000, &second), 199000);
    assert_int_equal(rate_claim(&meter, START + 2000, &third), 298000);
    /* Nobody is faster, and asking again changes nothing. */
    assert_false(now_at(&meter, START + 100000));
    assert_int_equal(rate_claim(&meter, START + 100000, &second), 100000);
    assert_int_equal(rate_claim(&meter, START + 100000, &first), 0);
    rate_claim_use(&first);
    assert_int_equal(rate_claim(&meter, START + 100000, &first), 300000);
    assert_int_equal(rate_claim(&meter, START + 200000, &second), 0);
    assert_int_equal(rate_claim(&meter, START + 300000, &third), 0);
}

static void a_claim_slept_through_is_made_anew(void **state)
{
    (void)state;
    struct rate_meter meter;
    struct rate_claim claim = {0};
    rate_meter_init(&meter, 10, 2);
    assert_true(now_at(&meter, START) && now_at(&meter, START));
    assert_int_equal(rate_claim(&meter, START, &claim), 100000);
    assert_int_equal(rate_claim(&meter, START + 299999, &claim), 0);
    assert_int_equal(claim.arrival, (START + 300000) * 1000);
    /* Used from now on it would be one too many: it counts as used, and this is another. */
    assert_int_equal(rate_claim(&meter, START + 300000, &claim), 0);
    assert_int_equal(claim.arrival, (START + 400000) * 1000);
}

static void what_must_wait_is_not_claimed(void **state)
{
    (void)state;
    struct rate_meter meter;
    struct rate_claim claim = {0};
    rate_meter_init(&meter, 10, 2);
    assert_true(now_at(&meter, START) && now_at(&meter, START));
    assert_int_equal(rate_claim_now(&meter, START, &claim), 100000);
    assert_int_equal(rate_claim_now(&meter, START + 99999, &claim), 1);
    assert_int_equal(claim.arrival, 0);
    assert_int_equal(rate_claim(&meter, START, &claim), 100000);
    assert_int_equal(rate_claim_wait(&meter, START + 40000, &claim), 60000);
    /* Past: it is not made anew. */
    assert_int_equal(rate_claim_wait(&meter, START + 900000, &claim), 0);
    assert_int_equal(claim.arrival, (START + 300000) * 1000);
}

static void what_is_returned_is_the_next_ones(void **state)
{
    (void)state;
    struct rate_meter meter;
    struct rate_claim claim = {0}, other = {0};
    rate_meter_init(&meter, 1, 1);
    assert_int_equal(rate_claim_now(&meter, START, &claim), 0);
    rate_claim_return(&meter, &claim);
    rate_claim_return(&meter, &claim);
    assert_int_equal(rate_claim_now(&meter, START, &claim), 0);
    /* Another came meanwhile. */
    assert_int_equal(rate_claim(&meter, START, &other), SECOND);
    rate_claim_return(&meter, &claim);
    assert_false(now_at(&meter, START + SECOND));
    assert_int_equal(rate_claim(&meter, START + SECOND, &other), 0);
    rate_claim_return(&meter, &other);
    assert_true(now_at(&meter, START + SECOND));
}

/* ---- Threads ---- */

struct play {
    struct rate_meter meter;
    uint64_t step_us;
    _Atomic uint64_t now;
    uint64_t used[THREADS][ROUNDS];
    uint32_t uses[THREADS];
};

struct player {
    struct play *play;
    unsigned index;
    pthread_t thread;
};

/* Some take what there is, some wait, some sleep too long, and some give back. */
static void *player_run(void *data)
{
    const struct player *player = data;
    struct play *play = player->play;
    struct rate_claim claim = {0};
    struct random_state random;
    random_init(&random, player->index);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t now = START + atomic_fetch_add(&play->now, play->step_us);
        bool waits = claim.arrival != 0 || random_below(&random, 2) == 0;
        bool is_due = waits ? rate_claim(&play->meter, now, &claim) == 0
                            : rate_claim_now(&play->meter, now, &claim) == 0;
        if (!is_due)
            continue;
        if (random_below(&random, 8) == 0) {
            rate_claim_return(&play->meter, &claim);
            continue;
        }
        rate_claim_use(&claim);
        play->used[player->index][play->uses[player->index]++] = now;
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of all uses in time's order no span has more than it may: the one that begins with a use decides.
 */
static void check_spans(const uint64_t *used, size_t count, uint32_t per_second, uint32_t burst)
{
    static const uint64_t spans[] = {1, 1000, 10000, SECOND / 10, SECOND};
    for (size_t s = 0; s < ARRAY_LEN(spans); s++) {
        size_t first = 0;
        for (size_t i = 0; i < count; i++) {
            while (used[i] - used[first] > spans[s])
                first++;
            uint64_t due = (spans[s] * per_second + SECOND - 1) / SECOND;
            assert_true(i - first + 1 <= burst + due);
        }
    }
}

static void play_run(uint32_t per_second, uint32_t burst, uint64_t step_us)
{
    struct play *play = calloc(1, sizeof(*play));
    struct player player[THREADS];
    size_t count = 0;

    assert_non_null(play);
    rate_meter_init(&play->meter, per_second, burst);
    play->step_us = step_us;
    for (unsigned i = 0; i < THREADS; i++) {
        player[i] = (struct player){.play = play, .index = i};
        assert_int_equal(pthread_create(&player[i].thread, NULL, player_run, &player[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(player[i].thread, NULL), 0);
    uint64_t *used = calloc((size_t)THREADS * ROUNDS, sizeof(*used));
    assert_non_null(used);
    for (unsigned i = 0; i < THREADS; i++)
        for (uint32_t n = 0; n < play->uses[i]; n++)
            used[count++] = play->used[i][n];
    qsort(used, count, sizeof(*used), compare);
    assert_true(count > 100);
    check_spans(used, count, per_second, burst);
    free(used);
    free(play);
}

static void threads_share_one_rate(void **state)
{
    (void)state;
    play_run(50, 5, 100);
    play_run(50, 1, 1000);
    play_run(10000, 1000, 20);
    play_run(300, 30, 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_the_interval_up),
        cmocka_unit_test(has_room_for_whole_events),
        cmocka_unit_test(without_a_rate_there_is_no_limit),
        cmocka_unit_test(a_burst_and_then_one_for_each_interval),
        cmocka_unit_test(rest_saves_up_no_more_than_a_burst),
        cmocka_unit_test(those_who_wait_have_their_turns_in_order),
        cmocka_unit_test(a_claim_slept_through_is_made_anew),
        cmocka_unit_test(what_must_wait_is_not_claimed),
        cmocka_unit_test(what_is_returned_is_the_next_ones),
        cmocka_unit_test(threads_share_one_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
