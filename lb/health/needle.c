/*
 * Purpose: the search of needle.h.
 * Thread:  the owner's.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "lb/health/needle.h"

#include <string.h>

/* How much of the text ends `matched` bytes of it and one more. */
static size_t step(const struct needle *needle, size_t matched, char byte)
{
    while (matched > 0 && needle->text[matched] != byte)
        matched = needle->border[matched - 1];
    return needle->text[matched] == byte ? matched + 1 : 0;
}

void needle_init(struct needle *needle, const char *text)
{
    size_t length = strlen(text);
    BUG_ON(length > NEEDLE_MAX);
    needle->text = text;
    needle->length = length;
    needle->matched = 0;
    needle->border[0] = 0;
    for (size_t i = 1; i < length; i++)
        needle->border[i] = (uint8_t)step(needle, needle->border[i - 1], text[i]);
}

void needle_feed(struct needle *needle, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size && !needle_found(needle); i++)
        needle->matched = step(needle, needle->matched, bytes[i]);
}
