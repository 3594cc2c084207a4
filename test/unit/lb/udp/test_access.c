/* The words for flows, and the line that each leaves in the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/scene.h"
#include "test/unit/record.h"

/* ---- words ---- */

static void reasons_have_words(void **state)
{
    static const struct {
        enum flow_end_reason reason;
        const char *word, *by;
    } rows[] = {
        {FLOW_END_DONE, "done", "server"},
        {FLOW_END_IDLE_TIMEOUT, "idle-timeout", "weir"},
        {FLOW_END_EVICTED, "evicted", "weir"},
        {FLOW_END_KILLED, "killed", "operator"},
        {FLOW_END_SERVER_DOWN, "server-down", "weir"},
        {FLOW_END_DRAIN_QUIET, "drain-quiet", "weir"},
        {FLOW_END_DRAIN_DEADLINE, "drain-deadline", "weir"},
        {FLOW_END_SHUTDOWN, "shutdown", "weir"},
    };

    (void)state;
    assert_int_equal(ARRAY_LEN(rows), FLOW_END_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_string_equal(flow_end_word(rows[i].reason), rows[i].word);
        assert_string_equal(flow_end_by(rows[i].reason), rows[i].by);
    }
}

static void states_have_names(void **state)
{
    (void)state;
    assert_string_equal(flow_state_name(FLOW_ACTIVE), "active");
    assert_string_equal(flow_state_name(FLOW_SPENT), "spent");
    assert_string_equal(flow_state_name(FLOW_ENDED), "ended");
}

/* ---- lines ---- */

static void a_flow_leaves_one_line(void **state)
{
    struct world w;
    struct record record;
    union inet_address asker, name;
    char client_text[ADDRESS_TEXT_MAX];
    int client;

    (void)state;
    world_init(&w);
    w.policy.log_access = true;
    w.usable[1] = true;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    name = peer_name(client);
    (void)world_ask(&w, client, 0, "one");
    atomic_store(&w.server[0]->live.suspect, 1);
    asker = world_ask(&w, client, 1, "two");
    world_answer(&w, 1, &asker, client, "reply");
    begin_record(&record);
    world_pass(&w, 60000);
    end_record(&record);
    assert_int_equal(lines_of(&record), 1);
    assert_says(&record, " flow ");
    assert_says_number(&record, "id", world_newest(&w)->id);
    assert_says(&record, inet_address_format(&name, client_text));
    assert_says(&record, " listener=front");
    assert_says(&record, " pool=dns");
    assert_says(&record, " server=b");
    assert_says(&record, w.server[1]->address_text);
    assert_says_number(&record, "moves", 1);
    assert_says(&record, " duration_ms=");
    assert_says_number(&record, "datagrams_in", 2);
    assert_says_number(&record, "datagrams_out", 1);
    assert_says_number(&record, "bytes_in", 6);
    assert_says_number(&record, "bytes_out", 5);
    assert_says(&record, " end=idle-timeout");
    assert_says(&record, " by=weir");
    close(client);
    world_close(&w);
}

/* Who was told by another has both in it. */
static void the_line_says_who_told(void **state)
{
    struct scene s;
    struct record record;
    union inet_address front;
    char words[ADDRESS_TEXT_MAX + 8] = "via=", text[ADDRESS_TEXT_MAX];

    (void)state;
    scene_init(&s, CONFIG_PROXY_OPTIONAL);
    s.w.policy.log_access = true;
    scene_start(&s);
    front = peer_name(s.front);
    (void)scene_ask(&s, ALICE, 0, "a");
    begin_record(&record);
    world_kill_all(&s.w);
    end_record(&record);
    assert_says(&record, "client=" ALICE);
    assert_says(&record, strcat(words, inet_address_format(&front, text)));
    (void)world_ask(&s.w, s.front, 0, "by itself");
    begin_record(&record);
    world_kill_all(&s.w);
    end_record(&record);
    assert_null(strstr(record.text, "via="));
    scene_close(&s);
}

/* So has what tells of a drop, in the words of what was wrong. */
static void a_drop_is_told_of_with_who_told(void **state)
{
    struct scene s;
    struct record record;

    (void)state;
    scene_open(&s, CONFIG_PROXY_REQUIRED);
    s.w.usable[0] = false;
    begin_record(&record);
    headed_say(&s.w, s.front, ALICE, "a");
    world_say(&s.w, s.front, "PROXY UNKNOWN\r\n"); /* not told of: too soon after */
    world_settle(&s.w);
    end_record(&record);
    assert_int_equal(lines_of(&record), 1);
    assert_says(&record, "client=" ALICE " via=127.0.0.1:");
    assert_int_equal(world_metric(&s.w, METRIC_DROP_HEADER_WRONG), 1);
    world_pass(&s.w, 2000);
    begin_record(&record);
    world_say(&s.w, s.front, "PROXY UNKNOWN\r\n");
    world_settle(&s.w);
    end_record(&record);
    assert_says(&record, "counter=udp_dropped_header_wrong");
    assert_says(&record, "a PROXY header of version 1 cannot speak of datagrams");
    scene_close(&s);
}

static unsigned lines_for(uint32_t sample, bool log_access, unsigned flows)
{
    struct world w;
    struct record record;
    int client;

    world_init(&w);
    w.policy.log_access = log_access;
    w.policy.log_sample = sample;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    begin_record(&record);
    for (unsigned i = 0; i < flows; i++) {
        (void)world_ask(&w, client, 0, "?");
        world_kill_all(&w);
    }
    end_record(&record);
    close(client);
    world_close(&w);
    return lines_of(&record);
}

static void one_flow_in_so_many_has_a_line(void **state)
{
    (void)state;
    assert_int_equal(lines_for(1, true, 7), 7);
    assert_int_equal(lines_for(3, true, 7), 2);
    assert_int_equal(lines_for(1, false, 7), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons_have_words),
        cmocka_unit_test(states_have_names),
        cmocka_unit_test(a_flow_leaves_one_line),
        cmocka_unit_test(the_line_says_who_told),
        cmocka_unit_test(a_drop_is_told_of_with_who_told),
        cmocka_unit_test(one_flow_in_so_many_has_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
