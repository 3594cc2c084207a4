/*
 * Purpose: the workers' half: which address is next.
 * Thread:  see ports.h.
 * Owns:    see ports.h.
 * Fails:   see ports.h.
 *
 * The address of which least is held comes next, so all of them run out at the same time; of equal
 * ones that of which least was taken. To count costs one addition to a shared line when a socket
 * opens and one when it closes, as the server's load does.
 */
#include "lb/ports/private.h"

#include <stdlib.h>

/*
 * An address that had no port is left out for so long. To find that out the kernel looks at every
 * port of the range (measured: 28,000 take it two milliseconds), for each connection again.
 */
#define REFUSED_MS 100

uint32_t ports_held(const struct ports_tally *tally)
{
    uint32_t base = ports_figure(&tally->base);
    int32_t held = (int32_t)(ports_figure(&tally->taken) - base);

    /* Less than none: one that the kernel was asked about has been refused since. */
    return held > 0 ? (uint32_t)held : 0;
}

static bool is_refused(const struct ports_tally *tally, uint64_t now_ms)
{
    return atomic_load_explicit(&tally->refused_until, memory_order_relaxed) > now_ms;
}

static bool has_more(const struct ports_tally *tally, const struct ports_tally *than)
{
    uint32_t held = ports_held(tally);
    uint32_t other = ports_held(than);

    if (held != other)
        return held < other;
    return (int32_t)(ports_figure(&tally->taken) - ports_figure(&than->taken)) < 0;
}

uint8_t ports_take(struct ports *ports, uint64_t tried, uint64_t now_ms)
{
    uint8_t best = PORTS_NONE;

    for (uint8_t i = 0; i < ports->count; i++) {
        const struct ports_tally *tally = ports->tally[i];
        if ((tried >> i & 1) || is_refused(tally, now_ms))
            continue;
        if (best == PORTS_NONE || has_more(tally, ports->tally[best]))
            best = i;
    }
    if (best != PORTS_NONE)
        atomic_fetch_add_explicit(&ports->tally[best]->taken, 1, memory_order_relaxed);
    return best;
}

/* As if it had not been taken: held is what it was. */
void ports_refuse(struct ports *ports, uint8_t index, uint64_t now_ms)
{
    struct ports_tally *tally = ports->tally[index];

    atomic_fetch_sub_explicit(&tally->taken, 1, memory_order_relaxed);
    if (ports_held(tally) < ports_figure(&tally->range) / 2)
        atomic_fetch_add_explicit(&tally->unfit, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tally->refused, 1, memory_order_relaxed);
    atomic_store_explicit(&tally->refused_until, now_ms + REFUSED_MS, memory_order_relaxed);
}

void ports_freed(struct ports *ports, uint8_t index)
{
    _Atomic uint64_t *until = &ports->tally[index]->refused_until;

    if (atomic_load_explicit(until, memory_order_relaxed) != 0)
        atomic_store_explicit(until, 0, memory_order_relaxed);
}

/* Its port may be free again at once (UDP, a reset), or held on; the next to connect finds out. */
void ports_give(struct ports *ports, uint8_t index)
{
    struct ports_tally *tally = ports->tally[index];

    atomic_fetch_add_explicit(&tally->given, 1, memory_order_relaxed);
    if (tally->protocol == PORTS_UDP)
        atomic_fetch_add_explicit(&tally->base, 1, memory_order_relaxed);
    ports_freed(ports, index);
}

const union inet_address *ports_source(const struct ports *ports, uint8_t index)
{
    return &ports->tally[index]->source;
}

uint8_t ports_find(const struct ports *ports, const union inet_address *source)
{
    uint8_t i = 0;

    while (i < ports->count && !inet_address_same_host(&ports->tally[i]->source, source))
        i++;
    return i < ports->count ? i : PORTS_NONE;
}

uint8_t ports_adopt(struct ports *ports, const union inet_address *source)
{
    uint8_t index = ports_find(ports, source);

    if (index != PORTS_NONE)
        atomic_fetch_add_explicit(&ports->tally[index]->taken, 1, memory_order_relaxed);
    return index;
}

/* ---- references ---- */

struct ports *ports_ref(struct ports *ports)
{
    uint32_t before = atomic_fetch_add_explicit(&ports->references, 1, memory_order_relaxed);

    BUG_ON(before == 0);
    return ports;
}

void ports_tally_put(struct ports_tally *tally)
{
    uint32_t before = atomic_fetch_sub_explicit(&tally->references, 1, memory_order_acq_rel);

    BUG_ON(before == 0);
    if (before == 1)
        free(tally);
}

void ports_put(struct ports **ports)
{
    struct ports *old = *ports;

    if (old == NULL)
        return;
    *ports = NULL;
    if (atomic_fetch_sub_explicit(&old->references, 1, memory_order_acq_rel) > 1)
        return;
    for (uint32_t i = 0; i < old->count; i++)
        ports_tally_put(old->tally[i]);
    free(old);
}
