/*
 * Purpose: the generator of random.h.
 * Thread:  a state belongs to one thread.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "common/random.h"

#include "common/base.h"
#include "common/clock.h"

#include <sys/random.h>
#include <unistd.h>

/* SplitMix64 (Steele, Lea and Flood 2014), which the authors of xoshiro advise for seeding it. */
static uint64_t splitmix(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed))
        return seed;
    /* Early in boot, or refused. The address tells two threads of one microsecond apart. */
    seed = clock_wall_us() ^ (uint64_t)getpid() << 40 ^ (uint64_t)(uintptr_t)&seed;
    return splitmix(&seed);
}

void random_init(struct random_state *state, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_LEN(state->word); i++)
        state->word[i] = splitmix(&seed);
}

static uint64_t rotate_left(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

uint64_t random_next(struct random_state *state)
{
    uint64_t *s = state->word;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint32_t random_below(struct random_state *state, uint32_t bound)
{
    BUG_ON(bound == 0);
    uint64_t product = (random_next(state) >> 32) * bound;
    if ((uint32_t)product < bound) {
        /* 2^32 mod bound: the low halves below it belong to results that come up once too often. */
        uint32_t surplus = -bound % bound;
        while ((uint32_t)product < surplus)
            product = (random_next(state) >> 32) * bound;
    }
    return (uint32_t)(product >> 32);
}
