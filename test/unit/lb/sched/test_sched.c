/* What sched.h promises for every kind. */
#include "lb/sched/sched.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/sched/fixture.h"

#define SEED 20260131

static const char *const *kinds;
static size_t kind_count;

#define EACH_KIND(kind)                                                                            \
    for (const char *const *each = kinds, *kind; each < kinds + kind_count && (kind = *each);      \
         each++)

static void kinds_are_found_by_name(void **state)
{
    (void)state;
    assert_true(kind_count >= 6);
    EACH_KIND(name)
    {
        const struct sched_kind *kind = sched_kind_find(name);
        assert_non_null(kind);
        assert_string_equal(sched_kind_name(kind), name);
        assert_true(strlen(sched_kind_help(kind)) > 10);
    }
    assert_null(sched_kind_find("no-such-kind"));
    assert_null(sched_kind_find(""));
}

static void tried_forgets_the_oldest(void **state)
{
    (void)state;
    struct sched_tried tried = {.count = 0};
    for (uint32_t id = 1; id <= SCHED_TRIED_MAX + 3; id++)
        sched_tried_add(&tried, id);
    assert_int_equal(tried.count, SCHED_TRIED_MAX);
    for (uint32_t i = 0; i < SCHED_TRIED_MAX; i++)
        assert_int_equal(tried.id[i], 4 + i);
}

static void a_pool_without_servers_gives_none(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct fixture *fixture = fixture_new(0);
        fixture_view(fixture, kind, SEED);
        assert_int_equal(fixture_pick(fixture, 1), SCHED_NONE);
        assert_int_equal(sched_usable(fixture->sched), 0);
        fixture_end(fixture);
    }
}

static void unusable_and_weightless_servers_give_none(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct fixture *fixture = fixture_new(3);
        fixture->member[0].usable = false;
        fixture->member[1].weight = 0;
        fixture->member[2].usable = false;
        fixture->member[2].weight = 0;
        fixture_view(fixture, kind, SEED);
        assert_int_equal(fixture_pick(fixture, 1), SCHED_NONE);
        fixture->member[0].weight = 0; /* now without any weight */
        fixture_view(fixture, kind, SEED);
        assert_int_equal(fixture_pick(fixture, 1), SCHED_NONE);
        fixture->member[1].weight = 1;
        fixture_view(fixture, kind, SEED);
        assert_int_equal(fixture_pick(fixture, 1), 1);
        assert_int_equal(sched_usable(fixture->sched), 1);
        fixture_end(fixture);
    }
}

static void the_only_usable_one_is_found(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 64, 65, 1000};
    EACH_KIND(kind)
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = fixture_new(counts[i]);
        uint32_t only = counts[i] / 3;
        for (uint32_t k = 0; k < counts[i]; k++)
            fixture->member[k].usable = k == only;
        fixture_view(fixture, kind, SEED);
        for (uint64_t key = 0; key < 50; key++)
            assert_int_equal(fixture_pick(fixture, key), only);
        fixture_end(fixture);
    }
}

/* All others full: no guess helps, only a look at all. */
static void the_only_free_one_is_found(void **state)
{
    (void)state;
    static const uint32_t counts[] = {2, 20, 64, 65, 1000};
    EACH_KIND(kind)
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = fixture_new(counts[i]);
        uint32_t only = counts[i] - 1;
        for (uint32_t k = 0; k < counts[i]; k++) {
            fixture->live[k].limit = 10;
            fixture->live[k].load = k == only ? 9 : 10 + k % 2;
        }
        fixture_view(fixture, kind, SEED);
        for (uint64_t key = 0; key < 50; key++)
            assert_int_equal(fixture_pick(fixture, key), only);
        fixture->live[only].load = 10;
        for (uint64_t key = 0; key < 50; key++)
            assert_int_equal(fixture_pick(fixture, key), SCHED_NONE);
        /* A limit that is lifted counts at once. */
        fixture->live[0].limit = 0;
        assert_int_equal(fixture_pick(fixture, 1), 0);
        fixture_end(fixture);
    }
}

static void nothing_is_tried_twice(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct fixture *fixture = fixture_new(SCHED_TRIED_MAX);
        fixture_view(fixture, kind, SEED);
        for (uint64_t key = 0; key < 100; key++) {
            bool seen[SCHED_TRIED_MAX] = {false};
            fixture->tried.count = 0;
            for (unsigned i = 0; i < SCHED_TRIED_MAX; i++) {
                uint32_t pick = fixture_pick(fixture, key);
                assert_true(pick < SCHED_TRIED_MAX);
                assert_false(seen[pick]);
                seen[pick] = true;
                sched_tried_add(&fixture->tried, fixture->member[pick].id);
            }
            assert_int_equal(fixture_pick(fixture, key), SCHED_NONE);
        }
        fixture_end(fixture);
    }
}

static void the_suspect_are_last(void **state)
{
    (void)state;
    EACH_KIND(kind)
    {
        struct fixture *fixture = fixture_new(4);
        fixture->live[1].suspect = 1;
        fixture->live[3].suspect = 1;
        fixture_view(fixture, kind, SEED);
        for (uint64_t key = 0; key < 100; key++)
            assert_true(fixture_pick(fixture, key) % 2 == 0);

        /* One of the good is full, the other was tried: a suspect one, but never the full suspect.
         */
        fixture->live[0].limit = fixture->live[0].load = 7;
        sched_tried_add(&fixture->tried, fixture->member[2].id);
        fixture->live[1].limit = fixture->live[1].load = 7;
        for (uint64_t key = 0; key < 100; key++)
            assert_int_equal(fixture_pick(fixture, key), 3);
        sched_tried_add(&fixture->tried, fixture->member[3].id);
        assert_int_equal(fixture_pick(fixture, 1), SCHED_NONE);

        /* The doubt is over. */
        fixture->tried.count = 0;
        fixture->live[0].limit = fixture->live[1].limit = 0;
        fixture->live[1].suspect = fixture->live[3].suspect = 0;
        fixture_count(fixture, 1000);
        assert_true(strcmp(kind, "first") == 0 || fixture->picks[3] > 0);
        fixture_end(fixture);
    }
}

/* ---- against a model ---- */

static void shuffle(struct fixture *fixture, struct random_state *random)
{
    uint32_t weight_bound = random_below(random, 2) == 0 ? 4 : UINT32_MAX;
    uint32_t trouble = 1 + random_below(random, 8);
    for (uint32_t i = 0; i < fixture->count; i++) {
        fixture->member[i].weight = random_below(random, weight_bound);
        fixture->member[i].usable = random_below(random, 5) > 0;
        fixture->live[i].load = random_below(random, 4);
        fixture->live[i].limit = random_below(random, trouble) > 1 ? 2 : 0;
        fixture->live[i].suspect = random_below(random, trouble) > 1;
    }
    fixture->tried.count = 0;
    for (uint32_t i = random_below(random, 6); i > 0; i--)
        sched_tried_add(&fixture->tried, 1 + random_below(random, fixture->count));
}

/* 0: never, 1: for want of a better one, 2: yes. */
static int model(const struct fixture *fixture, uint32_t i)
{
    const struct sched_member *member = &fixture->member[i];
    const struct sched_live *live = &fixture->live[i];
    if (!member->usable || member->weight == 0 || (live->limit > 0 && live->load >= live->limit))
        return 0;
    for (uint32_t k = 0; k < fixture->tried.count; k++) {
        if (fixture->tried.id[k] == member->id)
            return 0;
    }
    return live->suspect != 0 ? 1 : 2;
}

static int model_best(const struct fixture *fixture)
{
    int best = 0;
    for (uint32_t i = 0; i < fixture->count; i++)
        best = MAX(best, model(fixture, i));
    return best;
}

static void check_pick(struct fixture *fixture, const char *kind, uint64_t key)
{
    int best = model_best(fixture);
    uint32_t pick = fixture_pick(fixture, key);
    if (best == 0)
        assert_int_equal(pick, SCHED_NONE);
    else if (pick >= fixture->count || model(fixture, pick) != best)
        fail_msg("%s picked %u of %u", kind, pick, fixture->count);
}

static void picks_agree_with_a_model(void **state)
{
    (void)state;
    struct random_state random;
    random_init(&random, SEED);
    EACH_KIND(kind)
    for (unsigned round = 0; round < 80; round++) {
        struct fixture *fixture = fixture_new(1 + random_below(&random, 150));
        for (unsigned view = 0; view < 4; view++) {
            shuffle(fixture, &random);
            fixture_view(fixture, kind, SEED);
            for (unsigned i = 0; i < 20; i++)
                check_pick(fixture, kind, random_next(&random));
            /* What workers change, behind the back of the cursor. */
            for (uint32_t i = 0; i < fixture->count; i++)
                fixture->live[i].suspect ^= random_below(&random, 2);
            for (unsigned i = 0; i < 20; i++)
                check_pick(fixture, kind, random_next(&random));
        }
        fixture_end(fixture);
    }
}

/* ---- changes ---- */

static void a_cursor_goes_on_from_one_of_another_kind(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new(100);
    EACH_KIND(kind)
    {
        fixture_view(fixture, "round-robin", SEED);
        fixture_pick(fixture, 1);
        fixture_view(fixture, kind, SEED);
        assert_true(fixture_pick(fixture, 1) < 100);
    }
    fixture_end(fixture);
}

static void the_largest_numbers_do_no_harm(void **state)
{
    (void)state;
    static const uint32_t counts[] = {3, 100};
    EACH_KIND(kind)
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        struct fixture *fixture = fixture_new(counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++) {
            fixture->member[k].weight = k % 3 == 0 ? 1 : UINT32_MAX;
            fixture->live[k].load = k % 2 == 0 ? UINT32_MAX - 1 : 0;
            fixture->member[k].id = UINT32_MAX - k;
        }
        fixture_view(fixture, kind, UINT64_MAX);
        for (uint64_t key = 0; key < 500; key++)
            assert_true(fixture_pick(fixture, UINT64_MAX - key) < counts[i]);
        fixture_view(fixture, kind, UINT64_MAX);
        assert_true(fixture_pick(fixture, 0) < counts[i]);
        fixture_end(fixture);
    }
}

/* Views come up to 20 times a second: none may begin with the same servers again. */
static void frequent_views_favour_nobody(void **state)
{
    (void)state;
    static const char *const by_weight[] = {"round-robin", "p2c", "random"};
    static const uint32_t weights[] = {1, 2, 3, 1, 2, 3};
    for (size_t k = 0; k < ARRAY_LEN(by_weight); k++) {
        struct fixture *fixture = fixture_new(6);
        fixture_weigh(fixture, weights);
        uint32_t picks[6] = {0};
        for (unsigned view = 0; view < 30000; view++) {
            fixture_view(fixture, by_weight[k], SEED);
            for (unsigned i = 0; i < 2; i++)
                picks[fixture_pick(fixture, 0)]++;
        }
        memcpy(fixture->picks, picks, sizeof(picks));
        fixture_check_shares(fixture, 60000, 0.05);
        fixture_end(fixture);
    }
}

int main(void)
{
    kinds = sched_kind_names(&kind_count);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_found_by_name),
        cmocka_unit_test(tried_forgets_the_oldest),
        cmocka_unit_test(a_pool_without_servers_gives_none),
        cmocka_unit_test(unusable_and_weightless_servers_give_none),
        cmocka_unit_test(the_only_usable_one_is_found),
        cmocka_unit_test(the_only_free_one_is_found),
        cmocka_unit_test(nothing_is_tried_twice),
        cmocka_unit_test(the_suspect_are_last),
        cmocka_unit_test(picks_agree_with_a_model),
        cmocka_unit_test(a_cursor_goes_on_from_one_of_another_kind),
        cmocka_unit_test(the_largest_numbers_do_no_harm),
        cmocka_unit_test(frequent_views_favour_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
