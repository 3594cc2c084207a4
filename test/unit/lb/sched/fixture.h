/*
 * Purpose: a pool of servers for the tests of the schedulers.
 * Thread:  one.
 * Owns:    the scheduler and the cursor, until fixture_end.
 * Fails:   by assertion.
 */
#pragma once

#include "common/base.h"
#include "lb/sched/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_MAX 1200u

struct fixture {
    uint32_t count;
    struct sched_member member[FIXTURE_MAX];
    struct sched_live live[FIXTURE_MAX];
    char name[FIXTURE_MAX][16];
    uint32_t picks[FIXTURE_MAX];
    struct sched *sched;
    struct sched_cursor *cursor;
    struct sched_tried tried;
};

/* `count` servers of weight 1 with the ids 1, 2, … */
static inline struct fixture *fixture_new(uint32_t count)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    assert_true(count <= FIXTURE_MAX);
    fixture->count = count;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(fixture->name[i], sizeof(fixture->name[i]), "s%u", i + 1);
        fixture->member[i] = (struct sched_member){
            .id = i + 1,
            .weight = 1,
            .usable = true,
            .name = fixture->name[i],
            .live = &fixture->live[i],
        };
    }
    return fixture;
}

static inline void fixture_weigh(struct fixture *fixture, const uint32_t *weights)
{
    for (uint32_t i = 0; i < fixture->count; i++)
        fixture->member[i].weight = weights[i];
}

/*
 * A new view, as weir does it: the old scheduler is gone before the cursor goes on. `kind` is a
 * name.
 */
static inline void fixture_view(struct fixture *fixture, const char *kind, uint64_t seed)
{
    const struct sched_kind *found = sched_kind_find(kind);
    assert_non_null(found);
    struct sched *sched = sched_renew(fixture->sched, found, fixture->member, fixture->count);
    assert_non_null(sched);
    sched_free(&fixture->sched);
    fixture->sched = sched;

    struct sched_cursor *cursor = sched_cursor_new(sched, fixture->cursor, seed);
    assert_non_null(cursor);
    sched_cursor_free(&fixture->cursor);
    fixture->cursor = cursor;
}

static inline void fixture_end(struct fixture *fixture)
{
    sched_cursor_free(&fixture->cursor);
    sched_free(&fixture->sched);
    free(fixture);
}

static inline uint32_t fixture_pick(struct fixture *fixture, uint64_t key)
{
    return sched_pick(fixture->sched, fixture->cursor, key, &fixture->tried);
}

/* Picks `n` times and counts in `picks`; the loads stay as they are. */
static inline void fixture_count(struct fixture *fixture, uint32_t n)
{
    memset(fixture->picks, 0, sizeof(fixture->picks));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t pick = fixture_pick(fixture, i);
        assert_true(pick < fixture->count);
        fixture->picks[pick]++;
    }
}

static inline uint64_t fixture_weight(const struct fixture *fixture)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < fixture->count; i++) {
        if (fixture->member[i].usable)
            total += fixture->member[i].weight;
    }
    return total;
}

/* Each usable server got its share of `n` picks, `tolerance` of it more or less. */
static inline void fixture_check_shares(const struct fixture *fixture, uint32_t n, double tolerance)
{
    double total = (double)fixture_weight(fixture);
    for (uint32_t i = 0; i < fixture->count; i++) {
        const struct sched_member *member = &fixture->member[i];
        double share = member->usable ? n * (double)member->weight / total : 0;
        double error = fixture->picks[i] - share;
        if (error > share * tolerance || -error > share * tolerance)
            fail_msg("%s: %u picks instead of %.1f", member->name, fixture->picks[i], share);
    }
}
