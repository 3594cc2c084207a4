/*
 * Purpose: text into a fixed buffer: never past its end, always closed by a NUL, and it remembers
 *          whether everything fitted.
 * Thread:  the owner's.
 * Owns:    nothing: the buffer is the caller's.
 * Fails:   `cut` is set when something did not fit.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

struct text {
    char *data;
    size_t size; /* of the buffer */
    size_t length;
    bool cut;
};

void text_init(struct text *text, char *data, size_t size);
void text_add(struct text *text, const char *string);
void text_add_bytes(struct text *text, const char *bytes, size_t length);
void text_addf(struct text *text, const char *format, ...) printf_like(2, 3);

/*
 * The candidate nearest to `word` by edit distance (Damerau and Levenshtein, restricted), or NULL
 * when none is near enough to be meant: a third of the word's length, at least one.
 */
const char *text_nearest(const char *word, const char *const *candidates, size_t count);
