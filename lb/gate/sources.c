/*
 * Purpose: the table of sources: eight entries to a set, two words to an entry, no lock.
 * Thread:  see sources.h.
 * Owns:    see sources.h.
 * Fails:   see sources.h.
 *
 * An entry is a tag and a state, and a state is one word: a stamp of 44 bits over a use of 20.
 *
 *   CLAIMED --publish--> FRESH --accept--> IN USE, 0 to 1048572 sessions --+
 *      ^  ^                |                 ^                             |
 *      |  |               kill               +------- accept, leave -------+
 *      |  |                v                                               |
 *      |  +---- claim --- DEAD                                             |
 *      +--------- claim, with 0 sessions and a rate that is not used ------+
 *
 * With a rate the stamp is the theoretical arrival time of GCRA in µs; without one it counts. Claim
 * keeps it, leave lowers the sessions, kill lowers the use, publish and accept raise the stamp: no
 * state comes twice. (But for the 203 days after which the stamp begins anew, within one look.)
 *
 * A count goes to the source it is meant for. Who accepts reads the state, then the tag, and swaps
 * the state it read for the next. If the swap succeeds the state was the same all the time, so
 * nobody claimed the entry, and the tag, which only a claimer writes, was that of the state. A
 * session pins its entry: one with sessions cannot be claimed, so that leave needs no tag, and
 * takes off what accept put on.
 *
 * A source has one entry in use, or its limit would hold for each of two. Two threads that miss the
 * same source may well claim two entries. Neither counts on its own: a claimer only publishes a
 * fresh entry and looks again, and whoever finds one (its claimer or not) accepts the first session
 * only after having looked at the other entries of the set, in turn: one in use for the same source
 * kills the fresh one, and of two fresh ones the first in the set kills the other. Why that is
 * enough: let i and j both be fresh, and accepted by I and J. I looked at j after i was published,
 * J at i after j was. In the one order of all these accesses (they are seq_cst) one of the two
 * looks came after both were published, and whoever made it saw the other entry, as fresh or as in
 * use: it killed one of the two first, or was too late to and looked again.
 *
 * Nobody waits. A thread that is stopped within sources_enter keeps at most one entry from other
 * sources, and none from its own once that is published: any thread may accept on it. Before it
 * returns, a claimer kills what it claimed if that is still fresh: no entry stays so. A swap fails
 * only because another thread's succeeded.
 */
#include "lb/gate/sources.h"

#include "common/rate.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_DEFAULT 65536u
#define TABLE_MAX (1u << 30)

#define SECOND_US 1000000u

/* ---- A state ---- */

#define USE_BITS 20
#define USE_MASK ((UINT64_C(1) << USE_BITS) - 1)
#define STAMP_MASK (UINT64_MAX >> USE_BITS)

/* The use of an entry; from USE_FREE on it is in use. All zeros: dead, and never lived. */
enum { USE_DEAD, USE_CLAIMED, USE_FRESH, USE_FREE };

static_assert(USE_FREE + SOURCES_MAX_LIMIT == USE_MASK, "all sessions that fit are allowed");

struct set {
    _Alignas(CACHE_LINE) _Atomic uint64_t tag[SOURCES_WAYS];
    _Alignas(CACHE_LINE) _Atomic uint64_t state[SOURCES_WAYS];
};

struct sources {
    struct set *set;
    uint32_t sets;    /* a power of two */
    uint32_t max;     /* 0: sessions are not counted */
    struct rate rate; /* of the stamps, in µs */
};

static uint64_t state_make(uint64_t stamp, uint64_t use)
{
    return (stamp & STAMP_MASK) << USE_BITS | use;
}

static uint64_t state_stamp(uint64_t state)
{
    return state >> USE_BITS;
}

static uint32_t state_use(uint64_t state)
{
    return (uint32_t)(state & USE_MASK);
}

/* How far a stamp is ahead of now, both modulo 2^44; 0 for one that is past. None is set more than
 * the tolerance ahead, and the clock of another worker is no second ahead of ours: what seems to be
 * further off is old. */
static uint64_t stamp_ahead(const struct sources *sources, uint64_t stamp, uint64_t now)
{
    uint64_t ahead = (stamp - now) & STAMP_MASK;
    return ahead <= sources->rate.tolerance + SECOND_US ? ahead : 0;
}

static uint64_t stamp_fresh(const struct sources *sources, uint64_t stamp, uint64_t now)
{
    if (sources->rate.interval == 0)
        return stamp + 1;
    return now + stamp_ahead(sources, stamp + 1, now);
}

static uint64_t stamp_next(const struct sources *sources, uint64_t stamp, uint64_t now,
                           uint32_t count)
{
    if (sources->rate.interval == 0 || count == 0)
        return stamp_fresh(sources, stamp, now);
    return now + stamp_ahead(sources, stamp, now) + count * sources->rate.interval;
}

/* May another source have the entry? Forgetting this one then changes no verdict. */
static bool is_claimable(const struct sources *sources, uint64_t state, uint64_t now)
{
    uint32_t use = state_use(state);
    if (use != USE_FREE)
        return use == USE_DEAD;
    /* One that is due this very µs is kept: the next stamp must be a higher one. */
    return sources->rate.interval == 0 || (state_stamp(state) != (now & STAMP_MASK) &&
                                           stamp_ahead(sources, state_stamp(state), now) == 0);
}

/* ---- A set ---- */

/* All accesses to states are seq_cst; the tag of a state that was read is at least as new as it. */
static uint64_t load(const struct set *set, unsigned way)
{
    return atomic_load(&set->state[way]);
}

static bool swap(struct set *set, unsigned way, uint64_t *state, uint64_t next)
{
    return atomic_compare_exchange_strong(&set->state[way], state, next);
}

static bool is_of(const struct set *set, unsigned way, uint64_t state, uint64_t tag)
{
    return state_use(state) >= USE_FRESH &&
           atomic_load_explicit(&set->tag[way], memory_order_acquire) == tag;
}

#define NO_WAY UINT32_MAX

struct place {
    unsigned way;
    uint64_t state;
};

/* The entry of the source: in use, or else the first fresh one. */
static struct place find_own(const struct set *set, uint64_t tag)
{
    struct place fresh = {.way = NO_WAY};
    for (unsigned way = 0; way < SOURCES_WAYS; way++) {
        uint64_t state = load(set, way);
        if (!is_of(set, way, state, tag))
            continue;
        if (state_use(state) >= USE_FREE)
            return (struct place){way, state};
        if (fresh.way == NO_WAY)
            fresh = (struct place){way, state};
    }
    return fresh;
}

/* A dead entry, or else one that may be forgotten. */
static struct place find_claimable(const struct sources *sources, const struct set *set,
                                   uint64_t now)
{
    struct place idle = {.way = NO_WAY};
    for (unsigned way = 0; way < SOURCES_WAYS; way++) {
        uint64_t state = load(set, way);
        if (!is_claimable(sources, state, now))
            continue;
        if (state_use(state) == USE_DEAD)
            return (struct place){way, state};
        if (idle.way == NO_WAY)
            idle = (struct place){way, state};
    }
    return idle;
}

/* Makes it a fresh entry of the source, and *place what it is then. False: another was faster. */
static bool claim(const struct sources *sources, struct set *set, struct place *place, uint64_t tag,
                  uint64_t now)
{
    uint64_t stamp = state_stamp(place->state);
    if (!swap(set, place->way, &place->state, state_make(stamp, USE_CLAIMED)))
        return false;
    place->state = state_make(stamp_fresh(sources, stamp, now), USE_FRESH);
    atomic_store_explicit(&set->tag[place->way], tag, memory_order_relaxed);
    atomic_store(&set->state[place->way], place->state);
    return true;
}

static bool kill_fresh(struct set *set, unsigned way, uint64_t state)
{
    return swap(set, way, &state, state_make(state_stamp(state), USE_DEAD));
}

/* Is this fresh entry the source's only one? Kills what makes it untrue. False: look again. */
static bool make_only(struct set *set, struct place own, uint64_t tag)
{
    for (unsigned way = 0; way < SOURCES_WAYS; way++) {
        uint64_t state = load(set, way);
        if (way == own.way || !is_of(set, way, state, tag))
            continue;
        bool is_weaker = state_use(state) == USE_FRESH && way > own.way;
        if (is_weaker && kill_fresh(set, way, state))
            continue;
        if (!is_weaker)
            (void)kill_fresh(set, own.way, own.state);
        return false;
    }
    return true;
}

/* ---- Entering and leaving ---- */

struct question {
    uint64_t tag;
    uint64_t now;
    uint32_t count; /* events; 0: a session that is there already */
};

/* A fresh source has all its burst, whatever the stamp of its entry. */
static uint32_t room_of(const struct sources *sources, uint64_t state, uint64_t now)
{
    if (sources->rate.interval == 0)
        return UINT32_MAX;
    bool is_fresh = state_use(state) == USE_FRESH;
    uint64_t ahead = is_fresh ? 0 : stamp_ahead(sources, state_stamp(state), now);
    return (uint32_t)rate_room(&sources->rate, ahead);
}

/* False: nothing is to be counted. The first session is always admitted: both limits are at least
 * 1. One that is there already is never refused. */
static bool judge(const struct sources *sources, uint64_t state, const struct question *question,
                  struct sources_answer *answer)
{
    answer->untracked = question->count == 0 && state_use(state) == USE_MASK;
    bool is_full = sources->max > 0 && state_use(state) >= USE_FREE &&
                   state_use(state) - USE_FREE >= sources->max;
    uint32_t room = is_full ? 0 : room_of(sources, state, question->now);
    answer->granted = MIN(question->count, room);
    answer->verdict = is_full ? GATE_SESSIONS : GATE_RATE;
    if (answer->granted == question->count)
        answer->verdict = GATE_ADMITTED;
    return question->count > 0 ? answer->granted > 0 : !answer->untracked;
}

static uint64_t state_after(const struct sources *sources, uint64_t state, uint64_t now,
                            uint32_t count)
{
    uint32_t use = MAX(state_use(state), (uint32_t)USE_FREE);
    if (sources->max > 0)
        use++;
    return state_make(stamp_next(sources, state_stamp(state), now, count), use);
}

/* False when the entry changed under our hands. */
static bool try_own(const struct sources *sources, struct set *set, struct place own,
                    const struct question *question, struct sources_answer *answer)
{
    if (state_use(own.state) == USE_FRESH && !make_only(set, own, question->tag))
        return false;
    /* The tag may have become ours after the state was read: no refusal for another's sessions. */
    if (!judge(sources, own.state, question, answer))
        return load(set, own.way) == own.state;
    if (!swap(set, own.way, &own.state,
              state_after(sources, own.state, question->now, answer->granted)))
        return false;
    if (sources->max > 0)
        answer->ticket = (uint32_t)(set - sources->set) * SOURCES_WAYS + own.way;
    return true;
}

/* False when there is none to be had; true: look again. *claimed is the entry if it became ours. */
static bool try_claim(const struct sources *sources, struct set *set,
                      const struct question *question, struct place *claimed,
                      struct sources_answer *answer)
{
    struct place place = find_claimable(sources, set, question->now);
    if (place.way == NO_WAY)
        return false;
    bool evicts = state_use(place.state) == USE_FREE;
    if (!claim(sources, set, &place, question->tag, question->now))
        return true;
    *claimed = place;
    answer->evicted += evicts;
    return true;
}

static void settle(const struct sources *sources, struct set *set, const struct question *question,
                   struct place *claimed, struct sources_answer *answer)
{
    for (;;) {
        struct place own = find_own(set, question->tag);
        if (own.way != NO_WAY) {
            if (try_own(sources, set, own, question, answer))
                return;
        } else if (!try_claim(sources, set, question, claimed, answer)) {
            answer->verdict = GATE_ADMITTED;
            answer->granted = question->count;
            answer->untracked = true;
            return;
        }
    }
}

struct sources_answer sources_charge(struct sources *sources, uint64_t tag, uint64_t now_us,
                                     uint32_t count)
{
    BUG_ON(sources->max > 0 ? count > 1 : count == 0);
    struct set *set = &sources->set[tag & (sources->sets - 1)];
    /* Stamps of dead entries that never lived are 0, and the first must be higher. */
    struct question question = {tag, now_us + 1, count};
    struct sources_answer answer = {.verdict = GATE_ADMITTED, .ticket = GATE_NO_TICKET};
    struct place claimed = {.way = NO_WAY};
    settle(sources, set, &question, &claimed, &answer);
    /* Still fresh when the source turned out to have another, and then nobody would come for it. */
    if (claimed.way != NO_WAY)
        (void)kill_fresh(set, claimed.way, claimed.state);
    return answer;
}

void sources_leave(struct sources *sources, uint32_t ticket)
{
    BUG_ON(ticket / SOURCES_WAYS >= sources->sets);
    struct set *set = &sources->set[ticket / SOURCES_WAYS];
    uint64_t before = atomic_fetch_sub(&set->state[ticket % SOURCES_WAYS], 1);
    BUG_ON(state_use(before) <= USE_FREE);
}

/* ---- Making and reading ---- */

static uint32_t sets_for(uint32_t table)
{
    uint32_t sets = 1;
    while (sets < (table + SOURCES_WAYS - 1) / SOURCES_WAYS)
        sets *= 2;
    return sets;
}

static void set_limits(struct sources *sources, uint32_t max, uint32_t rate)
{
    sources->max = MIN(max, SOURCES_MAX_LIMIT);
    sources->rate =
        rate_make(MIN(rate, SOURCES_RATE_LIMIT), MIN(rate, SOURCES_RATE_LIMIT), SECOND_US);
}

int sources_new(struct sources **out, uint32_t table, uint32_t max, uint32_t rate)
{
    if (table > TABLE_MAX)
        return -EINVAL;
    uint32_t sets = sets_for(table > 0 ? table : TABLE_DEFAULT);
    struct sources *sources = calloc(1, sizeof(*sources));
    struct set *set = aligned_alloc(_Alignof(struct set), sets * sizeof(*set));
    if (sources == NULL || set == NULL) {
        free(sources);
        free(set);
        return -ENOMEM;
    }
    memset(set, 0, sets * sizeof(*set));
    *sources = (struct sources){.set = set, .sets = sets};
    set_limits(sources, max, rate);
    *out = sources;
    return 0;
}

void sources_free(struct sources **sources)
{
    if (*sources != NULL)
        free((*sources)->set);
    free(*sources);
    *sources = NULL;
}

uint32_t sources_count(const struct sources *sources)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sources->sets; i++)
        for (unsigned way = 0; way < SOURCES_WAYS; way++)
            count += state_use(load(&sources->set[i], way)) >= USE_FREE;
    return count;
}

uint64_t sources_sessions(const struct sources *sources)
{
    uint64_t sessions = 0;
    for (uint32_t i = 0; i < sources->sets; i++)
        for (unsigned way = 0; way < SOURCES_WAYS; way++)
            sessions += MAX(state_use(load(&sources->set[i], way)), (uint32_t)USE_FREE) - USE_FREE;
    return sessions;
}
