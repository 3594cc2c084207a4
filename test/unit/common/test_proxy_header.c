/* Every header is read at every length; what is written is read as it was meant. */
#include "common/crc32c.h"
#include "common/proxy_header.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/addresses.h"

/* A string literal with NULs inside, without the one at its end. */
#define BYTES(literal) .bytes = (literal), .size = sizeof(literal) - 1

#define SIGNATURE PROXY_V2_SIGNATURE
#define BLOCK4 "\xc0\0\x02\x01\xc6\x33\x64\x02\x9c\x40\x01\xbb"
#define ADDRESS6(last) "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0" last
#define BLOCK6 ADDRESS6("\x01") ADDRESS6("\x02") "\x9c\x40\x01\xbb"
#define ZEROS27 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define BLOCK_UNIX ZEROS27 ZEROS27 ZEROS27 ZEROS27 ZEROS27 ZEROS27 ZEROS27 ZEROS27
#define X15 "xxxxxxxxxxxxxxx"
#define X90 X15 X15 X15 X15 X15 X15

static uint8_t *exact_copy(const void *bytes, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    return copy;
}

/* From memory that ends where the bytes do. */
static enum proxy_result read_exact(const void *bytes, size_t size, struct proxy_header *out,
                                    const char **why)
{
    uint8_t *copy = exact_copy(bytes, size);
    enum proxy_result result = proxy_header_read(copy, size, out, why);
    free(copy);
    return result;
}

/* ---- What is valid ---- */

struct valid {
    const char *bytes;
    size_t size;
    unsigned version;
    int type;
    size_t tlvs;
    const char *source, *destination; /* NULL: local */
};

static const struct valid valids[] = {
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n"), 1, SOCK_STREAM, 0, "192.0.2.1:40000",
     "198.51.100.2:443"},
    {BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), 1, SOCK_STREAM, 0,
     "255.255.255.255:65535", "255.255.255.255:65535"},
    {BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), 1, SOCK_STREAM, 0, "0.0.0.0:0", "0.0.0.0:0"},
    {BYTES("PROXY TCP6 2001:db8::1 2001:DB8:0::2 40000 443\r\n"), 1, SOCK_STREAM, 0,
     "[2001:db8::1]:40000", "[2001:db8::2]:443"},
    {BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     1, SOCK_STREAM, 0, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {BYTES("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), 1, SOCK_STREAM, 0, "[::ffff:192.0.2.1]:1",
     "[::1]:2"},
    {BYTES("PROXY UNKNOWN\r\n"), .version = 1},
    {BYTES("PROXY UNKNOWN \r\n"), .version = 1},
    {BYTES("PROXY UNKNOWN  any thing\t\xff 99999\r\n"), .version = 1},
    /* 14 + 91 + 2 bytes: the longest line there is. */
    {BYTES("PROXY UNKNOWN " X90 "x\r\n"), .version = 1},
    {BYTES(SIGNATURE "\x21\x11\0\x0c" BLOCK4), 2, SOCK_STREAM, 0, "192.0.2.1:40000",
     "198.51.100.2:443"},
    {BYTES(SIGNATURE "\x21\x12\0\x0c" BLOCK4), 2, SOCK_DGRAM, 0, "192.0.2.1:40000",
     "198.51.100.2:443"},
    {BYTES(SIGNATURE "\x21\x21\0\x24" BLOCK6), 2, SOCK_STREAM, 0, "[2001:db8::1]:40000",
     "[2001:db8::2]:443"},
    {BYTES(SIGNATURE "\x21\x22\0\x27" BLOCK6 "\x04\0\0"), 2, SOCK_DGRAM, 3, "[2001:db8::1]:40000",
     "[2001:db8::2]:443"},
    {BYTES(SIGNATURE "\x21\x31\0\xd8" BLOCK_UNIX), .version = 2, .type = SOCK_STREAM},
    {BYTES(SIGNATURE "\x21\x32\0\xdc" BLOCK_UNIX "\xea\0\x01v"), .version = 2, .type = SOCK_DGRAM,
     .tlvs = 4},
    {BYTES(SIGNATURE "\x21\0\0\0"), .version = 2},
    {BYTES(SIGNATURE "\x21\0\0\x04\xea\0\x01v"), .version = 2, .tlvs = 4},
    {BYTES(SIGNATURE "\x20\0\0\0"), .version = 2},
    {BYTES(SIGNATURE "\x20\x11\0\x0f" BLOCK4 "\x02\0\0"), .version = 2, .tlvs = 3},
    /* Lengths of nothing, unknown types twice, namespaces. */
    {BYTES(SIGNATURE "\x21\x11\0\x1f" BLOCK4 "\x01\0\0\x02\0\0\x30\0\x01n\xf8\0\0\xf8\0\0\x04\0\0"),
     2, SOCK_STREAM, 19, "192.0.2.1:40000", "198.51.100.2:443"},
    /* TLS: nothing but the fixed part, then one with a version. */
    {BYTES(SIGNATURE "\x21\x11\0\x14" BLOCK4 "\x20\0\x05\x01\0\0\0\0"), 2, SOCK_STREAM, 8,
     "192.0.2.1:40000", "198.51.100.2:443"},
    {BYTES(SIGNATURE "\x21\x11\0\x1e" BLOCK4 "\x20\0\x0f\x01\0\0\0\0\x21\0\x07TLSv1.3"), 2,
     SOCK_STREAM, 18, "192.0.2.1:40000", "198.51.100.2:443"},
    /* Checksums as another implementation counts them. */
    {BYTES(SIGNATURE "\x21\x11\0\x2a" BLOCK4
                     "\x02\0\x0fwww.example.org\x03\0\x04\xe5\x80\x85\x22\x01\0\x02h2"),
     2, SOCK_STREAM, 30, "192.0.2.1:40000", "198.51.100.2:443"},
    {BYTES(SIGNATURE "\x20\0\0\x07\x03\0\x04\xa9\xb8\x7e\x8f"), .version = 2, .tlvs = 7},
};

static void check_address(const union inet_address *address, const char *expected)
{
    char text[ADDRESS_TEXT_MAX];
    assert_string_equal(inet_address_format(address, text), expected);
}

static void check_valid(const struct valid *valid, const struct proxy_header *header)
{
    assert_int_equal(header->version, valid->version);
    assert_int_equal(header->length, valid->size);
    assert_int_equal(header->type, valid->type);
    assert_int_equal(header->tlvs.length, valid->tlvs);
    assert_int_equal(header->local, valid->source == NULL);
    if (valid->source == NULL)
        return;
    check_address(&header->source, valid->source);
    check_address(&header->destination, valid->destination);
}

static void reads_what_is_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(valids); i++) {
        struct proxy_header header;
        const char *why = "";
        if (read_exact(valids[i].bytes, valids[i].size, &header, &why) != PROXY_WHOLE)
            fail_msg("header %zu: %s", i, why);
        check_valid(&valids[i], &header);
    }
}

static void a_beginning_is_partial(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(valids); i++) {
        for (size_t size = 0; size < valids[i].size; size++) {
            struct proxy_header header = {.version = 77};
            const char *why = "untouched";
            if (read_exact(valids[i].bytes, size, &header, &why) != PROXY_PARTIAL)
                fail_msg("header %zu, %zu bytes: %s", i, size, why);
            assert_int_equal(header.version, 77);
            assert_string_equal(why, "untouched");
            bool told = valids[i].bytes[0] == '\r' && size >= PROXY_V2_FIXED;
            assert_int_equal(header.length, told ? valids[i].size : 0);
        }
    }
}

static void what_follows_is_left(void **state)
{
    (void)state;
    static const char *const tails[] = {"\r", "\n", "\r\n", "x", "PROXY TCP4 ", "\x02\0\x01"};
    for (size_t i = 0; i < ARRAY_LEN(valids); i++) {
        for (size_t j = 0; j < ARRAY_LEN(tails); j++) {
            uint8_t bytes[512];
            size_t tail = strlen(tails[j]);
            memcpy(bytes, valids[i].bytes, valids[i].size);
            memcpy(bytes + valids[i].size, tails[j], tail);
            struct proxy_header header;
            const char *why;
            assert_int_equal(read_exact(bytes, valids[i].size + tail, &header, &why), PROXY_WHOLE);
            check_valid(&valids[i], &header);
        }
    }
}

/* ---- What is not ---- */

struct invalid {
    const char *bytes;
    size_t size;
    size_t seen_at; /* so many bytes are PARTIAL yet, and one more is WRONG; 0: all are needed */
    const char *why;
};

#define FAMILY "an address is not one of the protocol's family"
#define PORT "a port is not a number from 0 to 65535"
#define PROTOCOL "the protocol is none of TCP4, TCP6, UNKNOWN"

static const struct invalid invalids[] = {
    {BYTES("PROXY \r\n"), 6, PROTOCOL},
    {BYTES("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), 6, PROTOCOL},
    {BYTES("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n"), 6, PROTOCOL},
    {BYTES("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), 9, PROTOCOL},
    {BYTES("PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n"), 10, PROTOCOL},
    {BYTES("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), 7, PROTOCOL},
    {BYTES("PROXY UNKNOWNX\r\n"), 13, PROTOCOL},
    {BYTES("PROXY UNKNOWN a\nb\r\n"), 15, "a LF without CR is in the line"},
    {BYTES("PROXY UNKNOWN\n"), 13, "a LF without CR is in the line"},
    {BYTES("PROXY UNKNOWN a\rb\r\n"), 16, "a CR without LF is in the line"},
    {BYTES("PROXY UNKNOWN\r\r\n"), 14, "a CR without LF is in the line"},
    {BYTES("PROXY UNKNOWN a\0b\r\n"), 15, "a NUL is in the line"},
    {BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), 18, "a NUL is in the line"},
    {BYTES("PROXY UNKNOWN " X90 "xx\r\n"), 105, "the line is longer than 107 bytes"},
    {BYTES("PROXY TCP4 \r\n"), 11, "the line ends before its last field"},
    {BYTES("PROXY TCP4\r\n"), 10, "the line ends before its last field"},
    {BYTES("PROXY TCP4 1.2.3.4\r\n"), 18, "the line ends before its last field"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4\r\n"), 26, "the line ends before its last field"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), 28, "the line ends before its last field"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n"), 29, "a port is missing"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n"), 27, "a port is missing"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), 30, "the line goes on behind its last field"},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), 30, "the line goes on behind its last field"},
    {BYTES("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), 11, FAMILY},
    {BYTES("PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n"), 19, FAMILY},
    {BYTES("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), 16, FAMILY},
    {BYTES("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"), 20, FAMILY},
    {BYTES("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n"), 19, FAMILY},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.00 1 2\r\n"), 27, FAMILY},
    {BYTES("PROXY TCP4 0x1.2.3.4 1.2.3.4 1 2\r\n"), 12, FAMILY},
    {BYTES("PROXY TCP4 111.222.333.444555 1.2.3.4 1 2\r\n"), 26, FAMILY},
    {BYTES("PROXY TCP4 ::1 ::1 1 2\r\n"), 11, FAMILY},
    {BYTES("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), 18, FAMILY},
    {BYTES("PROXY TCP6 fe80::1%lo ::1 1 2\r\n"), 18, FAMILY},
    {BYTES("PROXY TCP6 1::2::3 ::1 1 2\r\n"), 18, FAMILY},
    {BYTES("PROXY TCP6 ::ffff:1.2.3.04 ::1 1 2\r\n"), 26, FAMILY},
    {BYTES("PROXY TCP6 [::1] ::1 1 2\r\n"), 11, FAMILY},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"), 31, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"), 33, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 100000 2\r\n"), 32, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), 28, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n"), 30, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n"), 27, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), 27, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2x\r\n"), 30, PORT},
    {BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r3"), 31, "a CR without LF is in the line"},

    {BYTES(SIGNATURE "\x11\x11\0\x0c" BLOCK4), 12, "the version is not 2"},
    {BYTES(SIGNATURE "\x31\x11\0\x0c" BLOCK4), 12, "the version is not 2"},
    {BYTES(SIGNATURE "\x22\x11\0\x0c" BLOCK4), 12, "the command is neither LOCAL nor PROXY"},
    {BYTES(SIGNATURE "\x2f\x11\0\x0c" BLOCK4), 12, "the command is neither LOCAL nor PROXY"},
#define UNKNOWN_FAMILY "the address family or transport is unknown"
    {BYTES(SIGNATURE "\x21\x10\0\x0c" BLOCK4), 13, UNKNOWN_FAMILY},
    {BYTES(SIGNATURE "\x21\x13\0\x0c" BLOCK4), 13, UNKNOWN_FAMILY},
    {BYTES(SIGNATURE "\x21\x01\0\x0c" BLOCK4), 13, UNKNOWN_FAMILY},
    {BYTES(SIGNATURE "\x21\x41\0\x0c" BLOCK4), 13, UNKNOWN_FAMILY},
    {BYTES(SIGNATURE "\x20\x51\0\x0c" BLOCK4), 13, UNKNOWN_FAMILY},
    {BYTES(SIGNATURE "\x21\x11\0\x0b" BLOCK4), 15, "the length does not cover the addresses"},
    {BYTES(SIGNATURE "\x21\x22\0\x23" BLOCK6), 15, "the length does not cover the addresses"},
    {BYTES(SIGNATURE "\x21\x31\0\xd7" BLOCK_UNIX), 15, "the length does not cover the addresses"},
    {BYTES(SIGNATURE "\x20\x11\0\0"), 15, "the length does not cover the addresses"},
#define OVERRUN "a TLV overruns the header"
    {BYTES(SIGNATURE "\x21\x11\0\x0d" BLOCK4 "\x04"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x21\x11\0\x0e" BLOCK4 "\x04\0"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x21\x11\0\x0f" BLOCK4 "\x04\0\x01"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x21\x11\0\x11" BLOCK4 "\x04\xff\xff\0\0"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x21\x11\0\x13" BLOCK4 "\x04\0\0\x02\0\x02v"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x20\0\0\x01\x04"), 0, OVERRUN},
    {BYTES(SIGNATURE "\x20\x11\0\x0d" BLOCK4 "\x04"), 0, OVERRUN},
#define TWICE "a TLV that may be there once is there twice"
    {BYTES(SIGNATURE "\x21\0\0\x08\x01\0\x01v\x01\0\x01v"), 0, TWICE},
    {BYTES(SIGNATURE "\x21\0\0\x06\x02\0\0\x02\0\0"), 0, TWICE},
    {BYTES(SIGNATURE "\x21\0\0\x09\x05\0\0\x04\0\0\x05\0\0"), 0, TWICE},
    {BYTES(SIGNATURE "\x20\0\0\x0e\x03\0\x04\0\0\0\0\x03\0\x04\0\0\0\0"), 0, TWICE},
    {BYTES(SIGNATURE "\x20\0\0\x07\x03\0\x04\0\0\0\0"), 0, "the checksum is wrong"},
    {BYTES(SIGNATURE "\x20\0\0\x06\x03\0\x03\0\0\0"), 0, "the checksum is not of 4 bytes"},
    {BYTES(SIGNATURE "\x20\0\0\x08\x03\0\x05\0\0\0\0\0"), 0, "the checksum is not of 4 bytes"},
    {BYTES(SIGNATURE "\x20\0\0\x03\x03\0\0"), 0, "the checksum is not of 4 bytes"},
    {BYTES(SIGNATURE "\x21\0\0\x07\x20\0\x04\x01\0\0\0"), 0, "the TLS information is too short"},
    {BYTES(SIGNATURE "\x21\0\0\x09\x20\0\x06\x01\0\0\0\0\x21"), 0,
     "a TLV overruns the TLS information"},
    {BYTES(SIGNATURE "\x21\0\0\x0e\x20\0\x08\x01\0\0\0\0\x21\0\x03\x04\0\0"), 0,
     "a TLV overruns the TLS information"},
};

static void check_refused(const struct invalid *invalid, size_t size, size_t seen_at)
{
    struct proxy_header header = {.version = 77};
    const char *why = NULL;
    enum proxy_result result = read_exact(invalid->bytes, size, &header, &why);
    enum proxy_result expected = size <= seen_at ? PROXY_PARTIAL : PROXY_WRONG;
    if (result != expected)
        fail_msg("\"%s\", %zu bytes: %d %s", invalid->bytes, size, (int)result, invalid->why);
    assert_int_equal(header.version, 77);
    if (result == PROXY_WRONG)
        assert_string_equal(why, invalid->why);
}

static void refuses_what_is_wrong_and_when_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(invalids); i++) {
        size_t seen_at = invalids[i].seen_at != 0 ? invalids[i].seen_at : invalids[i].size - 1;
        for (size_t size = 0; size <= invalids[i].size; size++)
            check_refused(&invalids[i], size, seen_at);
    }
}

static void either_signature_begins_a_header(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        bool begins;
    } rows[] = {
        {PROXY_V1_SIGNATURE, PROXY_V1_SIGNATURE_SIZE, true},
        {PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE, true},
        {PROXY_V1_SIGNATURE, PROXY_V1_SIGNATURE_SIZE - 1, false},
        {PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE - 1, false},
        {"PROXY of another kind", 21, true},
        {"PROXIES", 7, false},
        {"", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(proxy_header_begins((const uint8_t *)rows[i].bytes, rows[i].length),
                         rows[i].begins);
}

static void other_protocols_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        size_t same; /* as the beginning of a header */
    } others[] = {
        {BYTES("GET / HTTP/1.1\r\n"), 0},
        {BYTES("\x16\x03\x01"), 0},
        {BYTES("PROXY\r\n"), 5},
        {BYTES("PROXYTCP4 "), 5},
        {BYTES("POST / HTTP/1.1"), 1},
        {BYTES("PRI * HTTP/2.0\r\n"), 2},
        {BYTES("proxy TCP4 "), 0},
        {BYTES("\r\n\r\n\r\nQUIT\n!"), 4},
        {BYTES("\r\n\r\n\0\r\nQUIT\r\x21"), 11},
        {BYTES("\0"), 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        for (size_t size = 0; size <= others[i].size; size++) {
            struct proxy_header header;
            const char *why = NULL;
            enum proxy_result result = read_exact(others[i].bytes, size, &header, &why);
            assert_int_equal(result, size <= others[i].same ? PROXY_PARTIAL : PROXY_NONE);
            assert_null(why);
        }
    }
}

/* A change of any byte of a header with a checksum is seen. */
static void the_checksum_covers_all(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct proxy_write from = {.version = 2,
                               .local = true,
                               .authority = {(const uint8_t *)"www.example.org", 15},
                               .crc32c = true};
    size_t size = proxy_header_write(&from, bytes, sizeof(bytes));
    assert_true(size > 0);
    for (size_t i = 0; i < size; i++) {
        struct proxy_header header;
        const char *why;
        bytes[i] ^= 1;
        assert_int_not_equal(read_exact(bytes, size, &header, &why), PROXY_WHOLE);
        bytes[i] ^= 1;
    }
}

static void crc32c_is_the_known_one(void **state)
{
    (void)state;
    const uint8_t *digits = (const uint8_t *)"123456789";
    static const uint8_t zeros[32] = {0};
    assert_int_equal(crc32c(0, digits, 9), 0xE3069283);
    assert_int_equal(crc32c(crc32c(0, digits, 4), digits + 4, 5), 0xE3069283);
    assert_int_equal(crc32c(0, zeros, sizeof(zeros)), 0x8A9136AA); /* RFC 3720 appendix B.4 */
    assert_int_equal(crc32c(0, zeros, 0), 0);
}

/* ---- Writing ---- */

static struct proxy_write writing(unsigned version, const char *source, const char *destination)
{
    return (struct proxy_write){.version = version,
                                .source = endpoint_of(source),
                                .destination = endpoint_of(destination),
                                .type = SOCK_STREAM};
}

static void check_line(const struct proxy_write *from, const char *expected)
{
    uint8_t bytes[PROXY_V1_MAX];
    size_t size = proxy_header_write(from, bytes, sizeof(bytes));
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(bytes, expected, size);
}

static void writes_lines(void **state)
{
    (void)state;
    struct proxy_write from = writing(1, "192.0.2.1:40000", "198.51.100.2:443");
    from.authority = (struct proxy_tlv_view){(const uint8_t *)"a", 1};
    check_line(&from, "PROXY TCP4 192.0.2.1 198.51.100.2 40000 443\r\n");
    from.type = SOCK_DGRAM;
    check_line(&from, "PROXY UNKNOWN\r\n");
    from = writing(1, "[2001:db8::1]:1", "198.51.100.2:0");
    check_line(&from, "PROXY TCP6 2001:db8::1 ::ffff:198.51.100.2 1 0\r\n");
    from.local = true;
    check_line(&from, "PROXY UNKNOWN\r\n");
    from.local = false;
    from.source.any.sa_family = AF_UNSPEC;
    check_line(&from, "PROXY UNKNOWN\r\n");
}

static void writes_the_bytes_of_version_2(void **state)
{
    (void)state;
    static const char four[] = SIGNATURE "\x21\x11\0\x0c" BLOCK4;
    static const char six[] = SIGNATURE "\x21\x22\0\x24" BLOCK6;
    static const char local[] = SIGNATURE "\x20\0\0\0";
    uint8_t bytes[64];
    struct proxy_write from = writing(2, "192.0.2.1:40000", "198.51.100.2:443");
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), sizeof(four) - 1);
    assert_memory_equal(bytes, four, sizeof(four) - 1);
    from = writing(2, "[2001:db8::1]:40000", "[2001:db8::2]:443");
    from.type = SOCK_DGRAM;
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), sizeof(six) - 1);
    assert_memory_equal(bytes, six, sizeof(six) - 1);
    from.local = true;
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), sizeof(local) - 1);
    assert_memory_equal(bytes, local, sizeof(local) - 1);
}

/* Writes into exactly as much memory as it takes, sees that less is refused, and reads it. */
static struct proxy_header round_trip(const struct proxy_write *from, uint8_t **bytes)
{
    static uint8_t scratch[PROXY_HEADER_MAX];
    size_t size = proxy_header_write(from, scratch, sizeof(scratch));
    assert_true(size > 0);
    uint8_t *shorter = malloc(size - 1);
    assert_non_null(shorter);
    assert_int_equal(proxy_header_write(from, shorter, size - 1), 0);
    free(shorter);

    *bytes = malloc(size);
    assert_non_null(*bytes);
    assert_int_equal(proxy_header_write(from, *bytes, size), size);
    struct proxy_header header;
    const char *why = "";
    if (proxy_header_read(*bytes, size, &header, &why) != PROXY_WHOLE)
        fail_msg("%s", why);
    assert_int_equal(header.length, size);
    assert_int_equal(header.version, from->version);
    return header;
}

static void check_view(const struct proxy_tlv_view *view, const char *expected)
{
    assert_int_equal(view->length, strlen(expected));
    if (view->length > 0)
        assert_memory_equal(view->bytes, expected, view->length);
}

static struct proxy_tlv_view view_of(const char *text)
{
    return (struct proxy_tlv_view){(const uint8_t *)text, strlen(text)};
}

static void round_trip_one(struct proxy_write *from, const char *source, const char *destination)
{
    uint8_t *bytes;
    struct proxy_header header = round_trip(from, &bytes);
    assert_int_equal(header.local, from->local);
    if (!from->local) {
        check_address(&header.source, source);
        check_address(&header.destination, destination);
        assert_int_equal(header.type, from->type);
    }
    check_view(&header.authority, from->version == 2 ? "www.example.org" : "");
    check_view(&header.alpn, from->version == 2 ? "h2" : "");
    check_view(&header.unique_id, from->version == 2 ? "id-1" : "");
    free(bytes);
}

static void reads_what_it_writes(void **state)
{
    (void)state;
    static const struct {
        const char *source, *destination, *read_source, *read_destination;
    } pairs[] = {
        {"192.0.2.1:1", "192.0.2.2:65535", "192.0.2.1:1", "192.0.2.2:65535"},
        {"[2001:db8::1]:1", "[::]:0", "[2001:db8::1]:1", "[::]:0"},
        {"192.0.2.1:1", "[2001:db8::2]:2", "[::ffff:192.0.2.1]:1", "[2001:db8::2]:2"},
        {"[::ffff:192.0.2.1]:1", "192.0.2.2:2", "[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"},
    };
    /* All pairs, by version, transport (version 2 only), locality and checksum. */
    for (unsigned i = 0; i < ARRAY_LEN(pairs) * 16; i++) {
        unsigned version = (i & 1) + 1;
        size_t pair = i / 16;
        struct proxy_write from = writing(version, pairs[pair].source, pairs[pair].destination);
        from.type = version == 2 && (i & 2) != 0 ? SOCK_DGRAM : SOCK_STREAM;
        from.local = (i & 4) != 0;
        from.crc32c = (i & 8) != 0;
        from.authority = view_of("www.example.org");
        from.alpn = view_of("h2");
        from.unique_id = view_of("id-1");
        round_trip_one(&from, pairs[pair].read_source, pairs[pair].read_destination);
    }
}

/* What one header had is in the next, but for what is replaced or true of the first only. */
static void passes_extra_on(void **state)
{
    (void)state;
    static const char extra[] =
        "\x01\0\x02h2\x03\0\x04"
        "abcd\x04\0\x01n\x05\0\x01i\xe0\0\0\x20\0\x05\x01\0\0\0\0\x02\0\x01o";
    static const char passed[] =
        "\x02\0\x03new\x01\0\x02h2\x05\0\x01i\xe0\0\0\x20\0\x05\x01\0\0\0\0";
    struct proxy_write from = writing(2, "192.0.2.1:1", "192.0.2.2:2");
    from.authority = view_of("new");
    from.extra = (struct proxy_tlv_view){(const uint8_t *)extra, sizeof(extra) - 1};
    uint8_t *bytes;
    struct proxy_header header = round_trip(&from, &bytes);
    check_view(&header.authority, "new");
    check_view(&header.alpn, "h2");
    check_view(&header.unique_id, "i");
    assert_int_equal(header.tlvs.length, sizeof(passed) - 1);
    assert_memory_equal(header.tlvs.bytes, passed, sizeof(passed) - 1);
    free(bytes);

    from.alpn = view_of("h3");
    from.unique_id = view_of("j");
    from.crc32c = true;
    header = round_trip(&from, &bytes);
    check_view(&header.alpn, "h3");
    check_view(&header.unique_id, "j");
    free(bytes);
}

static void walks_tlvs(void **state)
{
    (void)state;
    struct proxy_tlv_view rest = {(const uint8_t *)"\xe0\0\0\xe1\0\x01v\xe2\0\x01", 10};
    struct proxy_tlv tlv;
    assert_true(proxy_tlv_next(&rest, &tlv));
    assert_int_equal(tlv.type, 0xe0);
    check_view(&tlv.value, "");
    assert_true(proxy_tlv_next(&rest, &tlv));
    assert_int_equal(tlv.type, 0xe1);
    check_view(&tlv.value, "v");
    assert_false(proxy_tlv_next(&rest, &tlv));
    assert_int_equal(rest.length, 3);
    assert_int_equal(tlv.type, 0xe1);
}

static void the_longest_fits_and_no_longer(void **state)
{
    (void)state;
    static uint8_t value[PROXY_HEADER_MAX + 100], bytes[PROXY_HEADER_MAX + 100];
    struct proxy_write from = {.version = 2, .local = true, .authority = {value, 65535 - 3}};
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), PROXY_HEADER_MAX);
    struct proxy_header header;
    const char *why;
    assert_int_equal(read_exact(bytes, PROXY_HEADER_MAX, &header, &why), PROXY_WHOLE);
    assert_int_equal(header.authority.length, 65535 - 3);
    assert_int_equal(read_exact(bytes, PROXY_HEADER_MAX - 1, &header, &why), PROXY_PARTIAL);
    from.crc32c = true;
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), 0);
    from.crc32c = false;
    for (from.authority.length++; from.authority.length < 65535 + 10; from.authority.length++)
        assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), 0);
    assert_int_equal(proxy_header_write(&from, NULL, 0), 0);
}

static void a_unique_id_has_128_bytes_at_most(void **state)
{
    (void)state;
    static const uint8_t id[PROXY_UNIQUE_ID_MAX + 1] = {0};
    uint8_t bytes[256];
    struct proxy_header header;
    const char *why = NULL;
    struct proxy_write from = {.version = 2, .local = true, .unique_id = {id, sizeof(id)}};
    assert_int_equal(proxy_header_write(&from, bytes, sizeof(bytes)), 0);
    from.unique_id.length--;
    size_t size = proxy_header_write(&from, bytes, sizeof(bytes));
    assert_int_equal(read_exact(bytes, size, &header, &why), PROXY_WHOLE);
    assert_int_equal(header.unique_id.length, PROXY_UNIQUE_ID_MAX);

    bytes[15]++;
    bytes[18]++;
    bytes[size++] = 0;
    assert_int_equal(read_exact(bytes, size, &header, &why), PROXY_WRONG);
    assert_string_equal(why, "the unique id is longer than 128 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_valid),
        cmocka_unit_test(a_beginning_is_partial),
        cmocka_unit_test(what_follows_is_left),
        cmocka_unit_test(refuses_what_is_wrong_and_when_it_is),
        cmocka_unit_test(either_signature_begins_a_header),
        cmocka_unit_test(other_protocols_are_none),
        cmocka_unit_test(the_checksum_covers_all),
        cmocka_unit_test(crc32c_is_the_known_one),
        cmocka_unit_test(writes_lines),
        cmocka_unit_test(writes_the_bytes_of_version_2),
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(passes_extra_on),
        cmocka_unit_test(walks_tlvs),
        cmocka_unit_test(the_longest_fits_and_no_longer),
        cmocka_unit_test(a_unique_id_has_128_bytes_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
