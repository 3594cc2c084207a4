/* Who may begin a flow: the gate is asked before room is made, and has its place back at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"
#include "test/unit/record.h"

static void open_gated(struct world *w, const struct gate_options *options)
{
    world_init(w);
    assert_int_equal(gate_new(&w->policy.gate, options), 0);
    world_open_at(w, "127.0.0.1:0");
}

static void close_gated(struct world *w)
{
    struct gate *gate = w->policy.gate;

    world_close(w);
    gate_free(&gate);
}

static void the_denied_get_no_flow(void **state)
{
    struct network loopback;
    struct gate_options options = {.deny = {{&loopback, 1}}, .prefix_v4 = 32, .prefix_v6 = 64};
    struct world w;
    const char *why;

    (void)state;
    assert_int_equal(network_parse(&loopback, "127.0.0.0/8", &why), 0);
    struct record record;
    open_gated(&w, &options);
    int client = world_client();
    begin_record(&record);
    world_say(&w, client, "?");
    world_settle(&w);
    end_record(&record);
    assert_says(&record, " a client was refused client=127.0.0.1:");
    assert_says(&record, " listener=front why=denied refused=1\n");
    assert_int_equal(lines_of(&record), 1);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(world_metric(&w, METRIC_DROP_DENIED), 1);
    assert_int_equal(world_load(&w, 0), 0);
    assert_string_equal(metric_name(METRIC_DROP_DENIED), "udp_dropped_denied");
    close(client);
    close_gated(&w);
}

static void a_flow_that_ends_admits_the_next(void **state)
{
    struct gate_options options = {.source_max = 1, .prefix_v4 = 32, .prefix_v6 = 64};
    struct world w;

    (void)state;
    open_gated(&w, &options);
    int first = world_client(), second = world_client();
    (void)world_ask(&w, first, 0, "?");
    world_say(&w, second, "?");
    world_settle(&w);
    assert_int_equal(udp_flows(w.udp), 1);
    assert_int_equal(world_metric(&w, METRIC_DROP_DENIED), 1);
    (void)world_ask(&w, first, 0, "known clients are asked nothing");
    world_kill_all(&w);
    (void)world_ask(&w, second, 0, "?");
    assert_int_equal(udp_flows(w.udp), 1);
    close(first);
    close(second);
    close_gated(&w);
}

static void dry_run_lets_in(void **state)
{
    struct gate_options options = {
        .source_max = 1, .prefix_v4 = 32, .prefix_v6 = 64, .dry_run = true};
    struct gate_counts counts;
    struct world w;

    (void)state;
    open_gated(&w, &options);
    int first = world_client(), second = world_client();
    struct record record;
    begin_record(&record);
    (void)world_ask(&w, first, 0, "?");
    (void)world_ask(&w, second, 0, "?");
    end_record(&record);
    assert_says(&record, " a client would be refused, but for dry_run client=127.0.0.1:");
    assert_says(&record, " listener=front why=source-sessions refused=1\n");
    assert_int_equal(lines_of(&record), 1);
    assert_int_equal(world_metric(&w, METRIC_DROP_DENIED), 0);
    assert_int_equal(udp_flows(w.udp), 2);
    gate_read(w.policy.gate, &counts);
    assert_int_equal(counts.verdict[GATE_SESSIONS], 1);
    close(first);
    close(second);
    close_gated(&w);
}

static uint8_t text[1024];

/* The first of a train pass, and the rest is what came too fast; who has a flow is charged too. */
static void a_source_sends_no_faster_than_its_rate(void **state)
{
    struct gate_options options = {.datagram_rate = 3, .prefix_v4 = 32, .prefix_v6 = 64};
    struct record record;
    struct world w;

    (void)state;
    open_gated(&w, &options);
    int client = world_client(), same = world_client(), other = peer_socket("127.0.0.2:0");
    peer_fill(text, sizeof(text), 1);
    begin_record(&record);
    peer_send_train(client, text, 750, 100, &w.entry);
    (void)world_hear_train(&w, w.socket[0], text, 300, 100);
    end_record(&record);
    assert_says(&record, " a client was refused client=127.0.0.1:");
    assert_says(&record, " listener=front why=source-datagram-rate refused=5\n");
    assert_int_equal(lines_of(&record), 1);
    assert_int_equal(world_metric(&w, METRIC_DROP_RATE), 5);
    world_say(&w, client, "known");
    world_say(&w, same, "another port of the same source");
    world_silence(&w, w.socket[0]);
    assert_int_equal(world_metric(&w, METRIC_DROP_RATE), 7);
    assert_int_equal(world_metric(&w, METRIC_DROP_DENIED), 0);
    assert_int_equal(world_newest(&w)->datagrams_in, 3);
    assert_int_equal(udp_flows(w.udp), 1);
    (void)world_ask(&w, other, 0, "another source");
    assert_string_equal(metric_name(METRIC_DROP_RATE), "udp_dropped_rate");
    close(client);
    close(same);
    close(other);
    close_gated(&w);
}

static void dry_run_drops_no_datagram(void **state)
{
    struct gate_options options = {
        .datagram_rate = 3, .prefix_v4 = 32, .prefix_v6 = 64, .dry_run = true};
    struct gate_counts counts;
    struct record record;
    struct world w;

    (void)state;
    open_gated(&w, &options);
    int client = world_client();
    begin_record(&record);
    peer_send_train(client, text, 750, 100, &w.entry);
    (void)world_hear_train(&w, w.socket[0], text, 750, 100);
    end_record(&record);
    assert_says(&record, " a client would be refused, but for dry_run client=127.0.0.1:");
    assert_says(&record, " why=source-datagram-rate refused=5\n");
    assert_int_equal(world_metric(&w, METRIC_DROP_RATE), 0);
    gate_read(w.policy.gate, &counts);
    assert_int_equal(counts.datagrams.passed, 3);
    assert_int_equal(counts.datagrams.refused, 5);
    close(client);
    close_gated(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_denied_get_no_flow),
        cmocka_unit_test(a_flow_that_ends_admits_the_next),
        cmocka_unit_test(dry_run_lets_in),
        cmocka_unit_test(a_source_sends_no_faster_than_its_rate),
        cmocka_unit_test(dry_run_drops_no_datagram),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
