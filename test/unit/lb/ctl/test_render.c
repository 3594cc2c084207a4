/*
 * Answers as people see them: units, escapes, tables and lists.
 */
#include "lb/ctl/render.h"

#include "lb/ctl/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a stream into a string ---- */

static struct {
    FILE *stream;
    char *text;
    size_t size;
} out;

static FILE *begin(void)
{
    out.stream = open_memstream(&out.text, &out.size);
    return out.stream;
}

static void end_as(const char *expected)
{
    fclose(out.stream);
    assert_string_equal(out.text, expected);
    free(out.text);
}

static void assert_rendered(const char *line, const char *json, const char *expected)
{
    json_t *data = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(data);
    assert_int_equal(render(begin(), line, data), 0);
    end_as(expected);
    json_decref(data);
}

/* ---- units ---- */

static void tells_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1023, "1023"},
        {1024, "1.0K"},
        {1126, "1.0K"},
        {1127, "1.1K"},
        {10239, "9.9K"},
        {10240, "10K"},
        {1048575, "1023K"},
        {1048576, "1.0M"},
        {UINT64_C(5) << 30, "5.0G"},
        {UINT64_C(1) << 40, "1.0T"},
        {UINT64_C(1) << 50, "1.0P"},
        {UINT64_MAX, "15E"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        value_print_bytes(begin(), cases[i].bytes);
        end_as(cases[i].text);
    }
}

static void tells_spans(void **state)
{
    (void)state;
    static const struct {
        uint64_t us;
        const char *text;
    } cases[] = {
        {0, "0s"},
        {1, "1us"},
        {999, "999us"},
        {1000, "1ms"},
        {999999, "999ms"},
        {1000000, "1.0s"},
        {9990000, "9.9s"},
        {10000000, "10s"},
        {59999999, "59s"},
        {60000000, "1m00s"},
        {252000000, "4m12s"},
        {3599000000, "59m59s"},
        {3600000000, "1h00m"},
        {86399000000, "23h59m"},
        {86400000000, "1d00h"},
        {UINT64_C(8640000000000), "100d00h"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        value_print_span(begin(), cases[i].us);
        end_as(cases[i].text);
    }
}

static void takes_the_unit_from_the_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"bytes_in", "2.0K"}, {"age_ms", "2.0s"},   {"uptime_s", "34m08s"}, {"turn_us", "2ms"},
        {"weight", "2048"},   {"sessions", "2048"}, {"_s", "2048"},         {"s", "2048"},
    };
    json_t *number = json_integer(2048);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        value_print(begin(), cases[i][0], number);
        end_as(cases[i][1]);
    }
    json_decref(number);
}

static void does_not_overflow(void **state)
{
    (void)state;
    json_t *number = json_integer(INT64_MAX);
    value_print(begin(), "age_ms", number);
    end_as("9223372036854775807");
    json_integer_set(number, -5);
    value_print(begin(), "bytes_in", number);
    end_as("-5");
    json_decref(number);
}

/* ---- text ---- */

static void lets_no_control_character_through(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"a\nb\tc", "a\\x0ab\\x09c"},
        {"\x1b]0;owned\a", "\\x1b]0;owned\\x07"},
        {"\x7f", "\\x7f"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8d\xba", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac "
                                                             "\xf0\x9f\x8d\xba"},
        {"\xc2\x9b"
         "2J",
         "\\u009b2J"},
        {"\xe2\x80\xae", "\\u202e"},
        {"\xe2\x81\xa6", "\\u2066"},
        /* not UTF-8, as a path of the command line may be: read no byte too far */
        {"\xff", "\\xff"},
        {"\x80", "\\x80"},
        {"\xc3", "\\xc3"},
        {"\xe2\x82", "\\xe2\\x82"},
        {"\xf0\x9f\x8d", "\\xf0\\x9f\\x8d"},
        {"\xc3z", "\\xc3z"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        value_print_text(begin(), cases[i][0]);
        end_as(cases[i][1]);
    }
    value_print_lines(begin(), "a\n\tb\r\n");
    end_as("a\n\tb\\x0d\n");
}

/* ---- tables ---- */

static void aligns_columns(void **state)
{
    (void)state;
    assert_rendered("show pools",
                    "[{\"name\":\"web\",\"scheduler\":\"p2c\",\"servers\":3,\"usable\":2,"
                    "\"draining\":1,\"sessions\":12345,\"sessions_total\":7,\"bytes_in\":1536,"
                    "\"bytes_out\":0,\"connect_failures\":0,\"resets\":0},"
                    "{\"name\":\"gr\xc3\xbc\xc3\x9f"
                    "e\",\"scheduler\":\"maglev\",\"servers\":1,"
                    "\"usable\":1,\"draining\":0,\"sessions\":1,\"sessions_total\":7,"
                    "\"bytes_in\":0,\"bytes_out\":99,\"connect_failures\":2,\"resets\":0}]",
                    "POOL   SCHEDULER  SERVERS  USABLE  DRAINING  SESSIONS  TOTAL    IN  OUT  "
                    "FAILED  RESETS\n"
                    "web    p2c              3       2         1     12345      7  1.5K    0  "
                    "     0       0\n"
                    "gr\xc3\xbc\xc3\x9f"
                    "e  maglev           1       1         0         1      "
                    "7     0   99       2       0\n");
}

#define ROW_A                                                                                      \
    "{\"pool\":\"web\",\"name\":\"a\",\"address\":\"192.0.2.1:80\",\"weight\":100,"                \
    "\"admin\":\"enabled\",\"health\":\"up\",\"usable\":true,\"reason\":\"probed\","               \
    "\"sessions\":1,\"sessions_total\":2,\"bytes_in\":3,\"bytes_out\":4,"                          \
    "\"connect_failures\":5,\"resets\":6}"
#define ROW_B                                                                                      \
    "{\"pool\":\"web\",\"name\":\"b\",\"address\":\"192.0.2.2:80\",\"weight\":7,"                  \
    "\"admin\":\"drain\",\"health\":\"up\",\"usable\":false,\"reason\":\"asked\\nfor\","           \
    "\"sessions\":3,\"sessions_total\":2,\"bytes_in\":3,\"bytes_out\":4,"                          \
    "\"connect_failures\":5,\"resets\":6,\"drain\":{\"sessions_left\":3,\"ended_self\":5,"         \
    "\"ended_quiet\":1,\"ended_deadline\":0,\"deadline_left_ms\":252000}}"

static void leaves_out_what_no_row_has(void **state)
{
    (void)state;
    assert_rendered("show servers web", "[" ROW_A "]",
                    "POOL  SERVER  ADDRESS       WEIGHT  ADMIN    HEALTH  SESSIONS  TOTAL  IN  OUT"
                    "  FAILED  RESETS  REASON\n"
                    "web   a       192.0.2.1:80     100  enabled  up             1      2   3    4"
                    "       5       6  probed\n");
}

static void shows_a_drain(void **state)
{
    (void)state;
    assert_rendered("show servers", "[" ROW_A "," ROW_B "]",
                    "POOL  SERVER  ADDRESS       WEIGHT  ADMIN    HEALTH  SESSIONS  TOTAL  IN  OUT"
                    "  FAILED  RESETS  DRAIN                                                    "
                    "REASON\n"
                    "web   a       192.0.2.1:80     100  enabled  up             1      2   3    4"
                    "       5       6  -                                                        "
                    "probed\n"
                    "web   b       192.0.2.2:80       7  drain    up             3      2   3    4"
                    "       5       6  3 left, 4m12s to go; ended: 5 self, 1 quiet, 0 deadline  "
                    "asked\\x0afor\n");
}

#define ROW_C                                                                                      \
    "{\"pool\":\"dns\",\"name\":\"c\",\"address\":\"192.0.2.3:53\",\"weight\":9,"                  \
    "\"admin\":\"drain\",\"health\":\"up\",\"usable\":false,\"reason\":\"-\","                     \
    "\"sessions\":0,\"sessions_total\":0,\"flows\":2,\"flows_total\":31,\"bytes_in\":3,"           \
    "\"bytes_out\":4,\"connect_failures\":0,\"resets\":0,\"refused\":7,"                           \
    "\"drain\":{\"sessions_left\":0,\"flows_left\":2,\"ended_self\":5,\"ended_quiet\":1,"          \
    "\"ended_deadline\":0,\"deadline_left_ms\":30000}}"
#define ROW_D                                                                                      \
    "{\"name\":\"web\",\"scheduler\":\"p2c\",\"sessions\":1,\"sessions_total\":7,"                 \
    "\"flows\":0,\"flows_total\":0,\"refused\":0}"

static void tells_flows_where_there_are_any(void **state)
{
    (void)state;
    assert_rendered("show servers dns", "[" ROW_C "]",
                    "POOL  SERVER  ADDRESS       WEIGHT  ADMIN  HEALTH  SESSIONS  TOTAL  FLOWS  "
                    "FLOWS TOTAL  IN  OUT  FAILED  RESETS  REFUSED  DRAIN"
                    "                                                                    "
                    "REASON\n"
                    "dns   c       192.0.2.3:53       9  drain  up             0      0      2  "
                    "         31   3    4       0       0        7  "
                    "0 sessions, 2 flows left, 30s to go; ended: 5 self, 1 quiet, 0 deadline  -\n");
    assert_rendered("show pools", "[" ROW_D "]",
                    "POOL  SCHEDULER  SESSIONS  TOTAL\n"
                    "web   p2c               1      7\n");
}

static void shows_a_changed_server_as_one_row(void **state)
{
    (void)state;
    assert_rendered("weight web/a 100", ROW_A,
                    "POOL  SERVER  ADDRESS       WEIGHT  ADMIN    HEALTH  SESSIONS  TOTAL  IN  OUT"
                    "  FAILED  RESETS  REASON\n"
                    "web   a       192.0.2.1:80     100  enabled  up             1      2   3    4"
                    "       5       6  probed\n");
}

static void shows_sessions_flows_and_listeners(void **state)
{
    (void)state;
    assert_rendered("show sessions",
                    "[{\"id\":257,\"listener\":\"web\",\"client\":\"192.0.2.9:4711\","
                    "\"pool\":\"\",\"server\":\"\",\"state\":\"picking\",\"engine\":\"copy\","
                    "\"age_ms\":61000,\"idle_ms\":5,\"bytes_in\":0,\"bytes_out\":2048}]",
                    " ID  LISTENER  CLIENT          POOL  SERVER  STATE    ENGINE    AGE  IDLE  IN"
                    "   OUT\n"
                    "257  web       192.0.2.9:4711  -     -       picking  copy    1m01s   5ms   0"
                    "  2.0K\n");
    assert_rendered("show listeners",
                    "[{\"name\":\"web\",\"address\":\"*:80\",\"protocol\":\"tcp\","
                    "\"pool\":\"web\",\"sessions\":1,\"max_connections\":null},"
                    "{\"name\":\"two\",\"address\":\"*:81\",\"protocol\":\"tcp\","
                    "\"pool\":\"web\",\"sessions\":1,\"max_connections\":4096}]",
                    "LISTENER  ADDRESS  PROTOCOL  POOL  SESSIONS  MOST\n"
                    "web       *:80     tcp       web          1  none\n"
                    "two       *:81     tcp       web          1  4096\n");
    assert_rendered("show flows",
                    "[{\"id\":513,\"listener\":\"dns\",\"client\":\"192.0.2.9:4711\","
                    "\"pool\":\"dns\",\"server\":\"a\",\"state\":\"active\",\"age_ms\":61000,"
                    "\"idle_ms\":5,\"datagrams_in\":3,\"datagrams_out\":2,\"bytes_in\":90,"
                    "\"bytes_out\":2048}]",
                    " ID  LISTENER  CLIENT          POOL  SERVER  STATE     AGE  IDLE  DGRAMS IN  "
                    "DGRAMS OUT  BYTES IN  BYTES OUT\n"
                    "513  dns       192.0.2.9:4711  dns   a       active  1m01s   5ms          3  "
                    "         2        90       2.0K\n");
    assert_rendered("show listeners",
                    "[{\"name\":\"web\",\"address\":\"*:53\",\"protocol\":\"tcp\","
                    "\"pool\":\"dns\",\"sessions\":1,\"max_connections\":null},"
                    "{\"name\":\"two\",\"address\":\"*:53\",\"protocol\":\"udp\","
                    "\"pool\":\"dns\",\"flows\":12,\"max_flows\":null}]",
                    "LISTENER  ADDRESS  PROTOCOL  POOL  SESSIONS  MOST  FLOWS  MOST\n"
                    "web       *:53     tcp       dns          1  none      -  -\n"
                    "two       *:53     udp       dns          -  -        12  none\n");
}

static void shows_the_head_of_an_empty_table(void **state)
{
    (void)state;
    assert_rendered("show sessions", "[]",
                    "ID  LISTENER  CLIENT  POOL  SERVER  STATE  ENGINE  AGE  IDLE  IN  OUT\n");
    assert_rendered("show flows", "[]",
                    "ID  LISTENER  CLIENT  POOL  SERVER  STATE  AGE  IDLE  DGRAMS IN  DGRAMS OUT  "
                    "BYTES IN  BYTES OUT\n");
    assert_rendered("show rivers", "[]", "");
}

/* A weir that is newer than weirctl. */
static void shows_a_command_it_never_heard_of(void **state)
{
    (void)state;
    assert_rendered("show rivers", "[{\"id\":1,\"idle_ms\":5,\"tags\":[1,2]},{\"id\":20}]",
                    "id  idle  tags\n 1   5ms  [1,2]\n20     -  -\n");
    assert_rendered("show rivers", "[1,\"two\",null]", "1\ntwo\n-\n");
    assert_rendered("show rivers", "true", "yes\n");
    assert_rendered("show serversx", "{\"a\":1}", "a  1\n");
}

/* ---- the rest ---- */

static void lists_fields(void **state)
{
    (void)state;
    assert_rendered("status",
                    "{\"version\":\"0.1.0\",\"uptime_s\":3661,\"descriptors\":{\"open\":9,"
                    "\"lowered\":false},\"control_turn_us\":812,\"deep\":{\"er\":{\"est\":1}}}",
                    "version              0.1.0\n"
                    "uptime               1h01m\n"
                    "descriptors.open     9\n"
                    "descriptors.lowered  no\n"
                    "control turn         812us\n"
                    "deep.er              {\"est\":1}\n");
    assert_rendered("x", "{}", "");
}

/* By the names that logs and documents have, and one of a newer weir too. */
static void explains_counters(void **state)
{
    (void)state;
    assert_rendered("show counters", "{\"flows\":12,\"udp_dropped_no_server\":7,\"comets\":1}",
                    "flows                  12  UDP flows begun.\n"
                    "udp_dropped_no_server   7  No server was usable.\n"
                    "comets                  1  \n");
}

static void prints_text_as_it_is(void **state)
{
    (void)state;
    assert_rendered("show config", "\"a = 1;\\n\\tb = 2;\\n\"", "a = 1;\n\tb = 2;\n");
    assert_rendered("show config", "\"no end\"", "no end\n");
    assert_rendered("show config", "\"\"", "");
}

static void tells_commands_in_two_lines(void **state)
{
    (void)state;
    assert_rendered("help",
                    "[{\"command\":\"drain\",\"arguments\":\"POOL/SERVER\",\"access\":\"write\","
                    "\"help\":\"empties it\"},{\"command\":\"status\",\"arguments\":\"\","
                    "\"access\":\"read\",\"help\":\"how it is\"}]",
                    "drain POOL/SERVER\n    empties it\nstatus\n    how it is\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_bytes),
        cmocka_unit_test(tells_spans),
        cmocka_unit_test(takes_the_unit_from_the_name),
        cmocka_unit_test(does_not_overflow),
        cmocka_unit_test(lets_no_control_character_through),
        cmocka_unit_test(aligns_columns),
        cmocka_unit_test(leaves_out_what_no_row_has),
        cmocka_unit_test(shows_a_drain),
        cmocka_unit_test(tells_flows_where_there_are_any),
        cmocka_unit_test(shows_a_changed_server_as_one_row),
        cmocka_unit_test(shows_sessions_flows_and_listeners),
        cmocka_unit_test(shows_the_head_of_an_empty_table),
        cmocka_unit_test(shows_a_command_it_never_heard_of),
        cmocka_unit_test(lists_fields),
        cmocka_unit_test(explains_counters),
        cmocka_unit_test(prints_text_as_it_is),
        cmocka_unit_test(tells_commands_in_two_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
