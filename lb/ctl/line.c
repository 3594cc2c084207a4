/*
 * Purpose: see line.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see line.h.
 */
#include "lb/ctl/line.h"

#include <errno.h>
#include <string.h>

static bool is_control(char c)
{
    unsigned char byte = (unsigned char)c;
    return byte < 0x20 || byte == 0x7f;
}

static int add_word(struct text *out, const char *word, const char **why)
{
    if (*word == '\0')
        text_add(out, "\"\"");
    for (; *word != '\0'; word++) {
        if (is_control(*word)) {
            *why = "a word holds a control character";
            return -EINVAL;
        }
        if (strchr(" \"\\", *word) != NULL)
            text_add(out, "\\");
        text_add_bytes(out, word, 1);
    }
    return 0;
}

int line_make(struct text *out, char *const *words, size_t count, const char **why)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            text_add(out, " ");
        int rc = add_word(out, words[i], why);
        if (rc < 0)
            return rc;
    }
    if (!out->cut && out->length <= LINE_MAX_BYTES)
        return 0;
    *why = "the command is too long";
    return -EINVAL;
}
