/*
 * Purpose: durations and sizes as people write them: "250ms", "10s", "5m", "64k", and back.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   the parsers return -EINVAL (not of that form; a unit is required) or -ERANGE and leave
 *          *out untouched.
 */
#pragma once

#include "common/base.h"

#include <stdint.h>

/* Units ms, s, m, h, d; whole numbers only. Result in milliseconds. "0" needs no unit. */
must_check int units_parse_duration(const char *text, int64_t *out_ms);

/* A plain number of bytes, or one with k, m or g (powers of 1024). Result in bytes. */
must_check int units_parse_size(const char *text, int64_t *out_bytes);

#define UNITS_TEXT_MAX 32

/* The shortest exact text that the parser reads back: 90000 is "90s", 65536 is "64k". */
char *units_format_duration(int64_t ms, char text[UNITS_TEXT_MAX]);
char *units_format_size(int64_t bytes, char text[UNITS_TEXT_MAX]);
