/*
 * Purpose: text in a fixed buffer, and the nearest of several words.
 * Thread:  the owner's.
 * Owns:    nothing.
 * Fails:   see text.h.
 */
#include "common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- The buffer ---- */

void text_init(struct text *text, char *data, size_t size)
{
    BUG_ON(size == 0);
    *text = (struct text){.data = data, .size = size};
    data[0] = '\0';
}

/* How many bytes still fit before the NUL. */
static size_t text_room(const struct text *text)
{
    return text->size - text->length - 1;
}

void text_add_bytes(struct text *text, const char *bytes, size_t length)
{
    size_t room = text_room(text);
    if (length > room) {
        length = room;
        text->cut = true;
    }
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = '\0';
}

void text_add(struct text *text, const char *string)
{
    text_add_bytes(text, string, strlen(string));
}

void text_addf(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = text_room(text);
    int wanted = vsnprintf(text->data + text->length, room + 1, format, arguments);
    va_end(arguments);

    if (wanted < 0) { /* more than INT_MAX */
        text->data[text->length] = '\0';
        text->cut = true;
    } else if ((size_t)wanted > room) {
        text->length += room;
        text->cut = true;
    } else {
        text->length += (size_t)wanted;
    }
}

/* ---- The nearest word ---- */

/* Words of people and keys of tables are far shorter; what is longer is near to nothing. */
#define WORD_MAX 63

/* Three rows of the table of distances between beginnings of two words. */
struct rows {
    size_t before[WORD_MAX + 1];
    size_t previous[WORD_MAX + 1];
    size_t current[WORD_MAX + 1];
};

/* The distance from the first `i` characters of `a` to the first `j` of `b`. */
static size_t cell(const struct rows *rows, const char *a, size_t i, const char *b, size_t j)
{
    size_t replaced = rows->previous[j - 1] + (a[i - 1] != b[j - 1]);
    size_t added = rows->current[j - 1] + 1;
    size_t removed = rows->previous[j] + 1;
    size_t least = MIN(replaced, MIN(added, removed));
    if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        least = MIN(least, rows->before[j - 2] + 1);
    return least;
}

/* Optimal string alignment; both words are at most WORD_MAX long. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    struct rows rows;
    for (size_t j = 0; j <= b_length; j++)
        rows.current[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        memcpy(rows.before, rows.previous, sizeof(rows.before));
        memcpy(rows.previous, rows.current, sizeof(rows.previous));
        rows.current[0] = i;
        for (size_t j = 1; j <= b_length; j++)
            rows.current[j] = cell(&rows, a, i, b, j);
    }
    return rows.current[b_length];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t count)
{
    size_t length = strlen(word);
    if (length > WORD_MAX)
        return NULL;
    const char *nearest = NULL;
    size_t least = MAX(length / 3, 1) + 1;
    for (size_t i = 0; i < count; i++) {
        size_t candidate_length = strlen(candidates[i]);
        if (candidate_length > WORD_MAX)
            continue;
        size_t d = distance(word, length, candidates[i], candidate_length);
        if (d < least) {
            least = d;
            nearest = candidates[i];
        }
    }
    return nearest;
}
