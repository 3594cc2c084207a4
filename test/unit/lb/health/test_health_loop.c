/*
 * The schedule with real probes on a real loop, and its time still in the test's hand: what control
 * does, without its timer.
 */
#include "test/unit/lb/health/peer.h"

#include "common/log.h"

struct subject {
    enum health_state state;
    unsigned changes, clears;
    char reason[256];
};

static void on_change(void *owner, void *subject, enum health_state state, const char *reason)
{
    struct subject *to = subject;
    (void)owner;
    to->state = state;
    to->changes++;
    snprintf(to->reason, sizeof(to->reason), "%s", reason);
}

static void on_clear(void *owner, void *subject)
{
    struct subject *to = subject;
    (void)owner;
    to->clears++;
}

static void on_freed(void *arg)
{
    *(bool *)arg = true;
}

struct rig {
    struct bench bench;
    struct health *health;
    struct health_target *target;
    struct subject subject;
    uint64_t now;
};

static void rig_begin(struct rig *rig, const char *type)
{
    const struct health_callbacks callbacks = {rig, on_change, on_clear};
    memset(rig, 0, sizeof(*rig));
    bench_begin(&rig->bench);
    struct config_health *settings = &rig->bench.settings;
    settings->type = (char *)type;
    settings->interval = settings->interval_changing = settings->interval_down = 1000;
    settings->timeout = 1000;
    settings->rise = settings->fall = 2;
    rig->now = uv_now(&rig->bench.loop);
    assert_int_equal(health_new(&rig->health, &rig->bench.loop, &callbacks, rig->now, 1), 0);
}

static void rig_add(struct rig *rig)
{
    assert_int_equal(health_add(rig->health, &rig->bench.settings, &rig->bench.address, "web/a",
                                HEALTH_UNKNOWN, &rig->subject, &rig->target),
                     0);
}

static uint64_t rig_probes(const struct rig *rig)
{
    struct health_report report;
    health_report(rig->target, &report);
    return report.probes;
}

static void find_probe(uv_handle_t *handle, void *arg)
{
    bool *found = arg;
    *found |= handle->type == UV_POLL;
}

static bool is_under_way(struct rig *rig)
{
    bool found = false;
    uv_walk(&rig->bench.loop, find_probe, &found);
    return found;
}

/* Time jumps to what is due, but stands still while a probe is under way: no deadline is reached.
 */
static void rig_probe(struct rig *rig)
{
    uint64_t probes = rig_probes(rig);
    while (rig_probes(rig) == probes) {
        rig->now = MAX(rig->now, health_next(rig->health));
        health_advance(rig->health, rig->now);
        while (is_under_way(rig))
            uv_run(&rig->bench.loop, UV_RUN_ONCE);
    }
}

static void rig_end(struct rig *rig)
{
    bool freed = false;
    health_free(&rig->health, on_freed, &freed);
    while (!freed)
        uv_run(&rig->bench.loop, UV_RUN_ONCE);
    bench_end(&rig->bench);
}

static void stop_listening(struct rig *rig)
{
    uv_close(&rig->bench.listener.handle, NULL);
    uv_run(&rig->bench.loop, UV_RUN_NOWAIT);
}

static void a_server_comes_and_goes(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "tcp");
    bench_listen(&rig.bench, "127.0.0.1:0", (struct script){.end = PEER_HOLDS});
    rig_add(&rig);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_UP);

    stop_listening(&rig);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_UP);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_DOWN);
    assert_non_null(strstr(rig.subject.reason, "2 of 2 probes failed: connect to 127.0.0.1:"));
    assert_non_null(strstr(rig.subject.reason, ": connection refused"));
    rig_end(&rig);
}

static void a_suspect_is_cleared_by_its_probe(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "tcp");
    bench_listen(&rig.bench, "127.0.0.1:0", (struct script){.end = PEER_HOLDS});
    rig_add(&rig);
    rig_probe(&rig);
    health_suspect(rig.health, rig.target);
    rig_probe(&rig);
    assert_int_equal(rig.subject.clears, 1);
    assert_int_equal(rig.subject.changes, 1);
    rig_end(&rig);
}

static void an_http_server_is_judged_by_its_status(void **state)
{
    (void)state;
    static const char *const answer[] = {"HTTP/1.1 503 Busy\r\n\r\n", NULL};
    struct rig rig;
    rig_begin(&rig, "http");
    bench_listen(&rig.bench, "127.0.0.1:0", (struct script){.pieces = answer, .end = PEER_CLOSES});
    rig_add(&rig);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_DOWN);
    assert_string_equal(rig.subject.reason, "the probe failed: status 503, wanted 200-399");
    rig_end(&rig);
}

/* Bound, and never reads. */
static int reserve_port(struct bench *bench)
{
    socklen_t length = sizeof(bench->address.v4);
    bench_address(bench, "127.0.0.1:0");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &bench->address.any, length), 0);
    assert_int_equal(getsockname(fd, &bench->address.any, &length), 0);
    return fd;
}

/* Time jumps to the deadline too. */
static void rig_probe_silence(struct rig *rig)
{
    uint64_t probes = rig_probes(rig);
    while (rig_probes(rig) == probes) {
        rig->now = MAX(rig->now, health_next(rig->health));
        health_advance(rig->health, rig->now);
        uv_run(&rig->bench.loop, UV_RUN_NOWAIT);
    }
}

static void a_silent_port_is_up_until_it_is_closed(void **state)
{
    (void)state;
    struct rig rig;
    rig_begin(&rig, "udp");
    int server = reserve_port(&rig.bench);
    rig_add(&rig);
    rig_probe_silence(&rig);
    assert_int_equal(rig.subject.state, HEALTH_UP);
    assert_string_equal(rig.subject.reason, "the probe passed: no ICMP error within 1000 ms");

    close(server);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_UP);
    rig_probe(&rig);
    assert_int_equal(rig.subject.state, HEALTH_DOWN);
    assert_non_null(strstr(rig.subject.reason, "2 of 2 probes failed: send to 127.0.0.1:"));
    assert_non_null(strstr(rig.subject.reason, ": connection refused"));
    rig_end(&rig);
}

/* The sockets of a target that is removed, and of a schedule that ends, are closed all the same. */
static void probes_under_way_are_closed_at_the_end(void **state)
{
    (void)state;
    struct rig rig;
    struct health_target *second;
    struct subject ignored = {0};
    rig_begin(&rig, "http");
    bench_listen(&rig.bench, "127.0.0.1:0", (struct script){.end = PEER_HOLDS});
    rig_add(&rig);
    assert_int_equal(health_add(rig.health, &rig.bench.settings, &rig.bench.address, "web/b",
                                HEALTH_UNKNOWN, &ignored, &second),
                     0);
    health_advance(rig.health, rig.now);
    health_advance(rig.health, rig.now + 200);
    while (rig.bench.accepted < 2)
        uv_run(&rig.bench.loop, UV_RUN_ONCE);
    health_remove(rig.health, &second);
    rig_end(&rig);
    assert_int_equal(rig.subject.changes + ignored.changes, 0);
}

static void the_kinds_are_named_in_the_order_of_the_table(void **state)
{
    (void)state;
    size_t count = 0;
    const char *const *names = health_probe_names(&count);
    static const char *const expected[] = {"tcp", "http", "udp", "dns"};
    assert_int_equal(count, ARRAY_LEN(expected));
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(names[i], expected[i]);
        assert_non_null(probe_kind_find(names[i]));
        assert_int_equal(health_probe_is_inet(names[i]), i >= 2);
    }
    assert_null(probe_kind_find("none"));
    assert_false(health_probe_is_inet("none"));
}

static int quiet_log(void **state)
{
    (void)state;
    const struct log_options options = {.target = "/dev/null", .level = LOG_LEVEL_ERROR};
    char error[128];
    return log_start(&options, error, sizeof(error));
}

static int end_log(void **state)
{
    (void)state;
    log_stop(1000);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_comes_and_goes),
        cmocka_unit_test(a_suspect_is_cleared_by_its_probe),
        cmocka_unit_test(an_http_server_is_judged_by_its_status),
        cmocka_unit_test(a_silent_port_is_up_until_it_is_closed),
        cmocka_unit_test(probes_under_way_are_closed_at_the_end),
        cmocka_unit_test(the_kinds_are_named_in_the_order_of_the_table),
    };
    return cmocka_run_group_tests(tests, quiet_log, end_log);
}
