/*
 * Purpose: the kind "maglev": a client's address decides on the server, the same on every instance
 *          and with few clients moved by any change (Eisenbud and others, NSDI 2016).
 * Thread:  see kind.h.
 * Owns:    the ring; a reference to the table.
 * Fails:   build without memory.
 *
 * The table is made for the servers as configured, whether usable or not, so a failed server's
 * clients alone move, spread over the others, and come back. It hangs on names and weights only,
 * and the scheduler of the next view shares it. All that decides who gets a client (hash, seeds,
 * sizes, order) is a contract with other instances and other programs, in docs/schedulers.md: a
 * change here moves every client of everybody.
 */
#include "lb/sched/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Entries there are at least for each server, so that shares are true to about a hundredth. */
#define ENTRIES_PER_SERVER 100u

/* Primes: 2^16 + 1, and the last ones before the powers of 2 above. */
static const uint32_t table_sizes[] = {65537, 131071, 262139, 524287, 1048573, 2097143, 4194301};

enum { SEED_OFFSET, SEED_SKIP };

/* A configured server. Its rank is its place in the order of names. */
struct ranked {
    const char *name;
    uint32_t id;
    uint32_t weight;
    uint32_t position; /* among the candidates; SCHED_NONE: not to be picked */
};

struct maglev_table {
    _Atomic uint32_t references;
    uint32_t size;
    uint64_t digest;  /* of the names and weights that it was made for */
    uint32_t entry[]; /* ranks */
};

struct maglev {
    struct sched sched;
    struct maglev_table *table;
    uint32_t *position; /* by rank */
    uint32_t *ring;     /* the positions of the candidates by rank */
    uint32_t *ring_at;  /* by rank: where the next candidate stands in the ring, itself included */
};

static struct maglev *maglev_of(struct sched *sched)
{
    return container_of(sched, struct maglev, sched);
}

/* ---- the table ---- */

static uint32_t table_size(uint32_t count)
{
    size_t i = 0;
    while (i + 1 < ARRAY_LEN(table_sizes) && table_sizes[i] < (uint64_t)count * ENTRIES_PER_SERVER)
        i++;
    return table_sizes[i];
}

static uint64_t table_digest(const struct ranked *ranked, uint32_t count)
{
    uint64_t digest = count;
    for (uint32_t i = 0; i < count; i++) {
        digest = XXH3_64bits_withSeed(ranked[i].name, strlen(ranked[i].name), digest);
        digest = XXH3_64bits_withSeed(&ranked[i].weight, sizeof(ranked[i].weight), digest);
    }
    return digest;
}

/*
 * How many entries each server gets: its share of the table, rounded so that the sum is the table.
 * They are the differences of the rounded-down running sums.
 */
static void share_out(const struct ranked *ranked, uint32_t count, uint32_t size, uint32_t *quota)
{
    uint64_t total = 0, sum = 0;
    for (uint32_t i = 0; i < count; i++)
        total += ranked[i].weight;
    uint32_t given = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += ranked[i].weight;
        uint32_t upto = (uint32_t)((unsigned __int128)size * sum / total);
        quota[i] = upto - given;
        given = upto;
    }
}

/* When the server with `quota` of `size` turns has its k-th: in the middle of each of equal spans.
 */
static uint32_t turn_time(uint32_t k, uint32_t quota, uint32_t size)
{
    return (uint32_t)((2 * (uint64_t)k + 1) * size / (2 * (uint64_t)quota));
}

/*
 * The order in which servers choose their entries, `size` turns, sorted by time and by rank within
 * a time (counting sort). `slot` has room for size + 1.
 */
static void order_turns(const uint32_t *quota, uint32_t count, uint32_t size, uint32_t *slot,
                        uint32_t *order)
{
    memset(slot, 0, ((size_t)size + 1) * sizeof(*slot));
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < quota[i]; k++)
            slot[turn_time(k, quota[i], size) + 1]++;
    }
    for (uint32_t time = 0; time < size; time++)
        slot[time + 1] += slot[time];
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < quota[i]; k++)
            order[slot[turn_time(k, quota[i], size)]++] = i;
    }
}

/* A server's own order of preference for the entries: offset, offset + skip, … */
struct preference {
    uint32_t next;
    uint32_t skip;
};

static struct preference preference_of(const char *name, uint32_t size)
{
    size_t length = strlen(name);
    return (struct preference){
        .next = (uint32_t)(XXH3_64bits_withSeed(name, length, SEED_OFFSET) % size),
        .skip = (uint32_t)(XXH3_64bits_withSeed(name, length, SEED_SKIP) % (size - 1) + 1),
    };
}

/* In each turn a server takes the free entry that it likes best. */
static void fill(struct maglev_table *table, const uint32_t *order, struct preference *preference)
{
    memset(table->entry, 0xff, table->size * sizeof(table->entry[0])); /* SCHED_NONE */
    for (uint32_t turn = 0; turn < table->size; turn++) {
        struct preference *mine = &preference[order[turn]];
        uint32_t place;
        do {
            place = mine->next;
            mine->next += mine->skip;
            if (mine->next >= table->size)
                mine->next -= table->size;
        } while (table->entry[place] != SCHED_NONE);
        table->entry[place] = order[turn];
    }
}

/* What is needed only while a table is made. */
struct scratch {
    uint32_t *quota;
    uint32_t *slot;
    uint32_t *order;
    struct preference *preference;
};

static int scratch_init(struct scratch *scratch, uint32_t count, uint32_t size)
{
    *scratch = (struct scratch){
        .quota = calloc(count, sizeof(*scratch->quota)),
        .slot = calloc((size_t)size + 1, sizeof(*scratch->slot)),
        .order = calloc(size, sizeof(*scratch->order)),
        .preference = calloc(count, sizeof(*scratch->preference)),
    };
    bool whole = scratch->quota != NULL && scratch->slot != NULL && scratch->order != NULL &&
                 scratch->preference != NULL;
    return whole ? 0 : -ENOMEM;
}

static void scratch_deinit(struct scratch *scratch)
{
    free(scratch->quota);
    free(scratch->slot);
    free(scratch->order);
    free(scratch->preference);
}

/* NULL without memory. At least one has weight. */
static struct maglev_table *table_new(const struct ranked *ranked, uint32_t count, uint64_t digest)
{
    uint32_t size = table_size(count);
    struct scratch scratch;
    struct maglev_table *table = malloc(sizeof(*table) + size * sizeof(table->entry[0]));
    if (scratch_init(&scratch, count, size) == 0 && table != NULL) {
        atomic_init(&table->references, 1);
        table->size = size;
        table->digest = digest;
        for (uint32_t i = 0; i < count; i++)
            scratch.preference[i] = preference_of(ranked[i].name, size);
        share_out(ranked, count, size, scratch.quota);
        order_turns(scratch.quota, count, size, scratch.slot, scratch.order);
        fill(table, scratch.order, scratch.preference);
    } else {
        free(table);
        table = NULL;
    }
    scratch_deinit(&scratch);
    return table;
}

static void table_put(struct maglev_table *table)
{
    if (table != NULL &&
        atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) == 1)
        free(table);
}

/* ---- the kind ---- */

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : x->id < y->id ? -1 : 1;
}

/* All members by rank; NULL without memory. */
static struct ranked *rank(const struct sched *sched, const struct sched_member *members,
                           uint32_t count)
{
    struct ranked *ranked = calloc(MAX(count, 1u), sizeof(*ranked));
    if (ranked == NULL)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        ranked[i] = (struct ranked){
            .name = members[i].name,
            .id = members[i].id,
            .weight = members[i].weight,
            .position = SCHED_NONE,
        };
    }
    for (uint32_t i = 0; i < sched->count; i++)
        ranked[sched->candidate[i].member].position = i;
    qsort(ranked, count, sizeof(*ranked), compare_ranked);
    return ranked;
}

static int take_table(struct maglev *maglev, const struct ranked *ranked, uint32_t count,
                      const struct sched *before)
{
    uint64_t digest = table_digest(ranked, count);
    struct maglev_table *old =
        before == NULL ? NULL : container_of(before, const struct maglev, sched)->table;
    if (old != NULL && old->digest == digest) {
        atomic_fetch_add_explicit(&old->references, 1, memory_order_relaxed);
        maglev->table = old;
        return 0;
    }
    maglev->table = table_new(ranked, count, digest);
    return maglev->table == NULL ? -ENOMEM : 0;
}

static int make_ring(struct maglev *maglev, const struct ranked *ranked, uint32_t count)
{
    maglev->position = calloc(count, sizeof(*maglev->position));
    maglev->ring = calloc(count, sizeof(*maglev->ring));
    maglev->ring_at = calloc(count, sizeof(*maglev->ring_at));
    if (maglev->position == NULL || maglev->ring == NULL || maglev->ring_at == NULL)
        return -ENOMEM;

    uint32_t length = 0;
    for (uint32_t i = 0; i < count; i++) {
        maglev->position[i] = ranked[i].position;
        maglev->ring_at[i] = length % maglev->sched.count; /* behind the last one is the first */
        if (ranked[i].position != SCHED_NONE)
            maglev->ring[length++] = ranked[i].position;
    }
    return 0;
}

static int maglev_build(struct sched *sched, const struct sched_member *members, uint32_t count,
                        const struct sched *before)
{
    if (sched->count == 0)
        return 0; /* perhaps without any weight; nothing will be picked from it */
    struct ranked *ranked = rank(sched, members, count);
    if (ranked == NULL)
        return -ENOMEM;
    int error = take_table(maglev_of(sched), ranked, count, before);
    if (error == 0)
        error = make_ring(maglev_of(sched), ranked, count);
    free(ranked);
    return error;
}

static void maglev_destroy(struct sched *sched)
{
    struct maglev *maglev = maglev_of(sched);
    table_put(maglev->table);
    free(maglev->position);
    free(maglev->ring);
    free(maglev->ring_at);
}

/* The rank of a key's k-th choice. */
static uint32_t choice(const struct maglev_table *table, uint64_t key, uint64_t k)
{
    uint64_t bytes = htole64(key);
    return table->entry[XXH3_64bits_withSeed(&bytes, sizeof(bytes), k) % table->size];
}

/* From a place in the ring on; `doubtful` is a suspect one met before, or SCHED_NONE. */
static uint32_t walk(const struct maglev *maglev, uint32_t at, uint32_t doubtful,
                     const struct sched_tried *tried)
{
    for (uint32_t i = 0; i < maglev->sched.count; i++) {
        uint32_t position = maglev->ring[at];
        enum sched_verdict verdict = sched_judge(&maglev->sched.candidate[position], tried);
        if (verdict == SCHED_YES)
            return position;
        if (verdict == SCHED_DOUBT && doubtful == SCHED_NONE)
            doubtful = position;
        at = at + 1 == maglev->sched.count ? 0 : at + 1;
    }
    return doubtful;
}

static uint32_t maglev_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                            const struct sched_tried *tried)
{
    (void)cursor;
    const struct maglev *maglev = container_of(sched, const struct maglev, sched);
    uint32_t rank = 0, doubtful = SCHED_NONE;
    for (uint64_t k = 0; k < SCHED_TRIES; k++) {
        rank = choice(maglev->table, key, k);
        uint32_t position = maglev->position[rank];
        if (position == SCHED_NONE)
            continue;
        enum sched_verdict verdict = sched_judge(&sched->candidate[position], tried);
        if (verdict == SCHED_YES)
            return position;
        if (verdict == SCHED_DOUBT && doubtful == SCHED_NONE)
            doubtful = position;
    }
    return walk(maglev, maglev->ring_at[rank], doubtful, tried);
}

const struct sched_ops sched_maglev = {
    .size = sizeof(struct maglev),
    .cursor_size = sizeof(struct sched_cursor),
    .build = maglev_build,
    .destroy = maglev_destroy,
    .pick = maglev_pick,
};
