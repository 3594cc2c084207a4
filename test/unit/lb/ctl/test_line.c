/*
 * What weirctl sends is what weir's own parser reads back, word by word.
 */
#include "lb/ctl/line.h"

#include "lb/admin/words.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char line[LINE_MAX_BYTES + 2];

static int make(char *const *words, size_t count, const char **why)
{
    struct text text;
    text_init(&text, line, sizeof(line));
    return line_make(&text, words, count, why);
}

static void arrives_as_it_was_typed(void **state)
{
    (void)state;
    static char *const words[] = {
        (char *)"show",
        (char *)"a b",
        (char *)"",
        (char *)"say \"hello\"",
        (char *)"back\\slash\\",
        (char *)"gr\xc3\xbc\xc3\x9f",
        (char *)"\"",
        (char *)" ",
        (char *)"-a=b",
    };
    struct words read;
    const char *why;
    assert_int_equal(make(words, ARRAY_LEN(words), &why), 0);
    assert_int_equal(words_parse(&read, line, strlen(line), &why), 0);
    assert_int_equal(read.count, ARRAY_LEN(words));
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        assert_null(read.word[i].key);
        assert_string_equal(read.word[i].text, words[i]);
    }
}

static void keeps_keys(void **state)
{
    (void)state;
    static char *const words[] = {(char *)"drain", (char *)"web/a", (char *)"deadline=5 m"};
    struct words read;
    const char *why;
    assert_int_equal(make(words, ARRAY_LEN(words), &why), 0);
    assert_string_equal(line, "drain web/a deadline=5\\ m");
    assert_int_equal(words_parse(&read, line, strlen(line), &why), 0);
    assert_string_equal(read.word[2].key, "deadline");
    assert_string_equal(read.word[2].text, "5 m");
}

/* A newline would be a second command. */
static void refuses_control_characters(void **state)
{
    (void)state;
    static char *const words[] = {(char *)"status", (char *)"x\nkill session 1"};
    const char *why;
    assert_int_equal(make(words, ARRAY_LEN(words), &why), -EINVAL);
    assert_string_equal(why, "a word holds a control character");
}

static void refuses_what_is_too_long(void **state)
{
    (void)state;
    char word[LINE_MAX_BYTES + 2];
    char *const words[] = {word};
    const char *why;
    memset(word, 'x', sizeof(word));
    word[LINE_MAX_BYTES] = '\0';
    assert_int_equal(make(words, 1, &why), 0);
    assert_int_equal(strlen(line), LINE_MAX_BYTES);
    word[LINE_MAX_BYTES] = 'x';
    word[LINE_MAX_BYTES + 1] = '\0';
    assert_int_equal(make(words, 1, &why), -EINVAL);
    assert_string_equal(why, "the command is too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrives_as_it_was_typed),
        cmocka_unit_test(keeps_keys),
        cmocka_unit_test(refuses_control_characters),
        cmocka_unit_test(refuses_what_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
