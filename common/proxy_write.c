/*
 * Purpose: writes headers of the PROXY protocol.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see proxy_header.h.
 */
#include "common/proxy_header.h"

#include "common/crc32c.h"
#include "common/network.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* Once something did not fit, nothing more is written. */
struct output {
    uint8_t *bytes;
    size_t size, used;
    bool is_full;
};

static void put(struct output *out, const void *bytes, size_t size)
{
    out->is_full = out->is_full || size > out->size - out->used;
    if (out->is_full || size == 0)
        return;
    memcpy(out->bytes + out->used, bytes, size);
    out->used += size;
}

/* ---- Addresses ---- */

static bool is_inet(const union inet_address *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

static bool has_addresses(const struct proxy_write *from)
{
    return !from->local && is_inet(&from->source) && is_inet(&from->destination);
}

static int common_family(const struct proxy_write *from)
{
    bool is_v4 =
        from->source.any.sa_family == AF_INET && from->destination.any.sa_family == AF_INET;
    return is_v4 ? AF_INET : AF_INET6;
}

/* The address in network order, as one of the family; returns its size. */
static size_t address_bytes(const union inet_address *address, int family, uint8_t out[16])
{
    struct in6_addr mapped = network_map(address);
    size_t size = family == AF_INET ? 4 : 16;
    memcpy(out, mapped.s6_addr + 16 - size, size);
    return size;
}

/* ---- Version 1 ---- */

static size_t write_v1(const struct proxy_write *from, struct output *out)
{
    char line[PROXY_V1_MAX + 1] = "PROXY UNKNOWN\r\n";
    if (has_addresses(from) && from->type != SOCK_DGRAM) {
        int family = common_family(from);
        uint8_t bytes[16];
        char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
        address_bytes(&from->source, family, bytes);
        inet_ntop(family, bytes, source, sizeof(source));
        address_bytes(&from->destination, family, bytes);
        inet_ntop(family, bytes, destination, sizeof(destination));
        int length = snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u %u\r\n",
                              family == AF_INET ? '4' : '6', source, destination,
                              (unsigned)inet_address_port(&from->source),
                              (unsigned)inet_address_port(&from->destination));
        BUG_ON(length < 0 || (size_t)length >= sizeof(line));
    }
    put(out, line, strlen(line));
    return out->is_full ? 0 : out->used;
}

/* ---- Version 2 ---- */

static void put_u16(struct output *out, size_t value)
{
    put(out, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

static void put_block(struct output *out, const struct proxy_write *from)
{
    const union inet_address *ends[] = {&from->source, &from->destination};
    int family = common_family(from);
    for (size_t i = 0; i < 2; i++) {
        uint8_t bytes[16];
        size_t size = address_bytes(ends[i], family, bytes);
        put(out, bytes, size);
    }
    put_u16(out, inet_address_port(&from->source));
    put_u16(out, inet_address_port(&from->destination));
}

/* A value of more than 65535 bytes does not fit into the output in any case. */
static void put_tlv(struct output *out, uint8_t type, const struct proxy_tlv_view *value)
{
    put(out, &type, 1);
    put_u16(out, value->length);
    put(out, value->bytes, value->length);
}

static void put_given(struct output *out, uint8_t type, const struct proxy_tlv_view *value)
{
    if (value->length > 0)
        put_tlv(out, type, value);
}

static bool is_left_out(const struct proxy_write *from, uint8_t type)
{
    switch (type) {
    case PROXY_TLV_CRC32C: /* true of the header it came with, not of this one */
    case PROXY_TLV_NOOP:
        return true;
    case PROXY_TLV_ALPN:
        return from->alpn.length > 0;
    case PROXY_TLV_AUTHORITY:
        return from->authority.length > 0;
    case PROXY_TLV_UNIQUE_ID:
        return from->unique_id.length > 0;
    default:
        return false;
    }
}

static void put_extra(struct output *out, const struct proxy_write *from)
{
    struct proxy_tlv_view rest = from->extra;
    while (rest.length > 0) {
        struct proxy_tlv tlv;
        bool is_whole = proxy_tlv_next(&rest, &tlv);
        BUG_ON(!is_whole);
        if (!is_left_out(from, tlv.type))
            put_tlv(out, tlv.type, &tlv.value);
    }
}

static void put_fixed(struct output *out, const struct proxy_write *from)
{
    uint8_t command = 0x20, family = 0;
    if (has_addresses(from)) {
        command = 0x21;
        family = common_family(from) == AF_INET ? 0x10 : 0x20;
        family |= from->type == SOCK_DGRAM ? 2 : 1;
    }
    put(out, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE);
    put(out, (uint8_t[]){command, family, 0, 0}, 4);
}

/* The checksum is last, and zeros until the length is known. */
static void finish(struct output *out, bool has_crc)
{
    size_t length = out->used - PROXY_V2_FIXED;
    out->bytes[14] = (uint8_t)(length >> 8);
    out->bytes[15] = (uint8_t)length;
    if (!has_crc)
        return;
    uint32_t crc = htonl(crc32c(0, out->bytes, out->used));
    memcpy(out->bytes + out->used - sizeof(crc), &crc, sizeof(crc));
}

static size_t write_v2(const struct proxy_write *from, struct output *out)
{
    static const uint8_t zeros[4] = {0};
    if (from->unique_id.length > PROXY_UNIQUE_ID_MAX)
        return 0;
    put_fixed(out, from);
    if (has_addresses(from))
        put_block(out, from);
    put_given(out, PROXY_TLV_ALPN, &from->alpn);
    put_given(out, PROXY_TLV_AUTHORITY, &from->authority);
    put_given(out, PROXY_TLV_UNIQUE_ID, &from->unique_id);
    put_extra(out, from);
    if (from->crc32c)
        put_tlv(out, PROXY_TLV_CRC32C, &(struct proxy_tlv_view){zeros, sizeof(zeros)});
    if (out->is_full)
        return 0;
    finish(out, from->crc32c);
    return out->used;
}

size_t proxy_header_write(const struct proxy_write *from, uint8_t *out, size_t size)
{
    BUG_ON(from->version != 1 && from->version != 2);
    struct output output = {.bytes = out, .size = MIN(size, (size_t)PROXY_HEADER_MAX)};
    return from->version == 1 ? write_v1(from, &output) : write_v2(from, &output);
}
