/* Lives of objects: found while they last, never after, and never mixed up. */
#include "common/slab.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sanitizer/asan_interface.h>

#include "test/unit/death.h"

struct thing {
    struct slab_node node;
    uint64_t value;
    char more[100];
};

static void takes_zeroed_and_aligned(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 300);
    assert_int_equal(slab.object_size, 128);
    for (int round = 0; round < 2; round++) {
        struct thing *thing[300];
        for (uint32_t i = 0; i < 300; i++) {
            thing[i] = slab_take(&slab);
            assert_non_null(thing[i]);
            assert_int_equal((uintptr_t)thing[i] % CACHE_LINE, 0);
            assert_int_equal(thing[i]->value, 0);
            assert_int_equal(thing[i]->more[99], 0);
            memset(&thing[i]->value, 0xff, sizeof(*thing[i]) - sizeof(thing[i]->node));
        }
        assert_int_equal(slab.used, 300);
        assert_int_equal(slab.span, 300);
        for (uint32_t i = 0; i < 300; i++)
            slab_put(&slab, thing[i]);
    }
    slab_deinit(&slab);
}

static void ends_at_the_limit(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 2);
    void *one = slab_take(&slab);
    void *two = slab_take(&slab);
    assert_non_null(one);
    assert_non_null(two);
    assert_null(slab_take(&slab));
    slab_put(&slab, one);
    one = slab_take(&slab);
    assert_non_null(one);
    assert_null(slab_take(&slab));
    slab_put(&slab, one);
    slab_put(&slab, two);
    slab_deinit(&slab);

    slab_init(&slab, sizeof(struct thing), 0);
    assert_null(slab_take(&slab));
    slab_deinit(&slab);
}

static void finds_one_life_only(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 10);
    assert_null(slab_find(&slab, 0, 1));
    assert_null(slab_at(&slab, 0));

    struct thing *first = slab_take(&slab);
    struct slab_node life = first->node;
    assert_true(life.generation & 1);
    assert_ptr_equal(slab_find(&slab, life.index, life.generation), first);
    assert_ptr_equal(slab_at(&slab, life.index), first);
    assert_null(slab_find(&slab, life.index, life.generation + 1));
    assert_null(slab_find(&slab, life.index, 0));
    assert_null(slab_find(&slab, 9, life.generation));
    assert_null(slab_find(&slab, UINT32_MAX, life.generation));

    slab_put(&slab, first);
    assert_null(slab_find(&slab, life.index, life.generation));
    assert_null(slab_find(&slab, life.index, life.generation + 1)); /* what it has while free */
    assert_null(slab_at(&slab, life.index));

    struct thing *second = slab_take(&slab);
    assert_ptr_equal(second, first);
    assert_null(slab_find(&slab, life.index, life.generation));
    assert_ptr_equal(slab_find(&slab, life.index, second->node.generation), second);
    slab_put(&slab, second);
    slab_deinit(&slab);
}

/* The generation goes round in 24 bits and is never 0, which a token of zeros would name. */
static void the_generation_wraps(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 1);
    struct thing *thing = slab_take(&slab);
    thing->node.generation = SLAB_GENERATION_MASK;
    assert_ptr_equal(slab_find(&slab, 0, SLAB_GENERATION_MASK), thing);
    slab_put(&slab, thing);
    assert_null(slab_find(&slab, 0, 0));
    thing = slab_take(&slab);
    assert_true(thing->node.generation > 0);
    assert_true(thing->node.generation < 10);
    assert_true(thing->node.generation & 1);
    slab_put(&slab, thing);
    slab_deinit(&slab);
}

#define MANY 1000

/* Random takes and puts; every taken object keeps what was written into it. */
static void keeps_objects_apart(void **state)
{
    (void)state;
    struct slab slab;
    struct thing *held[MANY];
    struct slab_node life[MANY];
    uint32_t count = 0;
    struct random_state random;
    random_init(&random, 42);
    slab_init(&slab, sizeof(struct thing), MANY);

    for (uint64_t i = 0; i < 20000; i++) {
        if (count < MANY && random_below(&random, 20) < (i < 10000 ? 12 : 8)) {
            struct thing *thing = slab_take(&slab);
            assert_non_null(thing);
            thing->value = (uint64_t)thing->node.index << 32 | thing->node.generation;
            life[count] = thing->node;
            held[count++] = thing;
        } else if (count > 0) {
            uint32_t n = random_below(&random, count);
            assert_ptr_equal(slab_find(&slab, life[n].index, life[n].generation), held[n]);
            assert_int_equal(held[n]->value, (uint64_t)life[n].index << 32 | life[n].generation);
            slab_put(&slab, held[n]);
            assert_null(slab_find(&slab, life[n].index, life[n].generation));
            held[n] = held[--count];
            life[n] = life[count];
        }
        assert_int_equal(slab.used, count);
    }

    uint32_t walked = 0;
    for (uint32_t i = 0; i < slab.span; i++)
        walked += slab_at(&slab, i) != NULL;
    assert_int_equal(walked, count);
    while (count > 0)
        slab_put(&slab, held[--count]);
    slab_deinit(&slab);
}

static void put_twice(void *argument)
{
    struct slab *slab = argument;
    void *object = slab_take(slab);
    slab_put(slab, object);
    slab_put(slab, object);
}

static void put_foreign(void *argument)
{
    struct thing stranger = {.node = {.index = 0, .generation = 3}};
    slab_put(argument, &stranger);
}

static void deinit_early(void *argument)
{
    if (slab_take(argument) != NULL)
        slab_deinit(argument);
}

static void stops_at_misuse(void **state)
{
    (void)state;
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 10);
    slab_put(&slab, slab_take(&slab));
    assert_bug(put_twice, &slab, "is_taken");
    assert_bug(put_foreign, &slab, "node_at");
    assert_bug(deinit_early, &slab, "used");
    slab_deinit(&slab);
}

/* Else the sanitizer would be blind to a session that is used after its end. */
static void poisons_what_is_free(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    struct slab slab;
    slab_init(&slab, sizeof(struct thing), 10);
    struct thing *thing = slab_take(&slab);
    assert_false(__asan_address_is_poisoned(&thing->value));
    assert_true(__asan_address_is_poisoned((char *)thing + slab.object_size));
    slab_put(&slab, thing);
    assert_true(__asan_address_is_poisoned(&thing->value));
    assert_false(__asan_address_is_poisoned(&thing->node.generation));
    slab_deinit(&slab);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_zeroed_and_aligned), cmocka_unit_test(ends_at_the_limit),
        cmocka_unit_test(finds_one_life_only),      cmocka_unit_test(the_generation_wraps),
        cmocka_unit_test(keeps_objects_apart),      cmocka_unit_test(stops_at_misuse),
        cmocka_unit_test(poisons_what_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
