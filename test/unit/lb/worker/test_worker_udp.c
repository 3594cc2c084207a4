/*
 * A worker with a listener of UDP beside that of TCP: its flows are carried, shown, drained and
 * ended as sessions are.
 */
#include "lb/worker/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/worker/bench.h"

#include <string.h>

/* Bound to a port of its own; *out is where. */
static int bind_datagrams(struct sockaddr_in *out)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof(*out);

    assert_true(fd >= 0);
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)out, sizeof(*out)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)out, &length), 0);
    return fd;
}

struct udp_bench {
    struct bench bench;
    struct sockaddr_in front;
    int server;
    int front_fd; /* the worker's, once it has taken it */
};

static void udp_bench_open(struct udp_bench *udp)
{
    struct bench *bench = &udp->bench;
    struct sockaddr_in server;

    bench_open(bench);
    worker_stop(&bench->worker);
    listeners_close(&bench->site.listeners, 1);
    site_listen(&bench->site);

    udp->server = bind_datagrams(&server);
    udp->front_fd = bind_datagrams(&udp->front);
    bench->pools->pool[0].member[0].server->address.v4 = server;
    bench->udp.flow_limit = 1000;
    bench->udp_config = (struct config_listener){.name = "dns", .protocol = CONFIG_PROTOCOL_UDP};
    memcpy(&bench->listeners[0], bench->site.listeners, sizeof(bench->listeners[0]));
    bench->listeners[1] = (struct listener){.config = &bench->udp_config,
                                            .udp = {.listener = "dns",
                                                    .pool_name = "web",
                                                    .idle_timeout_ms = 60000,
                                                    .quarantine_ms = 2000,
                                                    .log_sample = 1,
                                                    .fragment = true},
                                            .flow_limit = 100,
                                            .fd_count = 1,
                                            .fd = &udp->front_fd};
    bench->listener_count = 2;
    assert_int_equal(udp_listener_options(udp->front_fd, &bench->listeners[1].udp), 0);
    bench_start(bench);
    assert_int_equal(udp->front_fd, -1);
}

static void udp_bench_close(struct udp_bench *udp)
{
    struct bench *bench = &udp->bench;

    if (bench->worker != NULL)
        worker_stop(&bench->worker);
    assert_int_equal(atomic_load(&bench->udp.flows), 0);
    assert_int_equal(atomic_load(&bench->listeners[1].flows), 0);
    for (uint32_t port = 0; port < 65536; port++)
        assert_int_equal(atomic_load(&bench->udp.own_port[port]), 0);
    close(udp->server);
    bench_close(bench);
}

/* A client's socket; its first datagram has reached the server, and the answer it. */
static int exchange(struct udp_bench *udp)
{
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from;
    socklen_t length = sizeof(from);
    char byte = 'q';

    assert_true(client >= 0);
    site_keep(&udp->bench.site, client);
    assert_int_equal(connect(client, (struct sockaddr *)&udp->front, sizeof(udp->front)), 0);
    assert_int_equal(send(client, &byte, 1, 0), 1);
    pair_wait(udp->server, POLLIN);
    assert_int_equal(recvfrom(udp->server, &byte, 1, 0, (struct sockaddr *)&from, &length), 1);
    assert_int_equal(byte, 'q');
    byte = 'a';
    assert_int_equal(sendto(udp->server, &byte, 1, 0, (struct sockaddr *)&from, length), 1);
    pair_wait(client, POLLIN);
    assert_int_equal(recv(client, &byte, 1, 0), 1);
    assert_int_equal(byte, 'a');
    return client;
}

static void test_a_flow_is_carried_shown_and_killed(void **state)
{
    struct udp_bench udp;
    struct bench *bench = &udp.bench;

    (void)state;
    udp_bench_open(&udp);
    give_view(bench);
    exchange(&udp);
    ask_about(bench, TRAFFIC_SESSIONS, false);
    assert_int_equal(bench->query.count, 0);
    ask_about(bench, TRAFFIC_FLOWS, false);
    assert_int_equal(bench->query.count, 1);
    assert_string_equal(bench->query.row.flow[0].listener, "dns");
    assert_string_equal(bench->query.row.flow[0].pool, "web");
    assert_string_equal(bench->query.row.flow[0].server, "a");
    assert_int_equal(bench->query.row.flow[0].state, FLOW_ACTIVE);
    assert_int_equal(bench->query.row.flow[0].datagrams_in, 1);
    assert_int_equal(bench->query.row.flow[0].bytes_out, 1);
    ask_about(bench, TRAFFIC_FLOWS, true);
    assert_int_equal(bench->query.count, 1);
    ask_about(bench, TRAFFIC_FLOWS, false);
    assert_int_equal(bench->query.count, 0);
    udp_bench_close(&udp);
}

static void test_sessions_and_flows_share_a_pool(void **state)
{
    struct udp_bench udp;
    struct bench *bench = &udp.bench;
    struct server_totals totals;

    (void)state;
    udp_bench_open(&udp);
    give_view(bench);
    exchange(&udp);
    ask_about(bench, TRAFFIC_FLOWS, false);
    server_totals(bench->pools->pool[0].member[0].server, &totals);
    assert_int_equal(totals.load, 1);
    assert_int_equal(totals.flows_now, 1);
    assert_int_equal(totals.flows, 1);
    assert_int_equal(totals.sessions, 0);
    udp_bench_close(&udp);
}

static void test_a_drained_worker_waits_for_its_flows(void **state)
{
    struct udp_bench udp;
    struct bench *bench = &udp.bench;
    char byte = 'x';

    (void)state;
    udp_bench_open(&udp);
    give_view(bench);
    int client = exchange(&udp);
    assert_int_equal(worker_drain(bench->worker), 0);
    ask_about(bench, TRAFFIC_FLOWS, false); /* comes after the drain */
    assert_int_equal(bench->query.count, 1);
    assert_int_equal(bench->idle, 0);
    assert_int_equal(send(client, &byte, 1, 0), 1); /* it goes on, */
    pair_wait(udp.server, POLLIN);
    SITE_UNTIL(&bench->loop, bench->idle == 1); /* until it is silent */
    assert_int_equal(metrics_get(worker_metrics(bench->worker), METRIC_FLOWS_ENDED), 1);
    udp_bench_close(&udp);
}

static void test_all_flows_are_ended_at_the_deadline(void **state)
{
    struct udp_bench udp;
    struct bench *bench = &udp.bench;

    (void)state;
    udp_bench_open(&udp);
    give_view(bench);
    for (int i = 0; i < 50; i++)
        exchange(&udp);
    assert_int_equal(worker_drain(bench->worker), 0);
    assert_int_equal(worker_end_all(bench->worker), 0);
    SITE_UNTIL(&bench->loop, bench->idle == 1);
    assert_int_equal(metrics_get(worker_metrics(bench->worker), METRIC_FLOWS_ENDED), 50);
    udp_bench_close(&udp);
}

static void test_stop_with_flows(void **state)
{
    struct udp_bench udp;

    (void)state;
    udp_bench_open(&udp);
    give_view(&udp.bench);
    for (int i = 0; i < 10; i++)
        exchange(&udp);
    udp_bench_close(&udp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flow_is_carried_shown_and_killed),
        cmocka_unit_test(test_sessions_and_flows_share_a_pool),
        cmocka_unit_test(test_a_drained_worker_waits_for_its_flows),
        cmocka_unit_test(test_all_flows_are_ended_at_the_deadline),
        cmocka_unit_test(test_stop_with_flows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
