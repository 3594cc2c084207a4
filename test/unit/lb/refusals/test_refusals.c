/* Each source that is refused has its turn in the log, at most once in ten seconds; lines are few.
 */
#include "lb/refusals/refusals.h"

#include "lb/gate/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test/unit/addresses.h"
#include "test/unit/record.h"

#define START UINT64_C(1000000)

struct desk {
    struct wheel wheel;
    struct rate_meter lines;
    struct refusals *refusals;
    struct record record;
    uint64_t now;
};

static const char front[] = "front", back[] = "back";

static void desk_open(struct desk *desk)
{
    memset(desk, 0, sizeof(*desk));
    desk->now = START;
    wheel_init(&desk->wheel, START);
    refusals_meter_init(&desk->lines);
    assert_int_equal(refusals_new(&desk->refusals, &desk->wheel, &desk->lines), 0);
    begin_record(&desk->record);
}

static void desk_close(struct desk *desk)
{
    end_record(&desk->record);
    refusals_free(&desk->refusals);
    assert_null(desk->refusals);
    assert_int_equal(desk->wheel.count, 0);
}

/* What was logged since the last time. */
static const char *told(struct desk *desk)
{
    end_record(&desk->record);
    static struct record last;
    last = desk->record;
    begin_record(&desk->record);
    return last.text;
}

static unsigned told_lines(struct desk *desk)
{
    struct record record;
    snprintf(record.text, sizeof(record.text), "%s", told(desk));
    return lines_of(&record);
}

static void note_at(struct desk *desk, const char *listener, unsigned number, uint32_t count,
                    bool is_spared)
{
    union inet_address client = {.v4 = {.sin_family = AF_INET, .sin_port = htons(4711)}};
    client.v4.sin_addr.s_addr = htonl(0xc0000200 + number);
    struct refusal refusal = {.listener = listener,
                              .client = &client,
                              .source = gate_source(NULL, &client),
                              .why = "source-rate",
                              .is_spared = is_spared};
    refusals_note(desk->refusals, &refusal, count, desk->now);
}

static void note(struct desk *desk, unsigned number)
{
    note_at(desk, front, number, 1, false);
}

static void pass(struct desk *desk, uint64_t span_ms)
{
    desk->now += span_ms;
    wheel_advance(&desk->wheel, desk->now);
}

static void assert_told(struct desk *desk, const char *words)
{
    const char *text = told(desk);
    if (strstr(text, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, text);
}

static void the_first_is_named_at_once(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    note(&desk, 1);
    assert_told(&desk, " warn a client was refused client=192.0.2.1:4711 listener=front "
                       "why=source-rate refused=1\n");
    assert_int_equal(desk.wheel.count, 0);
    desk_close(&desk);
}

static void a_source_is_named_once_in_ten_seconds(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    for (unsigned i = 0; i < 1000; i++)
        note(&desk, 1);
    assert_int_equal(told_lines(&desk), 1);
    pass(&desk, REFUSALS_AGAIN_MS - 1);
    assert_int_equal(told_lines(&desk), 0);
    /* Its turn comes though it is silent now. */
    pass(&desk, 1);
    assert_told(&desk, "client=192.0.2.1:4711 listener=front why=source-rate refused=999\n");
    pass(&desk, 5 * REFUSALS_AGAIN_MS);
    assert_int_equal(told_lines(&desk), 0);
    note_at(&desk, front, 1, 20, false);
    assert_told(&desk, "refused=20\n");
    desk_close(&desk);
}

static void the_quiet_are_named_beside_the_loud(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    for (unsigned i = 0; i < 1000; i++) {
        note(&desk, 1);
        if (i == 500)
            note(&desk, 2);
    }
    assert_told(&desk, "client=192.0.2.2:4711");
    /* While one waits for its ten seconds, a new one does not. */
    pass(&desk, 3000);
    note(&desk, 3);
    assert_told(&desk, "client=192.0.2.3:4711");
    desk_close(&desk);
}

static void lines_are_few_and_all_have_their_turn(void **state)
{
    struct desk desk;
    unsigned sum = 0, within[30];
    char seen[REFUSALS_PLACES] = {0};
    (void)state;
    desk_open(&desk);
    for (unsigned number = 0; number < 40; number++)
        note(&desk, number);
    sum = within[0] = told_lines(&desk);
    assert_true(sum > 0 && sum <= REFUSALS_SECOND);
    for (unsigned tenth = 1; sum < 40; tenth++) {
        pass(&desk, 100);
        const char *text = told(&desk);
        for (const char *at = text; (at = strstr(at, "client=192.0.2.")) != NULL; sum++) {
            at += strlen("client=192.0.2.");
            unsigned number = (unsigned)strtoul(at, NULL, 10);
            assert_int_equal(seen[number]++, 0);
        }
        assert_true(sum <= REFUSALS_SECOND + tenth * REFUSALS_SECOND / 20);
        assert_true(tenth < 100);
    }
    assert_int_equal(desk.wheel.count, 0);
    desk_close(&desk);
}

/* Ten in any second, whoever makes them: two tables share the lines. */
static void workers_share_the_lines(void **state)
{
    struct desk desk;
    struct refusals *mine, *other = NULL;
    unsigned second[60] = {0};
    (void)state;
    desk_open(&desk);
    mine = desk.refusals;
    assert_int_equal(refusals_new(&other, &desk.wheel, &desk.lines), 0);
    for (unsigned tick = 0; tick < 600; tick++) {
        desk.refusals = tick % 2 == 0 ? mine : other;
        note(&desk, tick % 200);
        pass(&desk, 10);
        second[tick / 10] += told_lines(&desk);
    }
    for (unsigned i = 0; i + 10 <= 60; i++) {
        unsigned sum = 0;
        for (unsigned k = i; k < i + 10; k++)
            sum += second[k];
        assert_in_range(sum, 4, REFUSALS_SECOND);
    }
    refusals_free(&other);
    desk.refusals = mine;
    desk_close(&desk);
}

static void who_finds_no_place_is_counted(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    for (unsigned number = 0; number < REFUSALS_PLACES; number++)
        note(&desk, number);
    for (unsigned number = 0; number < 30; number++)
        note_at(&desk, front, REFUSALS_PLACES + number, 20, false);
    (void)told(&desk);
    pass(&desk, 200);
    assert_told(&desk, " others=600\n");
    pass(&desk, 200);
    assert_null(strstr(told(&desk), "others"));
    /* All have their turn, and then there is room. */
    for (unsigned i = 0; i < REFUSALS_PLACES; i++)
        pass(&desk, 1000);
    (void)told(&desk);
    note(&desk, 4000);
    assert_int_equal(told_lines(&desk), 1);
    desk_close(&desk);
}

static void listeners_and_dry_runs_are_apart(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    note(&desk, 1);
    assert_told(&desk, "a client was refused client=192.0.2.1:4711 listener=front ");
    note_at(&desk, back, 1, 1, false);
    assert_told(&desk, "a client was refused client=192.0.2.1:4711 listener=back ");
    note_at(&desk, back, 1, 1, true);
    assert_told(&desk, "a client would be refused, but for dry_run client=192.0.2.1:4711 "
                       "listener=back ");
    for (unsigned i = 0; i < 2; i++) {
        note(&desk, 1);
        note_at(&desk, back, 1, 1, i == 0);
    }
    assert_int_equal(told_lines(&desk), 0);
    desk_close(&desk);
}

/* As a header of a sender over IPv6 may tell it. */
static void a_mapped_client_is_named_as_ipv4(void **state)
{
    struct desk desk;
    (void)state;
    desk_open(&desk);
    union inet_address client = endpoint_of("[::ffff:192.0.2.7]:4711");
    struct refusal refusal = {.listener = front,
                              .client = &client,
                              .source = gate_source(NULL, &client),
                              .why = "denied"};
    refusals_note(desk.refusals, &refusal, 1, desk.now);
    assert_told(&desk, " client=192.0.2.7:4711 listener=front ");
    desk_close(&desk);
}

static void a_source_of_many_addresses_is_named_as_such(void **state)
{
    struct desk desk;
    struct gate *gate = NULL;
    (void)state;
    desk_open(&desk);
    struct gate_options options = {.source_max = 1, .prefix_v4 = 24, .prefix_v6 = 64};
    assert_int_equal(gate_new(&gate, &options), 0);
    union inet_address client = {.v4 = {.sin_family = AF_INET, .sin_port = htons(1)}};
    for (uint32_t host = 1; host < 100; host++) {
        client.v4.sin_addr.s_addr = htonl(0xc0000200 + host);
        struct refusal refusal = {.listener = front,
                                  .client = &client,
                                  .source = gate_source(gate, &client),
                                  .why = "source-sessions"};
        refusals_note(desk.refusals, &refusal, 1, desk.now);
    }
    assert_told(&desk, "client=192.0.2.1:1 source=192.0.2.0/24 listener=front");
    union inet_address v6 = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(1)}};
    v6.v6.sin6_addr.s6_addr[0] = 0x20;
    v6.v6.sin6_addr.s6_addr[15] = 9;
    struct refusal refusal = {
        .listener = front, .client = &v6, .source = gate_source(NULL, &v6), .why = "denied"};
    refusals_note(desk.refusals, &refusal, 1, desk.now);
    assert_told(&desk, "client=[2000::9]:1 source=2000::/64 ");
    gate_free(&gate);
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_is_named_at_once),
        cmocka_unit_test(a_source_is_named_once_in_ten_seconds),
        cmocka_unit_test(the_quiet_are_named_beside_the_loud),
        cmocka_unit_test(lines_are_few_and_all_have_their_turn),
        cmocka_unit_test(workers_share_the_lines),
        cmocka_unit_test(who_finds_no_place_is_counted),
        cmocka_unit_test(listeners_and_dry_runs_are_apart),
        cmocka_unit_test(a_mapped_client_is_named_as_ipv4),
        cmocka_unit_test(a_source_of_many_addresses_is_named_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
