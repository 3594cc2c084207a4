/*
 * The parser of request lines: what parts words, what quotes and backslashes keep together, and
 * what is refused.
 */
#include "lb/admin/words.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The words in brackets, a key before its '=', so that a case is one line. */
static void show(const struct words *words, char *out, size_t size)
{
    struct text text;
    text_init(&text, out, size);
    for (size_t i = 0; i < words->count; i++) {
        const struct word *word = &words->word[i];
        text_addf(&text, "[%s%s%s]", word->key != NULL ? word->key : "",
                  word->key != NULL ? "]=[" : "", word->text);
    }
}

static int parse(const char *line, struct words *out, const char **why)
{
    static char copy[8192];
    size_t length = strlen(line);
    assert_true(length < sizeof(copy));
    memcpy(copy, line, length + 1);
    return words_parse(out, copy, length, why);
}

static void takes_lines_apart(void **state)
{
    (void)state;
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"", ""},
        {" \t ", ""},
        {"status", "[status]"},
        {"  show\t servers  web ", "[show][servers][web]"},
        {"drain web/a deadline=5m", "[drain][web/a][deadline]=[5m]"},
        {"a=", "[a]=[]"},
        {"a=b=c", "[a]=[b=c]"},
        {"=b", "[=b]"},
        {"A=b", "[A=b]"},
        {"a-b=c", "[a-b=c]"},
        {"k_1=v", "[k_1]=[v]"},
        {"\"a=b\"", "[a=b]"},
        {"a\"=\"b", "[a=b]"},
        {"a=\"b c\"", "[a]=[b c]"},
        {"\"\"", "[]"},
        {"\"\" \"\"", "[][]"},
        {"\"show sessions\" x", "[show sessions][x]"},
        {"a\" \"b", "[a b]"},
        {"a\\ b c", "[a b][c]"},
        {"\\\"a\\\\", "[\"a\\]"},
        {"\"a\\\"b\"", "[a\"b]"},
        {"a\\=b", "[a=b]"},
        {"client=[2001:db8::1]:80", "[client]=[[2001:db8::1]:80]"},
        {"gr\xc3\xbc\xc3\x9f", "[gr\xc3\xbc\xc3\x9f]"},
        {"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
         "[1][2][3][4][5][6][7][8][9][10][11][12][13][14][15][16]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct words words;
        const char *why;
        char shown[256];
        assert_int_equal(parse(cases[i].line, &words, &why), 0);
        show(&words, shown, sizeof(shown));
        assert_string_equal(shown, cases[i].words);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"\"", "the closing quote is missing"},
        {"a \"b", "the closing quote is missing"},
        {"a=\"b", "the closing quote is missing"},
        {"\"a\\\"", "the closing quote is missing"},
        {"a\\", "nothing follows the backslash at the end"},
        {"\"a\\", "nothing follows the backslash at the end"},
        {"a\rb", "a request holds no control characters"},
        {"a\x1b[2J", "a request holds no control characters"},
        {"a\x7f", "a request holds no control characters"},
        {"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "there are too many words"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct words words;
        const char *why = NULL;
        assert_int_equal(parse(cases[i].line, &words, &why), -EINVAL);
        assert_string_equal(why, cases[i].why);
    }
}

/* "kill session 12\0 34" must not kill session 12. */
static void refuses_a_nul(void **state)
{
    (void)state;
    char line[] = "kill session 12\0 34";
    struct words words;
    const char *why;
    assert_int_equal(words_parse(&words, line, sizeof(line) - 1, &why), -EINVAL);
}

static void prints_them_again(void **state)
{
    (void)state;
    struct words words;
    const char *why;
    char line[64];
    struct text text;
    text_init(&text, line, sizeof(line));
    assert_int_equal(parse(" drain  \"web/a\" deadline=5m", &words, &why), 0);
    words_print(&words, &text);
    assert_string_equal(line, "drain web/a deadline=5m");
}

static void reads_numbers(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1.", "a", "18446744073709551616"};
    uint64_t number = 42;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(words_number(wrong[i], UINT64_MAX, &number));
    assert_false(words_number("65536", 65535, &number));
    assert_int_equal(number, 42);
    assert_true(words_number("65535", 65535, &number));
    assert_int_equal(number, 65535);
    assert_true(words_number("18446744073709551615", UINT64_MAX, &number));
    assert_true(number == UINT64_MAX);
    assert_true(words_number("007", 7, &number));
    assert_int_equal(number, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_lines_apart), cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_a_nul),     cmocka_unit_test(prints_them_again),
        cmocka_unit_test(reads_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
