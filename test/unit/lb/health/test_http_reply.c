/*
 * The reader on tables of responses: each is read whole, byte by byte, and cut in two at every
 * place, always with the same result.
 */
#include "lb/health/http_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT 4096

/* ---- Reading ---- */

struct result {
    enum http_reply_state state; /* after the end of input */
    int status;
    const char *why;
    char body[LIMIT];
    size_t body_size;
};

static void on_body(void *owner, const char *bytes, size_t size)
{
    struct result *result = owner;
    assert_true(size <= sizeof(result->body) - result->body_size);
    memcpy(result->body + result->body_size, bytes, size);
    result->body_size += size;
}

/* A copy of its own, so that AddressSanitizer sees where the piece ends. */
static void feed_piece(struct http_reply *reply, const char *bytes, size_t size)
{
    char *piece = malloc(size);
    assert_non_null(piece);
    memcpy(piece, bytes, size);
    http_reply_feed(reply, piece, size);
    free(piece);
}

/* A first piece of `first` bytes, and then pieces of `rest`. */
static void read_pieces(const char *bytes, size_t size, size_t first, size_t rest,
                        struct result *out)
{
    struct http_reply reply;
    *out = (struct result){.status = -1};
    http_reply_init(&reply, LIMIT, on_body, out);
    size_t step = first;
    for (size_t at = 0; at < size; at += step, step = MIN(rest, size - at))
        feed_piece(&reply, bytes + at, step);
    out->state = http_reply_end(&reply);
    out->status = reply.status;
    out->why = reply.why;
}

static void assert_same(const struct result *a, const struct result *b)
{
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->body_size, b->body_size);
    assert_memory_equal(a->body, b->body, a->body_size);
    if (a->state == HTTP_REPLY_BROKEN)
        assert_string_equal(a->why, b->why);
}

static void read_every_way(const char *bytes, size_t size, struct result *out)
{
    struct result other;
    read_pieces(bytes, size, size, size, out);
    read_pieces(bytes, size, MIN(size, 1), 1, &other);
    assert_same(out, &other);
    for (size_t cut = 1; cut < size; cut++) {
        read_pieces(bytes, size, cut, size, &other);
        assert_same(out, &other);
    }
}

/* ---- The table ---- */

struct sample {
    const char *bytes;
    int status;
    const char *body; /* NULL: broken */
    const char *why;
};

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

static const struct sample whole[] = {
    {OK "\r\n", 200, "", NULL},
    {OK "\r\nuntil the end", 200, "until the end", NULL},
    {"HTTP/1.0 404 Not Found\r\n\r\nno", 404, "no", NULL},
    {"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", 503, "", NULL},
    {"HTTP/1.1 200\r\n\r\n", 200, "", NULL},
    {"HTTP/1.1 200 OK\n\nbare LF", 200, "bare LF", NULL},
    {OK "Content-Length: 5\r\n\r\nhello", 200, "hello", NULL},
    {OK "content-length:5\r\n\r\nhello and more", 200, "hello", NULL},
    {OK "Content-Length: \t 5 \t\r\n\r\nhello", 200, "hello", NULL},
    {OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", NULL},
    {OK "Content-Length: 000000000000000005\r\n\r\nhello", 200, "hello", NULL},
    {OK "X-Folded: one\r\n  two\r\nContent-Length: 2\r\n\r\nok", 200, "ok", NULL},
    {OK "X-Empty:\r\nContent-Length: 2\r\n\r\nok", 200, "ok", NULL},
    {OK "X-Content-Length: 7\r\n\r\nok", 200, "ok", NULL},
    /* No body, whatever the header says: RFC 9112 §6.3. */
    {"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\nignored", 204, "", NULL},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", NULL},
    {"HTTP/1.1 101 Switching\r\n\r\n\1\2\3", 101, "", NULL},
    /* Interim responses, RFC 9110 §15.2. */
    {"HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", 200, "ok", NULL},
    {"HTTP/1.1 103 Hints\r\nContent-Length: 9\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n" OK "\r\nok", 200,
     "ok", NULL},
    /* Chunks, RFC 9112 §7.1. */
    {CHUNKED "5\r\nhello\r\n0\r\n\r\n", 200, "hello", NULL},
    {CHUNKED "3\r\nhel\r\n2;x=\"y\"\r\nlo\r\n000\r\nTrailer: x\r\n\r\nmore", 200, "hello", NULL},
    {CHUNKED "A \r\n0123456789\r\n0\r\n\r\n", 200, "0123456789", NULL},
    {CHUNKED "a\n0123456789\n0\n\n", 200, "0123456789", NULL},
    {CHUNKED "000000000000002\r\nok\r\n0\r\n\r\n", 200, "ok", NULL},
    {CHUNKED "0\r\n\r\n", 200, "", NULL},
    /* Transfer-Encoding overrides Content-Length in either order, RFC 9112 §6.3. */
    {OK "Content-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok",
     NULL},
    {OK "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok",
     NULL},
};

#define FOREIGN "not an HTTP status line"
#define IN_HEAD "closed inside the head of its answer"
#define IN_BODY "closed inside the body of its answer"

static const struct sample broken[] = {
    {"", 0, NULL, "closed without an answer"},
    {"HTTP", 0, NULL, IN_HEAD},
    {"HTTP/1.1 20", 0, NULL, IN_HEAD},
    {"HTTP/1.1 200 OK", 0, NULL, IN_HEAD},
    {OK "Content-Length: 2\r\n", 0, NULL, IN_HEAD},
    {"HTTP/1.1 100 Continue\r\n\r\n", 0, NULL, IN_HEAD},
    {"SSH-2.0-OpenSSH_9.2\r\n", 0, NULL, FOREIGN},
    {"\x15\x03\x01", 0, NULL, FOREIGN},
    {"\r\n" OK "\r\n", 0, NULL, FOREIGN},
    {"http/1.1 200 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/2.0 200 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.x 200 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1  200 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1 20 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1 2000 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1 099 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1 2x0 OK\r\n\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1\r\n", 0, NULL, FOREIGN},
    {"HTTP/1.1 200 OK\rX\r\n\r\n", 0, NULL, "a stray control byte"},
    {OK "A: b\r\r\n\r\n", 0, NULL, "a stray control byte"},
    {OK "no colon\r\n\r\n", 0, NULL, "a bad header line"},
    {OK ": no name\r\n\r\n", 0, NULL, "a bad header line"},
    {OK "Space : x\r\n\r\n", 0, NULL, "a bad header line"},
    {OK " folded: first\r\n\r\n", 0, NULL, "a bad header line"},
    {OK "Content-Length:\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: -1\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: +1\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: 1 1\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: 5, 5\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: 18446744073709551617\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 0, NULL, "a bad Content-Length"},
    {OK "Content-Length: 5\r\n\r\nhell", 200, NULL, IN_BODY},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n", 200, NULL,
     "a transfer coding other than chunked"},
    {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 200, NULL,
     "a transfer coding other than chunked"},
    {CHUNKED "5\r\nhel", 200, NULL, IN_BODY},
    {CHUNKED "5\r\nhello\r\n", 200, NULL, IN_BODY},
    {CHUNKED "0\r\n", 200, NULL, IN_BODY},
    {CHUNKED "5\r\nhello!\r\n0\r\n\r\n", 200, NULL, "a chunk longer than its size"},
    {CHUNKED "\r\n", 200, NULL, "a bad chunk size"},
    {CHUNKED "x\r\n", 200, NULL, "a bad chunk size"},
    {CHUNKED "-5\r\n", 200, NULL, "a bad chunk size"},
    {CHUNKED "5x\r\nhello", 200, NULL, "a bad chunk size"},
    {CHUNKED "0x5\r\nhello", 200, NULL, "a bad chunk size"},
    {CHUNKED "1000000000000000\r\n", 200, NULL, "a bad chunk size"},
};

static void reads_whole_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        struct result result;
        read_every_way(whole[i].bytes, strlen(whole[i].bytes), &result);
        if (result.state != HTTP_REPLY_DONE)
            fail_msg("\"%s\": %s", whole[i].bytes, result.why);
        assert_int_equal(result.status, whole[i].status);
        assert_int_equal(result.body_size, strlen(whole[i].body));
        assert_memory_equal(result.body, whole[i].body, result.body_size);
    }
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        struct result result;
        read_every_way(broken[i].bytes, strlen(broken[i].bytes), &result);
        if (result.state != HTTP_REPLY_BROKEN)
            fail_msg("\"%s\" is not broken", broken[i].bytes);
        assert_int_equal(result.status, broken[i].status);
        assert_string_equal(result.why, broken[i].why);
    }
}

/* ---- Lengths ---- */

/* `before`, then `count` times 'x', then `after`. */
static size_t make_long(char *out, const char *before, size_t count, const char *after)
{
    size_t size = strlen(before);
    memcpy(out, before, size);
    memset(out + size, 'x', count);
    size += count;
    memcpy(out + size, after, strlen(after));
    return size + strlen(after);
}

static void lines_may_be_longer_than_what_is_kept(void **state)
{
    (void)state;
    static const char *const before[] = {"HTTP/1.1 200 ", OK "Set-Cookie: ", OK "Via: a\r\n "};
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        char bytes[LIMIT];
        struct result result;
        size_t size = make_long(bytes, before[i], 1000, "\r\nContent-Length: 2\r\n\r\nok");
        read_every_way(bytes, size, &result);
        assert_int_equal(result.state, HTTP_REPLY_DONE);
        assert_int_equal(result.body_size, 2);
    }
}

static void fields_that_are_read_may_not(void **state)
{
    (void)state;
    char bytes[LIMIT];
    struct result result;
    size_t size = make_long(bytes, OK "Content-Length: 5", 1000, "\r\n\r\nhello");
    read_every_way(bytes, size, &result);
    assert_int_equal(result.state, HTTP_REPLY_BROKEN);
    size = make_long(bytes, OK, 1000, ": too long a name\r\n\r\n");
    read_every_way(bytes, size, &result);
    assert_int_equal(result.state, HTTP_REPLY_BROKEN);
    assert_string_equal(result.why, "a bad header line");
}

static void extensions_of_chunks_may_be_long(void **state)
{
    (void)state;
    char bytes[LIMIT];
    struct result result;
    size_t size = make_long(bytes, CHUNKED "2;", 1000, "\r\nok\r\n0\r\n\r\n");
    read_every_way(bytes, size, &result);
    assert_int_equal(result.state, HTTP_REPLY_DONE);
    assert_int_equal(result.body_size, 2);
}

static void no_more_than_the_limit_is_read(void **state)
{
    (void)state;
    static const char *const before[] = {OK "X: ", OK "\r\n", CHUNKED "2000\r\n", "HTTP/1.1 200 "};
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        char bytes[2 * LIMIT];
        struct result result;
        size_t size = make_long(bytes, before[i], LIMIT, "");
        read_pieces(bytes, size, size, size, &result);
        assert_int_equal(result.state, HTTP_REPLY_BROKEN);
        assert_string_equal(result.why, "an answer too long for a probe");
        assert_true(result.body_size <= LIMIT);
        read_pieces(bytes, size, 1, 1, &result);
        assert_string_equal(result.why, "an answer too long for a probe");
    }
}

static void the_limit_itself_may_be_used_up(void **state)
{
    (void)state;
    char bytes[LIMIT];
    struct result result;
    size_t room = LIMIT - strlen(OK "\r\n");
    size_t size = make_long(bytes, OK "\r\n", room, "");
    assert_int_equal(size, LIMIT);
    read_pieces(bytes, size, size, size, &result);
    assert_int_equal(result.state, HTTP_REPLY_DONE);
    assert_int_equal(result.body_size, room);
}

static void a_nul_is_stray(void **state)
{
    (void)state;
    static const char bytes[] = OK "X: a\0b\r\n\r\n";
    struct result result;
    read_every_way(bytes, sizeof(bytes) - 1, &result);
    assert_int_equal(result.state, HTTP_REPLY_BROKEN);
    assert_string_equal(result.why, "a stray control byte");
}

/* ---- Lists of statuses ---- */

static void lists_hold_codes_and_ranges(void **state)
{
    (void)state;
    assert_true(http_status_listed("200-399,418", 200));
    assert_true(http_status_listed("200-399,418", 399));
    assert_true(http_status_listed("200-399,418", 418));
    assert_false(http_status_listed("200-399,418", 400));
    assert_false(http_status_listed("200-399,418", 199));
    assert_true(http_status_listed("204", 204));
    assert_false(http_status_listed("204", 0));
    assert_true(http_status_listed("418,200-204", 201));
}

static void lists_of_another_form_hold_nothing(void **state)
{
    (void)state;
    static const char *const lists[] = {"",     ",",    "200,",       ",200",     "20",
                                        "2000", "200-", "200-2xx",    "200 -204", "200;204",
                                        "-200", "ok",   "200-204-208"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        assert_false(http_status_listed(lists[i], 200));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_whole_responses),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(lines_may_be_longer_than_what_is_kept),
        cmocka_unit_test(fields_that_are_read_may_not),
        cmocka_unit_test(extensions_of_chunks_may_be_long),
        cmocka_unit_test(no_more_than_the_limit_is_read),
        cmocka_unit_test(the_limit_itself_may_be_used_up),
        cmocka_unit_test(a_nul_is_stray),
        cmocka_unit_test(lists_hold_codes_and_ranges),
        cmocka_unit_test(lists_of_another_form_hold_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
