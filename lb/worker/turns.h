/*
 * Purpose: the turns of one worker at one listener, by the listener's session_rate and by weir's.
 * Thread:  the worker's; the meters are shared by all.
 * Owns:    its claims; the meters must outlive it.
 * Fails:   never.
 *
 * Where there are both rates, the turn of the listener's own may be past when weir's comes. A new
 * one would make it wait for weir's again: for ever, if others wait too. So a past turn holds
 * there, and a meter of those taken sees to it that such turns are not too many at once.
 */
#pragma once

#include "common/rate.h"

/* In the order in which they are asked. */
enum { TURN_OWN, TURN_WEIR, TURN_TAKEN, TURNS };

struct turns {
    struct rate_meter *meter[TURNS]; /* NULL: no such rate */
    struct rate_claim claim[TURNS];
};

/* `taken` is of the same rate as `own`. */
void turns_init(struct turns *turns, struct rate_meter *own, struct rate_meter *weir,
                struct rate_meter *taken);

/* Is there a rate at all? */
bool turns_limit(const struct turns *turns);

/* 0: a client may be taken now. Else a place in the row is held, and this is the microseconds until
 * it is to be asked again; *out_why is the rate. */
must_check uint64_t turns_claim(struct turns *turns, uint64_t now_us, const char **out_why);

/* Only if a client may be taken now; else nothing is held. */
must_check bool turns_claim_now(struct turns *turns, uint64_t now_us);

/* The client was taken, or none was. */
void turns_end(struct turns *turns, bool is_used);
