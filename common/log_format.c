/*
 * Purpose: see log_format.h.
 * Thread:  any.
 * Owns:    per thread, the text of the second in which it logged last.
 * Fails:   never.
 *
 * This runs on the workers, once a session, so it is written without printf(3): a line of sixteen
 * fields costs well under a microsecond. Text and JSON differ in a row of punctuation and in how
 * they escape; the rest is shared.
 */
#include "common/log_format.h"

#include "common/clock.h"

#include <string.h>

#define TAIL_ROOM 16  /* kept free for `cut` and `end` of any style */
#define ESCAPE_MAX 16 /* a character's longest escape: four bytes of \xNN */

struct cursor {
    char *at;
    char *end;
    bool cut; /* something did not fit: nothing is written any more */
};

/* Writes the escape of one character, or of one byte that is not UTF-8 (code is NOT_UTF8 then). */
typedef size_t escape_fn(char out[ESCAPE_MAX], const unsigned char *bytes, size_t length,
                         uint32_t code);

struct style {
    const char *before_time, *before_level, *before_event;
    const char *before_key, *after_key;
    const char *cut, *end;
    bool bare; /* an event, and a value that is harmless, goes without quotes */
    escape_fn *escape;
};

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

/* What a byte may do: stand in a bare value, stand in quotes. */
enum { BARE = 1, QUOTED = 2 };

static const unsigned char byte_class[256] = {
    [' '] = QUOTED,
    ['!'] = BARE | QUOTED,
    ['#' ... '<'] = BARE | QUOTED, /* '"' is left out */
    ['='] = QUOTED,
    ['>' ... '['] = BARE | QUOTED, /* '\\' is left out */
    [']' ... '~'] = BARE | QUOTED,
};

/* ---- bytes and numbers ---- */

static void put(struct cursor *c, const char *bytes, size_t length)
{
    if (c->cut || length > (size_t)(c->end - c->at)) {
        c->cut = true;
        return;
    }
    memcpy(c->at, bytes, length);
    c->at += length;
}

static void put_word(struct cursor *c, const char *word)
{
    put(c, word, strlen(word));
}

/* As much of a run of ASCII as fits. */
static void put_run(struct cursor *c, const char *bytes, size_t length)
{
    size_t fits = MIN(length, (size_t)(c->end - c->at));
    put(c, bytes, fits);
    if (fits < length)
        c->cut = true;
}

static void put_unsigned(struct cursor *c, uint64_t number)
{
    char digits[20];
    char *first = digits + sizeof(digits);
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(c, first, (size_t)(digits + sizeof(digits) - first));
}

static void put_signed(struct cursor *c, int64_t number)
{
    if (number < 0)
        put(c, "-", 1);
    put_unsigned(c, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

static void put_three_digits(struct cursor *c, unsigned number)
{
    char digits[3] = {(char)('0' + number / 100), (char)('0' + number / 10 % 10),
                      (char)('0' + number % 10)};
    put(c, digits, sizeof(digits));
}

static void put_milliseconds(struct cursor *c, uint64_t us)
{
    put_unsigned(c, us / 1000);
    put(c, ".", 1);
    put_three_digits(c, (unsigned)(us % 1000));
}

static void put_time(struct cursor *c, uint64_t wall_us)
{
    static _Thread_local struct {
        uint64_t second;
        size_t length; /* 0: none yet */
        char text[CLOCK_TEXT_MAX];
    } cache;

    if (cache.length == 0 || cache.second != wall_us / 1000000) {
        cache.second = wall_us / 1000000;
        clock_format(cache.second * 1000000, cache.text);
        cache.length = strlen(cache.text) - strlen("000Z");
    }
    put(c, cache.text, cache.length);
    put_three_digits(c, (unsigned)(wall_us / 1000 % 1000));
    put(c, "Z", 1);
}

/* ---- escaping ---- */

#define NOT_UTF8 UINT32_MAX

/* How long a character is by its first byte; 0: none begins so. */
static size_t utf8_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/*
 * Decodes one character (RFC 3629) of a text that ends in a NUL, and returns its length in bytes.
 * What is no character (a stray or missing continuation, an overlong form, a surrogate, past
 * U+10FFFF) counts as one byte with the code NOT_UTF8.
 */
static size_t utf8_decode(const unsigned char *s, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = utf8_length(s[0]);
    uint32_t value = length <= 1 ? s[0] : s[0] & (0x7fu >> length);

    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            length = 0;
        else
            value = value << 6 | (s[i] & 0x3fu);
    }
    if (length == 0 || value < least[length] || value > 0x10ffff || (value >> 11) == 0xd800 >> 11) {
        *code = NOT_UTF8;
        return 1;
    }
    *code = value;
    return length;
}

/* Valid UTF-8 is not harmless yet: these move the cursor, end a line or turn the writing around. */
static bool may_stand(uint32_t code)
{
    if (code == NOT_UTF8 || code < 0xa0)
        return false;
    return !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

static size_t escape_short(char out[ESCAPE_MAX], uint32_t code)
{
    char letter = code == '"' ? '"' : code == '\\' ? '\\' : code == '\n' ? 'n' : 't';
    out[0] = '\\';
    out[1] = letter;
    return 2;
}

static bool has_short_escape(uint32_t code)
{
    return code == '"' || code == '\\' || code == '\n' || code == '\t';
}

static void put_hex(char *out, unsigned value, size_t digits)
{
    for (size_t i = digits; i-- > 0; value >>= 4)
        out[i] = "0123456789abcdef"[value & 0xf];
}

static size_t escape_text(char out[ESCAPE_MAX], const unsigned char *bytes, size_t length,
                          uint32_t code)
{
    (void)code;
    for (size_t i = 0; i < length; i++) {
        memcpy(out + 4 * i, "\\x", 2);
        put_hex(out + 4 * i + 2, bytes[i], 2);
    }
    return 4 * length;
}

/* No character that needs an escape lies past U+FFFF, so there is never a pair of surrogates. */
static size_t escape_json(char out[ESCAPE_MAX], const unsigned char *bytes, size_t length,
                          uint32_t code)
{
    (void)bytes;
    (void)length;
    memcpy(out, "\\u", 2);
    put_hex(out + 2, code == NOT_UTF8 ? 0xfffd : code, 4);
    return 6;
}

static size_t run_of(const char *s, unsigned char what, size_t most)
{
    size_t n = 0;
    while (n < most && byte_class[(unsigned char)s[n]] & what)
        n++;
    return n;
}

/* Puts one character, whole or not at all, and returns how many bytes of the source it was. */
static size_t put_character(struct cursor *c, const struct style *style, const char *s)
{
    const unsigned char *bytes = (const unsigned char *)s;
    uint32_t code;
    size_t length = utf8_decode(bytes, &code);
    char out[ESCAPE_MAX];

    if (may_stand(code))
        put(c, s, length);
    else if (has_short_escape(code))
        put(c, out, escape_short(out, code));
    else
        put(c, out, style->escape(out, bytes, length, code));
    return length;
}

static void put_escaped(struct cursor *c, const struct style *style, const char *s)
{
    while (*s && !c->cut) {
        size_t run = run_of(s, QUOTED, LOG_LINE_MAX);
        put_run(c, s, run);
        s += run;
        if (*s && run < LOG_LINE_MAX)
            s += put_character(c, style, s);
    }
}

static void put_quoted(struct cursor *c, const struct style *style, const char *s)
{
    if (c->cut || c->end - c->at < 2) {
        c->cut = true;
        return;
    }
    *c->at++ = '"';
    c->end--; /* so that the closing quote always fits */
    put_escaped(c, style, s);
    c->end++;
    *c->at++ = '"';
}

static void put_string(struct cursor *c, const struct style *style, const char *s)
{
    size_t bare = style->bare ? run_of(s, BARE, LOG_LINE_MAX) : 0;
    if (bare > 0 && (bare == LOG_LINE_MAX || s[bare] == '\0'))
        put_run(c, s, bare);
    else
        put_quoted(c, style, s);
}

/* ---- the line ---- */

static const struct style styles[] = {
    [LOG_FORMAT_TEXT] = {.before_time = "",
                         .before_level = " ",
                         .before_event = " ",
                         .before_key = " ",
                         .after_key = "=",
                         .cut = " cut=true",
                         .end = "\n",
                         .bare = true,
                         .escape = escape_text},
    [LOG_FORMAT_JSON] = {.before_time = "{\"time\":\"",
                         .before_level = "\",\"level\":\"",
                         .before_event = "\",\"event\":",
                         .before_key = ",\"",
                         .after_key = "\":",
                         .cut = ",\"cut\":true",
                         .end = "}\n",
                         .bare = false,
                         .escape = escape_json},
};

static void put_head(struct cursor *c, const struct style *style, const struct log_record *record)
{
    put_word(c, style->before_time);
    put_time(c, record->wall_us);
    put_word(c, style->before_level);
    put_word(c, level_names[record->level]);
    put_word(c, style->before_event);
    if (style->bare)
        put_escaped(c, style, record->event);
    else
        put_quoted(c, style, record->event);
}

static void put_value(struct cursor *c, const struct style *style, const struct log_field *field)
{
    switch (field->type) {
    case LOG_FIELD_STRING:
        put_string(c, style, field->string);
        break;
    case LOG_FIELD_UNSIGNED:
        put_unsigned(c, field->number);
        break;
    case LOG_FIELD_SIGNED:
        put_signed(c, field->signed_number);
        break;
    case LOG_FIELD_MICROSECONDS:
        put_milliseconds(c, field->number);
        break;
    }
}

/* Half a number is a wrong number; half a string is still of use, so only that is cut inside. */
static void put_field(struct cursor *c, const struct style *style, const struct log_field *field)
{
    bool is_string = field->type == LOG_FIELD_STRING;
    if (is_string && !field->string)
        return;
    char *start = c->at;
    put_word(c, style->before_key);
    put_word(c, field->key);
    put_word(c, style->after_key);
    char *value = c->at;
    put_value(c, style, field);
    if (c->cut && (!is_string || c->at == value))
        c->at = start;
}

size_t log_format_line(char line[LOG_LINE_MAX], enum log_format format,
                       const struct log_record *record)
{
    const struct style *style = &styles[format];
    struct cursor c = {.at = line, .end = line + LOG_LINE_MAX - TAIL_ROOM};

    put_head(&c, style, record);
    if (record->thread)
        put_field(&c, style, &LOG_S("thread", record->thread));
    for (size_t i = 0; i < record->count && !c.cut; i++)
        put_field(&c, style, &record->fields[i]);

    bool was_cut = c.cut;
    c.end = line + LOG_LINE_MAX;
    c.cut = false;
    if (was_cut)
        put_word(&c, style->cut);
    put_word(&c, style->end);
    return (size_t)(c.at - line);
}
