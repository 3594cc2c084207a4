/*
 * Purpose: one value of an answer as people read it.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   as the stream does.
 *
 * A field's name tells its unit: bytes_… are bytes, …_us, …_ms and …_s are spans of time. Whatever
 * a name or reason may hold, no control character reaches the terminal.
 */
#pragma once

#include "common/base.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* An empty string, null, and what is missing (NULL) are "-". */
void value_print(FILE *to, const char *key, const json_t *value);

/* "bytes in", "uptime": the field's name without its unit. */
void value_print_name(FILE *to, const char *key);

/* 312, 4.1K, 12M: powers of 1024, cut and not rounded. */
void value_print_bytes(FILE *to, uint64_t bytes);

/* 545us, 250ms, 2.5s, 42s, 4m12s, 3h05m, 2d04h */
void value_print_span(FILE *to, uint64_t us);

/* Control characters, and those that turn a line's direction, as \xNN or \uNNNN. */
void value_print_text(FILE *to, const char *text);

/* The same of a text of several lines: newlines and tabs stay. */
void value_print_lines(FILE *to, const char *text);

/* How many columns a terminal needs for it, one for each character. */
size_t value_width(const char *text);
