/*
 * Taking clients: the limits, what is short, and the end; without a thread, by hand.
 */
#include "lb/worker/acceptor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/worker/site.h"

#include <string.h>

#define LISTENERS 2
#define LATER_MS 1000 /* longer than any pause */

/* Sessions never get a server here: they wait, and hold what they were given. */
struct desk {
    struct poller poller;
    struct wheel wheel;
    struct pipe_pool pipes;
    struct metrics metrics;
    struct tcp *tcp;
    struct acceptor *acceptor;
    struct config_listener config[LISTENERS];
    struct listener listener[LISTENERS];
    int fd[LISTENERS];
    struct sockaddr_in address[LISTENERS];
    _Atomic uint32_t total;
    struct rate_meter rate;
    int client[64];
    size_t clients;
    unsigned descriptors;
};

static struct server *pick_none(void *owner, uint32_t pool, uint64_t key,
                                const struct sched_tried *tried)
{
    (void)owner;
    (void)pool;
    (void)key;
    (void)tried;
    return NULL;
}

static const struct pool_policy *policy(void *owner, uint32_t pool)
{
    static const struct pool_policy hold = {.connect_timeout_ms = 3600000,
                                            .when_empty = CONFIG_EMPTY_HOLD};
    (void)owner;
    (void)pool;
    return &hold;
}

static void suspect(void *owner, struct server *server)
{
    (void)owner;
    (void)server;
}

static void ended(void *owner, const struct tcp_policy *of)
{
    struct desk *desk = owner;

    acceptor_release(desk->acceptor, of);
}

static void open_listener(struct desk *desk, size_t i)
{
    struct listener *listener = &desk->listener[i];

    desk->config[i].name = i == 0 ? "front" : "back";
    desk->fd[i] = pair_listen(&desk->address[i], 64, 0);
    listener->config = &desk->config[i];
    listener->limit = UINT32_MAX;
    listener->fd_count = 1;
    listener->fd = &desk->fd[i];
}

/* Rates of the two listeners and of weir, with a burst of 1 each; 0: none. */
struct rates {
    uint32_t listener[LISTENERS];
    uint32_t weir;
};

static void desk_open_rated(struct desk *desk, uint32_t session_limit, struct rates rates)
{
    struct tcp_env env = {
        .poller = &desk->poller,
        .wheel = &desk->wheel,
        .pipes = &desk->pipes,
        .metrics = &desk->metrics,
        .session_limit = session_limit,
        .pool_count = 1,
        .owner = desk,
        .pick = pick_none,
        .policy = policy,
        .suspect = suspect,
        .ended = ended,
    };
    struct acceptor_options options = {
        .poller = &desk->poller,
        .wheel = &desk->wheel,
        .metrics = &desk->metrics,
        .listeners = desk->listener,
        .listener_count = LISTENERS,
        .session_limit = session_limit,
        .sessions_total = &desk->total,
        .session_rate = &desk->rate,
    };

    site_warm_up();
    memset(desk, 0, sizeof(*desk));
    desk->descriptors = site_descriptors();
    wheel_init(&desk->wheel, clock_now_ms());
    pipe_pool_init(&desk->pipes, 0, 0);
    assert_int_equal(poller_open(&desk->poller), 0);
    assert_int_equal(tcp_new(&desk->tcp, &env, clock_now_ms()), 0);
    for (size_t i = 0; i < LISTENERS; i++)
        open_listener(desk, i);
    for (size_t i = 0; i < LISTENERS; i++) {
        rate_meter_init(&desk->listener[i].session_rate, rates.listener[i], 1);
        rate_meter_init(&desk->listener[i].taken_rate, rates.listener[i], 1);
    }
    rate_meter_init(&desk->rate, rates.weir, 1);
    options.tcp = desk->tcp;
    assert_int_equal(acceptor_new(&desk->acceptor, &options), 0);
    assert_int_equal(desk->fd[0], -1);
}

static void desk_open(struct desk *desk, uint32_t session_limit)
{
    desk_open_rated(desk, session_limit, (struct rates){0});
}

static void desk_close(struct desk *desk)
{
    static const struct traffic_filter all;
    uint32_t cursor = 0;

    acceptor_stop(desk->acceptor);
    tcp_kill(desk->tcp, &all, SESSION_END_SHUTDOWN, &cursor, UINT64_MAX);
    assert_int_equal(atomic_load(&desk->total), 0);
    for (size_t i = 0; i < LISTENERS; i++)
        assert_int_equal(atomic_load(&desk->listener[i].sessions), 0);
    acceptor_free(&desk->acceptor);
    assert_null(desk->acceptor);
    tcp_free(&desk->tcp);
    assert_int_equal(desk->wheel.count, 0);
    pipe_pool_deinit(&desk->pipes);
    poller_close(&desk->poller);
    while (desk->clients > 0)
        close(desk->client[--desk->clients]);
    assert_int_equal(site_descriptors(), desk->descriptors);
}

static int try_dial(const struct desk *desk, size_t listener)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&desk->address[listener],
                sizeof(desk->address[listener])) == 0)
        return fd;
    close(fd);
    return -1;
}

static void dial(struct desk *desk, size_t listener, unsigned count)
{
    while (count-- > 0) {
        int fd = try_dial(desk, listener);
        assert_true(fd >= 0);
        assert_true(desk->clients < ARRAY_LEN(desk->client));
        desk->client[desk->clients++] = fd;
    }
}

/* The oldest client goes with a reset. */
static void leave(struct desk *desk)
{
    struct linger reset = {.l_onoff = 1};

    assert_true(desk->clients > 0);
    assert_int_equal(setsockopt(desk->client[0], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(desk->client[0]);
    memmove(desk->client, desk->client + 1, --desk->clients * sizeof(desk->client[0]));
}

/* Until nothing more comes of what the kernel holds: loopback has delivered when connect returns.
 */
static void settle(struct desk *desk)
{
    for (int i = 0; i < 20; i++) {
        tcp_set_now(desk->tcp, clock_now_ms());
        poller_wait(&desk->poller, 0);
        tcp_reap(desk->tcp);
    }
}

/* The clock goes on by itself; the wheel has no other. */
static void turn(struct desk *desk)
{
    wheel_advance(&desk->wheel, clock_now_ms());
    settle(desk);
}

/* How long it takes until so many were taken, in microseconds. */
static uint64_t until_taken(struct desk *desk, size_t listener, uint32_t wanted)
{
    uint64_t start_us = clock_now_us();

    while (atomic_load(&desk->listener[listener].sessions) < wanted) {
        assert_true(clock_now_us() - start_us < PAIR_PATIENCE_MS * UINT64_C(1000));
        turn(desk);
    }
    return clock_now_us() - start_us;
}

static uint64_t count(const struct desk *desk, enum metric metric)
{
    return metrics_get(&desk->metrics, metric);
}

/* ---- tests ---- */

static void test_nobody_is_taken_before_the_start(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 100);
    dial(&desk, 0, 1);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 0);
    acceptor_start(desk.acceptor);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    desk_close(&desk);
}

static void test_the_limit_of_weir(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 2);
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 2);
    dial(&desk, 1, 1);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 2);
    assert_int_equal(atomic_load(&desk.total), 2);
    assert_true(count(&desk, METRIC_ACCEPT_PAUSES) >= 1);

    /* No time passes: the end of a session makes room for the one that waits. */
    leave(&desk);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 2);
    assert_int_equal(count(&desk, METRIC_SESSIONS), 3);
    assert_int_equal(count(&desk, METRIC_ACCEPT_ERRORS), 0);
    desk_close(&desk);
}

static void test_the_limit_of_a_listener_is_its_own(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 100);
    desk.listener[0].limit = 1;
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 3);
    dial(&desk, 1, 3);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.listener[0].sessions), 1);
    assert_int_equal(atomic_load(&desk.listener[1].sessions), 3);
    assert_int_equal(atomic_load(&desk.total), 4);
    leave(&desk);
    settle(&desk);
    assert_int_equal(count(&desk, METRIC_SESSIONS), 5);
    desk_close(&desk);
}

static void test_a_slot_of_another_worker_is_met_by_the_wheel(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 5);
    acceptor_start(desk.acceptor);
    atomic_fetch_add(&desk.total, 5);
    dial(&desk, 0, 1);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 0);
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 1);
    atomic_fetch_sub(&desk.total, 5);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 0);
    wheel_advance(&desk.wheel, clock_now_ms() + LATER_MS);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    desk_close(&desk);
}

static void set_descriptor_limit(rlim_t limit)
{
    struct rlimit now;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    now.rlim_cur = limit;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
}

static void test_without_descriptors_it_rests(void **state)
{
    struct rlimit before;
    struct desk desk;

    (void)state;
    desk_open(&desk, 100);
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 2);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = dup(STDIN_FILENO); /* the next that would be given out */
    close(lowest);
    set_descriptor_limit((rlim_t)lowest);
    settle(&desk);
    set_descriptor_limit(before.rlim_cur);
    assert_int_equal(tcp_sessions(desk.tcp), 0);
    assert_int_equal(atomic_load(&desk.total), 0);
    assert_int_equal(count(&desk, METRIC_ACCEPT_ERRORS), 1); /* and not one in each turn */
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 1);

    wheel_advance(&desk.wheel, clock_now_ms() + LATER_MS);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 2);
    desk_close(&desk);
}

static void test_a_listener_that_was_shut_does_not_spin(void **state)
{
    struct desk desk;
    int fd;

    (void)state;
    desk_open(&desk, 100);
    acceptor_start(desk.acceptor);
    /* The acceptor's own descriptor: the only socket of that address that listens. */
    for (fd = 0;; fd++) {
        struct sockaddr_in name = {0};
        socklen_t length = sizeof(name);
        assert_true(fd < 1024);
        if (getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
            name.sin_port == desk.address[0].sin_port)
            break;
    }
    assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
    settle(&desk);
    assert_int_equal(count(&desk, METRIC_ACCEPT_ERRORS), 1);
    dial(&desk, 1, 1);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    desk_close(&desk); /* and acceptor_stop comes back */
}

static void test_stop_takes_the_queue(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 100);
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 20); /* more than one batch */
    dial(&desk, 1, 20);
    acceptor_stop(desk.acceptor);
    assert_int_equal(tcp_sessions(desk.tcp), 40);
    for (size_t i = 0; i < LISTENERS; i++)
        assert_int_equal(try_dial(&desk, i), -1);
    acceptor_stop(desk.acceptor);
    acceptor_start(desk.acceptor);
    settle(&desk);
    desk_close(&desk);
}

static void test_stop_at_the_limit_comes_back(void **state)
{
    struct desk desk;

    (void)state;
    desk_open(&desk, 1);
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 3);
    acceptor_stop(desk.acceptor);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    desk_close(&desk);
}

/* ---- rates ---- */

static void test_the_rate_of_a_listener_is_its_own(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.listener = {50, 0}});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 6);
    dial(&desk, 1, 20);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.listener[1].sessions), 20);
    assert_true(atomic_load(&desk.listener[0].sessions) < 6);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 1);
    assert_int_equal(atomic_load(&desk.listener[1].throttled), 0);
    until_taken(&desk, 0, 6);
    assert_true(count(&desk, METRIC_ACCEPT_RATE_PAUSES) >= 1);
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 0);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 0);
    desk_close(&desk);
}

/* Each after the interval since the one before: not later by a pause of fixed length. */
static void test_each_is_taken_when_it_is_due(void **state)
{
    struct desk desk;
    uint64_t start_us;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.listener = {100, 0}});
    acceptor_start(desk.acceptor);
    start_us = clock_now_us();
    dial(&desk, 0, 10);
    for (uint32_t i = 1; i <= 10; i++) {
        until_taken(&desk, 0, i);
        assert_true(clock_now_us() - start_us >= (i - 1) * UINT64_C(10000));
        /* The wheel knows: it is to be woken at that millisecond, and not later. */
        if (i < 10)
            assert_true(wheel_next(&desk.wheel) <= clock_now_ms() + 11);
    }
    desk_close(&desk);
}

/* Two listeners wait for one rate: their turns come by and by. */
static void test_listeners_share_the_rate_of_weir(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.weir = 200});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 20);
    dial(&desk, 1, 20);
    uint64_t start_us = clock_now_us();
    until_taken(&desk, 0, 10);
    uint32_t others = atomic_load(&desk.listener[1].sessions);
    assert_in_range(others, 5, 15);
    assert_true(clock_now_us() - start_us >= (10 + others - 2) * UINT64_C(5000));
    desk_close(&desk);
}

static void test_both_rates_hold(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.listener = {40, 0}, .weir = 80});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 4);
    dial(&desk, 1, 20);
    uint64_t start_us = clock_now_us();
    until_taken(&desk, 0, 4);
    uint64_t took_us = clock_now_us() - start_us;
    assert_true(took_us >= 3 * UINT64_C(25000) - 1000);
    assert_true(atomic_load(&desk.total) <= 1 + took_us / 12500 + 1);
    desk_close(&desk);
}

/* So much later has a meter room, by what others do. */
static void delay(struct rate_meter *meter, uint64_t by_us)
{
    atomic_store(&meter->arrival, (clock_now_us() + by_us) * 1000);
}

/* By then its turn of the listener's own rate is long past, and others wait for the next ones: it
 * would never come to both at once. But what they take meanwhile is theirs. */
static void test_a_turn_outlives_the_wait_for_weir(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.listener = {20, 0}, .weir = 20});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 1);
    until_taken(&desk, 0, 1);
    uint64_t start_us = clock_now_us();
    delay(&desk.rate, 200000);
    delay(&desk.listener[0].taken_rate, 240000);
    dial(&desk, 0, 1);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 1);
    delay(&desk.listener[0].session_rate, 3600 * UINT64_C(1000000));
    until_taken(&desk, 0, 2);
    assert_true(clock_now_us() - start_us >= 240000);
    desk_close(&desk);
}

/* The end of a session makes room, and no turn. */
static void test_an_end_hastens_no_turn(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 2, (struct rates){.listener = {1, 0}});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 2);
    dial(&desk, 1, 2);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.total), 2);
    assert_int_equal(atomic_load(&desk.listener[0].sessions), 1);
    leave(&desk);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.listener[0].sessions), 0);
    assert_int_equal(atomic_load(&desk.listener[1].sessions), 2);
    assert_int_equal(count(&desk, METRIC_ACCEPT_RATE_PAUSES), 1);
    desk_close(&desk);
}

static void test_who_finds_no_slot_has_not_used_the_rate(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 1, (struct rates){.listener = {1, 0}});
    atomic_fetch_add(&desk.total, 1);
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 1);
    settle(&desk);
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 1);
    atomic_fetch_sub(&desk.total, 1);
    wheel_advance(&desk.wheel, clock_now_ms() + LATER_MS);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    assert_int_equal(count(&desk, METRIC_ACCEPT_RATE_PAUSES), 0);
    desk_close(&desk);
}

/* Its turns would be the others' losses, at every look for a slot, on each worker. */
static void test_who_is_full_waits_for_no_turn(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.weir = 1});
    desk.listener[0].limit = 0;
    acceptor_start(desk.acceptor);
    dial(&desk, 1, 1);
    settle(&desk);
    assert_int_equal(tcp_sessions(desk.tcp), 1);
    uint64_t before = atomic_load(&desk.rate.arrival);
    dial(&desk, 0, 1);
    settle(&desk);
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 1);
    assert_int_equal(count(&desk, METRIC_ACCEPT_RATE_PAUSES), 0);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 0);
    assert_int_equal(atomic_load(&desk.rate.arrival), before);

    /* One that has a turn and became full meanwhile gives it back. */
    desk.listener[0].limit = 1;
    wheel_advance(&desk.wheel, clock_now_ms() + LATER_MS / 5);
    settle(&desk);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 1);
    desk.listener[0].limit = 0;
    wheel_advance(&desk.wheel, clock_now_ms() + 2 * LATER_MS);
    settle(&desk);
    assert_int_equal(count(&desk, METRIC_ACCEPT_PAUSES), 2);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 0);
    assert_int_equal(atomic_load(&desk.rate.arrival), before);
    desk_close(&desk);
}

static void test_stop_takes_the_queue_whatever_the_rate(void **state)
{
    struct desk desk;

    (void)state;
    desk_open_rated(&desk, 100, (struct rates){.listener = {1, 0}, .weir = 2});
    acceptor_start(desk.acceptor);
    dial(&desk, 0, 20);
    dial(&desk, 1, 20);
    settle(&desk);
    assert_true(tcp_sessions(desk.tcp) < 5);
    acceptor_stop(desk.acceptor);
    assert_int_equal(tcp_sessions(desk.tcp), 40);
    assert_int_equal(atomic_load(&desk.listener[0].throttled), 0);
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_is_taken_before_the_start),
        cmocka_unit_test(test_the_limit_of_weir),
        cmocka_unit_test(test_the_limit_of_a_listener_is_its_own),
        cmocka_unit_test(test_a_slot_of_another_worker_is_met_by_the_wheel),
        cmocka_unit_test(test_without_descriptors_it_rests),
        cmocka_unit_test(test_a_listener_that_was_shut_does_not_spin),
        cmocka_unit_test(test_stop_takes_the_queue),
        cmocka_unit_test(test_stop_at_the_limit_comes_back),
        cmocka_unit_test(test_the_rate_of_a_listener_is_its_own),
        cmocka_unit_test(test_each_is_taken_when_it_is_due),
        cmocka_unit_test(test_listeners_share_the_rate_of_weir),
        cmocka_unit_test(test_both_rates_hold),
        cmocka_unit_test(test_a_turn_outlives_the_wait_for_weir),
        cmocka_unit_test(test_an_end_hastens_no_turn),
        cmocka_unit_test(test_who_finds_no_slot_has_not_used_the_rate),
        cmocka_unit_test(test_who_is_full_waits_for_no_turn),
        cmocka_unit_test(test_stop_takes_the_queue_whatever_the_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
