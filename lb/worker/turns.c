#include "lb/worker/turns.h"

void turns_init(struct turns *turns, struct rate_meter *own, struct rate_meter *weir,
                struct rate_meter *taken)
{
    *turns = (struct turns){.meter = {NULL}};
    if (rate_meter_limits(own))
        turns->meter[TURN_OWN] = own;
    if (rate_meter_limits(weir))
        turns->meter[TURN_WEIR] = weir;
    if (turns->meter[TURN_OWN] != NULL && turns->meter[TURN_WEIR] != NULL)
        turns->meter[TURN_TAKEN] = taken;
}

bool turns_limit(const struct turns *turns)
{
    return turns->meter[TURN_OWN] != NULL || turns->meter[TURN_WEIR] != NULL;
}

/* 0, and the turn is held; or the microseconds until it comes. */
static uint64_t claim_one(struct turns *turns, unsigned which, uint64_t now_us)
{
    struct rate_meter *meter = turns->meter[which];
    struct rate_claim *claim = &turns->claim[which];

    if (which == TURN_TAKEN)
        return rate_claim_now(meter, now_us, claim);
    if (which == TURN_OWN && turns->meter[TURN_TAKEN] != NULL && claim->arrival > 0)
        return rate_claim_wait(meter, now_us, claim);
    return rate_claim(meter, now_us, claim);
}

uint64_t turns_claim(struct turns *turns, uint64_t now_us, const char **out_why)
{
    for (unsigned which = 0; which < TURNS; which++) {
        uint64_t wait_us = turns->meter[which] != NULL ? claim_one(turns, which, now_us) : 0;
        if (wait_us == 0)
            continue;
        *out_why = which == TURN_WEIR ? "session_rate of weir" : "session_rate of the listener";
        return wait_us;
    }
    return 0;
}

bool turns_claim_now(struct turns *turns, uint64_t now_us)
{
    for (unsigned which = 0; which < TURNS; which++) {
        struct rate_meter *meter = turns->meter[which];
        if (meter == NULL || rate_claim_now(meter, now_us, &turns->claim[which]) == 0)
            continue;
        turns_end(turns, false);
        return false;
    }
    return true;
}

void turns_end(struct turns *turns, bool is_used)
{
    for (unsigned which = 0; which < TURNS; which++) {
        if (is_used)
            rate_claim_use(&turns->claim[which]);
        else if (turns->meter[which] != NULL)
            rate_claim_return(turns->meter[which], &turns->claim[which]);
    }
}
