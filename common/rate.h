/*
 * Purpose: so many events a second, by the generic cell rate algorithm (GCRA, ITU-T I.371), and
 *          such a rate shared by threads.
 * Thread:  a struct rate is arithmetic. A struct rate_meter: any number at once, none waits. A
 *          claim belongs to one thread.
 * Owns:    nothing.
 * Fails:   never.
 *
 * GCRA keeps one time, the theoretical arrival of the next event. An event now moves it from
 * max(now, it) on by one interval, and conforms if it is then at most the tolerance ahead of now: a
 * burst at once, and one for each interval after that.
 *
 * A claim on a meter is taken at once and used when it is due. So threads that wait are served in
 * the order in which they came, and none finds that others were always faster. A claim is good from
 * `arrival - tolerance` on, and before `arrival`; one whose thread slept that long is given up for
 * another. Claims are at least an interval apart, so of those that are used in a span T all
 * arrivals lie in a span of T + tolerance: there are at most burst + T / interval of them (rounded
 * up), over all threads, from any moment on. In any second that is rate + burst.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct rate {
    uint64_t interval;  /* from one event to the next, rounded up; 0: no limit */
    uint64_t tolerance; /* how far ahead of now the arrival may be: `burst` intervals */
};

/* In units of which `second` make one: that of all times which go with it. No limit for 0 a second;
 * a burst of 0 is one of 1. */
struct rate rate_make(uint32_t per_second, uint32_t burst, uint32_t second);

/* How many events conform now, when the arrival is so far ahead; not for no limit. */
static inline uint64_t rate_room(const struct rate *rate, uint64_t ahead)
{
    return ahead < rate->tolerance ? (rate->tolerance - ahead) / rate->interval : 0;
}

struct rate_meter {
    struct rate rate; /* in nanoseconds: a million a second is no round number of microseconds */
    _Atomic uint64_t arrival;
};

/* Zeroed it has no limit. */
void rate_meter_init(struct rate_meter *meter, uint32_t per_second, uint32_t burst);

static inline bool rate_meter_limits(const struct rate_meter *meter)
{
    return meter->rate.interval > 0;
}

/* Zeroed it is none. */
struct rate_claim {
    uint64_t arrival; /* 0: not held */
    uint64_t before;  /* the meter's arrival when it was made */
};

/*
 * Makes the claim if it is not held, or makes another when its time is past. 0: it is to be used
 * now; else the microseconds until it may be. `now_us` is of a monotonic clock and not 0.
 */
must_check uint64_t rate_claim(struct rate_meter *meter, uint64_t now_us, struct rate_claim *claim);

/* Microseconds until a claim that is held may be used; 0 also when its time is past. */
uint64_t rate_claim_wait(const struct rate_meter *meter, uint64_t now_us,
                         const struct rate_claim *claim);

/* Makes the claim only if it can be used now: 0. Else the microseconds until it could be, if nobody
 * else came; nothing is claimed then. */
must_check uint64_t rate_claim_now(struct rate_meter *meter, uint64_t now_us,
                                   struct rate_claim *claim);

/* It was used. */
static inline void rate_claim_use(struct rate_claim *claim)
{
    claim->arrival = 0;
}

/* It was not, and is not needed any more. Whoever comes next has it, unless somebody came
 * meanwhile: then it is lost, and the rate a little lower than it might be. */
void rate_claim_return(struct rate_meter *meter, struct rate_claim *claim);
