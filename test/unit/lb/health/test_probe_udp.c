/*
 * The udp probe and the socket that datagram probes share, against real servers on the loop of the
 * test.
 */
#include "test/unit/lb/health/datagram.h"

#include "lb/health/probe_datagram.h"

#include "test/unit/addresses.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>

static void answer_pong(struct yard *yard)
{
    yard_answer(yard, "+pong 7\r\n", 9);
}

static void answer_nothing(struct yard *yard)
{
    yard_answer(yard, "", 0);
}

static void answer_the_same(struct yard *yard)
{
    yard_answer(yard, yard->request, yard->request_size);
}

/* ---- What is sent ---- */

static void the_payload_arrives_as_written(void **state)
{
    (void)state;
    static const struct {
        const char *send;
        const char *bytes;
        size_t size;
    } rows[] = {
        {"", "", 0},
        {"ping", "ping", 4},
        {"hex:00ff 0a", "\0\xff\n", 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct yard yard;
        yard_begin(&yard);
        yard.bench.settings.send = (char *)rows[i].send;
        yard_listen(&yard, "127.0.0.1:0", answer_the_same);
        bench_run(&yard.bench, "udp");
        assert_int_equal(yard.requests, 1);
        assert_int_equal(yard.request_size, rows[i].size);
        assert_memory_equal(yard.request, rows[i].bytes, rows[i].size);
        yard_end(&yard);
    }
}

/* In front of it a header that speaks of no client, where the pool's servers expect one. */
static void a_local_header_goes_first(void **state)
{
    static const char expected[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0ping";
    struct yard yard;

    (void)state;
    yard_begin(&yard);
    yard.bench.settings.send = "ping";
    yard.bench.settings.proxy_version_udp = 2;
    yard_listen(&yard, "127.0.0.1:0", answer_pong);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, PROBE_PASS, "a reply of 9 bytes");
    assert_int_equal(yard.request_size, sizeof(expected) - 1);
    assert_memory_equal(yard.request, expected, sizeof(expected) - 1);
    yard_end(&yard);
}

static void the_longest_payload_arrives(void **state)
{
    (void)state;
    char text[CONFIG_PAYLOAD_MAX + 1];
    struct yard yard;
    memset(text, 'x', CONFIG_PAYLOAD_MAX);
    text[CONFIG_PAYLOAD_MAX] = '\0';
    yard_begin(&yard);
    yard.bench.settings.send = yard.bench.settings.expect = text;
    yard_listen(&yard, "[::1]:0", answer_the_same);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, PROBE_PASS, "a reply of 1472 bytes");
    yard_end(&yard);
}

/* As the pool's flows do. */
static void is_sent_from_the_source(void **state)
{
    (void)state;
    struct yard yard;
    const union inet_address sources[] = {host_of("192.0.2.5"), host_of("127.0.0.5")};
    yard_begin(&yard);
    yard.bench.settings.expect = "pong";
    yard.bench.settings.source = sources;
    yard.bench.settings.source_count = ARRAY_LEN(sources);
    yard_listen(&yard, "127.0.0.1:0", answer_pong);
    bench_run(&yard.bench, "udp");
    assert_int_equal(yard.bench.verdict, PROBE_PASS);
    assert_true(inet_address_same_host(&yard.client.inet, &sources[1]));
    yard_end(&yard);
}

/* ---- Replies ---- */

static void run_against_pong(const char *address, const char *expect, enum probe_verdict verdict,
                             const char *detail)
{
    struct yard yard;
    yard_begin(&yard);
    yard.bench.settings.expect = (char *)expect;
    yard_listen(&yard, address, answer_pong);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, verdict, detail);
    yard_end(&yard);
}

static void passes_on_a_reply_that_holds_what_is_expected(void **state)
{
    (void)state;
    static const char *const expected[] = {"", "pong", "+pong 7", "hex:0d0a", "hex:2b", "hex:"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        run_against_pong("127.0.0.1:0", expected[i], PROBE_PASS, "a reply of 9 bytes");
        run_against_pong("[::1]:0", expected[i], PROBE_PASS, "a reply of 9 bytes");
    }
}

static void fails_on_another_reply(void **state)
{
    (void)state;
    run_against_pong("127.0.0.1:0", "ping", PROBE_FAIL, "a reply of 9 bytes that lacks \"ping\"");
    run_against_pong("127.0.0.1:0", "hex:0a0d", PROBE_FAIL,
                     "a reply of 9 bytes that lacks \"hex:0a0d\"");
}

static void an_empty_reply_is_one(void **state)
{
    (void)state;
    static const struct {
        const char *expect;
        enum probe_verdict verdict;
        const char *detail;
    } rows[] = {
        {"", PROBE_PASS, "a reply of 0 bytes"},
        {"hex:", PROBE_PASS, "a reply of 0 bytes"},
        {"hex:00", PROBE_FAIL, "a reply of 0 bytes that lacks \"hex:00\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct yard yard;
        yard_begin(&yard);
        yard.bench.settings.expect = (char *)rows[i].expect;
        yard_listen(&yard, "127.0.0.1:0", answer_nothing);
        bench_run(&yard.bench, "udp");
        assert_verdict(&yard.bench, rows[i].verdict, rows[i].detail);
        yard_end(&yard);
    }
}

static void answer_at_length(struct yard *yard)
{
    static char reply[65507];
    memset(reply, '.', sizeof(reply));
    memcpy(reply + sizeof(reply) - 4, "last", 4);
    yard_answer(yard, reply, sizeof(reply));
}

static void the_longest_reply_is_searched_to_its_end(void **state)
{
    (void)state;
    static char last[] = "last";
    struct yard yard;
    yard_begin(&yard);
    yard.bench.settings.expect = last;
    yard_listen(&yard, "127.0.0.1:0", answer_at_length);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, PROBE_PASS, "a reply of 65507 bytes");
    yard_end(&yard);
}

static void answer_twice(struct yard *yard)
{
    yard_answer(yard, "no", 2);
    yard_answer(yard, "pong", 4);
}

static void the_first_reply_decides(void **state)
{
    (void)state;
    static char expect[] = "pong";
    struct yard yard;
    yard_begin(&yard);
    yard.bench.settings.expect = expect;
    yard_listen(&yard, "127.0.0.1:0", answer_twice);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, PROBE_FAIL, "a reply of 2 bytes that lacks \"pong\"");
    yard_end(&yard);
}

static void start_again(struct bench *bench)
{
    if (bench->done < 5)
        assert_int_equal(bench->probe->kind->start(bench->probe), 0);
}

static void may_be_started_again_from_its_verdict(void **state)
{
    (void)state;
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", answer_pong);
    yard.bench.on_done = start_again;
    bench_start(&yard.bench, "udp");
    while (yard.bench.done < 5)
        uv_run(&yard.bench.loop, UV_RUN_ONCE);
    assert_int_equal(yard.requests, 5);
    yard_end(&yard);
}

/* ---- ICMP errors ---- */

static void fails_where_nobody_has_the_port(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0"};
    static const char *const expected[] = {"", "pong"};
    for (size_t i = 0; i < 4; i++) {
        struct yard yard;
        yard_begin(&yard);
        yard.bench.settings.expect = (char *)expected[i % 2];
        yard_refuse(&yard, addresses[i / 2]);
        bench_run(&yard.bench, "udp");
        assert_verdict(&yard.bench, PROBE_FAIL, send_detail(&yard, "connection refused"));
        yard_end(&yard);
    }
}

/* Without IP_RECVERR the kernel would keep it to itself. */
static void meet_an_unreachable_host(void)
{
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", NULL);
    bench_start(&yard.bench, "udp");
    yard_run_to_request(&yard, 1);
    send_unreachable(&yard, ICMP_HOST_UNREACH);
    while (yard.bench.done == 0)
        uv_run(&yard.bench.loop, UV_RUN_ONCE);
    assert_verdict(&yard.bench, PROBE_FAIL, send_detail(&yard, "host is unreachable"));
    yard_end(&yard);
}

static void fails_where_the_host_is_unreachable(void **state)
{
    (void)state;
    network_run(meet_an_unreachable_host);
}

static void meet_a_narrow_path(void)
{
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", NULL);
    bench_start(&yard.bench, "udp");
    yard_run_to_request(&yard, 1);
    for (int i = 0; i < 3; i++) {
        send_unreachable(&yard, ICMP_FRAG_NEEDED);
        uv_run(&yard.bench.loop, UV_RUN_NOWAIT);
    }
    /* Nothing is left that would wake the loop again and again. */
    const struct probe_datagram *datagram = (struct probe_datagram *)yard.bench.probe;
    struct pollfd poller = {.fd = datagram->fd, .events = POLLIN};
    assert_int_equal(poll(&poller, 1, 0), 0);
    assert_int_equal(yard.bench.done, 0);
    answer_pong(&yard);
    while (yard.bench.done == 0)
        uv_run(&yard.bench.loop, UV_RUN_ONCE);
    assert_verdict(&yard.bench, PROBE_PASS, "a reply of 9 bytes");
    yard_end(&yard);
}

static void a_narrow_path_says_nothing_of_the_server(void **state)
{
    (void)state;
    network_run(meet_a_narrow_path);
}

#define ONLY_PORT "40001"

/* The only port for clients is the one that is probed: the datagram comes back to its sender. */
static void meet_oneself(void)
{
    struct yard yard;
    int range = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
    if (range < 0 || write(range, ONLY_PORT " " ONLY_PORT, 11) != 11)
        _exit(77);
    close(range);
    yard_begin(&yard);
    bench_address(&yard.bench, "127.0.0.1:" ONLY_PORT);
    bench_run(&yard.bench, "udp");
    assert_verdict(&yard.bench, PROBE_FAIL, send_detail(&yard, "connection refused"));
    yard_end(&yard);
}

static void its_own_datagram_is_no_reply(void **state)
{
    (void)state;
    network_run(meet_oneself);
}

/* ---- The deadline ---- */

static void silence_fails_where_a_reply_is_expected(void **state)
{
    (void)state;
    static const char *const expected[] = {"pong", "hex:"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct yard yard;
        yard_begin(&yard);
        yard.bench.settings.expect = (char *)expected[i];
        yard_listen(&yard, "127.0.0.1:0", NULL);
        bench_start(&yard.bench, "udp");
        yard_run_to_request(&yard, 1);
        yard_run_deadline(&yard);
        assert_verdict(&yard.bench, PROBE_FAIL, send_detail(&yard, "no answer within 1000 ms"));
        yard_end(&yard);
    }
}

static void silence_passes_where_none_is(void **state)
{
    (void)state;
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", NULL);
    bench_start(&yard.bench, "udp");
    yard_run_to_request(&yard, 1);
    yard_run_deadline(&yard);
    assert_verdict(&yard.bench, PROBE_PASS, "no ICMP error within 1000 ms");
    yard_end(&yard);
}

/* The error is in the socket, and the loop has not looked: timers come before descriptors. */
static void the_deadline_finds_the_error_that_has_come(void **state)
{
    (void)state;
    static const char *const expected[] = {"", "pong"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct yard yard;
        yard_begin(&yard);
        yard.bench.settings.expect = (char *)expected[i];
        yard_refuse(&yard, "127.0.0.1:0");
        bench_start(&yard.bench, "udp");
        yard_run_deadline(&yard);
        assert_verdict(&yard.bench, PROBE_FAIL, send_detail(&yard, "connection refused"));
        yard_end(&yard);
    }
}

/* A server outside the loop: it has answered by the time the deadline comes. */
static void the_deadline_finds_the_reply_that_has_come(void **state)
{
    (void)state;
    static char expect[] = "pong";
    struct yard yard;
    struct address client = {.length = sizeof(client.v4)};
    char byte;
    yard_begin(&yard);
    yard_refuse(&yard, "127.0.0.1:0");
    yard.bench.settings.expect = expect;
    int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, &yard.bench.address.any, yard.bench.address.length), 0);
    bench_start(&yard.bench, "udp");
    assert_int_equal(recvfrom(server, &byte, 1, 0, &client.any, &client.length), 0);
    assert_int_equal(sendto(server, "pong", 4, 0, &client.any, client.length), 4);
    yard_run_deadline(&yard);
    assert_verdict(&yard.bench, PROBE_PASS, "a reply of 4 bytes");
    close(server);
    yard_end(&yard);
}

/* ---- Stopped ---- */

static void a_cancelled_probe_says_so_once(void **state)
{
    (void)state;
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", answer_pong);
    bench_start(&yard.bench, "udp");
    bench_stop(&yard.bench, PROBE_CANCELLED, "removed");
    bench_deadline(&yard.bench);
    while (yard.bench.done == 0)
        uv_run(&yard.bench.loop, UV_RUN_ONCE);
    assert_int_equal(yard.bench.verdict, PROBE_CANCELLED);
    uv_run(&yard.bench.loop, UV_RUN_NOWAIT);
    assert_int_equal(yard.bench.done, 1);
    yard_end(&yard);
}

static void the_first_verdict_stands(void **state)
{
    (void)state;
    struct yard yard;
    yard_begin(&yard);
    yard_listen(&yard, "127.0.0.1:0", NULL);
    bench_start(&yard.bench, "udp");
    bench_deadline(&yard.bench);
    bench_stop(&yard.bench, PROBE_CANCELLED, "removed");
    uv_run(&yard.bench.loop, UV_RUN_NOWAIT);
    assert_int_equal(yard.bench.done, 1);
    assert_verdict(&yard.bench, PROBE_PASS, "no ICMP error within 1000 ms");
    yard_end(&yard);
}

/* ---- What our own machine lacks ---- */

static void without_descriptors_there_is_no_verdict(void **state)
{
    (void)state;
    static const char *const kinds[] = {"udp", "dns"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct yard yard;
        struct rlimit before;
        yard_begin(&yard);
        bench_address(&yard.bench, "127.0.0.1:9");
        bench_make_probe(&yard.bench, kinds[i]);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        int rc = yard.bench.probe->kind->start(yard.bench.probe);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(rc, -EMFILE);
        uv_run(&yard.bench.loop, UV_RUN_DEFAULT);
        assert_int_equal(yard.bench.done, 0);
        yard_end(&yard);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_payload_arrives_as_written),
        cmocka_unit_test(a_local_header_goes_first),
        cmocka_unit_test(the_longest_payload_arrives),
        cmocka_unit_test(is_sent_from_the_source),
        cmocka_unit_test(passes_on_a_reply_that_holds_what_is_expected),
        cmocka_unit_test(fails_on_another_reply),
        cmocka_unit_test(an_empty_reply_is_one),
        cmocka_unit_test(the_longest_reply_is_searched_to_its_end),
        cmocka_unit_test(the_first_reply_decides),
        cmocka_unit_test(may_be_started_again_from_its_verdict),
        cmocka_unit_test(fails_where_nobody_has_the_port),
        cmocka_unit_test(fails_where_the_host_is_unreachable),
        cmocka_unit_test(a_narrow_path_says_nothing_of_the_server),
        cmocka_unit_test(its_own_datagram_is_no_reply),
        cmocka_unit_test(silence_fails_where_a_reply_is_expected),
        cmocka_unit_test(silence_passes_where_none_is),
        cmocka_unit_test(the_deadline_finds_the_error_that_has_come),
        cmocka_unit_test(the_deadline_finds_the_reply_that_has_come),
        cmocka_unit_test(a_cancelled_probe_says_so_once),
        cmocka_unit_test(the_first_verdict_stands),
        cmocka_unit_test(without_descriptors_there_is_no_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
