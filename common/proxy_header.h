/*
 * Purpose: the header of the PROXY protocol, versions 1 and 2: bytes to values and back.
 * Thread:  any.
 * Owns:    nothing: what was read points into the bytes it was read from.
 * Fails:   reading says why in one phrase; writing returns 0 where the header does not fit.
 *
 * The source is "The PROXY protocol, Versions 1 & 2" (haproxy.org, proxy-protocol.txt); section
 * numbers below are its own. Reading is strict: what the text does not allow is refused, since a
 * header that two readers understand differently is a forged address.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_HEADER_MAX (16 + 65535)

/* The longest line of version 1, with its CRLF (section 2.1). */
#define PROXY_V1_MAX 107

/* How a line of version 1 and a header of version 2 begin. The second has a NUL inside. */
#define PROXY_V1_SIGNATURE "PROXY "
#define PROXY_V1_SIGNATURE_SIZE 6
#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define PROXY_V2_SIGNATURE_SIZE 12
#define PROXY_V2_FIXED 16

/* The longest value of PROXY_TLV_UNIQUE_ID (section 2.2.5). */
#define PROXY_UNIQUE_ID_MAX 128

/* Section 2.2: the types that are looked into or written. All others pass as they are. */
enum proxy_tlv_type {
    PROXY_TLV_ALPN = 0x01,
    PROXY_TLV_AUTHORITY = 0x02,
    PROXY_TLV_CRC32C = 0x03,
    PROXY_TLV_NOOP = 0x04,
    PROXY_TLV_UNIQUE_ID = 0x05,
    PROXY_TLV_SSL = 0x20,
};

/* True for what no reader of headers takes for data: it begins with one signature or the other. */
bool proxy_header_begins(const uint8_t *bytes, size_t size);

enum proxy_result {
    PROXY_WHOLE,
    PROXY_PARTIAL, /* more bytes may complete it */
    PROXY_NONE,    /* these bytes begin no header */
    PROXY_WRONG,
};

/* Length 0: none. */
struct proxy_tlv_view {
    const uint8_t *bytes;
    size_t length;
};

struct proxy_tlv {
    uint8_t type;
    struct proxy_tlv_view value;
};

struct proxy_header {
    unsigned version;
    /* v2 LOCAL, v1 UNKNOWN, v2 AF_UNSPEC or AF_UNIX: the connection's own addresses hold. */
    bool local;
    int type;                               /* SOCK_STREAM, SOCK_DGRAM, 0 not told */
    union inet_address source, destination; /* meaningful unless local */
    struct proxy_tlv_view tlvs;             /* all TLVs, within the bytes read */
    struct proxy_tlv_view authority, alpn, unique_id;
    size_t length; /* of the header in the bytes */
};

/*
 * Reads the header that the bytes begin with; more bytes may follow it. *out is set on PROXY_WHOLE
 * only, but for its length, which on PROXY_PARTIAL is that of the header once the bytes tell it,
 * and 0 before. *why is set on PROXY_WRONG only, to a phrase such as "the checksum is wrong".
 *
 * PROXY_NONE comes as soon as the bytes differ from both signatures, PROXY_WRONG as soon as a field
 * of the line or one of the fixed 16 bytes is. The block behind those is judged when it is whole.
 * The family of a LOCAL header says how long its address block is, and nothing else. Addresses are
 * as sent: an IPv4-mapped one is not folded.
 */
must_check enum proxy_result proxy_header_read(const uint8_t *bytes, size_t size,
                                               struct proxy_header *out, const char **why);

/*
 * Takes the first TLV off `rest`. False when `rest` does not begin with a whole one, as when it is
 * empty; both are untouched then. The TLVs of a header that was read are all whole.
 */
must_check bool proxy_tlv_next(struct proxy_tlv_view *rest, struct proxy_tlv *out);

struct proxy_write {
    unsigned version; /* 1 or 2 */
    bool local;
    union inet_address source, destination;
    int type; /* SOCK_DGRAM, or else a stream is meant */
    struct proxy_tlv_view authority, alpn, unique_id;
    /*
     * Whole TLVs, such as those of a header that was read, passed on as they are. CRC32C, NOOP,
     * and the types given by the other members are left out of it.
     */
    struct proxy_tlv_view extra;
    bool crc32c;
};

/*
 * Writes a header and returns its length; 0 where it does not fit into `size` bytes or is nothing
 * the protocol can say (a block above 65535 bytes, a unique_id above PROXY_UNIQUE_ID_MAX); `out`
 * may then hold a part of it. Nothing in `from` may point into `out`.
 *
 * If one address is of IPv4 and the other of IPv6, the first is written as its IPv4-mapped one.
 * Local, and any address of neither family, is v2 LOCAL with AF_UNSPEC, v1 "PROXY UNKNOWN". Version
 * 1 leaves TLVs out, and has "PROXY UNKNOWN" for datagrams, which it has no name for.
 */
must_check size_t proxy_header_write(const struct proxy_write *from, uint8_t *out, size_t size);
