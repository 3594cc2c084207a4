/*
 * Replies are one line of valid JSON whatever goes into them.
 */
#include "lb/admin/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_line(char *line, const char *expected)
{
    assert_non_null(line);
    assert_string_equal(line, expected);
    free(line);
}

static void tells_data(void **state)
{
    (void)state;
    assert_line(reply_data_line(json_array(), false), "{\"ok\":true,\"data\":[]}");
    assert_line(reply_data_line(json_array(), true), "{\"ok\":true,\"more\":true,\"data\":[]}");
}

static void keeps_the_order_of_fields(void **state)
{
    (void)state;
    struct reply row = reply_object();
    struct reply rows = reply_array();
    reply_add_text(&row, "z", "last");
    reply_add_number(&row, "a", UINT64_C(1) << 53);
    reply_add_flag(&row, "m", false);
    reply_add(&row, "n", json_null());
    assert_true(reply_append(&rows, reply_end(&row)));
    assert_line(reply_data_line(reply_end(&rows), false),
                "{\"ok\":true,\"data\":[{\"z\":\"last\",\"a\":9007199254740992,\"m\":false,"
                "\"n\":null}]}");
}

static void tells_errors(void **state)
{
    (void)state;
    assert_line(reply_error_line("a \"b\"\n\x1b[2J"),
                "{\"ok\":false,\"error\":\"a \\\"b\\\"\\n\\u001B[2J\"}");
}

static void repairs_what_is_not_utf8(void **state)
{
    (void)state;
    assert_line(reply_error_line("a\xff z"), "{\"ok\":false,\"error\":\"a\xef\xbf\xbd z\"}");
    assert_line(reply_error_line("\xc3\xbc"), "{\"ok\":false,\"error\":\"\xc3\xbc\"}");
    assert_line(reply_error_line("\xc3\xbc\xc3"), "{\"ok\":false,\"error\":\"\xef\xbf\xbd"
                                                  "\xef\xbf\xbd\xef\xbf\xbd\"}");
}

/* A field that was lost spoils the whole: nothing half goes out. */
static void remembers_a_failure(void **state)
{
    (void)state;
    struct reply row = reply_object();
    struct reply rows = reply_array();
    reply_add_number(&row, "a", 1);
    reply_add(&row, "b", NULL);
    reply_add_number(&row, "c", 3);
    json_t *end = reply_end(&row);
    assert_null(end);
    assert_true(reply_append(&rows, json_true()));
    assert_false(reply_append(&rows, end));
    assert_false(reply_append(&rows, json_true()));
    assert_null(reply_data_line(reply_end(&rows), false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_data),          cmocka_unit_test(keeps_the_order_of_fields),
        cmocka_unit_test(tells_errors),        cmocka_unit_test(repairs_what_is_not_utf8),
        cmocka_unit_test(remembers_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
