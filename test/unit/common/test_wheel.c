/*
 * The wheel against a reference model: an array that is searched from end to end. Random sequences
 * of set, cancel and advance run on both, with callbacks that set and cancel others and themselves,
 * from starting times whose digits are about to carry.
 */
#include "common/wheel.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TIMERS 64
#define TOP_SPAN (UINT64_C(1) << 36)

/* ---- Plain cases ---- */

struct probe {
    struct wheel_timer timer;
    struct wheel *wheel;
    struct probe *other;
    uint64_t called_at;
    unsigned calls;
    unsigned position; /* among all calls */
};

static unsigned calls_in_all;

static void on_probe(struct wheel_timer *timer, uint64_t now_ms)
{
    struct probe *probe = container_of(timer, struct probe, timer);
    probe->calls++;
    probe->called_at = now_ms;
    probe->position = calls_in_all++;
}

static void probe_init(struct probe *probe)
{
    *probe = (struct probe){0};
    wheel_timer_init(&probe->timer, on_probe);
}

static void is_empty_at_first(void **state)
{
    (void)state;
    struct wheel wheel;
    wheel_init(&wheel, 1000);
    assert_int_equal(wheel_next(&wheel), WHEEL_NEVER);
    wheel_advance(&wheel, 1000000);
    assert_int_equal(wheel_next(&wheel), WHEEL_NEVER);
}

static void calls_once_and_not_early(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe probe;
    wheel_init(&wheel, 1000);
    probe_init(&probe);
    assert_false(wheel_is_set(&probe.timer));
    wheel_set(&wheel, &probe.timer, 1500);
    assert_true(wheel_is_set(&probe.timer));
    wheel_advance(&wheel, 1499);
    assert_int_equal(probe.calls, 0);
    wheel_advance(&wheel, 1500);
    assert_int_equal(probe.calls, 1);
    assert_int_equal(probe.called_at, 1500);
    assert_false(wheel_is_set(&probe.timer));
    wheel_advance(&wheel, 99999);
    assert_int_equal(probe.calls, 1);
}

static void tells_now_and_not_due(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe probe;
    wheel_init(&wheel, 0);
    probe_init(&probe);
    wheel_set(&wheel, &probe.timer, 5);
    wheel_advance(&wheel, 70000);
    assert_int_equal(probe.called_at, 70000);
}

static void runs_the_past_at_the_next_advance(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe past, present;
    wheel_init(&wheel, 1000);
    probe_init(&past);
    probe_init(&present);
    wheel_set(&wheel, &past.timer, 3);
    wheel_set(&wheel, &present.timer, 1000);
    assert_int_equal(wheel_next(&wheel), 1000);
    wheel_advance(&wheel, 1000);
    assert_int_equal(past.calls, 1);
    assert_int_equal(present.calls, 1);
}

static void keeps_the_order_of_times(void **state)
{
    (void)state;
    static const uint64_t due[] = {900000, 64, 63, 4096, 1, 4095, 262144, 65};
    static const unsigned expected[] = {7, 2, 1, 5, 0, 4, 6, 3};
    struct wheel wheel;
    struct probe probe[ARRAY_LEN(due)];
    wheel_init(&wheel, 0);
    for (size_t i = 0; i < ARRAY_LEN(due); i++) {
        probe_init(&probe[i]);
        wheel_set(&wheel, &probe[i].timer, due[i]);
    }
    calls_in_all = 0;
    wheel_advance(&wheel, 1000000);
    for (size_t i = 0; i < ARRAY_LEN(due); i++)
        assert_int_equal(probe[i].position, expected[i]);
}

static void cancels_and_moves(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe probe;
    wheel_init(&wheel, 0);
    probe_init(&probe);
    wheel_cancel(&wheel, &probe.timer);
    wheel_set(&wheel, &probe.timer, 100);
    wheel_cancel(&wheel, &probe.timer);
    wheel_cancel(&wheel, &probe.timer);
    assert_false(wheel_is_set(&probe.timer));
    assert_int_equal(wheel_next(&wheel), WHEEL_NEVER);

    wheel_set(&wheel, &probe.timer, 100);
    wheel_set(&wheel, &probe.timer, 200);
    wheel_advance(&wheel, 150);
    assert_int_equal(probe.calls, 0);
    wheel_set(&wheel, &probe.timer, 160);
    wheel_advance(&wheel, 160);
    assert_int_equal(probe.calls, 1);
}

static void never_runs_back(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe probe;
    wheel_init(&wheel, 1000);
    probe_init(&probe);
    wheel_set(&wheel, &probe.timer, 10);
    wheel_advance(&wheel, 999);
    assert_int_equal(probe.calls, 0);
    assert_int_equal(wheel.now_ms, 1000);
}

/* A slot that has lost its last timer must not wake the loop. */
static void forgets_a_cancelled_slot(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe one, two, later;
    wheel_init(&wheel, 0);
    probe_init(&one);
    probe_init(&two);
    probe_init(&later);
    wheel_set(&wheel, &one.timer, 10);
    wheel_set(&wheel, &two.timer, 10);
    wheel_set(&wheel, &later.timer, 20);
    wheel_cancel(&wheel, &one.timer);
    assert_int_equal(wheel_next(&wheel), 10);
    wheel_cancel(&wheel, &two.timer);
    assert_int_equal(wheel_next(&wheel), 20);
    wheel_cancel(&wheel, &later.timer);
    assert_int_equal(wheel_next(&wheel), WHEEL_NEVER);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        assert_int_equal(wheel.occupied[level], 0);
}

/* wheel_advance called at wheel_next alone reaches every timer on time, in a few steps. */
static void next_leads_to_each_timer(void **state)
{
    (void)state;
    static const uint64_t due[] = {1,        63,           64,       5000,
                                   86400000, TOP_SPAN - 1, TOP_SPAN, 100 * TOP_SPAN + 7};
    for (size_t i = 0; i < ARRAY_LEN(due); i++) {
        struct wheel wheel;
        struct probe probe;
        uint64_t start = UINT64_MAX / 2 - 77;
        wheel_init(&wheel, start);
        probe_init(&probe);
        wheel_set(&wheel, &probe.timer, start + due[i]);
        unsigned steps = 0;
        for (; probe.calls == 0; steps++) {
            uint64_t next = wheel_next(&wheel);
            assert_true(next <= start + due[i]);
            wheel_advance(&wheel, next);
        }
        assert_int_equal(probe.called_at, start + due[i]);
        assert_true(steps <= WHEEL_LEVELS + due[i] / (TOP_SPAN / 64 * 63));
    }
}

static void on_again(struct wheel_timer *timer, uint64_t now_ms)
{
    struct probe *probe = container_of(timer, struct probe, timer);
    on_probe(timer, now_ms);
    wheel_set(probe->wheel, timer, now_ms - 1);
}

static void a_callback_for_the_past_waits_a_call(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe probe = {.wheel = &wheel};
    wheel_init(&wheel, 50);
    wheel_timer_init(&probe.timer, on_again);
    wheel_set(&wheel, &probe.timer, 60);
    wheel_advance(&wheel, 100);
    assert_int_equal(probe.calls, 1);
    assert_int_equal(wheel_next(&wheel), 100);
    wheel_advance(&wheel, 100);
    assert_int_equal(probe.calls, 2);
    wheel_cancel(&wheel, &probe.timer);
}

static void on_cancel_other(struct wheel_timer *timer, uint64_t now_ms)
{
    struct probe *probe = container_of(timer, struct probe, timer);
    on_probe(timer, now_ms);
    wheel_cancel(probe->wheel, &probe->other->timer);
}

static void a_callback_cancels_one_that_is_due(void **state)
{
    (void)state;
    struct wheel wheel;
    struct probe one = {.wheel = &wheel}, two = {.wheel = &wheel};
    wheel_init(&wheel, 0);
    wheel_timer_init(&one.timer, on_cancel_other);
    wheel_timer_init(&two.timer, on_cancel_other);
    one.other = &two;
    two.other = &one;
    wheel_set(&wheel, &one.timer, 10);
    wheel_set(&wheel, &two.timer, 20);
    wheel_advance(&wheel, 30);
    assert_int_equal(one.calls, 1);
    assert_int_equal(two.calls, 0);
    assert_int_equal(wheel.count, 0);
}

/* ---- The model ---- */

struct model_timer {
    struct wheel_timer timer; /* the real one */
    bool is_set;              /* the model's */
    bool is_pending;          /* was due when the advance began, and not touched since */
    uint64_t due_ms;
};

struct world {
    struct wheel wheel;
    struct model_timer timer[TIMERS];
    uint64_t now_ms;
    uint64_t last_due_ms; /* of the advance that is going on */
    struct random_state random;
    uint64_t called;
};

static struct world world;

static void world_set(struct model_timer *timer, uint64_t due_ms)
{
    wheel_set(&world.wheel, &timer->timer, due_ms);
    timer->is_set = true;
    timer->is_pending = false;
    timer->due_ms = MAX(due_ms, world.now_ms);
}

static void world_cancel(struct model_timer *timer)
{
    wheel_cancel(&world.wheel, &timer->timer);
    timer->is_set = false;
    timer->is_pending = false;
}

static struct model_timer *world_any(void)
{
    return &world.timer[random_below(&world.random, TIMERS)];
}

/* Mostly near; sometimes the past, a higher level, or beyond the wheel. */
static uint64_t world_some_time(void)
{
    uint64_t bits = random_next(&world.random);
    uint64_t ahead = bits >> (64 - 1 - random_below(&world.random, 42));
    if (random_below(&world.random, 8) == 0)
        return world.now_ms - MIN(ahead, world.now_ms);
    return ahead > UINT64_MAX - 1 - world.now_ms ? UINT64_MAX - 1 : world.now_ms + ahead;
}

static void world_act(void)
{
    struct model_timer *timer = world_any();
    if (random_below(&world.random, 3) == 0)
        world_cancel(timer);
    else
        world_set(timer, world_some_time());
}

static void on_model_timer(struct wheel_timer *raw, uint64_t now_ms)
{
    struct model_timer *timer = container_of(raw, struct model_timer, timer);
    assert_int_equal(now_ms, world.now_ms);
    assert_true(timer->is_set);
    assert_true(timer->is_pending);
    assert_true(timer->due_ms <= now_ms);
    assert_true(timer->due_ms >= world.last_due_ms);
    assert_false(wheel_is_set(raw));
    world.last_due_ms = timer->due_ms;
    timer->is_set = false;
    timer->is_pending = false;
    world.called++;

    for (uint32_t n = random_below(&world.random, 3); n > 0; n--)
        world_act();
    if (random_below(&world.random, 3) == 0)
        world_set(timer, world_some_time());
    else if (random_below(&world.random, 3) == 0)
        world_cancel(timer);
}

static void world_advance(uint64_t now_ms)
{
    world.now_ms = now_ms;
    world.last_due_ms = 0;
    for (size_t i = 0; i < TIMERS; i++)
        world.timer[i].is_pending = world.timer[i].is_set && world.timer[i].due_ms <= now_ms;
    wheel_advance(&world.wheel, now_ms);
    for (size_t i = 0; i < TIMERS; i++)
        assert_false(world.timer[i].is_pending);
}

static void world_check(void)
{
    uint64_t earliest = WHEEL_NEVER;
    uint32_t count = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        assert_int_equal(wheel_is_set(&world.timer[i].timer), world.timer[i].is_set);
        if (!world.timer[i].is_set)
            continue;
        count++;
        earliest = MIN(earliest, world.timer[i].due_ms);
    }
    uint64_t next = wheel_next(&world.wheel);
    assert_int_equal(world.wheel.count, count);
    assert_true(next <= earliest);
    assert_true(next >= world.now_ms);
    if (count == 0)
        assert_int_equal(next, WHEEL_NEVER);
    /* Within the digit that now is in, slots are single milliseconds: then it is exact. */
    if (count > 0 && earliest >> 6 == world.now_ms >> 6)
        assert_int_equal(next, earliest);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            assert_int_equal(world.wheel.occupied[level] >> slot & 1,
                             !list_empty(&world.wheel.slot[level][slot]));
    }
}

/* To the next time asked for, short of it, past it, or a jump of any size. */
static uint64_t world_step(void)
{
    uint64_t next = wheel_next(&world.wheel);
    uint64_t bits = random_next(&world.random);
    uint64_t room = UINT64_MAX - 1 - world.now_ms;
    uint64_t jump = bits >> (64 - 1 - random_below(&world.random, 20));
    switch (random_below(&world.random, 4)) {
    case 0:
        return next == WHEEL_NEVER ? world.now_ms : next;
    case 1:
        return next == WHEEL_NEVER || next == world.now_ms ? world.now_ms : next - 1;
    case 2:
        return world.now_ms + MIN(jump, room);
    default:
        return world.now_ms + MIN(jump >> 12, room);
    }
}

static void world_run(uint64_t start_ms, uint64_t seed, unsigned steps)
{
    print_message("start %#llx seed %llu\n", (unsigned long long)start_ms,
                  (unsigned long long)seed);
    world = (struct world){.now_ms = start_ms};
    random_init(&world.random, seed);
    wheel_init(&world.wheel, start_ms);
    for (size_t i = 0; i < TIMERS; i++)
        wheel_timer_init(&world.timer[i].timer, on_model_timer);

    for (unsigned i = 0; i < steps; i++) {
        if (random_below(&world.random, 2) == 0)
            world_act();
        else
            world_advance(world_step());
        world_check();
    }
    assert_true(world.called > steps / 20);

    for (size_t i = 0; i < TIMERS; i++)
        world_cancel(&world.timer[i]);
    world_check();
}

static void agrees_with_the_model(void **state)
{
    (void)state;
    static const uint64_t start_ms[] = {
        0,
        1,
        63,
        4095,
        UINT32_MAX - 5000,
        UINT64_C(1) << 32,
        TOP_SPAN - 3,
        TOP_SPAN * 5 - 100000,
        (UINT64_C(1) << 63) - 700,
        UINT64_C(1) << 63,
    };
    for (size_t i = 0; i < ARRAY_LEN(start_ms); i++)
        world_run(start_ms[i], 1000 + i, 6000);
}

/* Time runs out in 64 bits only in 500 million years; nothing may overflow for a due time before.
 */
static void agrees_at_the_end_of_time(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++)
        world_run(UINT64_MAX - (UINT64_C(1) << 38), seed, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_empty_at_first),
        cmocka_unit_test(calls_once_and_not_early),
        cmocka_unit_test(tells_now_and_not_due),
        cmocka_unit_test(runs_the_past_at_the_next_advance),
        cmocka_unit_test(keeps_the_order_of_times),
        cmocka_unit_test(cancels_and_moves),
        cmocka_unit_test(never_runs_back),
        cmocka_unit_test(forgets_a_cancelled_slot),
        cmocka_unit_test(next_leads_to_each_timer),
        cmocka_unit_test(a_callback_for_the_past_waits_a_call),
        cmocka_unit_test(a_callback_cancels_one_that_is_due),
        cmocka_unit_test(agrees_with_the_model),
        cmocka_unit_test(agrees_at_the_end_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
