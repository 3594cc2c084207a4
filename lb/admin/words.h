/*
 * Purpose: a request's line taken apart into words, key=value and quotes.
 * Thread:  any: pure.
 * Owns:    nothing: the words point into the caller's line, which is changed.
 * Fails:   -EINVAL with *why set to a phrase.
 *
 * Spaces and tabs part words. Double quotes keep what they hold together, and a backslash takes the
 * next character as it is, within quotes and outside. A word with an unquoted '=' behind a name of
 * small letters, digits and '_' is key=value.
 */
#pragma once

#include "common/base.h"
#include "common/text.h"

#include <stdbool.h>
#include <stdint.h>

#define WORDS_MAX 16

struct word {
    const char *key; /* NULL: a plain word */
    const char *text;
};

struct words {
    size_t count;
    struct word word[WORDS_MAX];
};

/* line[length] is a NUL. Control characters other than the tab are refused, the NUL among them. */
must_check int words_parse(struct words *out, char *line, size_t length, const char **why);

/* The words again in one line, for the log. */
void words_print(const struct words *words, struct text *to);

/* Digits alone, at most `most`; false otherwise, and *out is untouched. */
must_check bool words_number(const char *text, uint64_t most, uint64_t *out);
