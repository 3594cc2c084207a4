/* Text that never leaves its buffer, and the word that was meant. */
#include "common/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/death.h"

static void collects_pieces(void **state)
{
    (void)state;
    char data[32];
    struct text text;
    text_init(&text, data, sizeof(data));
    assert_string_equal(data, "");
    text_add(&text, "server ");
    text_add_bytes(&text, "a/b", 1);
    text_addf(&text, " is %s after %d", "down", 3);
    assert_string_equal(data, "server a is down after 3");
    assert_int_equal(text.length, strlen(data));
    assert_false(text.cut);
}

static void fills_to_the_last_byte(void **state)
{
    (void)state;
    char data[6] = "......";
    struct text text;
    text_init(&text, data, 5);
    text_add(&text, "ab");
    text_addf(&text, "%s", "cd");
    assert_string_equal(data, "abcd");
    assert_false(text.cut);
    text_add(&text, "");
    text_addf(&text, "%s", "");
    assert_false(text.cut);
    text_add(&text, "e");
    assert_true(text.cut);
    assert_string_equal(data, "abcd");
    assert_int_equal(data[5], '.');
}

static void cuts_what_does_not_fit(void **state)
{
    (void)state;
    for (size_t size = 1; size <= 12; size++) {
        char plain[16], formatted[16];
        struct text a, b;
        memset(plain, '.', sizeof(plain));
        memset(formatted, '.', sizeof(formatted));
        text_init(&a, plain, size);
        text_init(&b, formatted, size);
        text_add(&a, "0123456789");
        text_addf(&b, "%s%d", "01234567", 89);
        assert_int_equal(a.length, MIN(size - 1, 10));
        assert_int_equal(a.cut, size < 11);
        assert_int_equal(strlen(plain), a.length);
        assert_int_equal(b.length, a.length);
        assert_int_equal(b.cut, a.cut);
        assert_string_equal(plain, formatted);
        assert_int_equal(plain[size], '.');
        assert_int_equal(formatted[size], '.');
        /* After a cut nothing shorter slips in behind. */
        text_add(&a, "x");
        assert_int_equal(a.cut, size < 12);
    }
}

static void init_without_room(void *data)
{
    struct text text;
    text_init(&text, data, 0);
}

static void stops_at_misuse(void **state)
{
    (void)state;
    char data[1];
    assert_bug(init_without_room, data, "size == 0");
}

static void finds_what_was_meant(void **state)
{
    (void)state;
    static const char *const keys[] = {"connect_timeout", "idle_timeout", "retries", "bind",
                                       "pool"};
    static const struct {
        const char *word;
        const char *meant;
    } cases[] = {
        {"connect_timeout", "connect_timeout"},
        {"conect_timeout", "connect_timeout"},
        {"connect-timeout", "connect_timeout"},
        {"connect_timeuot", "connect_timeout"},
        {"idel_timeuot", "idle_timeout"},
        {"timeout", NULL},
        {"retrys", "retries"},
        {"retry", NULL},
        {"bnid", "bind"},
        {"bnd", "bind"},
        {"polo", "pool"},
        {"p", NULL},
        {"", NULL},
        {"weight", NULL},
        {"a_word_that_is_much_longer_than_any_key_of_any_table_could_ever_be_or_become", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *nearest = text_nearest(cases[i].word, keys, ARRAY_LEN(keys));
        if (nearest == NULL || cases[i].meant == NULL) {
            if (nearest != cases[i].meant)
                fail_msg("%s: %s", cases[i].word, nearest == NULL ? "nothing" : nearest);
        } else {
            assert_string_equal(nearest, cases[i].meant);
        }
    }
    assert_null(text_nearest("bind", NULL, 0));
}

static void prefers_the_nearer_and_then_the_first(void **state)
{
    (void)state;
    static const char *const keys[] = {"maximal", "minimum", "maximum", "maximus"};
    assert_string_equal(text_nearest("maximun", keys, ARRAY_LEN(keys)), "maximum");
    static const char *const even[] = {"rice", "rise"};
    assert_string_equal(text_nearest("rixe", even, ARRAY_LEN(even)), "rice");
    static const char *const lengthy[] = {
        "a_candidate_that_is_longer_than_the_words_that_people_write_in_files_or_commands", "bind"};
    assert_string_equal(text_nearest("bind", lengthy, ARRAY_LEN(lengthy)), "bind");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collects_pieces),
        cmocka_unit_test(fills_to_the_last_byte),
        cmocka_unit_test(cuts_what_does_not_fit),
        cmocka_unit_test(stops_at_misuse),
        cmocka_unit_test(finds_what_was_meant),
        cmocka_unit_test(prefers_the_nearer_and_then_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
