/* Workers in a time of their own: everybody always has a client waiting, and nobody starves. */
#include "lb/worker/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)
#define START (1000 * SECOND)
#define WORKERS 8
#define SPAN_S 30
#define MOST 4096

struct rates {
    struct rate_meter own, weir, taken, none;
};

static void rates_init(struct rates *rates, uint32_t own, uint32_t weir)
{
    rate_meter_init(&rates->own, own, own / 10);
    rate_meter_init(&rates->taken, own, own / 10);
    rate_meter_init(&rates->weir, weir, weir / 10);
    rate_meter_init(&rates->none, 0, 0);
}

/* A worker at a listener, and when it asks next: on a millisecond, as the wheel has it. */
struct place {
    struct turns turns;
    uint64_t next;
};

/* When clients were taken at one listener. */
struct taken {
    uint64_t at[MOST];
    size_t count;
};

static void step(struct place *place, struct taken *taken)
{
    const char *why;
    uint64_t now = place->next, wait = turns_claim(&place->turns, now, &why);

    if (wait > 0) {
        place->next = (now + wait + 999) / 1000 * 1000;
        return;
    }
    turns_end(&place->turns, true);
    assert_true(taken->count < MOST);
    taken->at[taken->count++] = now;
    place->next = now + 20;
}

static struct place *earliest(struct place *place, size_t count)
{
    struct place *first = place;

    for (size_t i = 1; i < count; i++)
        if (place[i].next < first->next)
            first = &place[i];
    return first;
}

/* The first half are workers at the listener that has a rate, the rest at one that has none. */
static void play(struct rates *rates, struct taken taken[2])
{
    struct place place[2 * WORKERS];

    for (size_t i = 0; i < 2 * WORKERS; i++) {
        turns_init(&place[i].turns, i < WORKERS ? &rates->own : &rates->none, &rates->weir,
                   &rates->taken);
        place[i].next = START + i;
    }
    for (;;) {
        struct place *now = earliest(place, 2 * WORKERS);
        if (now->next >= START + SPAN_S * SECOND)
            return;
        step(now, &taken[now >= &place[WORKERS]]);
    }
}

static void check_bound(const struct taken *taken, uint32_t rate)
{
    size_t first = 0;

    for (size_t i = 0; i < taken->count; i++) {
        while (taken->at[i] - taken->at[first] >= SECOND)
            first++;
        assert_true(i - first + 1 <= rate + MAX(rate / 10, 1u));
    }
}

static void check(uint32_t own, uint32_t weir)
{
    static struct taken taken[2];
    struct rates rates;

    memset(taken, 0, sizeof(taken));
    rates_init(&rates, own, weir);
    play(&rates, taken);
    check_bound(&taken[0], own);
    assert_true(taken[0].count >= (size_t)MIN(own, weir / 2) * SPAN_S * 9 / 10);
    assert_true(taken[0].count + taken[1].count >= (size_t)weir * SPAN_S * 8 / 10);
    assert_true(taken[0].count + taken[1].count <= (size_t)weir * (SPAN_S + 1));
}

static void two_rates_starve_nobody(void **state)
{
    (void)state;
    check(20, 50);
    check(10, 20);
    check(5, 100);
    check(50, 100);
    check(80, 100);
}

static bool is_free(struct rate_meter *meter)
{
    struct rate_claim claim = {0};
    bool is = rate_claim_now(meter, START, &claim) == 0;

    rate_claim_return(meter, &claim);
    return is;
}

static void what_cannot_be_used_is_held_by_nobody(void **state)
{
    struct rates rates;
    struct turns turns, other;
    const char *why = "";

    (void)state;
    rates_init(&rates, 10, 10);
    turns_init(&turns, &rates.own, &rates.weir, &rates.taken);
    turns_init(&other, &rates.none, &rates.weir, &rates.taken);
    assert_true(turns_limit(&turns) && turns_limit(&other));
    assert_true(turns_claim_now(&other, START));
    turns_end(&other, true);
    assert_false(turns_claim_now(&turns, START));
    assert_true(is_free(&rates.own));
    assert_int_equal(turns_claim(&turns, START, &why), SECOND / 10);
    assert_string_equal(why, "session_rate of weir");
    turns_end(&turns, false);
    assert_true(is_free(&rates.own));
    assert_true(turns_claim_now(&turns, START + SECOND / 10));
    turns_end(&turns, true);
    assert_int_equal(turns_claim(&turns, START + SECOND / 10, &why), SECOND / 10);
    assert_string_equal(why, "session_rate of the listener");
}

static void without_rates_nothing_is_limited(void **state)
{
    struct rates rates;
    struct turns turns;

    (void)state;
    rates_init(&rates, 0, 0);
    turns_init(&turns, &rates.own, &rates.weir, &rates.taken);
    assert_false(turns_limit(&turns));
    assert_true(turns_claim_now(&turns, START));
    turns_end(&turns, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_rates_starve_nobody),
        cmocka_unit_test(what_cannot_be_used_is_held_by_nobody),
        cmocka_unit_test(without_rates_nothing_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
