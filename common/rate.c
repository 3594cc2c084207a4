/*
 * Purpose: the arithmetic of rate.h, and the one word that a meter's threads swap.
 * Thread:  see rate.h.
 * Owns:    nothing.
 * Fails:   never.
 *
 * The word alone is shared, and nothing else is read by it: relaxed order will do. Nanoseconds of a
 * monotonic clock fill 64 bits after 584 years.
 */
#include "common/rate.h"

#define SECOND_NS 1000000000u
#define US_NS 1000u

struct rate rate_make(uint32_t per_second, uint32_t burst, uint32_t second)
{
    struct rate rate = {0, 0};
    if (per_second == 0)
        return rate;
    rate.interval = ((uint64_t)second + per_second - 1) / per_second;
    rate.tolerance = MAX(burst, 1u) * rate.interval;
    return rate;
}

void rate_meter_init(struct rate_meter *meter, uint32_t per_second, uint32_t burst)
{
    meter->rate = rate_make(per_second, burst, SECOND_NS);
    atomic_init(&meter->arrival, 0);
}

/* How far ahead of now the arrival is; 0 when it is past. */
static uint64_t ahead_of(uint64_t arrival, uint64_t now)
{
    return arrival > now ? arrival - now : 0;
}

/* Until an event of that arrival may happen. */
static uint64_t wait_for(const struct rate *rate, uint64_t arrival, uint64_t now)
{
    return ahead_of(arrival, now + rate->tolerance);
}

/* False, and nothing changed, when it would have to wait and must not. */
static bool make(struct rate_meter *meter, uint64_t now, bool may_wait, struct rate_claim *claim)
{
    uint64_t before = atomic_load_explicit(&meter->arrival, memory_order_relaxed);
    uint64_t arrival;

    do {
        if (!may_wait && rate_room(&meter->rate, ahead_of(before, now)) == 0)
            return false;
        arrival = MAX(before, now) + meter->rate.interval;
    } while (!atomic_compare_exchange_weak_explicit(&meter->arrival, &before, arrival,
                                                    memory_order_relaxed, memory_order_relaxed));
    *claim = (struct rate_claim){.arrival = arrival, .before = before};
    return true;
}

uint64_t rate_claim(struct rate_meter *meter, uint64_t now_us, struct rate_claim *claim)
{
    uint64_t now = now_us * US_NS;

    if (claim->arrival <= now)
        (void)make(meter, now, true, claim);
    return rate_claim_wait(meter, now_us, claim);
}

uint64_t rate_claim_wait(const struct rate_meter *meter, uint64_t now_us,
                         const struct rate_claim *claim)
{
    return (wait_for(&meter->rate, claim->arrival, now_us * US_NS) + US_NS - 1) / US_NS;
}

uint64_t rate_meter_wait(const struct rate_meter *meter, uint64_t now_us)
{
    uint64_t next = atomic_load_explicit(&meter->arrival, memory_order_relaxed);
    struct rate_claim claim = {.arrival = MAX(next, now_us * US_NS) + meter->rate.interval};

    return rate_claim_wait(meter, now_us, &claim);
}

bool rate_claim_now(struct rate_meter *meter, uint64_t now_us, struct rate_claim *claim)
{
    return make(meter, now_us * US_NS, false, claim);
}

void rate_claim_return(struct rate_meter *meter, struct rate_claim *claim)
{
    uint64_t mine = claim->arrival;

    if (mine == 0)
        return;
    claim->arrival = 0;
    (void)atomic_compare_exchange_strong_explicit(&meter->arrival, &mine, claim->before,
                                                  memory_order_relaxed, memory_order_relaxed);
}
