/*
 * Purpose: see scan.h and source.h.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see scan.h.
 *
 * The tokens are those of libconfig's scanner, more narrowly: a string ends on its line, a number
 * does not begin with 0, an @include stands alone on its line. Comments are left out. Every line of
 * a file becomes one line of the text, so that the map from lines to places stays simple.
 */
#include "config/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define HEX_DIGITS DIGITS "abcdefABCDEF"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define NAME_BEGIN LETTERS "*_"
#define NAME_CHARS NAME_BEGIN DIGITS "-"
#define NUMBER_CHARS LETTERS DIGITS "._"
#define WORD_CHARS NAME_CHARS "./:@%"
#define INCLUDE "@include"

struct cursor {
    const char *at;
    const char *end;
    const char *line_start;
    struct config_source_line place;
};

/* '\0' at the end: no token begins with it. */
static char peek(const struct cursor *cursor, size_t ahead)
{
    return (size_t)(cursor->end - cursor->at) > ahead ? cursor->at[ahead] : '\0';
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static size_t span(const struct cursor *cursor, const char *set)
{
    size_t length = 0;
    while (is_one_of(peek(cursor, length), set))
        length++;
    return length;
}

static void copy(struct config_scan *scan, struct cursor *cursor, size_t length)
{
    config_buffer_add(&scan->out, cursor->at, length);
    cursor->at += length;
}

static void new_line(struct config_scan *scan, struct cursor *cursor)
{
    cursor->at++;
    cursor->place.line++;
    cursor->line_start = cursor->at;
    config_buffer_add(&scan->out, "\n", 1);
    config_scan_begin_line(scan, cursor->place);
}

/* ---- Comments ---- */

static void skip_line_comment(struct cursor *cursor)
{
    while (cursor->at < cursor->end && *cursor->at != '\n')
        cursor->at++;
}

static void skip_comment(struct config_scan *scan, struct cursor *cursor)
{
    struct config_source_line begin = cursor->place;
    cursor->at += 2;
    while (cursor->at < cursor->end) {
        if (peek(cursor, 0) == '*' && peek(cursor, 1) == '/') {
            cursor->at += 2;
            return;
        }
        if (*cursor->at == '\n')
            new_line(scan, cursor);
        else
            cursor->at++;
    }
    config_scan_error(scan, begin, "the comment that begins here is not closed by */");
    scan->stopped = true;
}

/* ---- Values ---- */

/* Length up to and with the closing quote; 0 when the line ends before. */
static size_t string_length(const struct cursor *cursor)
{
    for (size_t i = 1;; i++) {
        char c = peek(cursor, i);
        if (c == '"')
            return i + 1;
        if (c == '\\')
            i++;
        if (c == '\0' || c == '\n' || peek(cursor, i) == '\n')
            return 0;
    }
}

/* libconfig drops this escape, and would read another string than the file says. */
static bool has_null_escape(const char *string, size_t length)
{
    for (size_t i = 0; i + 3 < length; i++) {
        if (string[i] != '\\')
            continue;
        i++;
        if ((string[i] == 'x' || string[i] == 'X') && string[i + 1] == '0' && string[i + 2] == '0')
            return true;
    }
    return false;
}

static bool is_in_array(const struct config_scan *scan)
{
    return scan->open_count > 0 && scan->open[scan->open_count - 1].bracket == '[';
}

static void scan_string(struct config_scan *scan, struct cursor *cursor)
{
    size_t length = string_length(cursor);
    /* libconfig would make them one. */
    if (scan->before == '"' && is_in_array(scan))
        config_scan_error(scan, cursor->place, "a comma is missing before this string");
    scan->before = '"';
    if (length == 0) {
        config_scan_error(scan, cursor->place,
                          "the string that begins here is not closed by \" on its line");
        /* Which quotes open and which close is anybody's guess from here on. */
        scan->stopped = true;
        return;
    }
    if (has_null_escape(cursor->at, length))
        config_scan_error(scan, cursor->place, "a string must not hold \\x00");
    copy(scan, cursor, length);
}

static bool is_value_due(const struct config_scan *scan)
{
    if (scan->before == ',')
        return is_in_array(scan);
    /* An array is a key's value; a bracket before any key is something else. */
    return scan->before == '=' || scan->before == ':' ||
           (scan->before == '[' && scan->open_count > 1);
}

static void refuse_unquoted(struct config_scan *scan, struct cursor *cursor, size_t length)
{
    config_scan_error(scan, cursor->place, "%.*s must stand in quotes: \"%.*s\"", (int)length,
                      cursor->at, (int)length, cursor->at);
    scan->before = 'a';
    cursor->at += length;
}

/* A key, or true, or false; any other word where a value is due lacks its quotes. */
static void scan_name(struct config_scan *scan, struct cursor *cursor)
{
    size_t length = span(cursor, NAME_CHARS);
    bool value = is_value_due(scan);
    bool boolean = (length == 4 && strncasecmp(cursor->at, "true", length) == 0) ||
                   (length == 5 && strncasecmp(cursor->at, "false", length) == 0);
    scan->before = 'a';
    if (value && !boolean)
        refuse_unquoted(scan, cursor, span(cursor, WORD_CHARS));
    else
        copy(scan, cursor, length);
}

/* What an integer is made of: 0 for anything else. `digits` begins behind the sign. */
static int number_base(const char *digits)
{
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    const char *end = hex ? digits + 2 : digits;
    size_t length = strspn(end, hex ? HEX_DIGITS : DIGITS);
    end += length;
    if (*end == 'L')
        end++;
    if (*end == 'L')
        end++;
    if (length == 0 || *end != '\0')
        return 0;
    return hex ? 16 : 10;
}

static bool is_fraction(const char *text)
{
    char *end;
    strtod(text, &end);
    return *end == '\0' && strspn(text, "+-.eE" DIGITS) == strlen(text);
}

static void scan_integer(struct config_scan *scan, struct cursor *cursor, const char *text,
                         int base)
{
    const char *digits = text + strspn(text, "+-");
    errno = 0;
    strtoll(text, NULL, base);
    if (errno == ERANGE)
        config_scan_error(scan, cursor->place, "%s is larger than any number here may be", text);
    else if (base == 10 && digits[0] == '0' && strspn(digits, DIGITS) > 1)
        config_scan_error(scan, cursor->place,
                          "%s must not begin with 0: octal numbers stand in quotes", text);
    config_buffer_add(&scan->out, text, strlen(text));
    if (strchr(text, 'L') == NULL)
        config_buffer_add(&scan->out, "L", 1);
}

#define NUMBER_LENGTH_MAX 128

static void scan_number(struct config_scan *scan, struct cursor *cursor)
{
    size_t sign = is_one_of(*cursor->at, "+-") ? 1 : 0;
    struct cursor rest = *cursor;
    rest.at += sign;
    size_t length = sign + span(&rest, NUMBER_CHARS);
    char text[NUMBER_LENGTH_MAX];
    scan->before = '1';
    if (length == sign || length >= sizeof(text)) {
        config_scan_error(scan, cursor->place, "this is not a number that weir can read");
        cursor->at += length;
        return;
    }
    memcpy(text, cursor->at, length);
    text[length] = '\0';
    int base = number_base(text + sign);
    if (base != 0 && !(base == 16 && sign > 0))
        scan_integer(scan, cursor, text, base);
    else if (is_fraction(text))
        config_buffer_add(&scan->out, text, length);
    else {
        const char *more = is_in_array(scan) ? NUMBER_CHARS "-:/%" : NUMBER_CHARS "-:/%[]";
        refuse_unquoted(scan, cursor, sign + span(&rest, more));
        return;
    }
    cursor->at += length;
}

/* ---- Brackets ---- */

static void open_bracket(struct config_scan *scan, const struct cursor *cursor)
{
    char bracket = *cursor->at;
    if (scan->before == '}' && bracket == '{')
        config_scan_error(scan, cursor->place, "a comma is missing between } and {");
    if (scan->open_count == CONFIG_BRACKETS_MAX) {
        config_scan_error(scan, cursor->place, "brackets are nested deeper than %d",
                          CONFIG_BRACKETS_MAX);
        scan->stopped = true;
        return;
    }
    scan->open[scan->open_count].bracket = bracket;
    scan->open[scan->open_count].place = cursor->place;
    scan->open_count++;
}

static char closing_of(char bracket)
{
    return bracket == '{' ? '}' : bracket == '(' ? ')' : ']';
}

static void close_bracket(struct config_scan *scan, const struct cursor *cursor)
{
    char bracket = *cursor->at;
    if (scan->open_count == 0) {
        config_scan_error(scan, cursor->place, "this %c closes nothing", bracket);
        scan->stopped = true;
        return;
    }
    scan->open_count--;
    char opened = scan->open[scan->open_count].bracket;
    if (bracket == closing_of(opened)) {
        if (scan->before == ',' && bracket != '}')
            config_scan_error(scan, cursor->place, "the comma before this %c is one too much",
                              bracket);
        return;
    }
    config_scan_error(scan, cursor->place, "%c where the %c of line %d must be closed by %c",
                      bracket, opened, scan->open[scan->open_count].place.line, closing_of(opened));
    scan->stopped = true;
}

void config_scan_end(struct config_scan *scan)
{
    if (scan->open_count == 0 || scan->stopped)
        return;
    char opened = scan->open[scan->open_count - 1].bracket;
    config_scan_error(scan, scan->open[scan->open_count - 1].place,
                      "the %c that stands here is never closed by %c", opened, closing_of(opened));
}

/* ---- Include ---- */

static bool is_first_on_line(const struct cursor *cursor)
{
    for (const char *c = cursor->line_start; c < cursor->at; c++)
        if (*c != ' ' && *c != '\t')
            return false;
    return true;
}

/* The name in quotes, its escapes undone; NULL when this is no @include. `*cursor` goes past it. */
static char *include_name(struct cursor *cursor)
{
    struct cursor quote = *cursor;
    if ((size_t)(cursor->end - cursor->at) < strlen(INCLUDE) || !is_first_on_line(cursor) ||
        memcmp(cursor->at, INCLUDE, strlen(INCLUDE)) != 0)
        return NULL;
    quote.at += strlen(INCLUDE);
    quote.at += span(&quote, " \t");
    size_t length = peek(&quote, 0) == '"' ? string_length(&quote) : 0;
    char *name = length > 0 ? malloc(length) : NULL;
    if (name == NULL)
        return NULL;
    size_t used = 0;
    for (size_t i = 1; i < length - 1; i++) {
        if (quote.at[i] == '\\' && i + 1 < length - 1)
            i++;
        name[used++] = quote.at[i];
    }
    name[used] = '\0';
    cursor->at = quote.at + length;
    return name;
}

static void scan_include(struct config_scan *scan, struct cursor *cursor)
{
    char *name = include_name(cursor);
    if (name == NULL) {
        config_scan_error(scan, cursor->place,
                          "must be @include \"FILE\" at the beginning of a line");
        skip_line_comment(cursor);
        return;
    }
    config_scan_include(scan, cursor->place, name);
    free(name);
    /* What follows on the line comes from this file again. */
    config_buffer_add(&scan->out, "\n", 1);
    config_scan_begin_line(scan, cursor->place);
}

/* ---- All together ---- */

static void refuse_byte(struct config_scan *scan, struct cursor *cursor)
{
    unsigned char c = (unsigned char)*cursor->at;
    size_t length = 1;
    if (c > ' ' && c < 0x7f) {
        config_scan_error(scan, cursor->place, "%c has no meaning here", c);
    } else if (c < 0x80) {
        config_scan_error(scan, cursor->place, "the byte 0x%02x has no meaning here", c);
    } else {
        while ((unsigned char)peek(cursor, length) >= 0x80)
            length++;
        config_scan_error(scan, cursor->place,
                          "%.*s has no meaning outside of quotes, which are \"", (int)length,
                          cursor->at);
    }
    scan->before = '?';
    cursor->at += length;
}

static void scan_mark(struct config_scan *scan, struct cursor *cursor)
{
    char c = *cursor->at;
    if (is_one_of(c, "{(["))
        open_bracket(scan, cursor);
    else if (is_one_of(c, "})]"))
        close_bracket(scan, cursor);
    scan->before = c;
    copy(scan, cursor, 1);
}

static void scan_token(struct config_scan *scan, struct cursor *cursor)
{
    char c = *cursor->at;
    if (c == '\n')
        new_line(scan, cursor);
    else if (is_one_of(c, " \t\r\f"))
        copy(scan, cursor, 1);
    else if (c == '#' || (c == '/' && peek(cursor, 1) == '/'))
        skip_line_comment(cursor);
    else if (c == '/' && peek(cursor, 1) == '*')
        skip_comment(scan, cursor);
    else if (c == '"')
        scan_string(scan, cursor);
    else if (c == '@')
        scan_include(scan, cursor);
    else if (is_one_of(c, NAME_BEGIN))
        scan_name(scan, cursor);
    else if (is_one_of(c, DIGITS "+-."))
        scan_number(scan, cursor);
    else if (is_one_of(c, "{}()[]=:,;"))
        scan_mark(scan, cursor);
    else if (c == '/' && is_value_due(scan))
        refuse_unquoted(scan, cursor, span(cursor, WORD_CHARS));
    else
        refuse_byte(scan, cursor);
}

void config_scan_file(struct config_scan *scan, size_t file, const char *data, size_t size)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    if (size >= 3 && memcmp(data, byte_order_mark, 3) == 0) {
        data += 3;
        size -= 3;
    }
    struct cursor cursor = {
        .at = data, .end = data + size, .line_start = data, .place = {.file = file, .line = 1}};
    config_scan_begin_line(scan, cursor.place);
    while (cursor.at < cursor.end && !scan->stopped && !scan->no_memory)
        scan_token(scan, &cursor);
}
