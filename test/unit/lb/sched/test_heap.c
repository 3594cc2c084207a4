/* The heap against a plain search. */
#include "lb/sched/heap.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ITEMS 97u

static uint64_t least(const uint64_t *key, uint32_t count)
{
    uint64_t found = key[0];
    for (uint32_t i = 1; i < count; i++)
        found = (int64_t)(key[i] - found) < 0 ? key[i] : found;
    return found;
}

static void check(const struct heap *heap, const uint64_t *key)
{
    assert_int_equal(heap_top_key(heap), least(key, heap->count));
    assert_int_equal(heap_key(heap, heap_top(heap)), heap_top_key(heap));
    for (uint32_t i = 0; i < heap->count; i++)
        assert_int_equal(heap_key(heap, i), key[i]);
}

static void run(uint32_t count, uint64_t base, uint64_t width)
{
    struct random_state random;
    random_init(&random, count);
    struct heap heap;
    assert_int_equal(heap_init(&heap, count), 0);
    uint64_t key[ITEMS] = {0};
    for (uint32_t i = 0; i < count; i++)
        heap_set(&heap, i, key[i] = base);
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t item = random_below(&random, count);
        key[item] = base + random_next(&random) % width;
        heap_set(&heap, item, key[item]);
        check(&heap, key);
    }
    heap_deinit(&heap);
}

static void the_least_is_on_top(void **state)
{
    (void)state;
    run(1, 0, 100);
    run(2, 0, 3);
    run(ITEMS, 0, 50);
    run(ITEMS, 0, UINT64_C(1) << 62);
}

static void keys_may_wrap(void **state)
{
    (void)state;
    run(ITEMS, UINT64_MAX - 20, 50);
}

/* Each comes after all others that have its key. */
static void equal_keys_take_turns(void **state)
{
    (void)state;
    struct heap heap;
    assert_int_equal(heap_init(&heap, ITEMS), 0);
    for (uint32_t i = 0; i < ITEMS; i++)
        heap_set(&heap, ITEMS - 1 - i, 5);
    for (uint32_t i = 0; i < 3 * ITEMS; i++) {
        uint32_t top = heap_top(&heap);
        assert_int_equal(top, ITEMS - 1 - i % ITEMS);
        heap_set(&heap, top, 6);
        heap_set(&heap, top, 5);
    }
    heap_deinit(&heap);
}

static void an_empty_heap_does_no_harm(void **state)
{
    (void)state;
    struct heap heap;
    assert_int_equal(heap_init(&heap, 0), 0);
    heap_deinit(&heap);
    heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_is_on_top),
        cmocka_unit_test(keys_may_wrap),
        cmocka_unit_test(equal_keys_take_turns),
        cmocka_unit_test(an_empty_heap_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
