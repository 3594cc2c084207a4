/* The reader of TLS client hellos: what it finds, at which byte it knows, and all that is wrong. */
#include "lb/tcp/client_hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE_MAX 70000
#define RECORD_HEADER 5
#define RECORD_MAX 16384
#define HEADER_SIZE 4

#define SERVER_NAME 0
#define ALPN 16
#define KEY_SHARE 51

/* ---- Building ---- */

struct buffer {
    uint8_t bytes[MESSAGE_MAX * (RECORD_HEADER + 1)];
    size_t size;
};

static struct buffer message; /* the handshake message */
static struct buffer records; /* what comes from the client */
static struct client_hello hello;
static const char *why;

static void put(struct buffer *buffer, const void *bytes, size_t size)
{
    assert_true(size <= sizeof(buffer->bytes) - buffer->size);
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

static void put_u8(size_t value)
{
    const uint8_t byte = (uint8_t)value;
    put(&message, &byte, 1);
}

static void put_u16(size_t value)
{
    put_u8(value >> 8);
    put_u8(value);
}

static void put_many(uint8_t byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_u8(byte);
}

/* A vector's length of two bytes: opened here, filled in by close_u16. */
static size_t open_u16(void)
{
    put_u16(0);
    return message.size;
}

static void close_u16(size_t start)
{
    size_t size = message.size - start;
    message.bytes[start - 2] = (uint8_t)(size >> 8);
    message.bytes[start - 1] = (uint8_t)size;
}

/* All up to the extensions: GREASE, one cipher of TLS 1.3 and one of TLS 1.2. */
static void begin_hello(void)
{
    static const uint8_t header[] = {1, 0, 0, 0, 3, 3};
    static const uint8_t ciphers[] = {0, 6, 0x2a, 0x2a, 0x13, 0x01, 0xc0, 0x2f};
    message.size = 0;
    put(&message, header, sizeof(header));
    put_many(0x55, 32);
    put_u8(32);
    put_many(0x77, 32);
    put(&message, ciphers, sizeof(ciphers));
    put_u16(0x0100); /* one compression method: none */
}

static void set_length(size_t size)
{
    message.bytes[1] = (uint8_t)(size >> 16);
    message.bytes[2] = (uint8_t)(size >> 8);
    message.bytes[3] = (uint8_t)size;
}

static void put_records(size_t piece)
{
    records.size = 0;
    for (size_t at = 0; at < message.size; at += piece) {
        size_t size = MIN(piece, message.size - at);
        const uint8_t header[] = {22, 3, 1, (uint8_t)(size >> 8), (uint8_t)size};
        put(&records, header, sizeof(header));
        put(&records, message.bytes + at, size);
    }
}

static void end_hello(size_t piece)
{
    set_length(message.size - HEADER_SIZE);
    put_records(piece);
}

static size_t open_extension(size_t type)
{
    put_u16(type);
    return open_u16();
}

static void put_extension(size_t type, size_t size)
{
    size_t start = open_extension(type);
    put_many(0x11, size);
    close_u16(start);
}

static void put_name(size_t type, const char *name, size_t size)
{
    put_u8(type);
    put_u16(size);
    put(&message, name, size);
}

static void put_host_bytes(const char *name, size_t size)
{
    size_t extension = open_extension(SERVER_NAME);
    size_t list = open_u16();
    put_name(0, name, size);
    close_u16(list);
    close_u16(extension);
}

static void put_host(const char *name)
{
    put_host_bytes(name, strlen(name));
}

/* `names`: each behind a byte of its length, in a string. */
static void put_protocols(const char *names)
{
    size_t extension = open_extension(ALPN);
    size_t list = open_u16();
    put(&message, names, strlen(names));
    close_u16(list);
    close_u16(extension);
}

/* As browsers do: GREASE all over, a key of a post-quantum exchange. */
static void put_browser(const char *host)
{
    size_t extensions = open_u16();
    put_extension(0x0a0a, 0);
    put_host(host);
    put_extension(KEY_SHARE, 1800);
    put_protocols("\x02\x2a\x2a\x02h2\x08http/1.1");
    put_extension(0xfafa, 1);
    close_u16(extensions);
}

static void build_host(const char *name, size_t size)
{
    begin_hello();
    size_t extensions = open_u16();
    put_host_bytes(name, size);
    close_u16(extensions);
    end_hello(RECORD_MAX);
}

/* ---- Reading ---- */

/* From a copy of its own, so that AddressSanitizer sees where it ends. */
static enum client_hello_result read_bytes(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    memset(&hello, 0xa5, sizeof(hello));
    why = NULL;
    enum client_hello_result result = client_hello_read(copy, size, &hello, &why);
    free(copy);
    assert_int_equal(result == CLIENT_HELLO_WRONG, why != NULL);
    assert_int_equal(result == CLIENT_HELLO_WHOLE, hello.alpn_length != 0xa5a5);
    return result;
}

static enum client_hello_result read_all(void)
{
    return read_bytes(records.bytes, records.size);
}

/* All beginnings are partial; the whole, and the whole with more behind it, are the hello. */
static void assert_whole(const char *sni)
{
    for (size_t size = 0; size < records.size; size++)
        assert_int_equal(read_bytes(records.bytes, size), CLIENT_HELLO_PARTIAL);
    assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
    assert_string_equal(hello.sni, sni);
    const struct client_hello first = hello;
    put(&records, "more", 4);
    assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
    assert_memory_equal(&first, &hello, offsetof(struct client_hello, alpn) + hello.alpn_length);
}

/* A beginning is partial until it is wrong, and wrong for the same reason from there on. */
static void assert_wrong(const char *reason)
{
    assert_int_equal(read_all(), CLIENT_HELLO_WRONG);
    assert_string_equal(why, reason);
    bool is_wrong = false;
    for (size_t size = 0; size < records.size; size++) {
        enum client_hello_result result = read_bytes(records.bytes, size);
        is_wrong = is_wrong || result == CLIENT_HELLO_WRONG;
        assert_int_equal(result, is_wrong ? CLIENT_HELLO_WRONG : CLIENT_HELLO_PARTIAL);
        assert_string_equal(is_wrong ? why : reason, reason);
    }
}

/* ---- Good ones ---- */

static void a_browsers_hello_is_read(void **state)
{
    (void)state;
    begin_hello();
    put_browser("www.example.org");
    end_hello(RECORD_MAX);
    assert_whole("www.example.org");
    assert_int_equal(hello.alpn_length, 12);
    assert_memory_equal(hello.alpn, "\x02h2\x08http/1.1", 12);
}

static void records_may_be_of_any_length(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 2, 3, 5, 64, 1000};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        begin_hello();
        put_browser("a.example");
        end_hello(pieces[i]);
        assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
        assert_string_equal(hello.sni, "a.example");
        assert_true(client_hello_offers(&hello, "http/1.1"));
    }
}

static void records_of_one_byte_are_read_at_any_size(void **state)
{
    (void)state;
    begin_hello();
    size_t extensions = open_u16();
    put_host("www.example.org");
    put_protocols("\x02h2");
    close_u16(extensions);
    end_hello(1);
    assert_whole("www.example.org");
}

static void a_hello_of_tls_1_2_may_have_no_extensions(void **state)
{
    (void)state;
    begin_hello();
    end_hello(RECORD_MAX);
    assert_whole("");
    assert_int_equal(hello.alpn_length, 0);
    assert_false(client_hello_offers(&hello, "h2"));

    begin_hello();
    put_u16(0);
    end_hello(RECORD_MAX);
    assert_whole("");
}

static void a_hello_may_have_no_name(void **state)
{
    (void)state;
    begin_hello();
    size_t extensions = open_u16();
    put_protocols("\x02h2");
    close_u16(extensions);
    end_hello(RECORD_MAX);
    assert_whole("");
    assert_true(client_hello_offers(&hello, "h2"));
}

static void names_are_made_one(void **state)
{
    (void)state;
    build_host("WWW.Example-1_x.ORG.", 20);
    assert_whole("www.example-1_x.org");
}

static void the_longest_name_is_read(void **state)
{
    (void)state;
    char name[CLIENT_HELLO_SNI_MAX + 1] = "";
    memset(name, 'z', CLIENT_HELLO_SNI_MAX);
    build_host(name, CLIENT_HELLO_SNI_MAX);
    assert_whole(name);
}

static void names_of_other_types_are_skipped(void **state)
{
    (void)state;
    begin_hello();
    size_t extensions = open_u16();
    size_t extension = open_extension(SERVER_NAME);
    size_t list = open_u16();
    put_name(7, "\0\xff", 2);
    put_name(0, "a.example", 9);
    put_name(9, "", 0);
    close_u16(list);
    close_u16(extension);
    close_u16(extensions);
    end_hello(RECORD_MAX);
    assert_whole("a.example");
}

static void the_longest_hello_is_read(void **state)
{
    (void)state;
    begin_hello();
    size_t extensions = open_u16();
    put_host("a.example");
    size_t rest = 65535 - (message.size - extensions) - 4;
    put_extension(0x1234, rest);
    close_u16(extensions);
    end_hello(RECORD_MAX);
    assert_int_equal(read_all(), CLIENT_HELLO_WRONG); /* extensions fit that the hello does not */
    assert_string_equal(why, "the hello is longer than 65536 bytes");

    begin_hello();
    extensions = open_u16();
    put_host("a.example");
    put_extension(0x1234, 65536 - (message.size - HEADER_SIZE) - 4);
    close_u16(extensions);
    end_hello(RECORD_MAX);
    assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
    assert_string_equal(hello.sni, "a.example");
    assert_int_equal(read_bytes(records.bytes, records.size - 1), CLIENT_HELLO_PARTIAL);
}

static void versions_are_for_the_server(void **state)
{
    (void)state;
    static const uint8_t minors[] = {0, 1, 3, 4, 0xff};
    for (size_t i = 0; i < ARRAY_LEN(minors); i++) {
        build_host("a.example", 9);
        records.bytes[2] = minors[i];
        records.bytes[RECORD_HEADER + HEADER_SIZE + 1] = minors[i];
        assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
    }
}

/* ---- Protocols ---- */

static void protocols_are_compared_whole(void **state)
{
    (void)state;
    begin_hello();
    put_browser("a.example");
    end_hello(RECORD_MAX);
    assert_int_equal(read_all(), CLIENT_HELLO_WHOLE);
    assert_true(client_hello_offers(&hello, "h2"));
    assert_true(client_hello_offers(&hello, "http/1.1"));
    assert_false(client_hello_offers(&hello, "h"));
    assert_false(client_hello_offers(&hello, "H2"));
    assert_false(client_hello_offers(&hello, "h2c"));
    assert_false(client_hello_offers(&hello, "http/1.0"));
    assert_false(client_hello_offers(&hello, ""));
    assert_false(client_hello_offers(&hello, "\x2a\x2a"));
}

static void a_protocol_that_does_not_fit_is_left_off(void **state)
{
    (void)state;
    char names[1 + 255 + 1 + 250 + 4 + 3 + 1] = "\xff";
    memset(names + 1, 'x', 255);
    names[256] = (char)250;
    memset(names + 257, 'y', 250);
    memcpy(names + 507, "\x03h2z\x02h3", 7);
    begin_hello();
    size_t extensions = open_u16();
    put_protocols(names);
    close_u16(extensions);
    end_hello(RECORD_MAX);
    assert_whole("");
    assert_int_equal(hello.alpn_length, CLIENT_HELLO_ALPN_MAX);
    assert_int_equal(hello.alpn[0], 250);
    assert_true(client_hello_offers(&hello, "h2z"));
    assert_false(client_hello_offers(&hello, "h3"));
}

/* ---- Not TLS ---- */

static void other_protocols_are_known_by_their_first_byte(void **state)
{
    (void)state;
    static const char *const others[] = {"GET / HTTP/1.1\r\n",   "SSH-2.0-x\r\n", "EHLO a\r\n",
                                         "\x80\x2b\x01\x03\x01", "\x17\x03\x03",  "\x15\x03\x01"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        for (size_t size = 1; size <= strlen(others[i]); size++)
            assert_int_equal(read_bytes(others[i], size), CLIENT_HELLO_NOT_TLS);
    }
}

static void one_byte_says_it_or_does_not(void **state)
{
    (void)state;
    assert_int_equal(read_bytes("", 0), CLIENT_HELLO_PARTIAL);
    assert_int_equal(client_hello_read(NULL, 0, &hello, &why), CLIENT_HELLO_PARTIAL);
    for (unsigned i = 0; i < 256; i++) {
        const uint8_t first = (uint8_t)i;
        assert_int_equal(read_bytes(&first, 1),
                         i == 22 ? CLIENT_HELLO_PARTIAL : CLIENT_HELLO_NOT_TLS);
        const uint8_t both[] = {22, first};
        assert_int_equal(read_bytes(both, 2), i == 3 ? CLIENT_HELLO_PARTIAL : CLIENT_HELLO_NOT_TLS);
    }
}

/* ---- Wrong records ---- */

/* The second of two records gets another header. */
static void assert_second_wrong(const uint8_t header[RECORD_HEADER], const char *reason)
{
    begin_hello();
    put_browser("a.example");
    end_hello(60);
    memcpy(records.bytes + RECORD_HEADER + 60, header, RECORD_HEADER);
    assert_wrong(reason);
}

static void later_records_are_checked(void **state)
{
    (void)state;
    static const uint8_t alert[] = {21, 3, 1, 0, 60}, old[] = {22, 2, 1, 0, 60};
    static const uint8_t empty[] = {22, 3, 1, 0, 0}, big[] = {22, 3, 1, 0x40, 1};
    assert_second_wrong(alert, "a record of another type is within the hello");
    assert_second_wrong(old, "a record has another major version");
    assert_second_wrong(empty, "a record is empty");
    assert_second_wrong(big, "a record is longer than 16384 bytes");
}

static void the_first_record_is_checked(void **state)
{
    (void)state;
    assert_int_equal(read_bytes("\x16\x03\x01\x00\x00", 5), CLIENT_HELLO_WRONG);
    assert_int_equal(read_bytes("\x16\x03\x01\x40\x01", 5), CLIENT_HELLO_WRONG);
    assert_int_equal(read_bytes("\x16\x03\x01\x40\x00", 5), CLIENT_HELLO_PARTIAL);
    assert_int_equal(read_bytes("\x16\x03\x01\x00\x01\x02", 6), CLIENT_HELLO_WRONG);
    assert_int_equal(read_bytes("\x16\x03\x01\x00\x04\x01\x01\x00\x00", 9), CLIENT_HELLO_PARTIAL);
    assert_int_equal(read_bytes("\x16\x03\x01\x00\x04\x01\x01\x00\x01", 9), CLIENT_HELLO_WRONG);
}

/* ---- Wrong hellos ---- */

struct bytes {
    const char *bytes;
    size_t size;
};

#define BYTES(text)                                                                                \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

struct wrong_case {
    struct bytes bytes;
    const char *why;
};

#define BEYOND "a length is beyond the end of what holds it"

/* What follows the version and the random. */
static void bodies_are_checked(void **state)
{
    (void)state;
    static const struct wrong_case cases[] = {
        {BYTES(""), BEYOND},
        {BYTES("\x21"), "the session id is longer than 32 bytes"},
        {BYTES("\x02z"), BEYOND},
        {BYTES("\0"), BEYOND},
        {BYTES("\0\0"), BEYOND},
        {BYTES("\0\0\0\1\0"), "there are no cipher suites"},
        {BYTES("\0\0\3abc\1\0"), "the cipher suites have an odd length"},
        {BYTES("\0\0\4ab"), BEYOND},
        {BYTES("\0\0\2ab"), BEYOND},
        {BYTES("\0\0\2ab\0"), "there are no compression methods"},
        {BYTES("\0\0\2ab\2\0"), BEYOND},
        {BYTES("\0\0\2ab\1\0\0"), BEYOND},
        {BYTES("\0\0\2ab\1\0\0\1"), BEYOND},
        {BYTES("\0\0\2ab\1\0\0\0z"), "the extensions do not fill the hello"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        begin_hello();
        message.size = HEADER_SIZE + 2 + 32;
        put(&message, cases[i].bytes.bytes, cases[i].bytes.size);
        end_hello(RECORD_MAX);
        assert_wrong(cases[i].why);
    }
}

/* The extensions, without their length. */
static void extensions_are_checked(void **state)
{
    (void)state;
    static const struct wrong_case cases[] = {
        {BYTES("\0"), BEYOND},
        {BYTES("\0\x2b\0"), BEYOND},
        {BYTES("\0\x2b\0\3ab"), BEYOND},
        {BYTES("\0\0\0\0"), BEYOND},
        {BYTES("\0\0\0\1\0"), BEYOND},
        {BYTES("\0\0\0\2\0\0"), "the server name list is empty"},
        {BYTES("\0\0\0\6\0\5\0\0\1a"), BEYOND},
        {BYTES("\0\0\0\7\0\4\0\0\1ab"), "the server name list does not fill its extension"},
        {BYTES("\0\0\0\6\0\4\0\0\2a"), BEYOND},
        {BYTES("\0\0\0\4\0\2\0\0"), BEYOND},
        {BYTES("\0\0\0\5\0\3\0\0\0"), "the host name is empty"},
        {BYTES("\0\0\0\6\0\4\0\0\1."), "the host name is a dot"},
        {BYTES("\0\0\0\6\0\4\1\0\1a"), "the server name list has no host name"},
        {BYTES("\0\0\0\7\0\5\1\0\3ab"), BEYOND},
        {BYTES("\0\0\0\x0a\0\x08\0\0\1a\0\0\1b"), "there are two host names"},
        {BYTES("\0\0\0\6\0\4\0\0\1a\0\0\0\6\0\4\0\0\1a"), "there are two server name extensions"},
        {BYTES("\0\x10\0\0"), BEYOND},
        {BYTES("\0\x10\0\2\0\0"), "the protocol list is empty"},
        {BYTES("\0\x10\0\3\0\1\0"), "a protocol's name is empty"},
        {BYTES("\0\x10\0\6\0\4\2h2\0"), "a protocol's name is empty"},
        {BYTES("\0\x10\0\5\0\3\3h2"), BEYOND},
        {BYTES("\0\x10\0\5\0\4\2h2"), BEYOND},
        {BYTES("\0\x10\0\6\0\3\2h2z"), "the protocol list does not fill its extension"},
        {BYTES("\0\x10\0\5\0\3\2h2\0\x10\0\5\0\3\2h2"), "there are two ALPN extensions"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        begin_hello();
        size_t extensions = open_u16();
        put(&message, cases[i].bytes.bytes, cases[i].bytes.size);
        close_u16(extensions);
        end_hello(RECORD_MAX);
        assert_wrong(cases[i].why);
    }
}

static bool is_allowed(unsigned byte)
{
    return byte != 0 && byte < 128 &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", (int)byte) !=
               NULL;
}

static void every_byte_of_a_name_is_checked(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        const char name[] = {'a', (char)byte, 'b'};
        build_host(name, sizeof(name));
        assert_int_equal(read_all(), is_allowed(byte) ? CLIENT_HELLO_WHOLE : CLIENT_HELLO_WRONG);
    }
    build_host("\0a", 2);
    assert_wrong("the host name has a byte that no host name has");
}

static void a_name_may_not_be_longer_than_255(void **state)
{
    (void)state;
    char name[CLIENT_HELLO_SNI_MAX + 1];
    memset(name, 'z', sizeof(name));
    build_host(name, sizeof(name));
    assert_wrong("the host name is longer than 255 bytes");
}

static void the_type_and_the_version_are_checked(void **state)
{
    (void)state;
    build_host("a.example", 9);
    records.bytes[RECORD_HEADER] = 2;
    assert_wrong("the handshake does not begin with a client hello");

    build_host("a.example", 9);
    records.bytes[RECORD_HEADER + HEADER_SIZE] = 2;
    assert_wrong("the hello's version is older than SSL 3.0");
}

/* A hello's length that is one off is wrong both ways. */
static void the_hello_ends_where_its_length_says(void **state)
{
    (void)state;
    build_host("a.example", 9);
    set_length(message.size - HEADER_SIZE - 1);
    put_records(RECORD_MAX);
    assert_wrong(BEYOND);
    put_u8(0);
    set_length(message.size - HEADER_SIZE);
    put_records(RECORD_MAX);
    assert_wrong("the extensions do not fill the hello");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_browsers_hello_is_read),
        cmocka_unit_test(records_may_be_of_any_length),
        cmocka_unit_test(records_of_one_byte_are_read_at_any_size),
        cmocka_unit_test(a_hello_of_tls_1_2_may_have_no_extensions),
        cmocka_unit_test(a_hello_may_have_no_name),
        cmocka_unit_test(names_are_made_one),
        cmocka_unit_test(the_longest_name_is_read),
        cmocka_unit_test(names_of_other_types_are_skipped),
        cmocka_unit_test(the_longest_hello_is_read),
        cmocka_unit_test(versions_are_for_the_server),
        cmocka_unit_test(protocols_are_compared_whole),
        cmocka_unit_test(a_protocol_that_does_not_fit_is_left_off),
        cmocka_unit_test(other_protocols_are_known_by_their_first_byte),
        cmocka_unit_test(one_byte_says_it_or_does_not),
        cmocka_unit_test(later_records_are_checked),
        cmocka_unit_test(the_first_record_is_checked),
        cmocka_unit_test(bodies_are_checked),
        cmocka_unit_test(extensions_are_checked),
        cmocka_unit_test(every_byte_of_a_name_is_checked),
        cmocka_unit_test(a_name_may_not_be_longer_than_255),
        cmocka_unit_test(the_type_and_the_version_are_checked),
        cmocka_unit_test(the_hello_ends_where_its_length_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
