/* Errors: their order, their print, and nothing in them that steers a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/loader.h"

#include <stdlib.h>
#include <string.h>

static void assert_prints(const struct config_errors *errors, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_errors_print(errors, stream);
    fclose(stream);
    assert_string_equal(text, expected);
    free(text);
}

static void a_line_is_told_with_its_place(void **state)
{
    (void)state;
    struct config_errors errors = {0};
    assert_prints(&errors, "");
    config_errors_add(&errors, "weir.cfg", 12, "%s is %d", "weight", 7);
    config_errors_add(&errors, "weir.cfg", 0, "cannot be read");
    assert_prints(&errors, "weir.cfg:12: weight is 7\nweir.cfg: cannot be read\n");
    config_errors_clear(&errors);
    assert_int_equal(errors.count, 0);
    config_errors_clear(&errors);
}

static void errors_stand_in_the_order_of_the_file(void **state)
{
    (void)state;
    struct config_errors errors = {0};
    config_errors_add(&errors, "a", 3, "first of its line");
    config_errors_add(&errors, "b", 9, "another file");
    config_errors_add(&errors, "a", 1, "earlier");
    config_errors_add(&errors, "a", 3, "second of its line");
    config_errors_add(&errors, "b", 2, "earlier there");
    config_errors_sort(&errors);
    assert_prints(&errors, "a:1: earlier\na:3: first of its line\na:3: second of its line\n"
                           "b:2: earlier there\nb:9: another file\n");
    config_errors_clear(&errors);
}

static void what_is_said_twice_is_told_once(void **state)
{
    (void)state;
    struct config_errors errors = {0};
    for (int i = 0; i < 9; i++)
        config_errors_add(&errors, "a", 3, "%s", i % 3 == 0 ? "this" : "that");
    config_errors_sort(&errors);
    assert_prints(&errors, "a:3: this\na:3: that\n");
    config_errors_add(&errors, "a", 4, "one more");
    assert_int_equal(errors.count, 3);
    config_errors_clear(&errors);
}

static void control_characters_are_blanked(void **state)
{
    (void)state;
    struct config_errors errors = {0};
    config_errors_add(&errors, "a\nb", 1, "name = \"%s\"", "\x1b[31m\r\n\x7f");
    assert_prints(&errors, "a?b:1: name = \"?[31m???\"\n");
    config_errors_clear(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_told_with_its_place),
        cmocka_unit_test(errors_stand_in_the_order_of_the_file),
        cmocka_unit_test(what_is_said_twice_is_told_once),
        cmocka_unit_test(control_characters_are_blanked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
