/*
 * Purpose: what operators have said of networks while weir runs: the rules of a gate.
 * Thread:  rules_find: any number at once, none waits. The rest: control.
 * Owns:    all that was put; rules_deinit frees it when no other thread looks any more.
 * Fails:   a change that cannot be made (-ENOMEM, -ENOSPC, -ENOENT) changes nothing.
 *
 * Private to lb/gate. Those who look see one immutable table behind a pointer; a change makes a
 * new table and swaps the pointer. The old one may be looked at still, for as long as one look-up
 * takes, so it is kept until its owner has seen every other thread between two look-ups:
 *
 *     table ── change ──▶ replaced ── rules_retire ──▶ leaving ── rules_reclaim ──▶ freed
 *                                          └── all threads are seen at rest ──┘
 */
#pragma once

#include "lb/gate/gate.h"

struct rule_table;

struct rules {
    _Atomic(struct rule_table *) table; /* NULL: nothing was said */
    struct gate_rule *rule;             /* in the order in which they were first said */
    size_t count;
    size_t room;
    struct rule_table *replaced; /* since the last rules_retire */
    struct rule_table *leaving;
};

void rules_deinit(struct rules *rules);

/* Anew, or in the place of what was said of the very same network. -ENOSPC at GATE_RULES_MAX. */
must_check int rules_put(struct rules *rules, const struct gate_rule *rule);
must_check int rules_drop(struct rules *rules, const struct network *network);
/* Drops those whose time is over; the next time for it, UINT64_MAX: none. */
must_check int rules_expire(struct rules *rules, uint64_t now_ms);
uint64_t rules_next_ms(const struct rules *rules);

/* The last two steps of the picture; none begins while tables are leaving. */
void rules_retire(struct rules *rules);
void rules_reclaim(struct rules *rules);

/* A network's verdict and its length in one number: see rules_find and gate.c. */
static inline uint32_t rules_value(const struct network *network, bool denies)
{
    return (uint32_t)network->bits << 1 | denies;
}

/* The rules_value of the longest network that has the address; false: of none. */
bool rules_find(const struct rules *rules, const union inet_address *address, uint32_t *out_value);
