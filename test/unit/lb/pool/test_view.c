/*
 * Views: what is in them, what they share, and how workers let go of them.
 */
#include "lb/pool/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/pool/fixture.h"

#include <pthread.h>
#include <string.h>

static int setup(void **state)
{
    fixture_reset();
    *state = fixture_pools();
    return 0;
}

static int teardown(void **state)
{
    struct pools *pools = *state;
    pools_free(&pools);
    return 0;
}

static void up(struct pools *pools, const char *pool, const char *server)
{
    pool_member_set_health(fixture_member(pools, pool, server), HEALTH_UP, "passed", 10);
}

/* The name of the one server that is picked, or "". */
static const char *picks_only(struct pools *pools, const char *pool_name)
{
    struct view *view = pools_view(pools);
    const struct pool_view *pool = view->pool[pools_find(pools, pool_name)->index];
    struct sched_cursor *cursor = sched_cursor_new(pool->sched, NULL, 1);
    assert_non_null(cursor);
    const struct sched_tried none = {0};
    uint32_t first = sched_pick(pool->sched, cursor, 0, &none);
    for (int i = 0; i < 10; i++)
        assert_int_equal(sched_pick(pool->sched, cursor, 0, &none), first);
    static char name[CONFIG_NAME_MAX + 1];
    strcpy(name, first == SCHED_NONE ? "" : pool->server[first]->name);
    sched_cursor_free(&cursor);
    view_put(&view);
    return name;
}

static void shows_what_the_configuration_says(void **state)
{
    struct pools *pools = *state;
    fixture_pool[1].hash = CONFIG_HASH_SOURCE_IP_PORT;
    fixture_pool[1].when_empty = CONFIG_EMPTY_RESET;
    fixture_pool[1].source.client = true;
    pools_find(pools, "web")->dirty = true;
    pools_find(pools, "db")->dirty = true;
    struct view *view = pools_view(pools);
    assert_int_equal(view->count, 2);
    assert_int_equal(view->draining, 0);
    assert_string_equal(view->pool[0]->name, "web");
    assert_int_equal(view->pool[0]->count, 3);
    assert_int_equal(view->pool[0]->usable, 0); /* nothing is probed yet */
    assert_string_equal(view->pool[0]->server[1]->name, "b");
    assert_int_equal(view->pool[0]->policy.connect_timeout_ms, 3000);
    assert_int_equal(view->pool[0]->policy.retries, 2);
    assert_int_equal(view->pool[0]->policy.when_empty, CONFIG_EMPTY_HOLD);
    assert_false(view->pool[0]->policy.hash_port);
    assert_false(view->pool[0]->policy.source_client);
    assert_true(view->pool[1]->policy.source_client);
    assert_int_equal(view->pool[1]->policy.when_empty, CONFIG_EMPTY_RESET);
    assert_true(view->pool[1]->policy.hash_port);
    view_put(&view);
    assert_null(view);
}

static void shares_what_has_not_changed(void **state)
{
    struct pools *pools = *state;
    struct view *before = pools_view(pools);
    struct view *same = pools_view(pools);
    assert_ptr_equal(before, same);

    up(pools, "web", "a");
    assert_true(pools_dirty(pools));
    struct view *after = pools_view(pools);
    assert_false(pools_dirty(pools));
    assert_ptr_not_equal(after, before);
    assert_ptr_not_equal(after->pool[0], before->pool[0]);
    assert_int_not_equal(after->pool[0]->version, before->pool[0]->version);
    assert_ptr_equal(after->pool[1], before->pool[1]);
    assert_int_equal(before->pool[0]->usable, 0); /* immutable */
    assert_int_equal(after->pool[0]->usable, 1);
    view_put(&before);
    view_put(&same);
    view_put(&after);
}

static void calls_backups_when_no_primary_is_left(void **state)
{
    struct pools *pools = *state;
    up(pools, "web", "spare");
    assert_string_equal(picks_only(pools, "web"), "spare");
    up(pools, "web", "a");
    assert_string_equal(picks_only(pools, "web"), "a");
    pool_member_set_weight(fixture_member(pools, "web", "a"), 0);
    assert_string_equal(picks_only(pools, "web"), "spare");
    pool_member_set_weight(fixture_member(pools, "web", "a"), 5);
    assert_string_equal(picks_only(pools, "web"), "a");
    pool_member_set_admin(fixture_member(pools, "web", "a"), SERVER_DRAIN, 1000, 20);
    assert_string_equal(picks_only(pools, "web"), "spare");
    pool_member_set_health(fixture_member(pools, "web", "spare"), HEALTH_DOWN, "failed", 30);
    assert_string_equal(picks_only(pools, "web"), "");
}

static void leaves_suspects_to_the_scheduler(void **state)
{
    struct pools *pools = *state;
    up(pools, "web", "a");
    up(pools, "web", "b");
    up(pools, "web", "spare");
    struct server *a = fixture_member(pools, "web", "a")->server;
    atomic_store(&a->live.suspect, 1);
    assert_string_equal(picks_only(pools, "web"), "b");
    assert_int_equal(atomic_load(&a->live.suspect), 1);
    /* A suspect primary is still a primary: the backup is not called. */
    pool_member_set_health(fixture_member(pools, "web", "b"), HEALTH_DOWN, "failed", 30);
    assert_string_equal(picks_only(pools, "web"), "a");
}

static void counts_those_that_drain(void **state)
{
    struct pools *pools = *state;
    pool_member_set_admin(fixture_member(pools, "web", "a"), SERVER_DRAIN, 1000, 20);
    pool_member_set_admin(fixture_member(pools, "db", "a"), SERVER_DRAIN, 1000, 20);
    struct view *view = pools_view(pools);
    assert_int_equal(view->draining, 2);
    view_put(&view);
    pool_member_set_admin(fixture_member(pools, "db", "a"), SERVER_ENABLED, 0, 30);
    view = pools_view(pools);
    assert_int_equal(view->draining, 1);
    view_put(&view);
}

static void outlives_its_pools(void **state)
{
    (void)state;
    struct pools *pools = fixture_pools();
    up(pools, "web", "a");
    struct view *view = pools_view(pools);
    struct server *server = server_take(view->pool[0]->server[0]);
    pools_free(&pools);
    assert_string_equal(view->pool[0]->server[0]->name, "a");
    assert_int_equal(sched_usable(view->pool[0]->sched), 1);
    view_put(&view);
    assert_string_equal(server->name, "a");
    server_put(&server);
}

static void may_be_of_nothing(void **state)
{
    (void)state;
    struct config_pool empty = fixture_pool_of("empty", NULL, 0);
    struct config config = {.pools = &empty, .pool_count = 1};
    struct pools *pools = NULL;
    assert_int_equal(pools_new(&pools, &config, 1), 0);
    struct view *view = pools_view(pools);
    assert_int_equal(view->pool[0]->count, 0);
    view_put(&view);
    pools_free(&pools);

    config = (struct config){0};
    assert_int_equal(pools_new(&pools, &config, 1), 0);
    view = pools_view(pools);
    assert_int_equal(view->count, 0);
    view_put(&view);
    pools_free(&pools);
}

/* ---- a control thread and a worker, for ThreadSanitizer ---- */

#define ROUNDS 2000

struct post {
    _Atomic(struct view *) view; /* the mailbox: the latest that the worker has not taken yet */
    atomic_bool over;
    uint64_t picks;
};

static void work(struct post *post, const struct view *view)
{
    const struct pool_view *pool = view->pool[0];
    struct sched_cursor *cursor = sched_cursor_new(pool->sched, NULL, 7);
    if (cursor == NULL)
        return;
    const struct sched_tried none = {0};
    uint32_t picked = sched_pick(pool->sched, cursor, 0, &none);
    if (picked != SCHED_NONE && server_enter(pool->server[picked])) {
        struct server *server = server_take(pool->server[picked]);
        cell_add(&server->cell[0].sessions, 1);
        if (atomic_load_explicit(&server->drain_deadline_ms, memory_order_acquire) != 0)
            cell_add(&server->cell[0].drain_ends[DRAIN_END_SELF], 1);
        atomic_store_explicit(&server->live.suspect, 1, memory_order_relaxed);
        server_leave(server);
        server_put(&server);
        post->picks++;
    }
    sched_cursor_free(&cursor);
}

static void *worker_run(void *arg)
{
    struct post *post = arg;
    struct view *mine = NULL;
    while (!atomic_load_explicit(&post->over, memory_order_acquire)) {
        struct view *next = atomic_exchange_explicit(&post->view, NULL, memory_order_acq_rel);
        if (next != NULL) {
            view_put(&mine);
            mine = next;
        }
        if (mine != NULL)
            work(post, mine);
    }
    view_put(&mine);
    return NULL;
}

static void change(struct pools *pools, uint64_t round)
{
    struct pool_member *a = fixture_member(pools, "web", "a");
    struct pool_member *b = fixture_member(pools, "web", "b");
    bool odd = round % 2 == 1;
    pool_member_set_health(a, odd ? HEALTH_DOWN : HEALTH_UP, "round", round);
    pool_member_set_admin(b, odd ? SERVER_ENABLED : SERVER_DRAIN, 1000, round);
    pool_member_set_weight(b, 1 + (uint32_t)(round % 7));
    struct server_totals totals;
    server_totals(a->server, &totals);
}

static void passes_between_threads(void **state)
{
    struct pools *pools = *state;
    up(pools, "web", "a");
    up(pools, "web", "b");
    struct post post = {.over = false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, worker_run, &post), 0);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        change(pools, round);
        struct view *view = pools_view(pools);
        struct view *missed = atomic_exchange_explicit(&post.view, view, memory_order_acq_rel);
        view_put(&missed);
    }
    atomic_store_explicit(&post.over, true, memory_order_release);
    assert_int_equal(pthread_join(thread, NULL), 0);
    struct view *left = atomic_load(&post.view);
    view_put(&left);

    struct server_totals a, b;
    server_totals(fixture_member(pools, "web", "a")->server, &a);
    server_totals(fixture_member(pools, "web", "b")->server, &b);
    assert_int_equal(a.sessions + b.sessions, post.picks);
    assert_int_equal(a.load + b.load, 0);
    assert_int_equal(atomic_load(&pools->current->references), 1);
}

static void *last_use_run(void *arg)
{
    struct view *view = arg;
    bool whole = view->pool[0]->count == 3 && view->pool[0]->server[0]->name[0] == 'a';
    view_put(&view);
    return whole ? arg : NULL;
}

/* No other order between the two than that of their puts: ThreadSanitizer sees if that is none. */
static void whoever_is_last_frees(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct pools *pools = fixture_pools();
        struct view *view = view_take(pools_view(pools));
        pools_free(&pools);
        pthread_t thread[2];
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&thread[i], NULL, last_use_run, view), 0);
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
        cmocka_unit_test_setup_teardown(shows_what_the_configuration_says, setup, teardown),
        cmocka_unit_test_setup_teardown(shares_what_has_not_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(calls_backups_when_no_primary_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_suspects_to_the_scheduler, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_those_that_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(outlives_its_pools, setup, teardown),
        cmocka_unit_test(may_be_of_nothing),
        cmocka_unit_test_setup_teardown(passes_between_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_is_last_frees, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
