/*
 * Purpose: see words.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see words.h.
 *
 * A word is decoded in place: what is written is never longer than what was read, so `to` stays at
 * or behind `from`, and the NUL that ends a word lands on its last character or on the space.
 */
#include "lb/admin/words.h"

#include <errno.h>
#include <string.h>

struct cursor {
    char *from;
    char *to;
};

static int refuse(const char **why, const char *phrase)
{
    *why = phrase;
    return -EINVAL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

static bool has_control(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

/* Past "key=", or NULL when the word does not begin so. */
static char *after_key(char *word)
{
    char *c = word;
    while (is_key_char(*c))
        c++;
    return c > word && *c == '=' ? c + 1 : NULL;
}

/* One character, a backslash before it resolved. False: the line ends behind the backslash. */
static bool copy_char(struct cursor *cursor)
{
    if (*cursor->from == '\\')
        cursor->from++;
    if (*cursor->from == '\0')
        return false;
    *cursor->to++ = *cursor->from++;
    return true;
}

static int copy_word(struct cursor *cursor, const char **why)
{
    bool quoted = false;
    while (*cursor->from != '\0' && (quoted || !is_blank(*cursor->from))) {
        if (*cursor->from == '"') {
            quoted = !quoted;
            cursor->from++;
        } else if (!copy_char(cursor)) {
            return refuse(why, "nothing follows the backslash at the end");
        }
    }
    return quoted ? refuse(why, "the closing quote is missing") : 0;
}

/* cursor->from stands on the word's first character, and is left behind the blank that ends it. */
static int take_word(struct cursor *cursor, struct word *out, const char **why)
{
    cursor->to = cursor->from;
    *out = (struct word){.text = cursor->from};
    char *value = after_key(cursor->from);
    if (value != NULL) {
        value[-1] = '\0';
        *out = (struct word){.key = cursor->from, .text = value};
        cursor->from = cursor->to = value;
    }
    int rc = copy_word(cursor, why);
    if (rc < 0)
        return rc;
    if (*cursor->from != '\0')
        cursor->from++;
    *cursor->to = '\0';
    return 0;
}

int words_parse(struct words *out, char *line, size_t length, const char **why)
{
    if (has_control(line, length))
        return refuse(why, "a request holds no control characters");
    struct cursor cursor = {.from = line};
    out->count = 0;
    for (;;) {
        cursor.from += strspn(cursor.from, " \t");
        if (*cursor.from == '\0')
            return 0;
        if (out->count == WORDS_MAX)
            return refuse(why, "there are too many words");
        int rc = take_word(&cursor, &out->word[out->count], why);
        if (rc < 0)
            return rc;
        out->count++;
    }
}

void words_print(const struct words *words, struct text *to)
{
    for (size_t i = 0; i < words->count; i++) {
        const struct word *word = &words->word[i];
        text_addf(to, "%s%s%s%s", i > 0 ? " " : "", word->key != NULL ? word->key : "",
                  word->key != NULL ? "=" : "", word->text);
    }
}

bool words_number(const char *text, uint64_t most, uint64_t *out)
{
    uint64_t number = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number) || number > most)
            return false;
    }
    *out = number;
    return true;
}
