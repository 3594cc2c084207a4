/* Limits hold, what is forgotten would not have mattered, and no count is lost between threads. */
#include "lb/gate/sources.h"

#include "common/random.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define THREADS 4
#define ROUNDS 200000
#define SEED 42

#define SECOND UINT64_C(1000000)

static struct sources *made(uint32_t table, uint32_t max, uint32_t rate)
{
    struct sources *sources = NULL;
    assert_int_equal(sources_new(&sources, table, max, rate), 0);
    return sources;
}

static enum gate_verdict verdict_of(struct sources *sources, uint64_t tag, uint64_t now)
{
    return sources_enter(sources, tag, now).verdict;
}

static void limits_what_is_under_way(void **state)
{
    (void)state;
    struct sources *sources = made(0, 2, 0);
    struct sources_answer first = sources_enter(sources, 7, 0);
    struct sources_answer second = sources_enter(sources, 7, 0);
    struct sources_answer third = sources_enter(sources, 7, 0);
    assert_int_equal(first.verdict, GATE_ADMITTED);
    assert_int_equal(second.verdict, GATE_ADMITTED);
    assert_int_equal(first.ticket, second.ticket);
    assert_int_not_equal(first.ticket, GATE_NO_TICKET);
    assert_int_equal(third.verdict, GATE_SESSIONS);
    assert_int_equal(third.ticket, GATE_NO_TICKET);
    assert_int_equal(verdict_of(sources, 8, 0), GATE_ADMITTED);
    assert_int_equal(sources_sessions(sources), 3);

    sources_leave(sources, first.ticket);
    assert_int_equal(verdict_of(sources, 7, 0), GATE_ADMITTED);
    assert_int_equal(verdict_of(sources, 7, 0), GATE_SESSIONS);
    assert_int_equal(sources_count(sources), 2);
    sources_free(&sources);
    assert_null(sources);
}

/* All at once, and then one for each interval. */
static void check_rate(uint32_t rate, uint64_t start)
{
    struct sources *sources = made(0, 0, rate);
    if (start > 10 * SECOND)
        assert_int_equal(verdict_of(sources, 1, start - 10 * SECOND), GATE_ADMITTED);
    uint64_t interval = (SECOND + rate - 1) / rate;
    for (uint32_t i = 0; i < rate; i++) {
        struct sources_answer answer = sources_enter(sources, 1, start);
        assert_int_equal(answer.verdict, GATE_ADMITTED);
        assert_int_equal(answer.ticket, GATE_NO_TICKET);
    }
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t now = start + i * interval;
        if (i > 0) {
            assert_int_equal(verdict_of(sources, 1, now - 1), GATE_RATE);
            assert_int_equal(verdict_of(sources, 1, now), GATE_ADMITTED);
        }
        assert_int_equal(verdict_of(sources, 1, now), GATE_RATE);
    }
    sources_free(&sources);
}

static void limits_how_fast_they_come(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 2, 3, 7, 100, 999, 300000, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        check_rate(rates[i], 0);
        check_rate(rates[i], 123456789012345);
        /* The stamp begins anew in the middle. Nearer to it than this a fresh entry takes the stamp
         * of one that never lived for one a little ahead, and owes those microseconds. */
        check_rate(rates[i], (UINT64_C(1) << 44) - 2 * SECOND - SECOND / 2);
    }
}

static void bounds_what_it_is_given(void **state)
{
    (void)state;
    struct sources *sources = made(1, UINT32_MAX, UINT32_MAX);
    for (uint32_t i = 0; i < SOURCES_MAX_LIMIT; i++)
        assert_int_equal(verdict_of(sources, 1, 2 * (uint64_t)i), GATE_ADMITTED);
    assert_int_equal(verdict_of(sources, 1, UINT32_MAX), GATE_SESSIONS);
    assert_int_equal(sources_sessions(sources), SOURCES_MAX_LIMIT);
    sources_leave(sources, 0);
    assert_int_equal(verdict_of(sources, 1, UINT32_MAX), GATE_ADMITTED);
    sources_free(&sources);
    assert_int_not_equal(sources_new(&sources, UINT32_MAX, 1, 1), 0);
    assert_null(sources);
}

static void a_refusal_uses_no_rate(void **state)
{
    (void)state;
    struct sources *sources = made(0, 1, 2);
    struct sources_answer first = sources_enter(sources, 1, 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(verdict_of(sources, 1, 0), GATE_SESSIONS);
    sources_leave(sources, first.ticket);
    assert_int_equal(verdict_of(sources, 1, 0), GATE_ADMITTED);
    sources_free(&sources);
}

static void a_clock_that_lags_gains_nothing(void **state)
{
    (void)state;
    struct sources *sources = made(0, 0, 1);
    assert_int_equal(verdict_of(sources, 1, 10 * SECOND), GATE_ADMITTED);
    assert_int_equal(verdict_of(sources, 1, 10 * SECOND - 5000), GATE_RATE);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND - 1), GATE_RATE);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_ADMITTED);
    sources_free(&sources);
}

static uint32_t granted_of(struct sources *sources, uint64_t tag, uint64_t now, uint32_t count)
{
    struct sources_answer answer = sources_charge(sources, tag, now, count);
    assert_int_equal(answer.verdict, answer.granted == count ? GATE_ADMITTED : GATE_RATE);
    assert_int_equal(answer.ticket, GATE_NO_TICKET);
    return answer.granted;
}

static void grants_of_several_what_there_is(void **state)
{
    (void)state;
    struct sources *sources = made(0, 0, 100);
    assert_int_equal(granted_of(sources, 1, 0, 64), 64);
    assert_int_equal(granted_of(sources, 1, 0, 64), 36);
    assert_int_equal(granted_of(sources, 1, 0, 64), 0);
    assert_int_equal(granted_of(sources, 1, 9999, 1), 0);
    assert_int_equal(granted_of(sources, 1, 35000, 64), 3);
    assert_int_equal(granted_of(sources, 1, 40000, 64), 1);
    assert_int_equal(granted_of(sources, 2, 40000, UINT32_MAX), 100);
    assert_int_equal(granted_of(sources, 1, 10 * SECOND, 1000), 100);
    sources_free(&sources);
    /* A fresh source has its burst and not one more, at the highest rate too. */
    sources = made(0, 0, UINT32_MAX);
    assert_int_equal(granted_of(sources, 1, 5, UINT32_MAX), SOURCES_RATE_LIMIT);
    assert_int_equal(granted_of(sources, 1, 5, 1), 0);
    sources_free(&sources);
}

/* One that was refused in part is as busy as the rate says: it is not forgotten for a newcomer. */
static void a_full_set_grants_all_to_the_untracked(void **state)
{
    (void)state;
    struct sources *sources = made(SOURCES_WAYS, 0, 10);
    for (uint64_t tag = 0; tag < SOURCES_WAYS; tag++)
        assert_int_equal(granted_of(sources, tag, 0, 3), 3);
    struct sources_answer answer = sources_charge(sources, 100, 0, 50);
    assert_true(answer.untracked);
    assert_int_equal(answer.granted, 50);
    assert_int_equal(answer.verdict, GATE_ADMITTED);
    answer = sources_charge(sources, 100, 300001, 50);
    assert_false(answer.untracked);
    assert_int_equal(answer.evicted, 1);
    assert_int_equal(answer.granted, 10);
    sources_free(&sources);
}

static void forgets_only_what_changes_no_verdict(void **state)
{
    (void)state;
    struct sources *sources = made(SOURCES_WAYS, 1, 1);
    struct sources_answer answer[SOURCES_WAYS];
    for (uint64_t tag = 0; tag < SOURCES_WAYS; tag++)
        answer[tag] = sources_enter(sources, tag, 0);
    /* All have sessions. */
    struct sources_answer other = sources_enter(sources, 100, 5 * SECOND);
    assert_int_equal(other.verdict, GATE_ADMITTED);
    assert_int_equal(other.ticket, GATE_NO_TICKET);
    assert_true(other.untracked);
    assert_int_equal(other.evicted, 0);

    /* One has none, but its second is not over. */
    sources_leave(sources, answer[3].ticket);
    assert_true(sources_enter(sources, 100, SECOND).untracked);
    other = sources_enter(sources, 100, SECOND + 1);
    assert_false(other.untracked);
    assert_int_equal(other.evicted, 1);
    assert_int_equal(other.ticket, answer[3].ticket);
    assert_int_equal(verdict_of(sources, 0, SECOND + 1), GATE_SESSIONS);
    assert_int_equal(sources_count(sources), SOURCES_WAYS);
    assert_int_equal(sources_sessions(sources), SOURCES_WAYS);
    sources_free(&sources);
}

/* Whatever the limits; what comes after is judged with it. */
static void counts_what_is_there_already(void **state)
{
    (void)state;
    struct sources *sources = made(0, 2, 2);
    struct sources_answer answer[5];
    for (unsigned i = 0; i < ARRAY_LEN(answer); i++) {
        answer[i] = sources_adopt(sources, 1, 10 * SECOND + i);
        assert_int_equal(answer[i].verdict, GATE_ADMITTED);
        assert_int_not_equal(answer[i].ticket, GATE_NO_TICKET);
        assert_false(answer[i].untracked);
    }
    assert_int_equal(sources_sessions(sources), 5);
    assert_int_equal(sources_count(sources), 1);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_SESSIONS);
    for (unsigned i = 0; i < 3; i++)
        sources_leave(sources, answer[i].ticket);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_SESSIONS);
    sources_leave(sources, answer[3].ticket);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_ADMITTED);
    sources_leave(sources, answer[4].ticket);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_ADMITTED);
    /* They had used none of the rate; and where it is used up, one more is counted still. */
    sources_leave(sources, answer[4].ticket);
    assert_int_equal(verdict_of(sources, 1, 11 * SECOND), GATE_RATE);
    assert_int_equal(sources_adopt(sources, 1, 11 * SECOND).ticket, answer[4].ticket);
    assert_int_equal(verdict_of(sources, 1, 12 * SECOND), GATE_SESSIONS);
    sources_free(&sources);
}

static void what_is_there_finds_no_room(void **state)
{
    (void)state;
    struct sources *sources = made(SOURCES_WAYS, 1, 0);
    for (uint64_t tag = 0; tag < SOURCES_WAYS; tag++)
        assert_false(sources_adopt(sources, tag, 0).untracked);
    struct sources_answer answer = sources_adopt(sources, 100, 0);
    assert_true(answer.untracked);
    assert_int_equal(answer.ticket, GATE_NO_TICKET);
    for (uint32_t i = 1; i < SOURCES_MAX_LIMIT; i++)
        assert_int_not_equal(sources_adopt(sources, 3, 0).ticket, GATE_NO_TICKET);
    answer = sources_adopt(sources, 3, 0);
    assert_true(answer.untracked);
    assert_int_equal(answer.ticket, GATE_NO_TICKET);
    assert_int_equal(sources_sessions(sources), SOURCES_MAX_LIMIT + SOURCES_WAYS - 1);
    assert_int_equal(verdict_of(sources, 3, 0), GATE_SESSIONS);
    sources_free(&sources);
}

/* ---- Threads ---- */

struct play {
    struct sources *sources;
    uint32_t tags;
    uint32_t max;
    uint32_t hold; /* tickets that a thread has at once */
    bool moves;    /* time passes */
    _Atomic uint64_t now;
    _Atomic uint64_t admitted;
    _Atomic uint64_t refused;
    _Atomic uint64_t untracked;
    _Atomic uint64_t evicted;
    uint32_t sources_left;
    _Atomic uint64_t broken; /* times that a source had more than it may */
    _Atomic uint32_t held[256];
};

struct player {
    struct play *play;
    uint64_t seed;
    pthread_t thread;
};

struct holding {
    uint32_t ticket;
    uint32_t tag;
};

static void put_back(struct play *play, struct holding *holding)
{
    if (holding->ticket == GATE_NO_TICKET)
        return;
    atomic_fetch_sub(&play->held[holding->tag], 1);
    sources_leave(play->sources, holding->ticket);
    holding->ticket = GATE_NO_TICKET;
}

static void take(struct play *play, struct holding *holding, uint32_t tag)
{
    uint64_t now = play->moves ? atomic_fetch_add(&play->now, 1) : 0;
    struct sources_answer answer = sources_enter(play->sources, tag, now);
    *holding = (struct holding){answer.ticket, tag};
    atomic_fetch_add(answer.verdict == GATE_ADMITTED ? &play->admitted : &play->refused, 1);
    atomic_fetch_add(&play->untracked, answer.untracked);
    atomic_fetch_add(&play->evicted, answer.evicted);
    /* Raised after enter, lowered before leave: never above what the table has counted. */
    if (answer.ticket != GATE_NO_TICKET && atomic_fetch_add(&play->held[tag], 1) >= play->max)
        atomic_fetch_add(&play->broken, 1);
}

static void *player_run(void *data)
{
    const struct player *player = data;
    struct play *play = player->play;
    struct holding holding[16];
    struct random_state random;
    random_init(&random, player->seed);
    for (uint32_t i = 0; i < play->hold; i++)
        holding[i].ticket = GATE_NO_TICKET;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct holding *at = &holding[random_below(&random, play->hold)];
        put_back(play, at);
        take(play, at, random_below(&random, play->tags));
    }
    for (uint32_t i = 0; i < play->hold; i++)
        put_back(play, &holding[i]);
    return NULL;
}

/* Nothing is left in the way: others can have all entries of a set. */
static void check_usable(struct sources *sources, uint64_t now)
{
    uint32_t ticket[SOURCES_WAYS];
    for (uint64_t i = 0; i < SOURCES_WAYS; i++) {
        struct sources_answer answer = sources_enter(sources, (i + 1) << 32, now);
        assert_false(answer.untracked);
        assert_int_equal(answer.verdict, GATE_ADMITTED);
        ticket[i] = answer.ticket;
    }
    for (unsigned i = 0; i < SOURCES_WAYS; i++)
        if (ticket[i] != GATE_NO_TICKET)
            sources_leave(sources, ticket[i]);
    assert_int_equal(sources_sessions(sources), 0);
}

static void play_run(struct play *play)
{
    struct player player[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        player[i] = (struct player){.play = play, .seed = SEED + i};
        assert_int_equal(pthread_create(&player[i].thread, NULL, player_run, &player[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(player[i].thread, NULL), 0);
    assert_int_equal(play->broken, 0);
    assert_int_equal(play->admitted + play->refused, (uint64_t)THREADS * ROUNDS);
    assert_int_equal(sources_sessions(play->sources), 0);
    play->sources_left = sources_count(play->sources);
    check_usable(play->sources, play->now + 2 * SECOND);
}

static void threads_keep_the_limit_of_a_handful(void **state)
{
    (void)state;
    struct play play = {.sources = made(0, 3, 0), .tags = 5, .max = 3, .hold = 8};
    play_run(&play);
    assert_true(play.refused > 0);
    assert_int_equal(play.untracked, 0);
    assert_int_equal(play.sources_left, 5);
    sources_free(&play.sources);
}

/* Twelve sources want the eight entries of one set: nearly every session claims one. */
static void threads_keep_the_limit_while_entries_change_hands(void **state)
{
    (void)state;
    struct play play = {.sources = made(SOURCES_WAYS, 1, 0), .tags = 12, .max = 1, .hold = 1};
    play_run(&play);
    assert_true(play.evicted > 0);
    /* Four sessions at once, and four more entries that stopped threads may keep. */
    assert_int_equal(play.untracked, 0);
    assert_true(play.refused > 0);
    sources_free(&play.sources);
}

static void threads_count_nothing_where_a_set_is_full(void **state)
{
    (void)state;
    struct play play = {.sources = made(64, 2, 0), .tags = 256, .max = 2, .hold = 16};
    play_run(&play);
    assert_true(play.evicted > 0);
    assert_true(play.sources_left <= 64);
    sources_free(&play.sources);
}

static void threads_keep_both_limits_while_time_passes(void **state)
{
    (void)state;
    struct play play = {
        .sources = made(64, 2, 500000), .tags = 100, .max = 2, .hold = 4, .moves = true};
    play_run(&play);
    assert_true(play.evicted > 0);
    sources_free(&play.sources);
}

static void threads_share_one_burst(void **state)
{
    (void)state;
    struct play play = {.sources = made(0, 0, 1000), .tags = 7, .max = 1, .hold = 1};
    play_run(&play);
    assert_int_equal(play.admitted, 7 * 1000);
    assert_int_equal(play.untracked, 0);
    sources_free(&play.sources);
}

/* They charge in batches while time passes: never more than rate * t and a burst. In all it is less
 * than a second, for none may be that far behind the others. */
struct charging {
    struct sources *sources;
    _Atomic uint64_t now;
    _Atomic uint64_t granted[3];
    _Atomic uint64_t untracked;
};

static void *charge_run(void *data)
{
    struct charging *charging = data;
    struct random_state random;
    random_init(&random, SEED);
    for (uint32_t i = 0; i < ROUNDS / 4; i++) {
        uint64_t now = atomic_fetch_add(&charging->now, 1);
        uint64_t tag = random_below(&random, 3);
        struct sources_answer answer =
            sources_charge(charging->sources, tag, now, 1 + random_below(&random, 64));
        atomic_fetch_add(&charging->granted[tag], answer.granted);
        atomic_fetch_add(&charging->untracked, answer.untracked);
    }
    return NULL;
}

static void threads_charge_one_rate(void **state)
{
    (void)state;
    struct charging charging = {.sources = made(0, 0, 5000)};
    pthread_t thread[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, charge_run, &charging), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(charging.untracked, 0);
    for (size_t i = 0; i < ARRAY_LEN(charging.granted); i++) {
        assert_true(charging.granted[i] <= 5000 + charging.now / 200);
        assert_true(charging.granted[i] >= 5000);
    }
    sources_free(&charging.sources);
}

/* Each meets the others at a source that nobody has seen yet: one entry, one session. */
struct meeting {
    struct sources *sources;
    pthread_barrier_t barrier;
    _Atomic uint32_t admitted;
    _Atomic uint32_t wrong;
};

#define MEETINGS 20000

static void *meet(void *data)
{
    struct meeting *meeting = data;
    for (uint64_t tag = 0; tag < MEETINGS; tag++) {
        pthread_barrier_wait(&meeting->barrier);
        struct sources_answer answer = sources_enter(meeting->sources, tag, 0);
        if (answer.verdict == GATE_ADMITTED)
            atomic_fetch_add(&meeting->admitted, 1);
        bool is_last = pthread_barrier_wait(&meeting->barrier) != 0;
        if (is_last && atomic_exchange(&meeting->admitted, 0) != 1)
            atomic_fetch_add(&meeting->wrong, 1);
        pthread_barrier_wait(&meeting->barrier);
        if (answer.ticket != GATE_NO_TICKET)
            sources_leave(meeting->sources, answer.ticket);
    }
    return NULL;
}

static void threads_that_meet_make_one_entry(void **state)
{
    (void)state;
    struct meeting meeting = {.sources = made(SOURCES_WAYS, 1, 0)};
    pthread_t thread[THREADS];
    assert_int_equal(pthread_barrier_init(&meeting.barrier, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, meet, &meeting), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    pthread_barrier_destroy(&meeting.barrier);
    assert_int_equal(meeting.wrong, 0);
    check_usable(meeting.sources, 0);
    sources_free(&meeting.sources);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_what_is_under_way),
        cmocka_unit_test(limits_how_fast_they_come),
        cmocka_unit_test(bounds_what_it_is_given),
        cmocka_unit_test(a_refusal_uses_no_rate),
        cmocka_unit_test(a_clock_that_lags_gains_nothing),
        cmocka_unit_test(grants_of_several_what_there_is),
        cmocka_unit_test(a_full_set_grants_all_to_the_untracked),
        cmocka_unit_test(forgets_only_what_changes_no_verdict),
        cmocka_unit_test(counts_what_is_there_already),
        cmocka_unit_test(what_is_there_finds_no_room),
        cmocka_unit_test(threads_keep_the_limit_of_a_handful),
        cmocka_unit_test(threads_keep_the_limit_while_entries_change_hands),
        cmocka_unit_test(threads_count_nothing_where_a_set_is_full),
        cmocka_unit_test(threads_keep_both_limits_while_time_passes),
        cmocka_unit_test(threads_share_one_burst),
        cmocka_unit_test(threads_charge_one_rate),
        cmocka_unit_test(threads_that_meet_make_one_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
