/*
 * Purpose: control's half: whose ports there are, when the kernel is to count them, and what its
 *          figures mean.
 * Thread:  control.
 * Owns:    see ports.h.
 * Fails:   see ports.h.
 *
 * A count costs the kernel a walk over all its sockets. So it is asked about an address only from
 * half of the ports on, by a bound of our own that none of our sockets escapes; or after it had
 * none to give, as other programs may take ports of the same address.
 *
 * Levels only rise until all is well again, so a load that swings around one is told of once.
 */
#include "lb/ports/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* All is well again below that. */
#define WELL_PERCENT 70

static const uint32_t percent_of[] = {
    [PORTS_WELL] = 0,        [PORTS_80_PERCENT] = 80, [PORTS_90_PERCENT] = 90,
    [PORTS_95_PERCENT] = 95, [PORTS_EXHAUSTED] = 100,
};

const char *ports_protocol_name(enum ports_protocol protocol)
{
    return protocol == PORTS_TCP ? "tcp" : "udp";
}

void ports_book_init(struct ports_book *book)
{
    *book = (struct ports_book){.step = 0};
    port_range_parse(NULL, NULL, NULL, &book->range);
    for (size_t i = 0; i < PORTS_BUCKETS; i++)
        list_init(&book->bucket[i]);
}

void ports_book_deinit(struct ports_book *book)
{
    for (size_t i = 0; i < PORTS_BUCKETS; i++) {
        list_for_each_safe (node, &book->bucket[i]) {
            list_del(node);
            ports_tally_put(list_entry(node, struct ports_tally, link));
        }
    }
}

/* ---- tallies ---- */

static uint32_t range_of(const struct ports_book *book, enum ports_protocol protocol)
{
    return protocol == PORTS_TCP ? book->range.tcp : book->range.udp;
}

static struct list *bucket_of(struct ports_book *book, const union inet_address *source,
                              const union inet_address *server)
{
    uint64_t hash = inet_address_hash(source, false, 0);

    if (server->any.sa_family != AF_UNSPEC)
        hash = inet_address_hash(server, true, hash);
    return &book->bucket[hash % PORTS_BUCKETS];
}

static struct ports_tally *find_tally(const struct list *bucket, enum ports_protocol protocol,
                                      const union inet_address *source,
                                      const union inet_address *server)
{
    list_for_each (node, (struct list *)bucket) {
        struct ports_tally *tally = list_entry(node, struct ports_tally, link);
        if (tally->protocol == protocol && inet_address_equal(&tally->source, source) &&
            inet_address_equal(&tally->server, server))
            return tally;
    }
    return NULL;
}

static struct ports_tally *new_tally(enum ports_protocol protocol, const struct ports_user *user)
{
    struct ports_tally *tally = aligned_alloc(CACHE_LINE, sizeof(*tally));

    if (tally == NULL)
        return NULL;
    memset(tally, 0, sizeof(*tally));
    atomic_init(&tally->references, 1); /* the book's */
    tally->protocol = protocol;
    tally->pool = user->pool;
    tally->name = user->name;
    return tally;
}

/* With a reference for the caller. */
static struct ports_tally *take_tally(struct ports_book *book, enum ports_protocol protocol,
                                      const struct ports_user *user,
                                      const union inet_address *source)
{
    static const union inet_address nobody;
    const union inet_address *server = protocol == PORTS_TCP ? user->server : &nobody;
    struct list *bucket = bucket_of(book, source, server);
    struct ports_tally *tally = find_tally(bucket, protocol, source, server);

    if (tally == NULL) {
        tally = new_tally(protocol, user);
        if (tally == NULL)
            return NULL;
        atomic_init(&tally->range, range_of(book, protocol));
        tally->source = *source;
        tally->server = *server;
        inet_host_format(source, tally->source_text);
        list_add_tail(bucket, &tally->link);
        book->tally_count++;
    }
    atomic_fetch_add_explicit(&tally->references, 1, memory_order_relaxed);
    return tally;
}

int ports_new(struct ports_book *book, enum ports_protocol protocol, const struct ports_user *user,
              struct ports **out)
{
    struct ports *ports;

    BUG_ON(user->source_count > PORTS_ADDRESSES);
    ports = calloc(1, sizeof(*ports) + user->source_count * sizeof(struct ports_tally *));
    if (ports == NULL)
        return -ENOMEM;
    atomic_init(&ports->references, 1);
    for (size_t i = 0; i < user->source_count; i++) {
        const union inet_address *source = &user->source[i];
        if (source->any.sa_family != user->server->any.sa_family)
            continue;
        ports->tally[ports->count] = take_tally(book, protocol, user, source);
        if (ports->tally[ports->count] == NULL) {
            ports_put(&ports);
            return -ENOMEM;
        }
        ports->count++;
    }
    if (ports->count == 0)
        ports_put(&ports);
    *out = ports;
    return 0;
}

/* ---- figures ---- */

uint32_t ports_open(const struct ports_tally *tally)
{
    uint32_t given =
        ports_figure(&tally->given); /* before `taken`, so that it is never the larger */

    return ports_figure(&tally->taken) - given;
}

bool ports_reuses(const struct ports_book *book, const struct ports_tally *tally)
{
    if (tally->protocol != PORTS_TCP)
        return false;
    return book->range.reuse ||
           (book->range.reuse_loopback && inet_address_is_loopback(&tally->source));
}

/* What was given back before that is free for sure. */
static uint32_t given_long_ago(const struct ports_book *book, const struct ports_tally *tally)
{
    return tally->given_at[(book->step + 1) % PORTS_STEPS];
}

static void put_bound(const struct ports_book *book, struct ports_tally *tally)
{
    if (tally->protocol == PORTS_TCP)
        atomic_store_explicit(&tally->base, given_long_ago(book, tally), memory_order_relaxed);
}

static void advance_tally(const struct ports_book *book, struct ports_tally *tally, bool stepped,
                          uint64_t now_ms)
{
    atomic_store_explicit(&tally->range, range_of(book, tally->protocol), memory_order_relaxed);
    if (stepped)
        tally->given_at[book->step % PORTS_STEPS] = ports_figure(&tally->given);
    if (tally->counted && now_ms - tally->counted_ms > PORTS_FRESH_MS)
        tally->counted = false;
    if (!tally->counted)
        put_bound(book, tally);
}

/* A stall of several steps makes one: ports seem to be held longer than they are. */
void ports_book_advance(struct ports_book *book, const struct port_range *range, uint64_t now_ms)
{
    bool stepped = now_ms - book->step_ms >= PORTS_STEP_MS;

    book->range = *range;
    if (stepped) {
        book->step++;
        book->step_ms = now_ms;
    }
    for (size_t i = 0; i < PORTS_BUCKETS; i++) {
        list_for_each (node, &book->bucket[i]) {
            advance_tally(book, list_entry(node, struct ports_tally, link), stepped, now_ms);
        }
    }
}

/* ---- counts ---- */

static enum ports_level level_of(uint32_t figure, uint32_t range)
{
    enum ports_level level = PORTS_EXHAUSTED;

    while ((uint64_t)figure * 100 < (uint64_t)range * percent_of[level])
        level--;
    return level;
}

static uint32_t bound_of(const struct ports_book *book, const struct ports_tally *tally)
{
    if (tally->protocol == PORTS_UDP)
        return ports_open(tally);
    return ports_figure(&tally->taken) - given_long_ago(book, tally);
}

bool ports_wants_count(const struct ports_book *book, const struct ports_tally *tally,
                       uint64_t now_ms)
{
    if (tally->asked)
        return false;
    /* Nobody has tried it since. */
    if (tally->level == PORTS_UNFIT && ports_figure(&tally->refused) == tally->refused_seen &&
        ports_figure(&tally->taken) == tally->taken_unfit)
        return false;
    if (tally->level == PORTS_WELL && ports_figure(&tally->refused) == tally->refused_seen &&
        (uint64_t)bound_of(book, tally) * 2 < ports_figure(&tally->range))
        return false;
    if (tally->counted_ms == 0 || now_ms - tally->counted_ms >= PORTS_ASK_MS)
        return true;
    return !ports_reuses(book, tally) &&
           level_of(ports_held(tally), ports_figure(&tally->range)) > tally->level;
}

void ports_asked(struct ports_tally *tally)
{
    tally->asked = true;
    tally->taken_asked = ports_figure(&tally->taken);
}

size_t ports_book_due(struct ports_book *book, enum ports_protocol protocol, sa_family_t family,
                      uint64_t now_ms, struct ports_tally **out, size_t most)
{
    size_t count = 0;

    for (size_t i = 0; i < PORTS_BUCKETS; i++, book->next = (book->next + 1) % PORTS_BUCKETS) {
        list_for_each (node, &book->bucket[book->next]) {
            struct ports_tally *tally = list_entry(node, struct ports_tally, link);
            if (tally->protocol != protocol || tally->source.any.sa_family != family ||
                !ports_wants_count(book, tally, now_ms))
                continue;
            if (count == most)
                return count;
            ports_asked(tally);
            out[count++] = tally;
        }
    }
    return count;
}

static enum ports_level judge(const struct ports_book *book, struct ports_tally *tally,
                              bool refused, bool unfit)
{
    uint32_t range = ports_figure(&tally->range);
    uint32_t free_again = ports_reuses(book, tally) ? tally->time_wait : 0;
    uint32_t held = tally->used - MIN(free_again, tally->used);

    /* Those in TIME_WAIT may yet be out of reach: a server without time stamps. */
    if (refused && level_of(tally->used, range) >= PORTS_80_PERCENT)
        return PORTS_EXHAUSTED;
    if (unfit)
        tally->taken_unfit = tally->taken_asked;
    /* Over when the kernel has given one again: while nobody asks it, nothing is known. */
    if (unfit || (tally->level == PORTS_UNFIT && tally->taken_asked == tally->taken_unfit))
        return PORTS_UNFIT;
    if ((uint64_t)held * 100 < (uint64_t)range * WELL_PERCENT)
        return PORTS_WELL;
    return MAX(level_of(held, range), tally->level == PORTS_UNFIT ? PORTS_WELL : tally->level);
}

bool ports_counted(const struct ports_book *book, struct ports_tally *tally, uint32_t used,
                   uint32_t time_wait, uint64_t now_ms)
{
    uint32_t refused = ports_figure(&tally->refused);
    uint32_t unfit = ports_figure(&tally->unfit);
    enum ports_level before = tally->level;

    tally->asked = false;
    tally->counted = true;
    tally->counted_ms = now_ms;
    tally->used = used;
    tally->time_wait = time_wait;
    if (tally->protocol == PORTS_TCP)
        atomic_store_explicit(&tally->base, tally->taken_asked - used, memory_order_relaxed);
    tally->level = judge(book, tally, refused != tally->refused_seen, unfit != tally->unfit_seen);
    tally->refused_seen = refused;
    tally->unfit_seen = unfit;
    return tally->level != before;
}
