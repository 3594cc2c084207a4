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

/* Until an event of that arrival may happen. */
static uint64_t wait_for(const struct rate *rate, uint64_t arrival, uint64_t now)
{
    return arrival > now + rate->tolerance ? arrival - now - rate->tolerance : 0;
}

static uint64_t in_us(uint64_t ns)
{
    return (ns + US_NS - 1) / US_NS;
}

/* Up to `most_wait` ahead. 0: the claim is made; else what would have been to wait. */
static uint64_t make(struct rate_meter *meter, uint64_t now, uint64_t most_wait,
                     struct rate_claim *claim)
{
    uint64_t before = atomic_load_explicit(&meter->arrival, memory_order_relaxed);
    uint64_t arrival, wait;

    do {
        arrival = MAX(before, now) + meter->rate.interval;
        wait = wait_for(&meter->rate, arrival, now);
        if (wait > most_wait)
            return wait;
    } while (!atomic_compare_exchange_weak_explicit(&meter->arrival, &before, arrival,
                                                    memory_order_relaxed, memory_order_relaxed));
    *claim = (struct rate_claim){.arrival = arrival, .before = before};
    return 0;
}

uint64_t rate_claim(struct rate_meter *meter, uint64_t now_us, struct rate_claim *claim)
{
    uint64_t now = now_us * US_NS;

    if (claim->arrival <= now)
        (void)make(meter, now, UINT64_MAX, claim);
    return rate_claim_wait(meter, now_us, claim);
}

uint64_t rate_claim_wait(const struct rate_meter *meter, uint64_t now_us,
                         const struct rate_claim *claim)
{
    return in_us(wait_for(&meter->rate, claim->arrival, now_us * US_NS));
}

uint64_t rate_claim_now(struct rate_meter *meter, uint64_t now_us, struct rate_claim *claim)
{
    return in_us(make(meter, now_us * US_NS, 0, claim));
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
