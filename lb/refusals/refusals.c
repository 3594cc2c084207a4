/*
 * Purpose: the table of those refused, and whose turn it is.
 * Thread:  see refusals.h.
 * Owns:    see refusals.h.
 * Fails:   see refusals.h.
 *
 *            refused                 a line is left
 *   free --------------> due (FIFO) ----------------> told (by time) --+--> due, if refused since
 *     ^                                                   10 s later   |
 *     +----------------------------------------------------------------+
 *
 * A flood asks for an entry at every client: 256 tags side by side are compared in the time of a
 * cache miss. The timer runs only while somebody waits to be told of.
 */
#include "lb/refusals/refusals.h"

#include "common/log.h"
#include "common/random.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

struct entry {
    struct list link;
    uint64_t count; /* refused since it was last told of */
    uint64_t told_ms;
    union inet_address client; /* the last one */
    struct network source;
    const char *listener;
    const char *why; /* the last one's */
    bool is_spared;
};

struct refusals {
    struct wheel *wheel;
    struct rate_meter *lines;
    struct rate_claim claim;
    struct wheel_timer timer;
    uint64_t seed;
    uint64_t others;  /* refused without a place, since the last line */
    uint32_t waiting; /* entries with a count */
    struct list free, due, told;
    uint64_t tag[REFUSALS_PLACES]; /* 0: of nobody */
    struct entry entry[REFUSALS_PLACES];
};

void refusals_meter_init(struct rate_meter *lines)
{
    rate_meter_init(lines, REFUSALS_SECOND / 2, REFUSALS_SECOND / 2);
}

/* ---- places ---- */

static uint64_t tag_of(const struct refusals *refusals, const struct refusal *refusal)
{
    struct {
        struct in6_addr address;
        uint64_t listener;
        uint32_t bits;
        uint32_t is_spared;
    } key = {refusal->source.address, (uintptr_t)refusal->listener, refusal->source.bits,
             refusal->is_spared};
    uint64_t tag = XXH3_64bits_withSeed(&key, sizeof(key), refusals->seed);

    return tag != 0 ? tag : 1;
}

static struct entry *find(struct refusals *refusals, uint64_t tag)
{
    for (size_t i = 0; i < REFUSALS_PLACES; i++)
        if (refusals->tag[i] == tag)
            return &refusals->entry[i];
    return NULL;
}

static void move(struct list *to, struct entry *entry)
{
    list_del(&entry->link);
    list_add_tail(to, &entry->link);
}

static void forget(struct refusals *refusals, struct entry *entry)
{
    refusals->tag[entry - refusals->entry] = 0;
    move(&refusals->free, entry);
}

/* NULL: all are taken. */
static struct entry *claim_place(struct refusals *refusals, uint64_t tag,
                                 const struct refusal *refusal)
{
    struct entry *entry;

    if (list_empty(&refusals->free))
        return NULL;
    entry = list_first(&refusals->free, struct entry, link);
    refusals->tag[entry - refusals->entry] = tag;
    entry->listener = refusal->listener;
    entry->source = refusal->source;
    entry->is_spared = refusal->is_spared;
    entry->count = 0;
    move(&refusals->due, entry);
    return entry;
}

/* Those told of ten seconds ago: their turn again, or their place for others. */
static void expire(struct refusals *refusals, uint64_t now_ms)
{
    while (!list_empty(&refusals->told)) {
        struct entry *entry = list_first(&refusals->told, struct entry, link);
        if (now_ms < entry->told_ms + REFUSALS_AGAIN_MS)
            return;
        if (entry->count > 0)
            move(&refusals->due, entry);
        else
            forget(refusals, entry);
    }
}

/* ---- telling ---- */

/* One address is a source of its own mostly, and the client's line has it already. */
static const char *source_text(const struct entry *entry, char text[NETWORK_TEXT_MAX])
{
    return entry->source.bits < 128 ? network_format(&entry->source, text) : NULL;
}

static void tell(struct refusals *refusals, struct entry *entry, uint64_t now_ms)
{
    char client[ADDRESS_TEXT_MAX], source[NETWORK_TEXT_MAX];
    uint64_t others = refusals->others;

    log_warn(entry->is_spared ? "a client would be refused, but for dry_run"
                              : "a client was refused",
             LOG_S("client", inet_address_format(&entry->client, client)),
             LOG_S("source", source_text(entry, source)), LOG_S("listener", entry->listener),
             LOG_S("why", entry->why), LOG_U("refused", entry->count),
             others > 0 ? LOG_U("others", others) : LOG_S("others", NULL));
    refusals->others = 0;
    entry->count = 0;
    entry->told_ms = now_ms;
    refusals->waiting--;
    move(&refusals->told, entry);
}

/* All whose turn it is, as long as there are lines. */
static void tell_due(struct refusals *refusals, uint64_t now_ms)
{
    while (!list_empty(&refusals->due)) {
        uint64_t wait_us = rate_claim(refusals->lines, now_ms * 1000, &refusals->claim);
        if (wait_us > 0) {
            wheel_set(refusals->wheel, &refusals->timer, now_ms + (wait_us + 999) / 1000);
            return;
        }
        rate_claim_use(&refusals->claim);
        tell(refusals, list_first(&refusals->due, struct entry, link), now_ms);
    }
    if (refusals->waiting > 0)
        wheel_set(refusals->wheel, &refusals->timer,
                  list_first(&refusals->told, struct entry, link)->told_ms + REFUSALS_AGAIN_MS);
}

static void on_timer(struct wheel_timer *timer, uint64_t now_ms)
{
    struct refusals *refusals = container_of(timer, struct refusals, timer);

    expire(refusals, now_ms);
    tell_due(refusals, now_ms);
}

void refusals_note(struct refusals *refusals, const struct refusal *refusal, uint32_t count,
                   uint64_t now_ms)
{
    uint64_t tag = tag_of(refusals, refusal);
    struct entry *entry;

    expire(refusals, now_ms);
    entry = find(refusals, tag);
    if (entry == NULL)
        entry = claim_place(refusals, tag, refusal);
    if (entry == NULL) {
        refusals->others += count;
        return;
    }
    entry->client = *refusal->client;
    inet_address_fold(&entry->client);
    entry->why = refusal->why;
    entry->count += count;
    if (entry->count > count)
        return;
    refusals->waiting++;
    tell_due(refusals, now_ms);
}

/* ---- making ---- */

int refusals_new(struct refusals **out, struct wheel *wheel, struct rate_meter *lines)
{
    struct refusals *refusals = calloc(1, sizeof(*refusals));

    if (refusals == NULL)
        return -ENOMEM;
    refusals->wheel = wheel;
    refusals->lines = lines;
    refusals->seed = random_seed();
    wheel_timer_init(&refusals->timer, on_timer);
    list_init(&refusals->free);
    list_init(&refusals->due);
    list_init(&refusals->told);
    for (size_t i = 0; i < REFUSALS_PLACES; i++)
        list_add_tail(&refusals->free, &refusals->entry[i].link);
    *out = refusals;
    return 0;
}

void refusals_free(struct refusals **refusals)
{
    if (*refusals == NULL)
        return;
    wheel_cancel((*refusals)->wheel, &(*refusals)->timer);
    free(*refusals);
    *refusals = NULL;
}
