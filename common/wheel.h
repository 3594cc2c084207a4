/*
 * Purpose: a hierarchical timer wheel (Varghese and Lauck 1987, scheme 6) of one-millisecond slots.
 *          It holds no clock: time is a parameter, so tests never wait.
 * Thread:  the thread that owns the wheel.
 * Owns:    nothing: timers live inside their objects, which must cancel them before they go.
 * Fails:   never: nothing is allocated.
 *
 * Six levels of 64 slots reach 2^36 ms; a later time is clamped into the last slot and sorted again
 * when that comes round. A bit per slot says which are occupied, so idle time costs nothing.
 */
#pragma once

#include "common/list.h"

#include <stdint.h>

#define WHEEL_LEVELS 6
#define WHEEL_SLOTS 64
#define WHEEL_NEVER UINT64_MAX

struct wheel_timer;
typedef void wheel_fn(struct wheel_timer *timer, uint64_t now_ms);

struct wheel_timer {
    struct list link;
    uint64_t due_ms;
    wheel_fn *fn;
};

struct wheel {
    uint64_t now_ms;
    uint64_t occupied[WHEEL_LEVELS];
    uint32_t count;
    struct list slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);

void wheel_timer_init(struct wheel_timer *timer, wheel_fn *fn);

/* Sets or moves the timer. A time that has passed is due at the next advance. */
void wheel_set(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_ms);

/* Harmless when the timer is not set. */
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);

bool wheel_is_set(const struct wheel_timer *timer);

/*
 * Calls every timer due at or before `now_ms`, in order of their times. All that have expired are
 * taken to a private list first, so a callback may set, move or cancel any timer, itself included;
 * one that is set anew for a time that has passed runs in the next call. Time never runs back: an
 * earlier `now_ms` does nothing.
 */
void wheel_advance(struct wheel *wheel, uint64_t now_ms);

/*
 * The time at which wheel_advance should be called next: never later than the earliest timer, and
 * possibly earlier (when a higher level has to be sorted down). WHEEL_NEVER when no timer is set.
 */
uint64_t wheel_next(const struct wheel *wheel);
