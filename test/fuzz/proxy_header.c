/*
 * Fuzzes common/proxy_header: any bytes as the beginning of a connection. The first byte says how
 * many bytes are cut off the end for a second reading, and how a header is written again.
 *
 * Covers: common/proxy_read.c common/proxy_write.c
 */
#include "common/proxy_header.h"

#include <stdlib.h>
#include <string.h>

#define CRC_TLV_SIZE 7

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With a copy of its own, so that AddressSanitizer sees where it ends. */
struct reading {
    uint8_t *bytes;
    size_t size;
    enum proxy_result result;
    struct proxy_header header;
    const char *why;
};

static struct reading read_copy(const uint8_t *bytes, size_t size)
{
    struct reading reading = {.bytes = malloc(size + (size == 0)), .size = size};
    BUG_ON(reading.bytes == NULL);
    memcpy(reading.bytes, bytes, size);
    reading.result = proxy_header_read(reading.bytes, size, &reading.header, &reading.why);
    return reading;
}

static void check_view(const struct reading *reading, const struct proxy_tlv_view *view)
{
    const struct proxy_tlv_view *tlvs = &reading->header.tlvs;
    if (view->length == 0)
        return;
    BUG_ON(view->bytes < tlvs->bytes);
    BUG_ON(view->bytes + view->length > tlvs->bytes + tlvs->length);
}

static void check_reading(const struct reading *reading)
{
    const struct proxy_header *header = &reading->header;
    BUG_ON((reading->result == PROXY_WRONG) != (reading->why != NULL));
    BUG_ON((reading->result == PROXY_WHOLE) != (header->version != 0));
    if (reading->result != PROXY_WHOLE)
        return;
    BUG_ON(header->length > reading->size);
    BUG_ON(header->tlvs.length > 0 &&
           header->tlvs.bytes + header->tlvs.length != reading->bytes + header->length);
    check_view(reading, &header->authority);
    check_view(reading, &header->alpn);
    check_view(reading, &header->unique_id);
}

/* A verdict on fewer bytes holds for more of them. */
static void compare(const struct reading *whole, const struct reading *cut)
{
    if (cut->result != PROXY_PARTIAL)
        BUG_ON(whole->result != cut->result);
    if (whole->result != PROXY_WHOLE)
        return;
    BUG_ON((cut->result == PROXY_WHOLE) != (cut->size >= whole->header.length));
    BUG_ON(cut->result == PROXY_WHOLE && cut->header.length != whole->header.length);
}

static bool same_view(const struct proxy_tlv_view *a, const struct proxy_tlv_view *b)
{
    return a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

static void check_again(const struct proxy_header *header, const struct reading *again)
{
    const struct proxy_header *other = &again->header;
    BUG_ON(again->result != PROXY_WHOLE);
    BUG_ON(other->length != again->size);
    BUG_ON(other->version != header->version || other->local != header->local);
    BUG_ON(!same_view(&other->authority, &header->authority));
    BUG_ON(!same_view(&other->alpn, &header->alpn));
    BUG_ON(!same_view(&other->unique_id, &header->unique_id));
    if (header->local)
        return;
    BUG_ON(other->type != header->type);
    BUG_ON(!inet_address_equal(&other->source, &header->source));
    BUG_ON(!inet_address_equal(&other->destination, &header->destination));
}

static void write_again(const struct proxy_header *header, bool by_member, bool has_crc)
{
    static uint8_t bytes[PROXY_HEADER_MAX];
    struct proxy_write from = {.version = header->version,
                               .local = header->local,
                               .source = header->source,
                               .destination = header->destination,
                               .type = header->type,
                               .extra = header->tlvs,
                               .crc32c = has_crc};
    if (by_member) {
        from.authority = header->authority;
        from.alpn = header->alpn;
        from.unique_id = header->unique_id;
    }
    size_t size = proxy_header_write(&from, bytes, sizeof(bytes));
    BUG_ON(size == 0 && header->length + CRC_TLV_SIZE <= PROXY_HEADER_MAX);
    if (size == 0)
        return;
    struct reading again = read_copy(bytes, size);
    check_again(header, &again);
    free(again.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t choice = *data++;
    size--;
    struct reading whole = read_copy(data, size);
    struct reading cut = read_copy(data, size - MIN(size, (size_t)choice >> 2));
    check_reading(&whole);
    check_reading(&cut);
    compare(&whole, &cut);
    if (whole.result == PROXY_WHOLE)
        write_again(&whole.header, (choice & 1) != 0, (choice & 2) != 0);
    free(cut.bytes);
    free(whole.bytes);
    return 0;
}
