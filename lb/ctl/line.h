/*
 * Purpose: the words of the command line as the one line that weir reads.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   -EINVAL with *why set to a phrase.
 */
#pragma once

#include "common/base.h"
#include "common/text.h"

/* Longer lines weir refuses; without the newline. */
#define LINE_MAX_BYTES 4095

/*
 * Spaces, quotes and backslashes within a word go out behind a backslash, so that each word arrives
 * as it was typed. `out` has no newline.
 */
must_check int line_make(struct text *out, char *const *words, size_t count, const char **why);
