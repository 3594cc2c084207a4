/*
 * Purpose: finds a text in bytes that come in pieces (Knuth, Morris and Pratt 1977): nothing that
 *          has passed is looked at again, so no piece need be kept.
 * Thread:  the owner's.
 * Owns:    nothing: the text is borrowed.
 * Fails:   never.
 *
 * Private to lb/health.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

#define NEEDLE_MAX 255 /* the key table's bound of `body` */

struct needle {
    const char *text;
    size_t length;
    size_t matched;             /* how many bytes of the text end what has been fed so far */
    uint8_t border[NEEDLE_MAX]; /* [i]: the longest proper prefix of text[0..i] that also ends it */
};

/* At most NEEDLE_MAX bytes. The empty text is found at once. */
void needle_init(struct needle *needle, const char *text);

void needle_feed(struct needle *needle, const char *bytes, size_t size);

static inline bool needle_found(const struct needle *needle)
{
    return needle->matched == needle->length;
}
