/*
 * Purpose: an immutable set of networks, each with a value, that finds the longest match.
 * Thread:  networks_new, networks_free: any one; networks_find: any number at once.
 * Owns:    a set copies what it is made of.
 * Fails:   networks_new with -ENOMEM; the rest cannot fail.
 *
 * Networks either lie in each other or apart, so n of them cut the addresses into at most 2n + 1
 * ranges within which the longest match is the same. Those are sorted once, and a look-up is a
 * bisection: 15 comparisons for 10,000 networks, whatever their prefix lengths and whoever chose
 * the address. A hash for each length would take up to 129 probes and a key; a trie up to 128
 * pointers to follow.
 */
#pragma once

#include "common/network.h"

struct networks;

/* The value of each network is beside it; of two networks alike the last holds. */
must_check int networks_new(struct networks **out, const struct network *network,
                            const uint32_t *value, size_t count);
void networks_free(struct networks **networks);

/* The value of the longest match; false, and *out_value untouched, without one. NULL has none. */
bool networks_find(const struct networks *networks, const union inet_address *address,
                   uint32_t *out_value);
