/*
 * The dns probe against a name server on the loop of the test. What the reader of replies takes and
 * refuses is in test_dns_reply.c.
 */
#include "test/unit/lb/health/datagram.h"

#include "test/unit/lb/health/dns_message.h"

/* What the server says to the question that came, with its id. */
static struct message message;

/* The query of the last datagram, as far as dns_message.h reads one. */
static void begin_reply(const struct yard *yard, unsigned rcode)
{
    struct dns_query query;
    assert_true(yard->request_size >= DNS_HEADER_SIZE + 5);
    assert_true(yard->request_size <= sizeof(query.bytes));
    query.size = yard->request_size;
    memcpy(query.bytes, yard->request, query.size);
    message_begin(&message, &query, rcode);
}

static void send_reply(struct yard *yard)
{
    yard_answer(yard, message.bytes, message.size);
}

static void begin(struct yard *yard, yard_request_fn *on_request)
{
    yard_begin(yard);
    yard_listen(yard, "127.0.0.1:0", on_request);
}

static void end(struct yard *yard, enum probe_verdict verdict, const char *detail)
{
    assert_verdict(&yard->bench, verdict, detail);
    yard_end(yard);
}

/* ---- The question ---- */

static void answer_servfail(struct yard *yard)
{
    begin_reply(yard, 2);
    send_reply(yard);
}

static void the_question_is_that_of_the_settings(void **state)
{
    (void)state;
    static char name[] = "_sip._udp.example.org.";
    static const char expected[] = "\x01\x00\0\1\0\0\0\0\0\0\4_sip\4_udp\7example\3org\0\0\x21\0\1";
    struct yard yard;
    begin(&yard, answer_servfail);
    yard.bench.settings.dns_name = name;
    yard.bench.settings.dns_type = CONFIG_DNS_SRV;
    bench_run(&yard.bench, "dns");
    assert_int_equal(yard.request_size, 2 + sizeof(expected) - 1);
    assert_memory_equal(yard.request + 2, expected, sizeof(expected) - 1);
    end(&yard, PROBE_FAIL, "dns: rcode SERVFAIL, expected NOERROR");
}

/* Four equal ones in a row would be a chance of one in 2^48. */
static void the_id_is_another_each_time(void **state)
{
    (void)state;
    struct yard yard;
    char first[2];
    bool differs = false;
    begin(&yard, answer_servfail);
    bench_run(&yard.bench, "dns");
    memcpy(first, yard.request, sizeof(first));
    for (int i = 0; i < 3; i++) {
        bench_run(&yard.bench, "dns");
        differs |= memcmp(first, yard.request, sizeof(first)) != 0;
    }
    assert_true(differs);
    yard_end(&yard);
}

/* ---- The code ---- */

static unsigned rcode_told;

static void answer_rcode(struct yard *yard)
{
    begin_reply(yard, rcode_told);
    send_reply(yard);
}

static void the_code_decides(void **state)
{
    (void)state;
    static const struct {
        unsigned told;
        enum config_dns_rcode expected;
        enum probe_verdict verdict;
        const char *detail;
    } rows[] = {
        {0, CONFIG_DNS_NOERROR, PROBE_PASS, "dns: rcode NOERROR, 0 answers"},
        {1, CONFIG_DNS_NOERROR, PROBE_FAIL, "dns: rcode FORMERR, expected NOERROR"},
        {4, CONFIG_DNS_NOERROR, PROBE_FAIL, "dns: rcode NOTIMP, expected NOERROR"},
        {9, CONFIG_DNS_NOERROR, PROBE_FAIL, "dns: rcode 9, expected NOERROR"},
        {3, CONFIG_DNS_NXDOMAIN, PROBE_PASS, "dns: rcode NXDOMAIN, 0 answers"},
        {5, CONFIG_DNS_REFUSED, PROBE_PASS, "dns: rcode REFUSED, 0 answers"},
        {0, CONFIG_DNS_REFUSED, PROBE_FAIL, "dns: rcode NOERROR, expected REFUSED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct yard yard;
        begin(&yard, answer_rcode);
        rcode_told = rows[i].told;
        yard.bench.settings.dns_rcode = rows[i].expected;
        bench_run(&yard.bench, "dns");
        end(&yard, rows[i].verdict, rows[i].detail);
    }
}

/* ---- Addresses ---- */

static unsigned truncated;

static void answer_addresses(struct yard *yard)
{
    begin_reply(yard, 0);
    message_answer(&message, DNS_TYPE_A, "\xc0\0\2\1", 4);
    message_answer(&message, DNS_TYPE_AAAA, "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    message_set_flags(&message, MESSAGE_REPLY | truncated);
    send_reply(yard);
}

static void an_address_must_be_among_the_answers(void **state)
{
    (void)state;
    static const struct {
        enum config_dns_type type;
        const char *address;
        unsigned truncated;
        enum probe_verdict verdict;
        const char *detail;
    } rows[] = {
        {CONFIG_DNS_A, "", 0, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_A, "192.0.2.1", 0, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_A, "192.0.2.9", 0, PROBE_FAIL, "dns: 2 answers without 192.0.2.9"},
        {CONFIG_DNS_AAAA, "2001:db8::1", 0, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_AAAA, "2001:DB8:0::0:1", 0, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_AAAA, "2001:db8::", 0, PROBE_FAIL, "dns: 2 answers without 2001:db8::"},
        {CONFIG_DNS_A, "", MESSAGE_TRUNCATED, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_A, "192.0.2.1", MESSAGE_TRUNCATED, PROBE_PASS, "dns: rcode NOERROR, 2 answers"},
        {CONFIG_DNS_A, "192.0.2.9", MESSAGE_TRUNCATED, PROBE_FAIL,
         "dns: 2 answers without 192.0.2.9, and truncated"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct yard yard;
        begin(&yard, answer_addresses);
        truncated = rows[i].truncated;
        yard.bench.settings.dns_type = rows[i].type;
        yard.bench.settings.dns_address = (char *)rows[i].address;
        bench_run(&yard.bench, "dns");
        end(&yard, rows[i].verdict, rows[i].detail);
    }
}

/* ---- Other datagrams ---- */

static void answer_late(struct yard *yard)
{
    begin_reply(yard, 2);
    message.bytes[0] ^= 1;
    send_reply(yard);
    yard_answer(yard, "", 0);
    answer_addresses(yard);
}

static void a_reply_to_another_query_is_passed_over(void **state)
{
    (void)state;
    struct yard yard;
    begin(&yard, answer_late);
    truncated = 0;
    bench_run(&yard.bench, "dns");
    end(&yard, PROBE_PASS, "dns: rcode NOERROR, 2 answers");
}

static void answer_with_another_id(struct yard *yard)
{
    begin_reply(yard, 0);
    message.bytes[1] ^= 1;
    send_reply(yard);
}

static void other_ids_alone_end_at_the_deadline(void **state)
{
    (void)state;
    struct yard yard;
    begin(&yard, answer_with_another_id);
    bench_start(&yard.bench, "dns");
    yard_run_to_request(&yard, 1);
    uv_run(&yard.bench.loop, UV_RUN_NOWAIT);
    assert_int_equal(yard.bench.done, 0);
    yard_run_deadline(&yard);
    end(&yard, PROBE_FAIL, send_detail(&yard, "no answer within 1000 ms"));
}

static void answer_the_same(struct yard *yard)
{
    yard_answer(yard, yard->request, yard->request_size);
}

static void an_echo_is_no_name_server(void **state)
{
    (void)state;
    struct yard yard;
    begin(&yard, answer_the_same);
    bench_run(&yard.bench, "dns");
    end(&yard, PROBE_FAIL, "dns: a query instead of a reply");
}

static void fails_where_nobody_has_the_port(void **state)
{
    (void)state;
    struct yard yard;
    yard_begin(&yard);
    yard_refuse(&yard, "[::1]:0");
    bench_run(&yard.bench, "dns");
    end(&yard, PROBE_FAIL, send_detail(&yard, "connection refused"));
}

static void silence_never_passes(void **state)
{
    (void)state;
    struct yard yard;
    begin(&yard, NULL);
    bench_start(&yard.bench, "dns");
    yard_run_deadline(&yard);
    end(&yard, PROBE_FAIL, send_detail(&yard, "no answer within 1000 ms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_question_is_that_of_the_settings),
        cmocka_unit_test(the_id_is_another_each_time),
        cmocka_unit_test(the_code_decides),
        cmocka_unit_test(an_address_must_be_among_the_answers),
        cmocka_unit_test(a_reply_to_another_query_is_passed_over),
        cmocka_unit_test(other_ids_alone_end_at_the_deadline),
        cmocka_unit_test(an_echo_is_no_name_server),
        cmocka_unit_test(fails_where_nobody_has_the_port),
        cmocka_unit_test(silence_never_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
