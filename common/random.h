/*
 * Purpose: fast pseudo-random numbers for choices that no attacker gains from guessing
 *          (xoshiro256**, Blackman and Vigna 2018), and a seed from the kernel.
 * Thread:  a state belongs to one thread.
 * Owns:    nothing.
 * Fails:   never: random_seed falls back to the clock when getrandom(2) cannot answer.
 */
#pragma once

#include <stdint.h>

struct random_state {
    uint64_t word[4];
};

uint64_t random_seed(void);
void random_init(struct random_state *state, uint64_t seed);
uint64_t random_next(struct random_state *state);

/* Uniform in [0, bound) without modulo bias (Lemire 2019); bound > 0. */
uint32_t random_below(struct random_state *state, uint32_t bound);
