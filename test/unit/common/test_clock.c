/* Clocks that run forward, and the calendar beside the C library's. */
#include "common/clock.h"

#include "common/base.h"
#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static void runs_forward(void **state)
{
    (void)state;
    uint64_t us = clock_now_us(), ms = clock_now_ms();
    assert_true(us > 0);
    assert_true(ms > 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t later_us = clock_now_us(), later_ms = clock_now_ms();
        assert_true(later_us >= us);
        assert_true(later_ms >= ms);
        assert_true(later_ms >= later_us / 1000);
        us = later_us;
        ms = later_ms;
    }
}

static void tells_the_wall_time(void **state)
{
    (void)state;
    int64_t apart = (int64_t)(clock_wall_us() / 1000000) - (int64_t)time(NULL);
    assert_true(apart >= -1 && apart <= 1);
}

static void writes_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        uint64_t wall_us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {999, "1970-01-01T00:00:00.000Z"},
        {1769860800123999, "2026-01-31T12:00:00.123Z"},
        {UINT64_C(951782400000000), "2000-02-29T00:00:00.000Z"},
        {UINT64_C(951868800000000), "2000-03-01T00:00:00.000Z"},
        {UINT64_C(4107542400000000), "2100-03-01T00:00:00.000Z"},
        {UINT64_C(4107542399999999), "2100-02-28T23:59:59.999Z"},
        {UINT64_C(253402300799999999), "9999-12-31T23:59:59.999Z"},
        {UINT64_MAX, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[CLOCK_TEXT_MAX];
        assert_ptr_equal(clock_format(cases[i].wall_us, text), text);
        assert_string_equal(text, cases[i].text);
    }
}

static void check_against_libc(uint64_t seconds)
{
    char text[CLOCK_TEXT_MAX], expected[CLOCK_TEXT_MAX];
    struct tm tm;
    time_t time = (time_t)seconds;
    gmtime_r(&time, &tm);
    strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.500Z", &tm);
    assert_string_equal(clock_format(seconds * 1000000 + 500000, text), expected);
}

static void agrees_with_the_c_library(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 1);
    /* Every day of 410 years, at some second of it. */
    for (uint64_t day = 0; day < UINT64_C(410) * 366; day++)
        check_against_libc(day * 86400 + random_below(&random, 86400));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_forward),
        cmocka_unit_test(tells_the_wall_time),
        cmocka_unit_test(writes_rfc_3339),
        cmocka_unit_test(agrees_with_the_c_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
