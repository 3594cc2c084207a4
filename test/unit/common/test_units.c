/* Durations and sizes: read, refused, and written back. */
#include "common/units.h"

#include "common/random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct unit_case {
    const char *text;
    int rc;
    int64_t value;
};

typedef int parse_fn(const char *text, int64_t *out);

static void check(parse_fn *parse, const struct unit_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value = -77;
        int rc = parse(cases[i].text, &value);
        int64_t expected = cases[i].rc == 0 ? cases[i].value : -77;
        if (rc != cases[i].rc || value != expected)
            fail_msg("\"%s\": %d, %lld", cases[i].text, rc, (long long)value);
    }
}

static void reads_durations(void **state)
{
    (void)state;
    static const struct unit_case cases[] = {
        {"0", 0, 0},
        {"0s", 0, 0},
        {"1ms", 0, 1},
        {"250ms", 0, 250},
        {"10s", 0, 10000},
        {"5m", 0, 300000},
        {"2h", 0, 7200000},
        {"1d", 0, 86400000},
        {"007s", 0, 7000},
        {"9223372036854775807ms", 0, INT64_MAX},
        {"106751991167d", 0, INT64_C(106751991167) * 86400000},
        {"9223372036854775808ms", -ERANGE, 0},
        {"106751991168d", -ERANGE, 0},
        {"99999999999999999999999999s", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"10", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"ms", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"+1s", -EINVAL, 0},
        {" 1s", -EINVAL, 0},
        {"1s ", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"1.5s", -EINVAL, 0},
        {"0.5", -EINVAL, 0},
        {"1S", -EINVAL, 0},
        {"1k", -EINVAL, 0},
        {"1us", -EINVAL, 0},
        {"1m30s", -EINVAL, 0},
        {"0x10s", -EINVAL, 0},
    };
    check(units_parse_duration, cases, ARRAY_LEN(cases));
}

static void reads_sizes(void **state)
{
    (void)state;
    static const struct unit_case cases[] = {
        {"0", 0, 0},
        {"0k", 0, 0},
        {"1", 0, 1},
        {"65535", 0, 65535},
        {"64k", 0, 65536},
        {"3m", 0, 3 << 20},
        {"2g", 0, INT64_C(2) << 30},
        {"9223372036854775807", 0, INT64_MAX},
        {"8589934591g", 0, INT64_C(8589934591) << 30},
        {"9223372036854775808", -ERANGE, 0},
        {"8589934592g", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"k", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1kb", -EINVAL, 0},
        {"1.5k", -EINVAL, 0},
        {"64K", -EINVAL, 0},
        {"1t", -EINVAL, 0},
        {"1s", -EINVAL, 0},
    };
    check(units_parse_size, cases, ARRAY_LEN(cases));
}

static void writes_the_shortest(void **state)
{
    (void)state;
    char text[UNITS_TEXT_MAX];
    assert_string_equal(units_format_duration(0, text), "0");
    assert_string_equal(units_format_duration(1, text), "1ms");
    assert_string_equal(units_format_duration(1500, text), "1500ms");
    assert_string_equal(units_format_duration(90000, text), "90s");
    assert_string_equal(units_format_duration(60000, text), "1m");
    assert_string_equal(units_format_duration(86400000, text), "1d");
    assert_string_equal(units_format_duration(INT64_MAX, text), "9223372036854775807ms");
    assert_string_equal(units_format_size(0, text), "0");
    assert_string_equal(units_format_size(1000, text), "1000");
    assert_string_equal(units_format_size(65536, text), "64k");
    assert_string_equal(units_format_size(1 << 20, text), "1m");
    assert_string_equal(units_format_size(INT64_C(3) << 30, text), "3g");
    assert_string_equal(units_format_size(1025, text), "1025");
}

static void reads_what_it_writes(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 5);
    for (int i = 0; i < 10000; i++) {
        int64_t value = (int64_t)(random_next(&random) >> (1 + random_below(&random, 63)));
        int64_t round = value / 1000 * 1000;
        int64_t back;
        char text[UNITS_TEXT_MAX];
        assert_int_equal(units_parse_duration(units_format_duration(round, text), &back), 0);
        assert_int_equal(back, round);
        assert_int_equal(units_parse_size(units_format_size(value, text), &back), 0);
        assert_int_equal(back, value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_durations),
        cmocka_unit_test(reads_sizes),
        cmocka_unit_test(writes_the_shortest),
        cmocka_unit_test(reads_what_it_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
