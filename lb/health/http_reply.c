/*
 * Purpose: the reader of http_reply.h.
 * Thread:  the owner's.
 * Owns:    nothing.
 * Fails:   see http_reply.h.
 *
 *      STATUS_LINE --> FIELD --+--> BODY_LENGTH ------------------------------> DONE
 *          ^             |     +--> BODY_TO_END ---------- end of input ------>   |
 *          +-------------+     +--> CHUNK_SIZE --> TRAILER ------------------->   |
 *            1xx: another      |     |      ^
 *            head follows      |    CHUNK_DATA --> CHUNK_END
 *                              +--> (no body) -------------------------------->   |
 *
 * All but the three bodies are read by lines, and `lines` has a function for each of those states.
 *
 * It is strict, because a probe that passes by mistake sends people to a broken server. Three
 * things are let through: a bare LF that ends a line and folded fields (RFC 9112 §2.2, §5.2), and a
 * status line without the space behind the code.
 */
#include "lb/health/http_reply.h"

#include <string.h>
#include <strings.h>

#define VERSION "HTTP/1."
#define STATUS_AT (sizeof(VERSION "1 ") - 1)

/* Hexadecimal digits of a chunk's size: more would not fit 63 bits. */
#define CHUNK_DIGITS 15
#define LENGTH_DIGITS 18

static void broken(struct http_reply *reply, const char *why)
{
    reply->state = HTTP_REPLY_BROKEN;
    reply->why = why;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Three digits and what follows them; NULL when there are none. */
static const char *read_status(const char *text, int *out)
{
    if (!is_digit(text[0]) || !is_digit(text[1]) || !is_digit(text[2]))
        return NULL;
    *out = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
    return text + 3;
}

/* ---- The head ---- */

/*
 * status-line = HTTP-version SP status-code SP [ reason-phrase ] (§4). is_foreign has seen to it
 * that the line begins with the version.
 */
static bool read_status_line(const char *line, size_t length, int *out_status)
{
    size_t end = STATUS_AT + 3;
    if (length < end || !is_digit(line[STATUS_AT - 2]) || line[STATUS_AT - 1] != ' ')
        return false;
    if (read_status(line + STATUS_AT, out_status) == NULL || *out_status < 100)
        return false;
    return length == end || line[end] == ' ';
}

static void on_status_line(struct http_reply *reply)
{
    if (!read_status_line(reply->line, reply->line_length, &reply->status_coming)) {
        broken(reply, "not an HTTP status line");
        return;
    }
    reply->framing = HTTP_BODY_UNTOLD;
    reply->any_field = false;
    reply->state = HTTP_REPLY_FIELD;
}

/* One that has another behind it (RFC 9110 §15.2). 101 has not: HTTP is over then. */
static bool is_interim(int status)
{
    return status < 200 && status != 101;
}

static bool has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* Where the body ends, RFC 9112 §6.3. */
static void on_head_end(struct http_reply *reply)
{
    if (is_interim(reply->status_coming)) {
        reply->state = HTTP_REPLY_STATUS_LINE;
        return;
    }
    reply->status = reply->status_coming;
    if (!has_body(reply->status)) {
        reply->state = HTTP_REPLY_DONE;
        return;
    }
    switch (reply->framing) {
    case HTTP_BODY_UNTOLD:
        reply->state = HTTP_REPLY_BODY_TO_END;
        break;
    case HTTP_BODY_LENGTH:
        reply->left = reply->length;
        reply->state = reply->left > 0 ? HTTP_REPLY_BODY_LENGTH : HTTP_REPLY_DONE;
        break;
    case HTTP_BODY_CHUNKED:
        reply->state = HTTP_REPLY_CHUNK_SIZE;
        break;
    case HTTP_BODY_UNREADABLE:
        broken(reply, "a transfer coding other than chunked");
        break;
    }
}

static void on_content_length(struct http_reply *reply, const char *value, size_t size)
{
    uint64_t length = 0;
    size_t digits = 0;
    while (digits < size && is_digit(value[digits]))
        length = length * 10 + (uint64_t)(value[digits++] - '0');

    bool two = reply->framing == HTTP_BODY_LENGTH && reply->length != length;
    if (digits == 0 || digits < size || digits > LENGTH_DIGITS || two) {
        broken(reply, "a bad Content-Length");
        return;
    }
    /* Transfer-Encoding overrides it, RFC 9112 §6.3. */
    if (reply->framing == HTTP_BODY_UNTOLD)
        reply->framing = HTTP_BODY_LENGTH;
    reply->length = length;
}

static bool is_word(const char *bytes, size_t size, const char *word)
{
    return size == strlen(word) && strncasecmp(bytes, word, size) == 0;
}

static void on_transfer_encoding(struct http_reply *reply, const char *value, size_t size)
{
    bool second = reply->framing == HTTP_BODY_CHUNKED || reply->framing == HTTP_BODY_UNREADABLE;
    reply->framing =
        is_word(value, size, "chunked") && !second ? HTTP_BODY_CHUNKED : HTTP_BODY_UNREADABLE;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* tchar, RFC 9110 §5.6.2. */
static bool is_token_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!is_token_char(bytes[i]))
            return false;
    }
    return size > 0;
}

/* field-line = field-name ":" OWS field-value OWS (§5). */
static void on_named_field(struct http_reply *reply)
{
    const char *colon = memchr(reply->line, ':', reply->line_length);
    size_t name_size = colon != NULL ? (size_t)(colon - reply->line) : 0;
    if (!is_token(reply->line, name_size)) {
        broken(reply, "a bad header line");
        return;
    }
    const char *value = colon + 1;
    const char *end = reply->line + reply->line_length;
    while (value < end && is_space(*value))
        value++;
    while (end > value && is_space(end[-1]))
        end--;
    size_t value_size = (size_t)(end - value);

    /* A value that was cut is longer than any that is right, and is taken for what it is: wrong. */
    if (is_word(reply->line, name_size, "content-length"))
        on_content_length(reply, value, reply->line_cut ? 0 : value_size);
    else if (is_word(reply->line, name_size, "transfer-encoding"))
        on_transfer_encoding(reply, value, reply->line_cut ? 0 : value_size);
}

static void on_field(struct http_reply *reply)
{
    if (reply->line_length == 0) {
        on_head_end(reply);
        return;
    }
    /* A folded field goes on here (§5.2). None that is read here can be long enough to be folded.
     */
    bool folded = is_space(reply->line[0]) && reply->any_field;
    reply->any_field = true;
    if (!folded)
        on_named_field(reply);
}

/* ---- Chunks, RFC 9112 §7.1 ---- */

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* chunk-size [ chunk-ext ]; an extension begins with BWS and ";". */
static void on_chunk_size(struct http_reply *reply)
{
    uint64_t size = 0;
    size_t digits = 0;
    while (digits < reply->line_length && digits <= CHUNK_DIGITS &&
           hex_value(reply->line[digits]) >= 0)
        size = size << 4 | (uint64_t)hex_value(reply->line[digits++]);

    char next = digits < reply->line_length ? reply->line[digits] : ';';
    if (digits == 0 || digits > CHUNK_DIGITS || (next != ';' && !is_space(next))) {
        broken(reply, "a bad chunk size");
        return;
    }
    reply->left = size;
    reply->state = size > 0 ? HTTP_REPLY_CHUNK_DATA : HTTP_REPLY_TRAILER;
}

static void on_chunk_end(struct http_reply *reply)
{
    if (reply->line_length > 0)
        broken(reply, "a chunk longer than its size");
    else
        reply->state = HTTP_REPLY_CHUNK_SIZE;
}

static void on_trailer(struct http_reply *reply)
{
    if (reply->line_length == 0)
        reply->state = HTTP_REPLY_DONE;
}

/* ---- Bytes ---- */

typedef void line_fn(struct http_reply *reply);

/* The states that are read by lines. */
static line_fn *const lines[HTTP_REPLY_BROKEN + 1] = {
    [HTTP_REPLY_STATUS_LINE] = on_status_line, [HTTP_REPLY_FIELD] = on_field,
    [HTTP_REPLY_CHUNK_SIZE] = on_chunk_size,   [HTTP_REPLY_CHUNK_END] = on_chunk_end,
    [HTTP_REPLY_TRAILER] = on_trailer,
};

static void line_end(struct http_reply *reply)
{
    lines[reply->state](reply);
    reply->line_length = 0;
    reply->line_cut = false;
    reply->carriage_return = false;
}

/*
 * What does not speak HTTP is told by its first bytes: a line of it may never end (TLS), and the
 * deadline would say much less.
 */
static bool is_foreign(const struct http_reply *reply, char byte)
{
    size_t at = reply->line_length;
    return reply->state == HTTP_REPLY_STATUS_LINE && at < sizeof(VERSION) - 1 &&
           byte != VERSION[at];
}

static void line_add(struct http_reply *reply, char byte)
{
    if (byte == '\0' || reply->carriage_return)
        broken(reply, "a stray control byte");
    else if (byte == '\r')
        reply->carriage_return = true;
    else if (is_foreign(reply, byte))
        broken(reply, "not an HTTP status line");
    else if (reply->line_length < sizeof(reply->line))
        reply->line[reply->line_length++] = byte;
    else
        reply->line_cut = true;
}

/* Takes at most one line; returns how many bytes that was. */
static size_t take_line(struct http_reply *reply, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            line_end(reply);
            return i + 1;
        }
        line_add(reply, bytes[i]);
        if (reply->state == HTTP_REPLY_BROKEN)
            return size;
    }
    return size;
}

static size_t take_body(struct http_reply *reply, const char *bytes, size_t size)
{
    size_t taken = size;
    if (reply->state != HTTP_REPLY_BODY_TO_END) {
        taken = (size_t)MIN(reply->left, size);
        reply->left -= taken;
    }
    reply->body(reply->owner, bytes, taken);
    if (reply->state == HTTP_REPLY_BODY_TO_END || reply->left > 0)
        return taken;
    reply->state = reply->state == HTTP_REPLY_CHUNK_DATA ? HTTP_REPLY_CHUNK_END : HTTP_REPLY_DONE;
    return taken;
}

static bool is_over(const struct http_reply *reply)
{
    return reply->state == HTTP_REPLY_DONE || reply->state == HTTP_REPLY_BROKEN;
}

void http_reply_init(struct http_reply *reply, size_t limit, http_reply_body_fn *body, void *owner)
{
    *reply = (struct http_reply){.limit = limit, .body = body, .owner = owner};
}

enum http_reply_state http_reply_feed(struct http_reply *reply, const char *bytes, size_t size)
{
    size_t allowed = MIN(size, reply->limit);
    bool too_long = allowed < size;
    reply->limit -= allowed;
    reply->any |= size > 0;

    while (allowed > 0 && !is_over(reply)) {
        size_t taken = lines[reply->state] != NULL ? take_line(reply, bytes, allowed)
                                                   : take_body(reply, bytes, allowed);
        bytes += taken;
        allowed -= taken;
    }
    if (too_long && !is_over(reply))
        broken(reply, "an answer too long for a probe");
    return reply->state;
}

enum http_reply_state http_reply_end(struct http_reply *reply)
{
    if (reply->state == HTTP_REPLY_BODY_TO_END)
        reply->state = HTTP_REPLY_DONE;
    else if (!is_over(reply) && !reply->any)
        broken(reply, "closed without an answer");
    else if (!is_over(reply))
        broken(reply, reply->status == 0 ? "closed inside the head of its answer"
                                         : "closed inside the body of its answer");
    return reply->state;
}

/* ---- Lists of statuses ---- */

bool http_status_listed(const char *list, int status)
{
    bool listed = false;
    for (;;) {
        int first = 0;
        list = read_status(list, &first);
        int last = first;
        if (list != NULL && *list == '-')
            list = read_status(list + 1, &last);
        if (list == NULL || (*list != ',' && *list != '\0'))
            return false;
        listed |= first <= status && status <= last;
        if (*list++ == '\0')
            return listed;
    }
}
