/*
 * Purpose: rise and fall: what a row of verdicts says of a server. Arithmetic, nothing else.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 *
 * Private to lb/health.
 *
 *                      1 pass                  fall failures in a row
 *           unknown ------------> up  ------------------------------------> down
 *              |                      <------------------------------------   ^
 *              |                            rise passes in a row              |
 *              +--------------------------------------------------------------+
 *                                       1 failure
 */
#pragma once

#include "lb/health/health.h"

struct verdicts {
    enum health_state state;
    uint32_t streak; /* verdicts in a row against the state; below verdicts_needed */
};

/* How many verdicts in a row turn the present state. */
uint32_t verdicts_needed(const struct verdicts *verdicts, const struct config_health *settings);

/* Counts one more; true when that turned the state. */
bool verdicts_count(struct verdicts *verdicts, const struct config_health *settings, bool passed);

/* Milliseconds from the start of a probe to the start of the next, before jitter. */
uint64_t verdicts_interval(const struct verdicts *verdicts, const struct config_health *settings);
