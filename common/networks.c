/*
 * Purpose: the ranges of networks.h: made by a sweep, searched by bisection.
 * Thread:  see networks.h.
 * Owns:    a set is one allocation.
 * Fails:   see networks.h.
 */
#include "common/networks.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An address as a number: compared in two steps rather than sixteen. */
struct key {
    uint64_t high;
    uint64_t low;
};

/* A range begins here and ends where the next one begins. */
struct range {
    struct key from;
    uint32_t value;
    bool matches;
};

struct networks {
    size_t count; /* at least 1: the first begins at :: */
    struct range range[];
};

/* A network on its way into the set. */
struct item {
    struct key first;
    struct key last;
    size_t rank; /* its place in the caller's order */
    uint32_t value;
    uint8_t bits;
};

static struct key key_of(const struct in6_addr *address)
{
    uint64_t half[2];
    memcpy(half, address->s6_addr, sizeof(half));
    return (struct key){be64toh(half[0]), be64toh(half[1])};
}

static int key_compare(struct key a, struct key b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return (a.low > b.low) - (a.low < b.low);
}

/* The bits behind the prefix all set. */
static struct key key_last(struct key first, uint8_t bits)
{
    if (bits < 64)
        return (struct key){first.high | UINT64_MAX >> bits, UINT64_MAX};
    return (struct key){first.high, bits < 128 ? first.low | UINT64_MAX >> (bits - 64) : first.low};
}

/* ---- Making ---- */

/* Outer networks before those in them; of two alike the last before the first. */
static int item_compare(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    int order = key_compare(a->first, b->first);
    if (order != 0)
        return order;
    if (a->bits != b->bits)
        return a->bits < b->bits ? -1 : 1;
    return a->rank > b->rank ? -1 : 1;
}

static void items_fill(struct item *item, const struct network *network, const uint32_t *value,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct key first = key_of(&network[i].address);
        item[i] = (struct item){.first = first,
                                .last = key_last(first, network[i].bits),
                                .rank = i,
                                .value = value[i],
                                .bits = network[i].bits};
    }
    qsort(item, count, sizeof(*item), item_compare);
}

static bool is_same(const struct item *a, const struct item *b)
{
    return a->bits == b->bits && key_compare(a->first, b->first) == 0;
}

/* The networks that the sweep is inside of, outermost first: their bits grow, so 129 at most. */
struct sweep {
    struct networks *set;
    size_t depth;
    const struct item *open[129];
};

/* From here on the innermost open network matches. */
static void sweep_cut(struct sweep *sweep, struct key from)
{
    struct networks *set = sweep->set;
    /* What began here too was shorter, or has just ended: it has no address of its own. */
    if (set->count > 0 && key_compare(set->range[set->count - 1].from, from) == 0)
        set->count--;
    bool matches = sweep->depth > 0;
    set->range[set->count++] =
        (struct range){.from = from,
                       .value = matches ? sweep->open[sweep->depth - 1]->value : 0,
                       .matches = matches};
}

static void sweep_close(struct sweep *sweep)
{
    struct key last = sweep->open[--sweep->depth]->last;
    if (last.high == UINT64_MAX && last.low == UINT64_MAX)
        return;
    sweep_cut(sweep, (struct key){last.high + (last.low == UINT64_MAX), last.low + 1});
}

static void sweep_open(struct sweep *sweep, const struct item *item)
{
    while (sweep->depth > 0 && key_compare(sweep->open[sweep->depth - 1]->last, item->first) < 0)
        sweep_close(sweep);
    if (sweep->depth > 0 && is_same(sweep->open[sweep->depth - 1], item))
        return;
    BUG_ON(sweep->depth == ARRAY_LEN(sweep->open));
    sweep->open[sweep->depth++] = item;
    sweep_cut(sweep, item->first);
}

static void sweep_all(struct networks *set, const struct item *item, size_t count)
{
    struct sweep sweep = {.set = set};
    sweep_cut(&sweep, (struct key){0, 0});
    for (size_t i = 0; i < count; i++)
        sweep_open(&sweep, &item[i]);
    while (sweep.depth > 0)
        sweep_close(&sweep);
}

int networks_new(struct networks **out, const struct network *network, const uint32_t *value,
                 size_t count)
{
    /* Each network cuts once where it begins and once behind its end. */
    struct networks *set = calloc(1, sizeof(*set) + (2 * count + 1) * sizeof(set->range[0]));
    struct item *item = calloc(count + 1, sizeof(*item));
    if (set == NULL || item == NULL) {
        free(set);
        free(item);
        return -ENOMEM;
    }
    items_fill(item, network, value, count);
    sweep_all(set, item, count);
    free(item);
    *out = set;
    return 0;
}

void networks_free(struct networks **networks)
{
    free(*networks);
    *networks = NULL;
}

/* ---- Finding ---- */

bool networks_find(const struct networks *networks, const union inet_address *address,
                   uint32_t *out_value)
{
    if (networks == NULL)
        return false;
    struct in6_addr mapped = network_map(address);
    struct key key = key_of(&mapped);
    /* The last range that begins at or before the address; the first always does. */
    const struct range *range = networks->range;
    for (size_t left = networks->count; left > 1;) {
        size_t half = left / 2;
        if (key_compare(range[half].from, key) <= 0)
            range += half;
        left -= half;
    }
    if (!range->matches)
        return false;
    *out_value = range->value;
    return true;
}
