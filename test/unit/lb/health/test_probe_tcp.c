/*
 * The tcp probe and the socket that probes share, against real servers on the loop of the test.
 */
#include "test/unit/lb/health/peer.h"
#include "test/unit/network.h"

#include "test/unit/addresses.h"

#include <errno.h>
#include <sys/resource.h>

static const struct script silent = {.end = PEER_HOLDS};

/* "connect to ADDRESS: what" */
static const char *connect_detail(const struct bench *bench, const char *what)
{
    static char detail[PROBE_DETAIL_MAX];
    char address[ADDRESS_TEXT_MAX];
    snprintf(detail, sizeof(detail), "connect to %s: %s", address_format(&bench->address, address),
             what);
    return detail;
}

/* ---- Passing ---- */

static void passes_where_something_listens(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0", "unix"};
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct bench bench;
        bench_begin(&bench);
        bench_listen(&bench, addresses[i], silent);
        bench_run(&bench, "tcp");
        assert_verdict(&bench, PROBE_PASS, "connected");
        bench_end(&bench);
    }
}

/* It connected: what the server does then is not asked. */
static void passes_when_the_server_closes(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", (struct script){.at_once = true, .end = PEER_CLOSES});
    bench_run(&bench, "tcp");
    assert_verdict(&bench, PROBE_PASS, "connected");
    bench_end(&bench);
}

/* As the pool's sessions do: from the first address of the server's family that can be used. */
static void connects_from_the_source(void **state)
{
    (void)state;
    struct bench bench;
    const union inet_address sources[] = {host_of("2001:db8::5"), host_of("192.0.2.5"),
                                          host_of("127.0.0.5"), host_of("127.0.0.6")};
    bench_begin(&bench);
    bench.settings.source = sources;
    bench.settings.source_count = ARRAY_LEN(sources);
    bench_listen(&bench, "127.0.0.1:0", silent);
    bench_run(&bench, "tcp");
    assert_verdict(&bench, PROBE_PASS, "connected");
    bench_run_to_client_end(&bench);
    assert_true(inet_address_same_host(&bench.client, &sources[2]));
    bench_end(&bench);
}

/* The addresses are not on this machine: no verdict on the server. */
static void without_its_source_there_is_no_verdict(void **state)
{
    (void)state;
    struct bench bench;
    const union inet_address sources[] = {host_of("192.0.2.5"), host_of("192.0.2.6")};
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", silent);
    bench.settings.source = sources;
    bench.settings.source_count = ARRAY_LEN(sources);
    bench_make_probe(&bench, "tcp");
    assert_int_equal(bench.probe->kind->start(bench.probe), -EADDRNOTAVAIL);
    assert_int_equal(bench.done, 0);
    bench_end(&bench);
}

static void start_again(struct bench *bench)
{
    if (bench->done < 5)
        assert_int_equal(bench->probe->kind->start(bench->probe), 0);
}

static void may_be_started_again_from_its_verdict(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", silent);
    bench.on_done = start_again;
    bench_start(&bench, "tcp");
    while (bench.done < 5 || bench.accepted < 5)
        uv_run(&bench.loop, UV_RUN_ONCE);
    assert_int_equal(bench.done, 5);
    bench_end(&bench);
}

/* ---- Closing ---- */

/* Lines of /proc/net/tcp in TIME_WAIT (state 06) between the two ports: others of this machine may
 * have one of them. */
static unsigned count_time_wait(uint16_t port, uint16_t other)
{
    FILE *file = fopen("/proc/net/tcp", "r");
    assert_non_null(file);
    unsigned count = 0;
    char line[256];
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned local, remote, status;
        if (sscanf(line, "%*d: %*x:%x %*x:%x %x", &local, &remote, &status) == 3 &&
            ((local == port && remote == other) || (local == other && remote == port)) &&
            status == 6)
            count++;
    }
    fclose(file);
    return count;
}

static void leaves_no_time_wait(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", silent);
    bench_run(&bench, "tcp");
    bench_run_to_client_end(&bench);
    assert_int_equal(bench.client_end, UV_ECONNRESET);
    uint16_t client = inet_address_port(&bench.client);
    assert_int_not_equal(client, 0);
    assert_int_equal(count_time_wait(address_port(&bench.address), client), 0);
    bench_end(&bench);
}

/* ---- Refused ---- */

/* Bound and not listening: nobody else can take the port meanwhile. */
static int reserve(struct bench *bench)
{
    socklen_t length = sizeof(bench->address.v4);
    bench_address(bench, "127.0.0.1:0");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &bench->address.any, bench->address.length), 0);
    assert_int_equal(getsockname(fd, &bench->address.any, &length), 0);
    return fd;
}

static void fails_where_nothing_listens(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    int fd = reserve(&bench);
    bench_run(&bench, "tcp");
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "connection refused"));
    close(fd);
    bench_end(&bench);
}

static void fails_where_there_is_no_socket(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_address(&bench, "unix");
    bench_run(&bench, "tcp");
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "no such file or directory"));
    bench_end(&bench);
}

static int listen_without_room(struct bench *bench, int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof(bench->address.un);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &bench->address.any, bench->address.length), 0);
    assert_int_equal(listen(fd, 0), 0);
    if (family == AF_INET)
        assert_int_equal(getsockname(fd, &bench->address.any, &length), 0);
    return fd;
}

/* Takes the one place that a queue of length 0 has. */
static int take_the_place(const struct bench *bench)
{
    int fd = socket(bench->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &bench->address.any, bench->address.length), 0);
    return fd;
}

/* The reset is there before the probe looks. */
static void fails_when_it_is_reset_at_once(void **state)
{
    (void)state;
    struct bench bench;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    bench_begin(&bench);
    bench_address(&bench, "127.0.0.1:0");
    int listener = listen_without_room(&bench, AF_INET);
    bench_start(&bench, "tcp");
    int server = accept(listener, NULL, NULL);
    assert_true(server >= 0);
    assert_int_equal(setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(server);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "connection reset by peer"));
    close(listener);
    bench_end(&bench);
}

static void fails_where_the_queue_of_a_unix_socket_is_full(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_address(&bench, "unix");
    unlink(bench.address.un.sun_path);
    int listener = listen_without_room(&bench, AF_UNIX);
    int client = take_the_place(&bench);
    bench_run(&bench, "tcp");
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "its queue is full"));
    close(client);
    close(listener);
    unlink(bench.address.un.sun_path);
    bench_end(&bench);
}

/* ---- Stopped ---- */

/* With its queue full the kernel drops the SYN, as a firewall would. */
static void the_deadline_finds_it_connecting(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_address(&bench, "127.0.0.1:0");
    int listener = listen_without_room(&bench, AF_INET);
    int client = take_the_place(&bench);
    bench_start(&bench, "tcp");
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    assert_int_equal(bench.done, 0);
    bench_deadline(&bench);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_int_equal(bench.done, 1);
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "no answer within 1000 ms"));
    close(client);
    close(listener);
    bench_end(&bench);
}

static void a_cancelled_probe_says_so_once(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_listen(&bench, "127.0.0.1:0", silent);
    bench_start(&bench, "tcp");
    bench_stop(&bench, PROBE_CANCELLED, "removed");
    while (bench.done == 0)
        uv_run(&bench.loop, UV_RUN_ONCE);
    assert_int_equal(bench.verdict, PROBE_CANCELLED);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    assert_int_equal(bench.done, 1);
    bench_end(&bench);
}

static void the_first_verdict_stands(void **state)
{
    (void)state;
    struct bench bench;
    bench_begin(&bench);
    bench_address(&bench, "unix");
    bench_start(&bench, "tcp"); /* refused within connect(2) */
    bench_deadline(&bench);
    bench_stop(&bench, PROBE_CANCELLED, "removed");
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    assert_int_equal(bench.done, 1);
    assert_verdict(&bench, PROBE_FAIL, connect_detail(&bench, "no such file or directory"));
    bench_end(&bench);
}

/* ---- What our own machine lacks ---- */

static void without_descriptors_there_is_no_verdict(void **state)
{
    (void)state;
    static const char *const kinds[] = {"tcp", "http"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct bench bench;
        struct rlimit before;
        bench_begin(&bench);
        bench_address(&bench, "127.0.0.1:9");
        bench_make_probe(&bench, kinds[i]);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        int rc = bench.probe->kind->start(bench.probe);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(rc, -EMFILE);
        uv_run(&bench.loop, UV_RUN_DEFAULT);
        assert_int_equal(bench.done, 0);
        bench_end(&bench);
    }
}

#define ONLY_PORT "40001"

/* In a network whose only port for connections is the one that is probed. */
static void meet_oneself(void)
{
    struct bench bench;
    assert_true(network_set("ipv4/ip_local_port_range", ONLY_PORT " " ONLY_PORT));
    bench_begin(&bench);
    bench_address(&bench, "127.0.0.1:" ONLY_PORT);
    bench_run(&bench, "tcp");
    assert_string_equal(bench.detail, connect_detail(&bench, "connection refused"));
    bench_end(&bench);
}

/* Nothing listens there, and yet connect(2) succeeds: both ends are one socket. */
static void a_connection_to_itself_is_no_server(void **state)
{
    (void)state;
    network_run(meet_oneself);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_where_something_listens),
        cmocka_unit_test(passes_when_the_server_closes),
        cmocka_unit_test(connects_from_the_source),
        cmocka_unit_test(without_its_source_there_is_no_verdict),
        cmocka_unit_test(may_be_started_again_from_its_verdict),
        cmocka_unit_test(leaves_no_time_wait),
        cmocka_unit_test(fails_where_nothing_listens),
        cmocka_unit_test(fails_where_there_is_no_socket),
        cmocka_unit_test(fails_when_it_is_reset_at_once),
        cmocka_unit_test(fails_where_the_queue_of_a_unix_socket_is_full),
        cmocka_unit_test(the_deadline_finds_it_connecting),
        cmocka_unit_test(a_cancelled_probe_says_so_once),
        cmocka_unit_test(the_first_verdict_stands),
        cmocka_unit_test(without_descriptors_there_is_no_verdict),
        cmocka_unit_test(a_connection_to_itself_is_no_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
