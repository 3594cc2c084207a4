/* Who gets a client, the same everywhere and for ever; and how few move when something changes. */
#include "lb/sched/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <xxhash.h>

#include "test/unit/lb/sched/fixture.h"

#define KEYS 20000u
#define NONE UINT32_MAX

/* Keys as weir makes them: hashes. */
static uint64_t key_of(uint32_t client)
{
    return XXH3_64bits(&client, sizeof(client));
}

static struct fixture *pool(const uint32_t *weights, uint32_t count)
{
    struct fixture *fixture = fixture_new(count);
    if (weights != NULL)
        fixture_weigh(fixture, weights);
    fixture_view(fixture, "maglev", 1);
    return fixture;
}

static void pick_all(struct fixture *fixture, uint32_t *picks)
{
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 0; i < KEYS; i++) {
        picks[i] = fixture_pick(fixture, key_of(i));
        assert_true(picks[i] < fixture->count);
        fixture->picks[picks[i]]++;
    }
}

static uint32_t moved(const uint32_t *before, const uint32_t *after)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        count += before[i] != after[i];
    return count;
}

/* ---- agreement ---- */

/*
 * Another program that follows docs/schedulers.md: it shares no code with weir, and does all the
 * slow way.
 */
#define SIZE 65537u

struct turn {
    uint64_t time;
    uint32_t rank;
};

static int by_time(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void other_order(const uint32_t *weight, uint32_t count, struct turn *turns)
{
    uint64_t total = 0, upto = 0;
    for (uint32_t i = 0; i < count; i++)
        total += weight[i];
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before = SIZE * upto / total;
        upto += weight[i];
        uint64_t quota = SIZE * upto / total - before;
        for (uint64_t k = 0; k < quota; k++)
            turns[n++] = (struct turn){(2 * k + 1) * SIZE / (2 * quota), i};
    }
    assert_int_equal(n, SIZE);
    qsort(turns, SIZE, sizeof(*turns), by_time);
}

static void other_table(const char *const *name, const uint32_t *weight, uint32_t count,
                        uint32_t *table)
{
    static struct turn turns[SIZE];
    other_order(weight, count, turns);
    uint64_t tried[8] = {0};
    assert_true(count <= ARRAY_LEN(tried));
    for (uint32_t i = 0; i < SIZE; i++)
        table[i] = NONE;
    for (uint32_t i = 0; i < SIZE; i++) {
        uint32_t rank = turns[i].rank;
        uint64_t offset = XXH3_64bits_withSeed(name[rank], strlen(name[rank]), 0) % SIZE;
        uint64_t skip = XXH3_64bits_withSeed(name[rank], strlen(name[rank]), 1) % (SIZE - 1) + 1;
        while (table[(offset + tried[rank] * skip) % SIZE] != NONE)
            tried[rank]++;
        table[(offset + tried[rank] * skip) % SIZE] = rank;
    }
}

static uint32_t other_choice(const uint32_t *table, uint64_t key, uint64_t k)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(key >> (8 * i));
    return table[XXH3_64bits_withSeed(bytes, sizeof(bytes), k) % SIZE];
}

static uint32_t other_pick(const uint32_t *table, const bool *usable, uint32_t count, uint64_t key)
{
    uint32_t rank = 0;
    for (uint64_t k = 0; k < 16; k++) {
        rank = other_choice(table, key, k);
        if (usable[rank])
            return rank;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t next = (rank + i) % count;
        if (usable[next])
            return next;
    }
    return NONE;
}

static void another_program_agrees(void **state)
{
    (void)state;
    /* In the configuration's order; by name it is a, b, c, d, e. */
    static const char *const name[] = {"d", "a", "e", "b", "c"};
    static const uint32_t weight[] = {1, 3, 0, 7, 2};
    static const char *const sorted_name[] = {"a", "b", "c", "d", "e"};
    static const uint32_t sorted_weight[] = {3, 7, 2, 1, 0}, member_of_rank[] = {1, 3, 4, 0, 2};
    static uint32_t table[SIZE];
    other_table(sorted_name, sorted_weight, 5, table);

    struct fixture *fixture = fixture_new(5);
    for (uint32_t up = 1; up < 1u << 5; up++) {
        bool usable[5];
        for (uint32_t i = 0; i < 5; i++) {
            fixture->member[i].name = name[i];
            fixture->member[i].weight = weight[i];
            fixture->member[i].usable = (up >> i & 1) != 0;
        }
        for (uint32_t rank = 0; rank < 5; rank++)
            usable[rank] = fixture->member[member_of_rank[rank]].usable && sorted_weight[rank] > 0;
        fixture_view(fixture, "maglev", up);
        for (uint32_t i = 0; i < 1000; i++) {
            uint32_t rank = other_pick(table, usable, 5, key_of(i));
            uint32_t expected = rank == NONE ? SCHED_NONE : member_of_rank[rank];
            assert_int_equal(fixture_pick(fixture, key_of(i)), expected);
        }
    }
    fixture_end(fixture);
}

/* If this fails, a new version would send every client of every installation elsewhere. */
static void picks_are_as_they_ever_were(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 4, 5};
    static uint32_t picks[KEYS];
    static uint8_t bytes[KEYS];
    struct fixture *fixture = pool(weights, 5);
    pick_all(fixture, picks);
    for (uint32_t i = 0; i < KEYS; i++)
        bytes[i] = (uint8_t)picks[i];
    fixture_end(fixture);

    static const uint8_t first[] = {3, 3, 2, 4, 3, 0, 1, 1, 3, 2, 3, 4, 0, 1, 1, 3, 4, 3, 4, 4};
    assert_memory_equal(bytes, first, sizeof(first));
    assert_int_equal(XXH3_64bits(bytes, KEYS), UINT64_C(0x3c684835836544ce));
}

static void the_order_of_the_configuration_does_not_matter(void **state)
{
    (void)state;
    static uint32_t picks[KEYS], again[KEYS];
    struct fixture *fixture = pool(NULL, 7);
    pick_all(fixture, picks);
    struct sched_member first = fixture->member[0];
    memmove(&fixture->member[0], &fixture->member[1], 6 * sizeof(first));
    fixture->member[6] = first;
    for (uint32_t i = 0; i < 7; i++)
        fixture->member[i].id += 100; /* nor do ids, of which each process has its own */
    fixture_view(fixture, "maglev", 2);
    pick_all(fixture, again);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(again[i], (picks[i] + 6) % 7);
    fixture_end(fixture);
}

/* ---- shares ---- */

static void shares_are_the_weights(void **state)
{
    (void)state;
    static const uint32_t weights[] = {1, 2, 3, 10, 4};
    struct fixture *fixture = pool(weights, 5);
    const uint32_t n = 400000;
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 0; i < n; i++)
        fixture->picks[fixture_pick(fixture, key_of(i))]++;
    fixture_check_shares(fixture, n, 0.02);
    fixture_end(fixture);
}

/* Above 655 servers the table grows, so that each still has its hundred entries. */
static void shares_hold_in_a_large_pool(void **state)
{
    (void)state;
    struct fixture *fixture = pool(NULL, 1200);
    const uint32_t n = 1200000;
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 0; i < n; i++)
        fixture->picks[fixture_pick(fixture, key_of(i))]++;
    fixture_check_shares(fixture, n, 0.15); /* the picks alone scatter by 3 % */
    fixture_end(fixture);
}

/* ---- changes ---- */

static void only_a_failed_servers_clients_move(void **state)
{
    (void)state;
    static uint32_t before[KEYS], during[KEYS], after[KEYS];
    static const uint32_t weights[] = {3, 1, 2, 1, 2};
    struct fixture *fixture = pool(weights, 5);
    for (uint32_t dead = 0; dead < 5; dead++) {
        pick_all(fixture, before);
        fixture->member[dead].usable = false;
        fixture_view(fixture, "maglev", 2);
        pick_all(fixture, during);
        fixture_check_shares(fixture, KEYS, 0.06); /* they are spread by weight */
        for (uint32_t i = 0; i < KEYS; i++)
            assert_true(before[i] == dead ? during[i] != dead : during[i] == before[i]);

        fixture->member[dead].usable = true;
        fixture_view(fixture, "maglev", 3);
        pick_all(fixture, after);
        assert_int_equal(moved(before, after), 0);
    }
    fixture_end(fixture);
}

/* The same without a new view: what one session tried, what is full, what is suspect. */
static void a_client_passed_on_goes_where_others_of_its_server_go(void **state)
{
    (void)state;
    static uint32_t before[KEYS], down[KEYS], avoided[KEYS];
    struct fixture *fixture = pool(NULL, 5);
    pick_all(fixture, before);
    fixture->live[2].suspect = 1;
    pick_all(fixture, avoided);
    fixture->live[2].suspect = 0;
    sched_tried_add(&fixture->tried, fixture->member[2].id);
    pick_all(fixture, down);
    assert_int_equal(moved(down, avoided), 0);
    fixture->tried.count = 0;
    fixture->member[2].usable = false;
    fixture_view(fixture, "maglev", 2);
    pick_all(fixture, down);
    assert_int_equal(moved(down, avoided), 0);
    assert_in_range(moved(before, down), KEYS / 5 - KEYS / 50, KEYS / 5 + KEYS / 50);
    fixture_end(fixture);
}

/* A server more or less in the configuration: its own share, and few beside it. */
static void few_move_when_the_configuration_changes(void **state)
{
    (void)state;
    static uint32_t before[KEYS], after[KEYS];
    static const uint32_t counts[] = {5, 20, 100};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        uint32_t count = counts[i];
        struct fixture *fixture = pool(NULL, count);
        pick_all(fixture, before);
        fixture->count = count - 1; /* the last one is removed */
        fixture_view(fixture, "maglev", 2);
        pick_all(fixture, after);
        double share = (double)moved(before, after) / KEYS - 1.0 / count;
        if (share > 0.03)
            fail_msg("%.1f %% of the clients of other servers moved", share * 100);
        fixture_end(fixture);
    }
}

/* Sixteen choices meet none: the next by rank, not all of them the same one. */
static void the_last_of_many_are_found(void **state)
{
    (void)state;
    static uint32_t picks[KEYS];
    struct fixture *fixture = fixture_new(1000);
    for (uint32_t i = 0; i < 1000; i++)
        fixture->member[i].usable = i % 100 == 7;
    fixture_view(fixture, "maglev", 1);
    pick_all(fixture, picks);
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(i % 100 == 7 ? fixture->picks[i] > KEYS / 50 : fixture->picks[i] == 0);
    fixture_end(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_program_agrees),
        cmocka_unit_test(picks_are_as_they_ever_were),
        cmocka_unit_test(the_order_of_the_configuration_does_not_matter),
        cmocka_unit_test(shares_are_the_weights),
        cmocka_unit_test(shares_hold_in_a_large_pool),
        cmocka_unit_test(only_a_failed_servers_clients_move),
        cmocka_unit_test(a_client_passed_on_goes_where_others_of_its_server_go),
        cmocka_unit_test(few_move_when_the_configuration_changes),
        cmocka_unit_test(the_last_of_many_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
