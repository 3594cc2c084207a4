/*
 * Pools when memory is short: allocation N fails, for every N, and nothing is lost by it.
 */
#include "lb/pool/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/pool/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the allocations that lb/pool and lb/sched make, in place of the C library's ---- */

static int until_failure = -1; /* -1: none fails */

static bool fails_now(void)
{
    if (until_failure < 0)
        return false;
    return until_failure-- == 0;
}

void *calloc(size_t count, size_t size)
{
    /* Through a pointer, or the compiler would make a call of calloc out of malloc and memset. */
    static void *(*const volatile allocate)(size_t) = malloc;
    if (fails_now() || (size != 0 && count > SIZE_MAX / size))
        return NULL;
    void *memory = allocate(count * size);
    if (memory != NULL)
        memset(memory, 0, count * size);
    return memory;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *memory;
    if (fails_now() || posix_memalign(&memory, alignment, size) != 0)
        return NULL;
    return memory;
}

static int setup(void **state)
{
    (void)state;
    fixture_reset();
    return 0;
}

/* ---- the cases ---- */

static void pools_new_makes_all_or_nothing(void **state)
{
    (void)state;
    struct pools *pools = NULL;
    int failures = 0;
    fixture_sources();
    for (;; failures++) {
        until_failure = failures;
        int error = pools_new(&pools, &fixture_config, FIXTURE_WORKERS);
        bool all = until_failure >= 0; /* it did not come to the failing one */
        until_failure = -1;
        if (all) {
            assert_int_equal(error, 0);
            break;
        }
        assert_int_equal(error, -ENOMEM);
        assert_null(pools);
    }
    assert_true(failures > 16);
    pools_free(&pools);
}

static void the_old_view_serves_on(void **state)
{
    (void)state;
    struct pools *pools = fixture_pools();
    struct view *before = pools_view(pools);
    pool_member_set_health(fixture_member(pools, "web", "a"), HEALTH_UP, "passed", 10);
    pool_member_set_health(fixture_member(pools, "db", "a"), HEALTH_UP, "passed", 10);
    int failures = 0;
    for (;; failures++) {
        until_failure = failures;
        struct view *view = pools_view(pools);
        bool all = until_failure >= 0;
        until_failure = -1;
        bool same = view == before;
        view_put(&view);
        if (all) {
            assert_false(same);
            break;
        }
        assert_true(same);
        assert_true(pools_dirty(pools));
    }
    assert_true(failures > 4);
    assert_false(pools_dirty(pools));
    assert_int_equal(pools->current->pool[0]->usable, 1);
    assert_int_equal(pools->current->pool[1]->usable, 1);
    view_put(&before);
    pools_free(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pools_new_makes_all_or_nothing, setup),
        cmocka_unit_test_setup(the_old_view_serves_on, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
