/*
 * Purpose: what time it is, for the few places that may ask; all others take it as a parameter.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CLOCK_MONOTONIC, in milliseconds and microseconds. Never 0. */
uint64_t clock_now_ms(void);
uint64_t clock_now_us(void);

/* CLOCK_REALTIME in microseconds since 1970. */
uint64_t clock_wall_us(void);

#define CLOCK_TEXT_MAX 32

/* RFC 3339 in UTC with milliseconds: "2026-01-31T12:00:00.123Z". Returns `text`. */
char *clock_format(uint64_t wall_us, char text[CLOCK_TEXT_MAX]);
