/*
 * A server as workers know it: its memory, its slots, its counters.
 */
#include "lb/pool/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/pool/build.h"
#include "test/unit/death.h"

#include <pthread.h>

static struct server *make(int64_t max_connections, uint32_t workers)
{
    struct config_server config = {.name = "a", .weight = 1, .max_connections = max_connections};
    const char *why;
    assert_int_equal(address_parse(&config.address.address, "127.0.0.1:80", &why), 0);
    struct server *server = server_new("web", &config, workers);
    assert_non_null(server);
    return server;
}

static void has_identity(void **state)
{
    (void)state;
    struct server *a = make(0, 1);
    struct server *b = make(0, 1);
    assert_string_equal(a->pool, "web");
    assert_string_equal(a->name, "a");
    assert_string_equal(a->address_text, "127.0.0.1:80");
    assert_int_not_equal(a->id, b->id);
    server_put(&a);
    server_put(&b);
    assert_null(a);
    server_put(&a); /* of nothing is nothing */
}

static void shares_no_cache_line(void **state)
{
    (void)state;
    struct server *server = make(0, 3);
    assert_int_equal((uintptr_t)&server->live % CACHE_LINE, 0);
    assert_true((char *)&server->cell[0] - (char *)&server->live >= CACHE_LINE);
    for (uint32_t worker = 0; worker < 3; worker++)
        assert_int_equal((uintptr_t)&server->cell[worker] % CACHE_LINE, 0);
    server_put(&server);
}

static void has_so_many_slots(void **state)
{
    (void)state;
    struct server *server = make(2, 1);
    assert_true(server_enter(server));
    assert_true(server_enter(server));
    assert_false(server_enter(server));
    assert_int_equal(atomic_load(&server->live.load), 2);
    assert_true(server_leave(server)); /* somebody may wait for this one */
    assert_false(server_leave(server));
    server_put(&server);
}

static void has_no_end_of_slots_without_a_limit(void **state)
{
    (void)state;
    struct server *server = make(0, 1);
    for (int i = 0; i < 1000; i++)
        assert_true(server_enter(server));
    for (int i = 0; i < 1000; i++)
        assert_false(server_leave(server));
    server_put(&server);
}

static void counts_down_to_a_lowered_limit(void **state)
{
    (void)state;
    struct server *server = make(3, 1);
    for (int i = 0; i < 3; i++)
        assert_true(server_enter(server));
    atomic_store(&server->live.limit, 1);
    server_leave(server);
    assert_false(server_enter(server));
    server_leave(server);
    assert_false(server_enter(server));
    assert_true(server_leave(server));
    assert_true(server_enter(server));
    server_leave(server);
    server_put(&server);
}

static void adds_the_cells_up(void **state)
{
    (void)state;
    struct server *server = make(0, 2);
    cell_add(&server->cell[0].sessions, 2);
    cell_add(&server->cell[1].sessions, 3);
    cell_add(&server->cell[0].bytes_in, 10);
    cell_add(&server->cell[1].bytes_out, 20);
    cell_add(&server->cell[1].connect_failures, 1);
    cell_add(&server->cell[0].resets, 4);
    cell_add(&server->cell[0].drain_ends[DRAIN_END_QUIET], 5);
    cell_add(&server->cell[1].drain_ends[DRAIN_END_QUIET], 6);
    assert_true(server_enter(server));

    struct server_totals totals;
    server_totals(server, &totals);
    assert_int_equal(totals.sessions, 5);
    assert_int_equal(totals.bytes_in, 10);
    assert_int_equal(totals.bytes_out, 20);
    assert_int_equal(totals.connect_failures, 1);
    assert_int_equal(totals.resets, 4);
    assert_int_equal(totals.drain_ends[DRAIN_END_SELF], 0);
    assert_int_equal(totals.drain_ends[DRAIN_END_QUIET], 11);
    assert_int_equal(totals.load, 1);
    server_leave(server);
    server_put(&server);
}

static void leave_twice(void *server)
{
    server_leave(server);
}

static void a_slot_given_back_twice_is_a_bug(void **state)
{
    (void)state;
    struct server *server = make(0, 1);
    assert_bug(leave_twice, server, "before == 0");
    server_put(&server);
}

/* ---- threads ---- */

#define ROUNDS 20000

struct crowd {
    struct server *server;
    uint32_t worker;
    uint64_t entered;
    uint32_t most; /* load seen */
};

static void *crowd_run(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct server *mine = server_take(crowd->server);
        if (server_enter(mine)) {
            uint32_t load = atomic_load_explicit(&mine->live.load, memory_order_relaxed);
            crowd->most = MAX(crowd->most, load);
            crowd->entered++;
            cell_add(&mine->cell[crowd->worker].sessions, 1);
            server_leave(mine);
        }
        server_put(&mine);
    }
    server_put(&crowd->server);
    return NULL;
}

static void two_workers_never_pass_the_limit(void **state)
{
    (void)state;
    struct server *server = make(1, 2);
    struct crowd crowd[2];
    pthread_t thread[2];
    for (uint32_t i = 0; i < 2; i++) {
        crowd[i] = (struct crowd){.server = server_take(server), .worker = i};
        assert_int_equal(pthread_create(&thread[i], NULL, crowd_run, &crowd[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);

    struct server_totals totals;
    server_totals(server, &totals);
    assert_int_equal(totals.load, 0);
    assert_int_equal(totals.sessions, crowd[0].entered + crowd[1].entered);
    assert_true(crowd[0].most <= 1);
    assert_true(crowd[1].most <= 1);
    assert_int_equal(atomic_load(&server->references), 1);
    server_put(&server);
}

static void *last_use_run(void *arg)
{
    struct server *server = arg;
    bool named = server->name[0] == 'a';
    server_put(&server);
    return named ? arg : NULL;
}

/* No other order between the two than that of their puts: ThreadSanitizer sees if that is none. */
static void whoever_is_last_frees(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct server *server = make(0, 2);
        pthread_t thread[2];
        server_take(server);
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, last_use_run, server), 0);
        for (size_t i = 0; i < 2; i++) {
            void *result = NULL;
            assert_int_equal(pthread_join(thread[i], &result), 0);
            assert_non_null(result);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_identity),
        cmocka_unit_test(shares_no_cache_line),
        cmocka_unit_test(has_so_many_slots),
        cmocka_unit_test(has_no_end_of_slots_without_a_limit),
        cmocka_unit_test(counts_down_to_a_lowered_limit),
        cmocka_unit_test(adds_the_cells_up),
        cmocka_unit_test(a_slot_given_back_twice_is_a_bug),
        cmocka_unit_test(two_workers_never_pass_the_limit),
        cmocka_unit_test(whoever_is_last_frees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
