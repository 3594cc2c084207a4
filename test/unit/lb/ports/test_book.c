/* When the kernel is asked, and what its figures lead to: time and figures are the test's. */
#include "lb/ports/ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "test/unit/lb/ports/fixture.h"

static const char *const one[] = {"10.0.0.5:0", NULL};
static const char *const loopback[] = {"127.0.0.5:0", NULL};

static struct ports *ports;
static struct ports_tally *tally;

static void begin_with(enum ports_protocol protocol, const char *const *source)
{
    fixture_begin();
    ports = ports_of(protocol, "10.0.0.80:80", source);
    tally = ports->tally[0];
}

static int begin(void **state)
{
    (void)state;
    begin_with(PORTS_TCP, one);
    return 0;
}

static int begin_udp(void **state)
{
    (void)state;
    begin_with(PORTS_UDP, one);
    return 0;
}

static int begin_loopback(void **state)
{
    (void)state;
    begin_with(PORTS_TCP, loopback);
    return 0;
}

static int end(void **state)
{
    (void)state;
    ports_put(&ports);
    fixture_end();
    return 0;
}

static bool wants(void)
{
    return ports_wants_count(&book, tally, now);
}

static bool count(uint32_t used, uint32_t time_wait)
{
    ports_asked(tally);
    return ports_counted(&book, tally, used, time_wait, now);
}

static void is_asked_from_half_on(void **state)
{
    (void)state;
    take(ports, RANGE / 2 - 1);
    assert_false(wants());
    take(ports, 1);
    assert_true(wants());
    ports_asked(tally);
    assert_false(wants()); /* once */
}

/* What was closed in the last minute counts. */
static void is_asked_for_short_ones_too(void **state)
{
    (void)state;
    for (int i = 0; i < RANGE / 2; i++) {
        take(ports, 1);
        give(ports, 0, 1);
    }
    assert_true(wants());
    pass(59000);
    assert_true(wants());
    pass(7000);
    assert_false(wants());
    assert_int_equal(ports_held(tally), 0);
}

static void is_asked_once_a_second(void **state)
{
    (void)state;
    take(ports, RANGE / 2);
    assert_false(count(RANGE / 2, 0));
    pass(900);
    assert_false(wants());
    pass(100);
    assert_true(wants());
}

/* Or sooner, where a level may be passed meanwhile. */
static void is_asked_before_a_level_is_passed_unseen(void **state)
{
    (void)state;
    take(ports, RANGE / 2);
    assert_false(count(RANGE / 2, 0));
    take(ports, RANGE * 3 / 10 - 1);
    assert_false(wants());
    take(ports, 1);
    assert_true(wants());
}

static void is_asked_when_it_had_none(void **state)
{
    (void)state;
    take(ports, 1);
    ports_refuse(ports, 0, now);
    assert_true(wants());
}

static void with_ports_left_it_is_unfit(void **state)
{
    (void)state;
    take(ports, 5);
    give(ports, 0, 5);
    for (int i = 0; i < 3; i++) {
        take(ports, 1);
        ports_refuse(ports, 0, now);
        assert_int_equal(count(3, 0), i == 0);
        assert_int_equal(tally->level, PORTS_UNFIT);
        pass(5000);
        assert_false(wants()); /* nobody has tried again */
        assert_false(count(3, 0));
        assert_int_equal(tally->level, PORTS_UNFIT);
    }
    pass(PORTS_ASK_MS);
    take(ports, 1);
    assert_true(wants());
    assert_true(count(4, 0));
    assert_int_equal(tally->level, PORTS_WELL);
    pass(1000);
    assert_false(wants());
}

/* The kernel gives ports again: what is told is how many, and no more that it is unfit. */
static void what_is_no_more_unfit_runs_short(void **state)
{
    (void)state;
    take(ports, 1);
    ports_refuse(ports, 0, now);
    assert_true(count(3, 0));
    assert_int_equal(tally->level, PORTS_UNFIT);
    pass(5000);
    take(ports, 850);
    assert_true(count(853, 0));
    assert_int_equal(tally->level, PORTS_80_PERCENT);
    assert_true(count(690, 0));
    assert_int_equal(tally->level, PORTS_WELL);
}

static void its_figure_is_what_is_held(void **state)
{
    (void)state;
    take(ports, 600);
    give(ports, 0, 600);
    assert_int_equal(ports_held(tally), 600);
    assert_false(count(100, 100));
    assert_int_equal(ports_held(tally), 100);
    take(ports, 5);
    assert_int_equal(ports_held(tally), 105);
    pass(PORTS_FRESH_MS);
    assert_true(tally->counted);
    pass(200);
    assert_false(tally->counted); /* our own bound again */
    assert_int_equal(ports_held(tally), 605);
}

/* Other programs' sockets are more than ours. */
static void its_figure_may_be_larger(void **state)
{
    (void)state;
    take(ports, 1);
    ports_refuse(ports, 0, now);
    assert_true(count(900, 0));
    assert_false(count(700, 0));
    assert_int_equal(ports_held(tally), 700);
    pass(200);
    take(ports, 1);
    assert_int_equal(ports_held(tally), 701);
}

/* One that was on its way when the kernel was asked, and got none. */
static void less_than_none_is_none(void **state)
{
    (void)state;
    take(ports, 1);
    ports_asked(tally);
    ports_refuse(ports, 0, now);
    (void)!ports_counted(&book, tally, 0, 0, now);
    assert_int_equal(ports_held(tally), 0);
}

static void each_level_is_told_once(void **state)
{
    (void)state;
    static const struct {
        uint32_t used;
        bool told;
        enum ports_level level;
    } steps[] = {
        {799, false, PORTS_WELL},       {800, true, PORTS_80_PERCENT},
        {899, false, PORTS_80_PERCENT}, {900, true, PORTS_90_PERCENT},
        {800, false, PORTS_90_PERCENT}, {920, false, PORTS_90_PERCENT},
        {950, true, PORTS_95_PERCENT},  {999, false, PORTS_95_PERCENT},
        {1000, true, PORTS_EXHAUSTED},  {1000, false, PORTS_EXHAUSTED},
        {850, false, PORTS_EXHAUSTED},  {700, false, PORTS_EXHAUSTED},
        {699, true, PORTS_WELL},        {0, false, PORTS_WELL},
        {960, true, PORTS_95_PERCENT}, /* several at once are one line */
    };
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        assert_int_equal(count(steps[i].used, 0), steps[i].told);
        assert_int_equal(tally->level, steps[i].level);
    }
}

/* Until all is well it is watched, however few are ours. */
static void a_level_keeps_it_watched(void **state)
{
    (void)state;
    assert_true(count(850, 850));
    pass(1000);
    assert_true(wants());
    assert_true(count(0, 0));
    pass(1000);
    assert_false(wants());
}

/* Before the last port is taken: others are tried at once, but this is what they must know. */
static void a_refusal_is_exhaustion(void **state)
{
    (void)state;
    take(ports, 1);
    ports_refuse(ports, 0, now);
    assert_true(count(990, 0));
    assert_int_equal(tally->level, PORTS_EXHAUSTED);
    assert_false(count(700, 0));
    assert_true(count(690, 0));
    assert_int_equal(tally->level, PORTS_WELL);
}

/* Exhausted from 80 % on, by the kernel's count; unfit below half of them, by ours. */
static void what_a_refusal_says_of_those_held(void **state)
{
    static const struct {
        uint32_t held;
        enum ports_level level;
    } cases[] = {
        {850, PORTS_EXHAUSTED}, {800, PORTS_EXHAUSTED}, {799, PORTS_WELL},  {600, PORTS_WELL},
        {500, PORTS_WELL},      {499, PORTS_UNFIT},     {400, PORTS_UNFIT},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char server[32];
        snprintf(server, sizeof(server), "10.0.0.80:%zu", 8000 + i);
        struct ports *of_case = ports_of(PORTS_TCP, server, one);
        tally = of_case->tally[0];
        take(of_case, cases[i].held + 1);
        ports_refuse(of_case, 0, now);
        assert_int_equal(count(cases[i].held, 0), cases[i].level != PORTS_WELL);
        assert_int_equal(tally->level, cases[i].level);
        ports_put(&of_case);
    }
}

/* They were used up when it was refused, and are free by the time that the kernel counts. */
static void what_was_used_up_is_not_unfit(void **state)
{
    (void)state;
    take(ports, RANGE);
    assert_true(count(RANGE, 0));
    take(ports, 1);
    ports_refuse(ports, 0, now);
    give(ports, 0, RANGE);
    assert_true(count(0, 0));
    assert_int_equal(tally->level, PORTS_WELL);
}

static void time_wait_counts_unless_it_is_taken_again(void **state)
{
    (void)state;
    assert_true(count(900, 900));
    assert_true(count(0, 0));
    range.reuse_loopback = true; /* this address is none */
    pass(200);
    assert_true(count(900, 900));
    assert_true(count(0, 0));
    range.reuse = true;
    pass(200);
    assert_false(count(900, 900));
    assert_true(count(900, 100));
    assert_int_equal(tally->level, PORTS_80_PERCENT);
}

static void time_wait_of_loopback(void **state)
{
    (void)state;
    assert_false(ports_reuses(&book, tally));
    range.reuse_loopback = true;
    pass(200);
    assert_true(ports_reuses(&book, tally));
    assert_false(count(900, 900));
    /* A server without time stamps: the kernel could not take them. */
    take(ports, 1);
    ports_refuse(ports, 0, now);
    assert_true(count(1000, 1000));
    assert_int_equal(tally->level, PORTS_EXHAUSTED);
}

static void the_range_may_change(void **state)
{
    (void)state;
    assert_true(count(800, 0));
    assert_int_equal(tally->range, RANGE);
    range.tcp = 10 * RANGE;
    pass(200);
    assert_int_equal(tally->range, 10 * RANGE);
    assert_true(count(800, 0));
    assert_int_equal(tally->level, PORTS_WELL);
    range.tcp = 0; /* all are reserved */
    pass(200);
    assert_true(wants());
    assert_true(count(0, 0));
    assert_int_equal(tally->level, PORTS_EXHAUSTED);
}

static void udp_has_what_is_open(void **state)
{
    (void)state;
    take(ports, RANGE);
    give(ports, 0, RANGE);
    assert_false(wants());
    take(ports, RANGE / 2);
    assert_true(wants());
    assert_false(count(600, 0));
    assert_int_equal(ports_held(tally), RANGE / 2); /* a bound for the choice alone */
    give(ports, 0, 1);
    assert_int_equal(ports_held(tally), RANGE / 2 - 1);
    assert_true(count(900, 0));
    assert_false(ports_reuses(&book, tally));
}

/* Of one protocol and family at a time; who could not be asked now is the first next time. */
static void all_are_asked_in_turn(void **state)
{
    (void)state;
    struct ports *many[10];
    struct ports_tally *due[4];
    unsigned asked = 0;
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        char server[32];
        snprintf(server, sizeof(server), "10.0.0.80:%u", 8000 + i);
        many[i] = ports_of(PORTS_TCP, server, one);
        take(many[i], RANGE / 2);
    }
    assert_int_equal(ports_book_due(&book, PORTS_UDP, AF_INET, now, due, ARRAY_LEN(due)), 0);
    assert_int_equal(ports_book_due(&book, PORTS_TCP, AF_INET6, now, due, ARRAY_LEN(due)), 0);
    for (unsigned round = 0; round < 3; round++) {
        size_t count = ports_book_due(&book, PORTS_TCP, AF_INET, now, due, ARRAY_LEN(due));
        assert_int_equal(count, round < 2 ? 4 : 2);
        asked += (unsigned)count;
        /* Answered at once: those would be due again, were it not for the second between. */
        for (size_t i = 0; i < count; i++) {
            assert_true(due[i]->asked);
            assert_false(ports_counted(&book, due[i], RANGE / 2, 0, now));
        }
    }
    assert_int_equal(asked, ARRAY_LEN(many));
    assert_int_equal(ports_book_due(&book, PORTS_TCP, AF_INET, now, due, ARRAY_LEN(due)), 0);
    for (unsigned i = 0; i < ARRAY_LEN(many); i++)
        ports_put(&many[i]);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(is_asked_from_half_on),
        EACH(is_asked_for_short_ones_too),
        EACH(is_asked_once_a_second),
        EACH(is_asked_before_a_level_is_passed_unseen),
        EACH(is_asked_when_it_had_none),
        EACH(with_ports_left_it_is_unfit),
        EACH(what_is_no_more_unfit_runs_short),
        EACH(its_figure_is_what_is_held),
        EACH(its_figure_may_be_larger),
        EACH(less_than_none_is_none),
        EACH(each_level_is_told_once),
        EACH(a_level_keeps_it_watched),
        EACH(a_refusal_is_exhaustion),
        EACH(what_a_refusal_says_of_those_held),
        EACH(what_was_used_up_is_not_unfit),
        EACH(time_wait_counts_unless_it_is_taken_again),
        cmocka_unit_test_setup_teardown(time_wait_of_loopback, begin_loopback, end),
        EACH(the_range_may_change),
        cmocka_unit_test_setup_teardown(udp_has_what_is_open, begin_udp, end),
        EACH(all_are_asked_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
