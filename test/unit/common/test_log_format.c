/* Whatever the values hold, a line is one line, readable as text, and valid as JSON. */
#include "common/log_format.h"

#include "common/random.h"

#include <jansson.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WALL_US 1769860800123456u /* 2026-01-31T12:00:00.123456Z */
#define TEXT_HEAD "2026-01-31T12:00:00.123Z info session"
#define JSON_HEAD "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\",\"event\":\"session\""

static char line[LOG_LINE_MAX + 1];

static size_t make(enum log_format format, const char *event, const struct log_field *fields,
                   size_t count)
{
    struct log_record record = {.wall_us = WALL_US,
                                .level = LOG_LEVEL_INFO,
                                .event = event,
                                .fields = fields,
                                .count = count};
    memset(line, 0xaa, sizeof(line));
    size_t length = log_format_line(line, format, &record);
    assert_in_range(length, 1, LOG_LINE_MAX);
    assert_int_equal(line[length], (char)0xaa);
    line[length] = '\0';
    assert_int_equal(strlen(line), length);
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
    return length;
}

/* One string field, in text: what comes after its "v=". */
static void expect_text(const char *value, const char *written)
{
    char whole[LOG_LINE_MAX];
    make(LOG_FORMAT_TEXT, "session", LOG_FIELDS(LOG_S("v", value)));
    snprintf(whole, sizeof(whole), TEXT_HEAD " v=%s\n", written);
    assert_string_equal(line, whole);
}

static void expect_json(const char *value, const char *written)
{
    char whole[LOG_LINE_MAX];
    make(LOG_FORMAT_JSON, "session", LOG_FIELDS(LOG_S("v", value)));
    snprintf(whole, sizeof(whole), JSON_HEAD ",\"v\":\"%s\"}\n", written);
    assert_string_equal(line, whole);
}

static json_t *parse(size_t length)
{
    json_error_t error;
    json_t *root = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        fail_msg("%s in %s", error.text, line);
    return root;
}

static void test_all_kinds_of_fields(void **state)
{
    (void)state;
    const struct log_field fields[] = {
        LOG_S("client", "192.0.2.1:4711"),
        LOG_S("none", NULL),
        LOG_U("least", 0),
        LOG_U("most", UINT64_MAX),
        LOG_I("negative", INT64_MIN),
        LOG_I("positive", INT64_MAX),
        LOG_US("connect_ms", 213),
        LOG_US("long_ms", 61000001),
    };
    make(LOG_FORMAT_TEXT, "session", fields, ARRAY_LEN(fields));
    assert_string_equal(line, TEXT_HEAD " client=192.0.2.1:4711 least=0 most=18446744073709551615"
                                        " negative=-9223372036854775808"
                                        " positive=9223372036854775807"
                                        " connect_ms=0.213 long_ms=61000.001\n");
    make(LOG_FORMAT_JSON, "session", fields, ARRAY_LEN(fields));
    assert_string_equal(line, JSON_HEAD ",\"client\":\"192.0.2.1:4711\",\"least\":0"
                                        ",\"most\":18446744073709551615"
                                        ",\"negative\":-9223372036854775808"
                                        ",\"positive\":9223372036854775807"
                                        ",\"connect_ms\":0.213,\"long_ms\":61000.001}\n");
}

static void test_no_fields(void **state)
{
    (void)state;
    make(LOG_FORMAT_TEXT, "session", LOG_FIELDS());
    assert_string_equal(line, TEXT_HEAD "\n");
    make(LOG_FORMAT_JSON, "session", LOG_FIELDS());
    assert_string_equal(line, JSON_HEAD "}\n");
}

static void test_level_thread_and_changing_second(void **state)
{
    (void)state;
    struct log_record record = {.level = LOG_LEVEL_DEBUG, .event = "two words", .thread = "w0"};
    const char *text[] = {"1970-01-01T00:00:00.000Z debug two words thread=w0\n",
                          "1970-01-01T00:00:00.999Z debug two words thread=w0\n",
                          "1970-01-01T00:00:01.001Z debug two words thread=w0\n"};
    const uint64_t wall_us[] = {0, 999999, 1001000};
    for (size_t i = 0; i < ARRAY_LEN(text); i++) {
        record.wall_us = wall_us[i];
        line[log_format_line(line, LOG_FORMAT_TEXT, &record)] = '\0';
        assert_string_equal(line, text[i]);
    }
}

static void test_text_quotes_what_is_not_plain(void **state)
{
    (void)state;
    expect_text("plain-value_1:[2001:db8::1]/%$", "plain-value_1:[2001:db8::1]/%$");
    expect_text("", "\"\"");
    expect_text("two words", "\"two words\"");
    expect_text("a=b", "\"a=b\"");
    expect_text("say \"hi\"", "\"say \\\"hi\\\"\"");
    expect_text("back\\slash", "\"back\\\\slash\"");
    expect_text("a\nb\tc\rd", "\"a\\nb\\tc\\x0dd\"");
    expect_text("\x01\x1b[31m\x7f", "\"\\x01\\x1b[31m\\x7f\"");
    expect_text("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa6",
                "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa6\"");
}

static void test_json_escapes(void **state)
{
    (void)state;
    expect_json("plain", "plain");
    expect_json("", "");
    expect_json("a \"b\" \\ \n\t\r\x01\x7f", "a \\\"b\\\" \\\\ \\n\\t\\u000d\\u0001\\u007f");
    expect_json("\xe2\x82\xac", "\xe2\x82\xac");
}

static void test_not_utf8(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "\x80",             /* a continuation alone */
        "\xc3",             /* the text ends inside */
        "\xe2\x82",         /* the same, of three */
        "\xf0\x9f\x90",     /* the same, of four */
        "\xc0\xaf",         /* overlong '/' */
        "\xc1\xbf",         /* overlong */
        "\xe0\x9f\xbf",     /* overlong, of three */
        "\xf0\x8f\xbf\xbf", /* overlong, of four */
        "\xed\xa0\x80",     /* a surrogate */
        "\xed\xbf\xbf",     /* the last one */
        "\xf4\x90\x80\x80", /* U+110000 */
        "\xf5\x80\x80\x80", /* never a first byte */
        "\xf9\x80\x80\x80",
        "\xfe",
        "\xff",
    };
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        char text[64] = "\"";
        char json[64] = "";
        for (const char *at = broken[i]; *at; at++) {
            snprintf(text + strlen(text), 5, "\\x%02x", (unsigned char)*at);
            snprintf(json + strlen(json), 7, "\\ufffd");
        }
        strcat(text, "\"");
        expect_text(broken[i], text);
        expect_json(broken[i], json);
    }
    expect_text("a\xc3z", "\"a\\xc3z\"");
    expect_json("\xe2\x82z", "\\ufffd\\ufffdz");
}

static void test_edges_of_utf8_stay(void **state)
{
    (void)state;
    static const char *const good[] = {"\xc2\xa0",     "\xdf\xbf",         "\xe0\xa0\x80",
                                       "\xed\x9f\xbf", "\xee\x80\x80",     "\xef\xbf\xbf",
                                       "\xe2\x80\xa7", "\xe2\x80\xaf",     "\xf0\x90\x80\x80",
                                       "\xe2\x81\xa5", "\xf4\x8f\xbf\xbf", "\xe2\x81\xaa"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char text[16];
        snprintf(text, sizeof(text), "\"%s\"", good[i]);
        expect_text(good[i], text);
        expect_json(good[i], good[i]);
    }
}

static void test_characters_that_move_the_terminal(void **state)
{
    (void)state;
    expect_text("\xc2\x9b", "\"\\xc2\\x9b\"");
    expect_json("\xc2\x9b", "\\u009b");
    expect_text("\xe2\x80\xae", "\"\\xe2\\x80\\xae\"");
    expect_json("\xe2\x80\xa8\xe2\x80\xae", "\\u2028\\u202e");
    expect_json("\xe2\x81\xa6\xe2\x81\xa9", "\\u2066\\u2069");
}

static void test_hostile_event(void **state)
{
    (void)state;
    make(LOG_FORMAT_TEXT, "a\nb", LOG_FIELDS());
    assert_non_null(strstr(line, " info a\\nb\n"));
    json_decref(parse(make(LOG_FORMAT_JSON, "a\n\"b\xff", LOG_FIELDS())));

    char *huge = calloc(1, 3 * LOG_LINE_MAX);
    memset(huge, '"', 3 * LOG_LINE_MAX - 1);
    make(LOG_FORMAT_TEXT, huge, LOG_FIELDS(LOG_U("n", 1)));
    assert_non_null(strstr(line, " cut=true\n"));
    json_t *root = parse(make(LOG_FORMAT_JSON, huge, LOG_FIELDS(LOG_U("n", 1))));
    assert_true(json_is_true(json_object_get(root, "cut")));
    assert_null(json_object_get(root, "n"));
    json_decref(root);
    free(huge);
}

/* A string of every length around the limit, followed by a number. */
static void test_cut_lines_say_so(void **state)
{
    (void)state;
    static const char *const unit[] = {"x", " ", "\n", "\"", "\xff", "\xe2\x82\xac", "\xc2\x9b"};
    char *value = malloc(LOG_LINE_MAX * 4);
    for (size_t u = 0; u < ARRAY_LEN(unit); u++) {
        size_t width = strlen(unit[u]);
        for (size_t n = 150; n < LOG_LINE_MAX + 10; n++) {
            for (size_t i = 0; i < n; i++)
                memcpy(value + i * width, unit[u], width + 1);
            const struct log_field fields[] = {LOG_S("v", value), LOG_U("number", 1234567890)};
            make(LOG_FORMAT_TEXT, "session", fields, ARRAY_LEN(fields));
            bool cut = strstr(line, " cut=true\n") != NULL;
            assert_int_equal(strstr(line, " number=1234567890\n") != NULL, !cut);
            assert_non_null(strstr(line, " v="));

            json_t *root = parse(make(LOG_FORMAT_JSON, "session", fields, ARRAY_LEN(fields)));
            cut = json_is_true(json_object_get(root, "cut"));
            assert_int_equal(json_object_get(root, "number") != NULL, !cut);
            json_decref(root);
        }
    }
    free(value);
}

static void test_numbers_are_never_cut_inside(void **state)
{
    (void)state;
    struct log_field fields[200];
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        fields[i] = LOG_U("n", 1234567);
    make(LOG_FORMAT_TEXT, "session", fields, ARRAY_LEN(fields));
    char *tail = strstr(line, " cut=true\n");
    assert_non_null(tail);
    *tail = '\0';
    for (char *at = line + strlen(TEXT_HEAD); *at; at += strlen(" n=1234567"))
        assert_memory_equal(at, " n=1234567", strlen(" n=1234567"));
}

static void random_string(struct random_state *random, char *out, size_t length)
{
    static const char likely[] = "a\"\\ =\n\xc2\xc3\xe2\x80\xa8\xed\xf0\xf4\x9f\xbf";
    for (size_t i = 0; i < length; i++) {
        uint32_t r = random_below(random, 1 << 16);
        out[i] = r & 1 ? likely[r / 2 % (sizeof(likely) - 1)] : (char)(r >> 8);
        if (out[i] == '\0')
            out[i] = '0';
    }
    out[length] = '\0';
}

static void test_any_bytes(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, 20260131);
    for (int i = 0; i < 20000; i++) {
        char a[101];
        char b[101];
        random_string(&random, a, random_below(&random, 101));
        random_string(&random, b, random_below(&random, 101));
        const struct log_field fields[] = {LOG_S("a", a), LOG_S("b", b), LOG_U("n", 1)};
        make(LOG_FORMAT_TEXT, "session", fields, ARRAY_LEN(fields));
        json_t *root = parse(make(LOG_FORMAT_JSON, "session", fields, ARRAY_LEN(fields)));
        assert_int_equal(json_integer_value(json_object_get(root, "n")), 1);
        json_decref(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds_of_fields),
        cmocka_unit_test(test_no_fields),
        cmocka_unit_test(test_level_thread_and_changing_second),
        cmocka_unit_test(test_text_quotes_what_is_not_plain),
        cmocka_unit_test(test_json_escapes),
        cmocka_unit_test(test_not_utf8),
        cmocka_unit_test(test_edges_of_utf8_stay),
        cmocka_unit_test(test_characters_that_move_the_terminal),
        cmocka_unit_test(test_hostile_event),
        cmocka_unit_test(test_cut_lines_say_so),
        cmocka_unit_test(test_numbers_are_never_cut_inside),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
