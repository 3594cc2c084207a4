/*
 * Purpose: see value.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see value.h.
 */
#include "lb/ctl/value.h"

#include "common/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* ---- text ---- */

#define NOT_UTF8 UINT32_MAX

static size_t length_of(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/*
 * Decodes one character and returns its length. jansson hands out UTF-8 alone, but paths from the
 * command line come here too: what is none of it is one byte with the code NOT_UTF8.
 */
static size_t decode(const unsigned char *c, uint32_t *out_code)
{
    static const unsigned char mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t length = length_of(c[0]);
    uint32_t code = c[0] & mask[length];
    *out_code = NOT_UTF8;
    if ((c[0] >= 0x80 && c[0] < 0xc2) || c[0] > 0xf4)
        return 1;
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80)
            return 1;
        code = code << 6 | (c[i] & 0x3fu);
    }
    *out_code = code;
    return length;
}

/* C0, C1, line and paragraph ends, and what turns the direction of writing. */
static bool is_harmful(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

static void print_text(FILE *to, const char *text, const char *allowed)
{
    const unsigned char *c = (const unsigned char *)text;
    while (*c != '\0') {
        uint32_t code;
        size_t length = decode(c, &code);
        if (code == NOT_UTF8 || (code < 0x80 && is_harmful(code) && !strchr(allowed, (int)code)))
            fprintf(to, "\\x%02x", *c);
        else if (code >= 0x80 && is_harmful(code))
            fprintf(to, "\\u%04" PRIx32, code);
        else
            fwrite(c, 1, length, to);
        c += length;
    }
}

void value_print_text(FILE *to, const char *text)
{
    print_text(to, text, "");
}

void value_print_lines(FILE *to, const char *text)
{
    print_text(to, text, "\n\t");
}

size_t value_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80; /* not the rest of a character */
    return width;
}

/* ---- units ---- */

void value_print_bytes(FILE *to, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    uint64_t unit = 1;
    size_t i = 0;
    while (bytes / unit >= 1024) {
        unit *= 1024;
        i++;
    }
    uint64_t whole = bytes / unit;
    if (i == 0)
        fprintf(to, "%" PRIu64, whole);
    else if (whole < 10)
        fprintf(to, "%" PRIu64 ".%" PRIu64 "%c", whole, bytes % unit / (unit / 1024) * 10 / 1024,
                units[i - 1]);
    else
        fprintf(to, "%" PRIu64 "%c", whole, units[i - 1]);
}

void value_print_span(FILE *to, uint64_t us)
{
    uint64_t ms = us / 1000, s = ms / 1000, m = s / 60, h = m / 60, d = h / 24;
    if (us == 0)
        fputs("0s", to);
    else if (ms == 0)
        fprintf(to, "%" PRIu64 "us", us);
    else if (s == 0)
        fprintf(to, "%" PRIu64 "ms", ms);
    else if (s < 10)
        fprintf(to, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
    else if (m == 0)
        fprintf(to, "%" PRIu64 "s", s);
    else if (h == 0)
        fprintf(to, "%" PRIu64 "m%02" PRIu64 "s", m, s % 60);
    else if (d == 0)
        fprintf(to, "%" PRIu64 "h%02" PRIu64 "m", h, m % 60);
    else
        fprintf(to, "%" PRIu64 "d%02" PRIu64 "h", d, h % 24);
}

/* A suffix of field names and what it is in microseconds. */
struct unit {
    const char *suffix;
    uint64_t us;
};

static const struct unit *unit_of(const char *key)
{
    static const struct unit units[] = {{"_us", 1}, {"_ms", 1000}, {"_s", 1000000}};
    size_t length = strlen(key);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t suffix = strlen(units[i].suffix);
        if (length > suffix && strcmp(key + length - suffix, units[i].suffix) == 0)
            return &units[i];
    }
    return NULL;
}

static void print_number(FILE *to, const char *key, json_int_t number)
{
    const struct unit *unit = unit_of(key);
    uint64_t us;
    if (number >= 0 && strncmp(key, "bytes", 5) == 0)
        value_print_bytes(to, (uint64_t)number);
    else if (number >= 0 && unit != NULL &&
             !__builtin_mul_overflow((uint64_t)number, unit->us, &us))
        value_print_span(to, us);
    else
        fprintf(to, "%" JSON_INTEGER_FORMAT, number);
}

/* ---- values ---- */

/* What has no form of its own: an array or object within a cell. */
static void print_json(FILE *to, const json_t *value)
{
    (void)json_dumpf(value, to, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
}

void value_print(FILE *to, const char *key, const json_t *value)
{
    const char *text = json_string_value(value);
    if (text != NULL && *text != '\0')
        value_print_text(to, text);
    else if (json_is_integer(value))
        print_number(to, key, json_integer_value(value));
    else if (json_is_boolean(value))
        fputs(json_is_true(value) ? "yes" : "no", to);
    else if (value == NULL || text != NULL || json_is_null(value))
        fputs("-", to);
    else
        print_json(to, value);
}

void value_print_name(FILE *to, const char *key)
{
    char name[64];
    struct text text;
    const struct unit *unit = unit_of(key);
    text_init(&text, name, sizeof(name));
    text_add_bytes(&text, key, strlen(key) - (unit != NULL ? strlen(unit->suffix) : 0));
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '_' ? ' ' : *c;
    value_print_text(to, name);
}
