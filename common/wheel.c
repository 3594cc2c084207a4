/*
 * Purpose: the timer wheel of wheel.h.
 * Thread:  the owner's.
 * Owns:    nothing.
 * Fails:   never.
 *
 * A time is read as digits of base 64, and level n of the wheel stands for digit n:
 *
 *      level      5    4    3    2    1    0
 *      now     | 11 |  2 | 40 |  7 | 63 | 12 |
 *      due     | 11 |  2 | 40 |  9 |  0 | 30 |   differs at level 2: it stands there, in slot 9
 *
 * A timer stands at the level of the highest digit in which its time differs from now, in the slot
 * of that digit of its time. From that follows all else:
 *  - a slot of level 0 holds the timers of one single millisecond;
 *  - every timer of a lower level is due before every timer of a higher one, and within a level a
 *    slot further on is later, so the earliest slot is the first bit of the first level with any;
 *  - when now reaches the beginning of a slot above level 0, the slot is emptied and its timers are
 *    sorted anew by the same rule, which takes them down.
 *
 * The top level has no digit above it and is a ring instead: its slots stand for the next 63 values
 * of now >> 30. A later timer waits in the 63rd, and is sorted anew from there.
 */
#include "common/wheel.h"

#define DIGIT_BITS 6u
#define DIGIT_MASK (WHEEL_SLOTS - 1u)
#define TOP (WHEEL_LEVELS - 1u)

_Static_assert(WHEEL_SLOTS == 1u << DIGIT_BITS,
               "a slot for each value of a digit, a bit for each slot");

void wheel_init(struct wheel *wheel, uint64_t now_ms)
{
    wheel->now_ms = now_ms;
    wheel->count = 0;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&wheel->slot[level][slot]);
    }
}

void wheel_timer_init(struct wheel_timer *timer, wheel_fn *fn)
{
    list_init(&timer->link);
    timer->due_ms = 0;
    timer->fn = fn;
}

bool wheel_is_set(const struct wheel_timer *timer)
{
    return !list_empty(&timer->link);
}

/* Time in units of a level's slots. */
static uint64_t level_time(uint64_t ms, unsigned level)
{
    return ms >> (DIGIT_BITS * level);
}

static unsigned level_of(uint64_t due_ms, uint64_t now_ms)
{
    uint64_t differs = due_ms ^ now_ms;
    if (level_time(differs, TOP) > 0)
        return TOP;
    return (63u - (unsigned)__builtin_clzll(differs | 1)) / DIGIT_BITS;
}

/* Puts a timer that is due now or later into its slot. */
static void wheel_place(struct wheel *wheel, struct wheel_timer *timer)
{
    unsigned level = level_of(timer->due_ms, wheel->now_ms);
    uint64_t now = level_time(wheel->now_ms, level);
    uint64_t ahead = level_time(timer->due_ms, level) - now;
    unsigned slot = (unsigned)((now + MIN(ahead, DIGIT_MASK)) & DIGIT_MASK);

    list_add_tail(&wheel->slot[level][slot], &timer->link);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void wheel_set(struct wheel *wheel, struct wheel_timer *timer, uint64_t due_ms)
{
    wheel_cancel(wheel, timer);
    timer->due_ms = MAX(due_ms, wheel->now_ms);
    wheel_place(wheel, timer);
    wheel->count++;
}

/* `head` has become empty: clears its bit, unless it is the private list of an advance. */
static void wheel_vacate(struct wheel *wheel, const struct list *head)
{
    uintptr_t offset = (uintptr_t)head - (uintptr_t)wheel->slot;
    if (offset >= sizeof(wheel->slot))
        return;
    size_t number = offset / sizeof(*head);
    wheel->occupied[number / WHEEL_SLOTS] &= ~(UINT64_C(1) << number % WHEEL_SLOTS);
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
    if (!wheel_is_set(timer))
        return;
    struct list *neighbour = timer->link.next;
    list_del(&timer->link);
    wheel->count--;
    /* The last one's neighbour was the head. */
    if (list_empty(neighbour))
        wheel_vacate(wheel, neighbour);
}

/* How many slots ahead of now the first occupied slot of a level is; there must be one. */
static unsigned slots_ahead(const struct wheel *wheel, unsigned level)
{
    unsigned digit = (unsigned)level_time(wheel->now_ms, level) & DIGIT_MASK;
    uint64_t bits = wheel->occupied[level];
    uint64_t turned = bits >> digit | bits << (-digit & DIGIT_MASK);
    return (unsigned)__builtin_ctzll(turned);
}

/* The earliest occupied slot: its level and when it begins. WHEEL_NEVER when all are empty. */
static uint64_t earliest_slot(const struct wheel *wheel, unsigned *out_level)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        if (wheel->occupied[level] == 0)
            continue;
        *out_level = level;
        /* No overflow: a slot begins no later than the timers in it are due. */
        return (level_time(wheel->now_ms, level) + slots_ahead(wheel, level))
               << (DIGIT_BITS * level);
    }
    return WHEEL_NEVER;
}

uint64_t wheel_next(const struct wheel *wheel)
{
    unsigned level;
    return earliest_slot(wheel, &level);
}

/* Takes all timers out of the slot of `level` that begins now. */
static void take_slot(struct wheel *wheel, unsigned level, struct list *out)
{
    unsigned slot = (unsigned)level_time(wheel->now_ms, level) & DIGIT_MASK;
    list_move_all(out, &wheel->slot[level][slot]);
    wheel->occupied[level] &= ~(UINT64_C(1) << slot);
}

static void sort_down(struct wheel *wheel, unsigned level)
{
    struct list timers;
    list_init(&timers);
    take_slot(wheel, level, &timers);
    while (!list_empty(&timers)) {
        struct wheel_timer *timer = list_first(&timers, struct wheel_timer, link);
        list_del(&timer->link);
        wheel_place(wheel, timer);
    }
}

/* Brings the wheel to now_ms, and to `expired` what is due by then, in order. */
static void collect(struct wheel *wheel, uint64_t now_ms, struct list *expired)
{
    while (wheel->count > 0) {
        unsigned level = 0;
        uint64_t begins = earliest_slot(wheel, &level);
        if (begins > now_ms || begins == WHEEL_NEVER)
            break;
        wheel->now_ms = begins;
        if (level == 0)
            take_slot(wheel, 0, expired);
        else
            sort_down(wheel, level);
    }
    wheel->now_ms = now_ms;
}

void wheel_advance(struct wheel *wheel, uint64_t now_ms)
{
    if (now_ms < wheel->now_ms)
        return;

    struct list expired;
    list_init(&expired);
    collect(wheel, now_ms, &expired);

    while (!list_empty(&expired)) {
        struct wheel_timer *timer = list_first(&expired, struct wheel_timer, link);
        list_del(&timer->link);
        wheel->count--;
        timer->fn(timer, now_ms);
    }
}
