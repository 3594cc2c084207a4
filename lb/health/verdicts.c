/*
 * Purpose: rise and fall, see verdicts.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "lb/health/verdicts.h"

uint32_t verdicts_needed(const struct verdicts *verdicts, const struct config_health *settings)
{
    switch (verdicts->state) {
    case HEALTH_UP:
        return (uint32_t)settings->fall;
    case HEALTH_DOWN:
        return (uint32_t)settings->rise;
    case HEALTH_UNKNOWN:
        break;
    }
    return 1;
}

bool verdicts_count(struct verdicts *verdicts, const struct config_health *settings, bool passed)
{
    enum health_state told = passed ? HEALTH_UP : HEALTH_DOWN;
    if (told == verdicts->state) {
        verdicts->streak = 0;
        return false;
    }
    if (++verdicts->streak < verdicts_needed(verdicts, settings))
        return false;
    *verdicts = (struct verdicts){.state = told};
    return true;
}

uint64_t verdicts_interval(const struct verdicts *verdicts, const struct config_health *settings)
{
    if (verdicts->streak > 0 || verdicts->state == HEALTH_UNKNOWN)
        return (uint64_t)settings->interval_changing;
    return (uint64_t)(verdicts->state == HEALTH_UP ? settings->interval : settings->interval_down);
}
