/*
 * The search against memmem(3), in pieces of every size.
 */
#include "lb/health/needle.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool finds(const char *text, const char *bytes, size_t size, size_t piece)
{
    struct needle needle;
    needle_init(&needle, text);
    for (size_t at = 0; at < size; at += piece)
        needle_feed(&needle, bytes + at, MIN(piece, size - at));
    return needle_found(&needle);
}

static bool finds_in(const char *text, const char *hay)
{
    bool found = finds(text, hay, strlen(hay), strlen(hay) + 1);
    for (size_t piece = 1; piece <= strlen(hay); piece++)
        assert_int_equal(finds(text, hay, strlen(hay), piece), found);
    return found;
}

static void the_empty_text_is_everywhere(void **state)
{
    (void)state;
    assert_true(finds("", "", 0, 1));
    assert_true(finds_in("", "anything"));
}

static void finds_at_the_ends_and_across_pieces(void **state)
{
    (void)state;
    assert_true(finds_in("ok", "ok"));
    assert_true(finds_in("ok", "status: ok"));
    assert_true(finds_in("ok", "ok, all of it"));
    assert_false(finds_in("ok", "oK"));
    assert_false(finds_in("ok", "o"));
}

/* A search that begins anew after a mismatch would miss these. */
static void finds_what_overlaps_itself(void **state)
{
    (void)state;
    assert_true(finds_in("aab", "aaab"));
    assert_true(finds_in("abcabd", "abcabcabd"));
    assert_true(finds_in("ananas", "anananas"));
}

static void takes_the_longest_text(void **state)
{
    (void)state;
    char text[NEEDLE_MAX + 1];
    char hay[NEEDLE_MAX + 2];
    memset(text, 'a', NEEDLE_MAX);
    text[NEEDLE_MAX] = '\0';
    memset(hay, 'a', sizeof(hay));
    assert_true(finds(text, hay, NEEDLE_MAX, 7));
    assert_false(finds(text, hay, NEEDLE_MAX - 1, 7));
    text[NEEDLE_MAX - 1] = 'b';
    hay[NEEDLE_MAX] = 'b';
    assert_true(finds(text, hay, sizeof(hay), 7));
}

/* Two letters, so that texts and hay are full of repetitions. */
static void fill(struct random_state *random, char *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (char)('a' + random_below(random, 2));
    out[length] = '\0';
}

static void agrees_with_memmem(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 1);
    for (int i = 0; i < 20000; i++) {
        char text[16];
        char hay[64];
        fill(&random, text, random_below(&random, sizeof(text)));
        fill(&random, hay, random_below(&random, sizeof(hay)));
        bool expected = memmem(hay, strlen(hay), text, strlen(text)) != NULL;
        size_t piece = 1 + random_below(&random, 9);
        assert_int_equal(finds(text, hay, strlen(hay), piece), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_empty_text_is_everywhere),
        cmocka_unit_test(finds_at_the_ends_and_across_pieces),
        cmocka_unit_test(finds_what_overlaps_itself),
        cmocka_unit_test(takes_the_longest_text),
        cmocka_unit_test(agrees_with_memmem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
