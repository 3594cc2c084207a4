/*
 * Purpose: see payload.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see payload.h.
 */
#include "common/payload.h"

#include <errno.h>
#include <string.h>

#define HEX_MARK "hex:"

static int parse_text(const char *text, uint8_t *out, size_t room, size_t *out_size)
{
    size_t length = strlen(text);
    if (length > room)
        return -E2BIG;
    memcpy(out, text, length);
    *out_size = length;
    return 0;
}

/* -1 for what is no digit, the closing NUL included. */
static int digit_value(char digit)
{
    char lower = (char)(digit | 0x20);
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static int parse_hex(const char *text, uint8_t *out, size_t room, size_t *out_size)
{
    size_t size = 0;
    for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " ")) {
        int high = digit_value(text[0]);
        int low = high >= 0 ? digit_value(text[1]) : -1;
        if (low < 0)
            return -EINVAL;
        if (size == room)
            return -E2BIG;
        out[size++] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    *out_size = size;
    return 0;
}

int payload_parse(const char *text, uint8_t *out, size_t room, size_t *out_size)
{
    size_t mark = strlen(HEX_MARK);
    if (strncmp(text, HEX_MARK, mark) == 0)
        return parse_hex(text + mark, out, room, out_size);
    return parse_text(text, out, room, out_size);
}
