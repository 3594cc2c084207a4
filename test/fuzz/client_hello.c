/*
 * Fuzzes lb/tcp/client_hello: any bytes as the first of a connection. They are read whole, in part,
 * and, when they are a hello, once more cut into other records.
 *
 * Covers: lb/tcp/client_hello.c
 */
#include "lb/tcp/client_hello.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_HEADER 5

/* What *out holds where it is not to be touched. */
#define UNTOUCHED 0xa5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    enum client_hello_result result;
    struct client_hello hello;
    const char *why;
};

static void check_name(const char sni[CLIENT_HELLO_SNI_MAX + 1])
{
    size_t size = strnlen(sni, CLIENT_HELLO_SNI_MAX + 1);
    BUG_ON(size > CLIENT_HELLO_SNI_MAX);
    BUG_ON(strspn(sni, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != size);
}

static void check_protocols(const struct client_hello *hello)
{
    size_t at = 0;
    BUG_ON(hello->alpn_length > sizeof(hello->alpn));
    while (at < hello->alpn_length) {
        char name[CLIENT_HELLO_ALPN_MAX + 1] = "";
        size_t size = hello->alpn[at];
        BUG_ON(size == 0 || size >= hello->alpn_length - at);
        memcpy(name, hello->alpn + at + 1, size);
        BUG_ON(strlen(name) == size && !client_hello_offers(hello, name));
        at += 1 + size;
    }
}

static void check_reading(const struct reading *reading)
{
    BUG_ON((reading->result == CLIENT_HELLO_WRONG) != (reading->why != NULL));
    if (reading->result == CLIENT_HELLO_WHOLE) {
        check_name(reading->hello.sni);
        check_protocols(&reading->hello);
        return;
    }
    struct client_hello untouched;
    memset(&untouched, UNTOUCHED, sizeof(untouched));
    BUG_ON(memcmp(&untouched, &reading->hello, sizeof(untouched)) != 0);
}

/* From a copy of its own, so that AddressSanitizer sees where it ends. */
static struct reading read_copy(const uint8_t *bytes, size_t size)
{
    struct reading reading = {.why = NULL};
    uint8_t *copy = malloc(size + (size == 0));
    BUG_ON(copy == NULL);
    memcpy(copy, bytes, size);
    memset(&reading.hello, UNTOUCHED, sizeof(reading.hello));
    reading.result = client_hello_read(copy, size, &reading.hello, &reading.why);
    free(copy);
    check_reading(&reading);
    return reading;
}

static void check_same(const struct reading *one, const struct reading *other)
{
    BUG_ON(one->result != other->result || one->why != other->why);
    if (one->result != CLIENT_HELLO_WHOLE)
        return;
    BUG_ON(strcmp(one->hello.sni, other->hello.sni) != 0);
    BUG_ON(one->hello.alpn_length != other->hello.alpn_length);
    BUG_ON(memcmp(one->hello.alpn, other->hello.alpn, one->hello.alpn_length) != 0);
}

/* A beginning is undecided, or has the last word. */
static void check_beginning(const struct reading *whole, const uint8_t *data, size_t size)
{
    struct reading cut = read_copy(data, size);
    if (cut.result != CLIENT_HELLO_PARTIAL)
        check_same(whole, &cut);
}

/* The hello alone, without what holds it; returns its size. */
static size_t join(uint8_t *out, const uint8_t *data, size_t size)
{
    size_t joined = 0;
    while (size > RECORD_HEADER && data[0] == 22) {
        size_t length = MIN((size_t)(data[3] << 8 | data[4]), size - RECORD_HEADER);
        memcpy(out + joined, data + RECORD_HEADER, length);
        joined += length;
        data += RECORD_HEADER + length;
        size -= RECORD_HEADER + length;
    }
    BUG_ON(joined < 4);
    size_t hello = 4 + ((size_t)out[1] << 16 | (size_t)out[2] << 8 | out[3]);
    BUG_ON(joined < hello);
    return hello;
}

static size_t split(uint8_t *out, const uint8_t *hello, size_t size, size_t piece)
{
    size_t written = 0;
    for (size_t at = 0; at < size; at += piece) {
        size_t length = MIN(piece, size - at);
        const uint8_t header[] = {22, 3, (uint8_t)at, (uint8_t)(length >> 8), (uint8_t)length};
        memcpy(out + written, header, sizeof(header));
        memcpy(out + written + sizeof(header), hello + at, length);
        written += sizeof(header) + length;
    }
    return written;
}

static void check_other_records(const struct reading *whole, const uint8_t *data, size_t size)
{
    uint8_t *hello = malloc(size);
    uint8_t *records = malloc(size * (RECORD_HEADER + 1));
    BUG_ON(hello == NULL || records == NULL);
    size_t hello_size = join(hello, data, size);
    size_t records_size = split(records, hello, hello_size, 1 + size % 37);
    struct reading again = read_copy(records, records_size);
    check_same(whole, &again);
    struct reading cut = read_copy(records, records_size - 1);
    BUG_ON(cut.result != CLIENT_HELLO_PARTIAL);
    free(hello);
    free(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading whole = read_copy(data, size);
    check_beginning(&whole, data, size / 2);
    check_beginning(&whole, data, size - (size != 0));
    if (whole.result == CLIENT_HELLO_WHOLE)
        check_other_records(&whole, data, size);
    return 0;
}
