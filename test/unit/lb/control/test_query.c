/*
 * Questions about sessions and flows, to all workers, in slices: at the reader's pace, and ended by
 * him at any time.
 */
#include "lb/control/control.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/worker/site.h"

#include <string.h>

#define WORKERS 2
#define SESSIONS 300
#define IDS_MAX 512

struct reader {
    struct site site;
    struct control *control;
    struct control_query *query;
    enum traffic_kind kind;
    bool waits;   /* for a word before the next slice */
    bool refuses; /* cancels from within the first rows */
    uint64_t id[IDS_MAX];
    uint32_t count, slices, done, total;
};

static void on_rows(void *arg, const union traffic_rows *rows, uint32_t count)
{
    struct reader *reader = arg;

    assert_in_range(count, 1, WORKER_QUERY_ROWS);
    reader->slices++;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(reader->count < IDS_MAX);
        reader->id[reader->count++] =
            reader->kind == TRAFFIC_FLOWS ? rows->flow[i].id : rows->session[i].id;
    }
    if (reader->refuses)
        control_query_cancel(&reader->query);
    else if (!reader->waits)
        control_query_next(reader->query);
}

static void on_done(void *arg, uint32_t total)
{
    struct reader *reader = arg;

    reader->done++;
    reader->total = total;
    reader->query = NULL;
}

static void begin(struct reader *reader, const struct traffic_filter *filter, bool kill)
{
    const struct control_query_callbacks callbacks = {on_rows, on_done, reader};

    reader->count = reader->slices = reader->done = reader->total = 0;
    assert_int_equal(control_query_start(reader->control, reader->kind, filter, kill, &callbacks,
                                         &reader->query),
                     0);
}

static void ask(struct reader *reader, const struct traffic_filter *filter, bool kill)
{
    begin(reader, filter, kill);
    SITE_UNTIL(control_loop(reader->control), reader->done == 1);
}

static void reader_start(struct reader *reader)
{
    const struct limits limits = {
        .sessions = 1000, .pipes = 32, .flows = 1000, .resting = 100, .descriptors = 4096};
    char error[256] = "";

    site_listen(&reader->site);
    assert_int_equal(control_new(&reader->control, &reader->site.config, reader->site.listeners,
                                 &limits, error, sizeof(error)),
                     0);
    reader->site.listeners = NULL; /* control's now */
    if (control_start(reader->control, error, sizeof(error)) != 0)
        fail_msg("%s", error);
}

static void reader_open(struct reader *reader, unsigned sessions)
{
    int client, server;

    memset(reader, 0, sizeof(*reader));
    site_open(&reader->site, WORKERS);
    reader_start(reader);
    for (unsigned i = 0; i < sessions; i++)
        site_session(&reader->site, &client, &server);
}

static int datagram_socket(struct site *site)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    site_keep(site, fd);
    return fd;
}

/* A client whose datagram has reached the server. */
static void flow_open(struct site *site, int server)
{
    const struct sockaddr *to = (const struct sockaddr *)&site->entry_address;
    int client = datagram_socket(site);
    char byte = 'x';

    assert_int_equal(connect(client, to, sizeof(site->entry_address)), 0);
    assert_int_equal(send(client, &byte, 1, 0), 1);
    pair_wait(server, POLLIN);
    assert_int_equal(recv(server, &byte, 1, 0), 1);
}

static void reader_open_udp(struct reader *reader, unsigned flows)
{
    struct site *site = &reader->site;
    int server;

    memset(reader, 0, sizeof(*reader));
    reader->kind = TRAFFIC_FLOWS;
    site_open(site, WORKERS);
    site->entry.protocol = CONFIG_PROTOCOL_UDP;
    site->entry.udp_idle_timeout = 60000;
    server = datagram_socket(site);
    assert_int_equal(
        bind(server, &site->server.address.address.any, site->server.address.address.length), 0);
    reader_start(reader);
    for (unsigned i = 0; i < flows; i++)
        flow_open(site, server);
}

static void reader_close(struct reader *reader)
{
    control_free(&reader->control);
    site_close(&reader->site);
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

static const struct traffic_filter all;

/* ---- tests ---- */

static void test_each_session_is_met_once(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, SESSIONS);
    ask(&reader, &all, false);
    assert_int_equal(reader.total, SESSIONS);
    assert_int_equal(reader.count, SESSIONS);
    assert_true(reader.slices > SESSIONS / WORKER_QUERY_ROWS);
    qsort(reader.id, reader.count, sizeof(reader.id[0]), by_number);
    for (uint32_t i = 1; i < reader.count; i++)
        assert_true(reader.id[i - 1] < reader.id[i]);
    reader_close(&reader);
}

static void test_nothing_matches(void **state)
{
    const struct traffic_filter filter = {.server = "nobody"};
    struct reader reader;

    (void)state;
    reader_open(&reader, 10);
    ask(&reader, &filter, false);
    assert_int_equal(reader.total, 0);
    assert_int_equal(reader.slices, 0);
    reader_close(&reader);
}

static void test_the_reader_sets_the_pace(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, SESSIONS);
    reader.waits = true;
    begin(&reader, &all, false);
    for (uint32_t slice = 1; reader.done == 0; slice++) {
        SITE_UNTIL(control_loop(reader.control), reader.slices == slice || reader.done == 1);
        uv_run(control_loop(reader.control), UV_RUN_NOWAIT);
        assert_true(reader.done == 1 || reader.slices == slice);
        if (reader.done == 0)
            control_query_next(reader.query);
    }
    assert_int_equal(reader.total, SESSIONS);
    reader_close(&reader);
}

static void test_one_is_killed_by_its_number(void **state)
{
    struct traffic_filter filter = {0};
    struct reader reader;

    (void)state;
    reader_open(&reader, 10);
    ask(&reader, &all, false);
    filter.id = reader.id[5];
    ask(&reader, &filter, true);
    assert_int_equal(reader.total, 1);
    assert_int_equal(reader.slices, 0);
    ask(&reader, &filter, true);
    assert_int_equal(reader.total, 0);
    ask(&reader, &all, false);
    assert_int_equal(reader.total, 9);
    reader_close(&reader);
}

static void test_cancelled_while_a_worker_has_it(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, 10);
    begin(&reader, &all, false);
    control_query_cancel(&reader.query);
    assert_null(reader.query);
    control_query_cancel(&reader.query); /* nothing is fine */
    ask(&reader, &all, false);           /* comes back after the other */
    assert_int_equal(reader.count, 10);
    reader_close(&reader);
}

static void test_cancelled_between_slices(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, SESSIONS);
    reader.waits = true;
    begin(&reader, &all, false);
    SITE_UNTIL(control_loop(reader.control), reader.slices == 1);
    control_query_cancel(&reader.query);
    reader_close(&reader);
    assert_int_equal(reader.done, 0);
}

static void test_cancelled_from_within_rows(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, SESSIONS);
    reader.refuses = true;
    begin(&reader, &all, false);
    SITE_UNTIL(control_loop(reader.control), reader.slices == 1);
    assert_null(reader.query);
    reader_close(&reader);
    assert_int_equal(reader.slices, 1);
    assert_int_equal(reader.done, 0);
}

static void test_flows_are_met_and_killed_like_sessions(void **state)
{
    struct traffic_filter filter = {0};
    struct control_status status;
    struct reader reader;

    (void)state;
    reader_open_udp(&reader, SESSIONS);
    ask(&reader, &all, false);
    assert_int_equal(reader.count, SESSIONS);
    assert_true(reader.slices > SESSIONS / WORKER_QUERY_ROWS);
    qsort(reader.id, reader.count, sizeof(reader.id[0]), by_number);
    for (uint32_t i = 1; i < reader.count; i++)
        assert_true(reader.id[i - 1] < reader.id[i]);
    control_status(reader.control, &status);
    assert_int_equal(status.flows, SESSIONS);
    assert_int_equal(status.sessions, 0);

    filter.id = reader.id[5];
    ask(&reader, &filter, true);
    assert_int_equal(reader.total, 1);
    ask(&reader, &filter, true);
    assert_int_equal(reader.total, 0);
    reader.kind = TRAFFIC_SESSIONS;
    ask(&reader, &all, false);
    assert_int_equal(reader.total, 0);
    control_status(reader.control, &status);
    assert_int_equal(status.flows, SESSIONS - 1);
    reader_close(&reader);
}

/* ---- control stops meanwhile ---- */

static void cancel_it(void *arg)
{
    struct reader *reader = arg;

    control_query_cancel(&reader->query);
}

static void test_control_stops_and_the_reader_cancels(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, 10);
    control_on_stop(reader.control, cancel_it, &reader);
    begin(&reader, &all, false);
    reader_close(&reader);
    assert_null(reader.query);
    assert_int_equal(reader.slices + reader.done, 0);
}

static void test_control_stops_and_the_question_ends(void **state)
{
    struct reader reader;

    (void)state;
    reader_open(&reader, 10);
    begin(&reader, &all, true);
    reader_close(&reader);
    assert_int_equal(reader.done, 1);
}

static void test_nobody_to_ask(void **state)
{
    const struct limits limits = {.sessions = 1000, .pipes = 32, .descriptors = 4096};
    const struct control_query_callbacks callbacks = {on_rows, on_done, NULL};
    struct control_query *query = NULL;
    char error[256] = "";
    struct site site;
    struct control *control;

    (void)state;
    site_open(&site, WORKERS);
    site_listen(&site);
    assert_int_equal(
        control_new(&control, &site.config, site.listeners, &limits, error, sizeof(error)), 0);
    site.listeners = NULL; /* control's now */
    assert_int_equal(
        control_query_start(control, TRAFFIC_SESSIONS, &all, false, &callbacks, &query),
        -ESHUTDOWN);
    assert_null(query);
    control_free(&control);
    site_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_session_is_met_once),
        cmocka_unit_test(test_nothing_matches),
        cmocka_unit_test(test_the_reader_sets_the_pace),
        cmocka_unit_test(test_one_is_killed_by_its_number),
        cmocka_unit_test(test_cancelled_while_a_worker_has_it),
        cmocka_unit_test(test_cancelled_between_slices),
        cmocka_unit_test(test_cancelled_from_within_rows),
        cmocka_unit_test(test_flows_are_met_and_killed_like_sessions),
        cmocka_unit_test(test_control_stops_and_the_reader_cancels),
        cmocka_unit_test(test_control_stops_and_the_question_ends),
        cmocka_unit_test(test_nobody_to_ask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
