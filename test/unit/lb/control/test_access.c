/*
 * Rules of operators with real workers: they count at once, end in time, and leave nothing behind,
 * whatever control is doing.
 */
#include "lb/control/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "test/unit/lb/worker/site.h"
#include "test/unit/record.h"

#include <errno.h>
#include <string.h>

#define WORKERS 2

struct desk {
    struct site site;
    struct control *control;
    const struct listener *listener;
};

static void desk_open(struct desk *desk)
{
    const struct limits limits = {.sessions = 1000, .pipes = 32, .descriptors = 4096};
    char error[256] = "";

    memset(desk, 0, sizeof(*desk));
    site_open(&desk->site, WORKERS);
    site_listen(&desk->site);
    assert_int_equal(control_new(&desk->control, &desk->site.config, desk->site.listeners, &limits,
                                 error, sizeof(error)),
                     0);
    desk->site.listeners = NULL; /* control's now */
    if (control_start(desk->control, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    assert_int_equal(control_listeners(desk->control, &desk->listener), 1);
}

static void desk_close(struct desk *desk)
{
    control_free(&desk->control);
    site_close(&desk->site);
}

static struct network loopback(uint8_t bits)
{
    struct network network;
    char text[32];
    const char *why;

    snprintf(text, sizeof(text), "127.0.0.%d/%u", bits == 32, bits);
    assert_int_equal(network_parse(&network, text, &why), 0);
    return network;
}

static void put(struct desk *desk, uint8_t bits, bool denies, uint64_t until_ms)
{
    struct gate_rule rule = {.network = loopback(bits), .denies = denies, .until_ms = until_ms};

    assert_int_equal(control_rule_put(desk->control, desk->listener, &rule, "me"), 0);
}

static int drop(struct desk *desk, uint8_t bits)
{
    struct network network = loopback(bits);

    return control_rule_drop(desk->control, desk->listener, &network, "me");
}

static void assert_refused(struct desk *desk)
{
    int client = site_dial(&desk->site);

    site_expect_reset(client);
}

static void assert_served(struct desk *desk)
{
    int client, server;

    site_session(&desk->site, &client, &server);
}

static void until_settled(struct desk *desk)
{
    SITE_UNTIL(control_loop(desk->control), gate_is_settled(desk->listener->gate));
}

static void a_word_counts_at_once(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    assert_served(&desk);
    put(&desk, 8, true, UINT64_MAX);
    assert_refused(&desk);
    put(&desk, 32, false, UINT64_MAX);
    assert_served(&desk);
    assert_int_equal(drop(&desk, 32), 0);
    assert_refused(&desk);
    assert_int_equal(drop(&desk, 32), -ENOENT);
    assert_int_equal(drop(&desk, 8), 0);
    assert_served(&desk);
    until_settled(&desk);
    desk_close(&desk);
}

static void it_ends_in_time(void **state)
{
    struct desk desk;
    size_t count = 2;

    (void)state;
    desk_open(&desk);
    uint64_t end = clock_now_ms() + 200;
    put(&desk, 8, true, end);
    put(&desk, 32, true, end + 60000); /* no stall is that long */
    assert_refused(&desk);
    SITE_UNTIL(control_loop(desk.control), (gate_rules(desk.listener->gate, &count), count == 1));
    assert_true(clock_now_ms() >= end);
    assert_int_equal(gate_rules(desk.listener->gate, &count)->network.bits, 128);
    assert_refused(&desk);
    assert_int_equal(drop(&desk, 32), 0);
    assert_served(&desk);
    until_settled(&desk);
    desk_close(&desk);
}

/* As a program says them, one after the other: their ends are told of together. */
static void ends_side_by_side_are_few_lines(void **state)
{
    struct desk desk;
    struct record record;
    uint64_t end = clock_now_ms() + 100;
    size_t count = 1;
    unsigned lines = 0;

    (void)state;
    desk_open(&desk);
    for (uint8_t i = 0; i < 20; i++)
        put(&desk, (uint8_t)(8 + i), true, end + 4 * i);
    begin_record(&record);
    SITE_UNTIL(control_loop(desk.control), (gate_rules(desk.listener->gate, &count), count == 0));
    end_record(&record);
    for (const char *at = record.text; (at = strstr(at, "access rules are over")) != NULL; at++)
        lines++;
    assert_in_range(lines, 1, 3);
    until_settled(&desk);
    desk_close(&desk);
}

/* While clients come, and whatever round is under way. */
static void changes_leave_nothing_behind(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    for (unsigned i = 0; i < 300; i++) {
        put(&desk, 8, i % 2 == 0, UINT64_MAX);
        put(&desk, 32, false, UINT64_MAX);
        if (i % 10 == 0)
            assert_served(&desk);
        uv_run(control_loop(desk.control), UV_RUN_NOWAIT);
    }
    until_settled(&desk);
    desk_close(&desk);
}

static void an_end_in_the_middle_of_a_round(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk);
    put(&desk, 8, true, clock_now_ms() + 60000);
    put(&desk, 8, false, UINT64_MAX);
    put(&desk, 8, true, UINT64_MAX);
    assert_false(gate_is_settled(desk.listener->gate));
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_word_counts_at_once),
        cmocka_unit_test(it_ends_in_time),
        cmocka_unit_test(ends_side_by_side_are_few_lines),
        cmocka_unit_test(changes_leave_nothing_behind),
        cmocka_unit_test(an_end_in_the_middle_of_a_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
