/*
 * Purpose: reads headers of the PROXY protocol.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see proxy_header.h.
 *
 * Everything is read from the start each time, and nothing is kept between two readings of a
 * growing header: a line has 107 bytes at most, and of version 2 only 16 are looked at until all
 * are there.
 */
#include "common/proxy_header.h"

#include "common/crc32c.h"

#include <arpa/inet.h>
#include <string.h>

static enum proxy_result wrong(const char **why, const char *phrase)
{
    *why = phrase;
    return PROXY_WRONG;
}

/* ---- Version 1: fields in a line ---- */

/* What is there of the line, without its end. */
struct line {
    const char *text;
    size_t length;
    bool ended; /* by a CR: the fields are all there */
    bool whole; /* by CRLF */
};

enum field_end { FIELD_OPEN, FIELD_SPACE, FIELD_LAST };

/* A copy, so that it is a string; cut where it is longer than any field can be. */
struct field {
    char text[INET6_ADDRSTRLEN + 1];
    size_t length; /* in the line */
    enum field_end end;
};

static enum proxy_result find_line(const uint8_t *bytes, size_t size, struct line *out,
                                   const char **why)
{
    *out = (struct line){.text = (const char *)bytes};
    size_t at = 0;
    while (at < size && bytes[at] != '\r') {
        if (bytes[at] == '\0')
            return wrong(why, "a NUL is in the line");
        if (bytes[at] == '\n')
            return wrong(why, "a LF without CR is in the line");
        if (++at > PROXY_V1_MAX - 2)
            return wrong(why, "the line is longer than 107 bytes");
    }
    out->length = at;
    out->ended = at < size;
    out->whole = size - at >= 2;
    if (out->whole && bytes[at + 1] != '\n')
        return wrong(why, "a CR without LF is in the line");
    return PROXY_WHOLE;
}

/* Takes the next field, and the space behind it, off the line. */
static void take_field(struct line *line, struct field *out)
{
    const char *space = memchr(line->text, ' ', line->length);
    out->length = space != NULL ? (size_t)(space - line->text) : line->length;
    out->end = space != NULL ? FIELD_SPACE : line->ended ? FIELD_LAST : FIELD_OPEN;
    size_t copied = MIN(out->length, sizeof(out->text) - 1);
    memcpy(out->text, line->text, copied);
    out->text[copied] = '\0';

    size_t taken = out->length + (space != NULL);
    line->text += taken;
    line->length -= taken;
}

/* 0 for UNKNOWN. */
static enum proxy_result read_protocol(struct line *line, int *family, const char **why)
{
    static const struct {
        const char *name;
        int family;
    } protocols[] = {{"TCP4", AF_INET}, {"TCP6", AF_INET6}, {"UNKNOWN", 0}};

    struct field field;
    take_field(line, &field);
    for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
        *family = protocols[i].family;
        if (field.end != FIELD_OPEN && strcmp(field.text, protocols[i].name) == 0)
            return PROXY_WHOLE;
        if (field.end == FIELD_OPEN && strncmp(field.text, protocols[i].name, field.length) == 0)
            return PROXY_PARTIAL;
    }
    return wrong(why, "the protocol is none of TCP4, TCP6, UNKNOWN");
}

static enum proxy_result read_text_address(struct line *line, int family, union inet_address *out,
                                           const char **why)
{
    bool is_v4 = family == AF_INET;
    const char *allowed = is_v4 ? "0123456789." : "0123456789abcdefABCDEF:.";
    size_t longest = (is_v4 ? INET_ADDRSTRLEN : INET6_ADDRSTRLEN) - 1;
    struct field field;
    take_field(line, &field);
    if (field.length > longest || strspn(field.text, allowed) != field.length)
        return wrong(why, "an address is not one of the protocol's family");
    if (field.end == FIELD_OPEN)
        return PROXY_PARTIAL;
    if (field.end == FIELD_LAST)
        return wrong(why, "the line ends before its last field");

    *out = (union inet_address){.any.sa_family = (sa_family_t)family};
    void *binary = is_v4 ? (void *)&out->v4.sin_addr : (void *)&out->v6.sin6_addr;
    /* The C library of Debian takes no leading zeros in the parts of an IPv4 address. */
    if (inet_pton(family, field.text, binary) != 1)
        return wrong(why, "an address is not one of the protocol's family");
    return PROXY_WHOLE;
}

/* As many digits as make a port, and no leading zero; none at all are told by the caller. */
static bool read_digits(const struct field *field, unsigned *port)
{
    *port = 0;
    if (field->length > 5 || (field->length > 1 && field->text[0] == '0'))
        return false;
    for (const char *c = field->text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return false;
        *port = *port * 10 + (unsigned)(*c - '0');
    }
    return *port <= UINT16_MAX;
}

static enum proxy_result read_text_port(struct line *line, enum field_end end,
                                        union inet_address *out, const char **why)
{
    struct field field;
    unsigned port;
    take_field(line, &field);
    if (!read_digits(&field, &port))
        return wrong(why, "a port is not a number from 0 to 65535");
    if (field.end == FIELD_OPEN)
        return PROXY_PARTIAL;
    if (field.length == 0)
        return wrong(why, "a port is missing");
    if (field.end != end)
        return wrong(why, end == FIELD_LAST ? "the line goes on behind its last field"
                                            : "the line ends before its last field");
    in_port_t *to = out->any.sa_family == AF_INET ? &out->v4.sin_port : &out->v6.sin6_port;
    *to = htons((uint16_t)port);
    return PROXY_WHOLE;
}

static enum proxy_result read_fields(struct line *line, int family, struct proxy_header *header,
                                     const char **why)
{
    enum proxy_result result = read_text_address(line, family, &header->source, why);
    if (result == PROXY_WHOLE)
        result = read_text_address(line, family, &header->destination, why);
    if (result == PROXY_WHOLE)
        result = read_text_port(line, FIELD_SPACE, &header->source, why);
    if (result == PROXY_WHOLE)
        result = read_text_port(line, FIELD_LAST, &header->destination, why);
    return result;
}

static enum proxy_result read_v1(const uint8_t *bytes, size_t size, struct proxy_header *header,
                                 const char **why)
{
    struct line line;
    enum proxy_result result = find_line(bytes, size, &line, why);
    if (result != PROXY_WHOLE)
        return result;
    *header = (struct proxy_header){.version = 1, .length = line.length + 2};
    bool whole = line.whole;
    line.text += PROXY_V1_SIGNATURE_SIZE;
    line.length -= PROXY_V1_SIGNATURE_SIZE;

    int family;
    result = read_protocol(&line, &family, why);
    if (result != PROXY_WHOLE)
        return result;
    header->local = family == 0;
    header->type = header->local ? 0 : SOCK_STREAM;
    if (!header->local)
        result = read_fields(&line, family, header, why);
    return result == PROXY_WHOLE && !whole ? PROXY_PARTIAL : result;
}

/* ---- Version 2: a fixed part, an address block, TLVs ---- */

/* Section 2.2: "in practice the following protocol bytes are expected". */
struct family {
    uint8_t code;
    uint8_t block; /* bytes of addresses */
    sa_family_t family;
    int type;
};

static const struct family families[] = {
    {0x00, 0, AF_UNSPEC, 0},          {0x11, 12, AF_INET, SOCK_STREAM},
    {0x12, 12, AF_INET, SOCK_DGRAM},  {0x21, 36, AF_INET6, SOCK_STREAM},
    {0x22, 36, AF_INET6, SOCK_DGRAM}, {0x31, 216, AF_UNIX, SOCK_STREAM},
    {0x32, 216, AF_UNIX, SOCK_DGRAM},
};

static const struct family *find_family(uint8_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        if (families[i].code == code)
            return &families[i];
    }
    return NULL;
}

/* PROXY_WHOLE with the family and the length behind the fixed part, once these are there. */
static enum proxy_result read_fixed(const uint8_t *bytes, size_t size, const struct family **family,
                                    size_t *length, const char **why)
{
    if (size < 13)
        return PROXY_PARTIAL;
    if (bytes[12] >> 4 != 2)
        return wrong(why, "the version is not 2");
    if ((bytes[12] & 0x0f) > 1)
        return wrong(why, "the command is neither LOCAL nor PROXY");
    if (size < 14)
        return PROXY_PARTIAL;
    *family = find_family(bytes[13]);
    if (*family == NULL)
        return wrong(why, "the address family or transport is unknown");
    if (size < PROXY_V2_FIXED)
        return PROXY_PARTIAL;
    *length = (size_t)(bytes[14] << 8 | bytes[15]);
    if (*length < (*family)->block)
        return wrong(why, "the length does not cover the addresses");
    return PROXY_WHOLE;
}

static void read_block(const uint8_t *block, sa_family_t family, struct proxy_header *header)
{
    union inet_address *ends[] = {&header->source, &header->destination};
    size_t size = family == AF_INET ? 4 : 16;
    for (size_t i = 0; i < 2; i++) {
        union inet_address *end = ends[i];
        *end = (union inet_address){.any.sa_family = family};
        bool is_v4 = family == AF_INET;
        void *to = is_v4 ? (void *)&end->v4.sin_addr : (void *)&end->v6.sin6_addr;
        memcpy(to, block + i * size, size);
        memcpy(is_v4 ? &end->v4.sin_port : &end->v6.sin6_port, block + 2 * size + i * 2, 2);
    }
}

bool proxy_tlv_next(struct proxy_tlv_view *rest, struct proxy_tlv *out)
{
    if (rest->length < 3)
        return false;
    size_t length = (size_t)(rest->bytes[1] << 8 | rest->bytes[2]);
    if (length > rest->length - 3)
        return false;
    *out = (struct proxy_tlv){.type = rest->bytes[0], .value = {rest->bytes + 3, length}};
    rest->bytes += 3 + length;
    rest->length -= 3 + length;
    return true;
}

/* Section 2.2.6: a byte of flags, four of a verdict, then TLVs that fill the rest. */
static enum proxy_result check_ssl(struct proxy_tlv_view value, const char **why)
{
    if (value.length < 5)
        return wrong(why, "the TLS information is too short");
    struct proxy_tlv_view rest = {value.bytes + 5, value.length - 5};
    struct proxy_tlv tlv;
    while (rest.length > 0) {
        if (!proxy_tlv_next(&rest, &tlv))
            return wrong(why, "a TLV overruns the TLS information");
    }
    return PROXY_WHOLE;
}

/* Section 2.2.3: over all of the header, with zeros in place of the checksum itself. */
static enum proxy_result check_crc(const uint8_t *bytes, const struct proxy_header *header,
                                   const struct proxy_tlv_view *field, const char **why)
{
    static const uint8_t zeros[4] = {0};
    if (field->length != sizeof(zeros))
        return wrong(why, "the checksum is not of 4 bytes");
    const uint8_t *behind = field->bytes + sizeof(zeros);
    uint32_t crc = crc32c(0, bytes, (size_t)(field->bytes - bytes));
    crc = crc32c(crc, zeros, sizeof(zeros));
    crc = crc32c(crc, behind, (size_t)(bytes + header->length - behind));
    uint32_t sent = htonl(crc);
    if (memcmp(&sent, field->bytes, sizeof(sent)) != 0)
        return wrong(why, "the checksum is wrong");
    return PROXY_WHOLE;
}

/* Where a TLV is kept that may be there once; NULL for the others. */
static struct proxy_tlv_view *find_kept(struct proxy_header *header, struct proxy_tlv_view *crc,
                                        uint8_t type)
{
    switch (type) {
    case PROXY_TLV_ALPN:
        return &header->alpn;
    case PROXY_TLV_AUTHORITY:
        return &header->authority;
    case PROXY_TLV_UNIQUE_ID:
        return &header->unique_id;
    case PROXY_TLV_CRC32C:
        return crc;
    default:
        return NULL;
    }
}

static enum proxy_result take_tlv(struct proxy_header *header, struct proxy_tlv_view *crc,
                                  const struct proxy_tlv *tlv, const char **why)
{
    if (tlv->type == PROXY_TLV_SSL)
        return check_ssl(tlv->value, why);
    if (tlv->type == PROXY_TLV_UNIQUE_ID && tlv->value.length > PROXY_UNIQUE_ID_MAX)
        return wrong(why, "the unique id is longer than 128 bytes");
    struct proxy_tlv_view *kept = find_kept(header, crc, tlv->type);
    if (kept == NULL)
        return PROXY_WHOLE;
    /* An empty one counts too: it has bytes that it ends at. */
    if (kept->bytes != NULL)
        return wrong(why, "a TLV that may be there once is there twice");
    *kept = tlv->value;
    return PROXY_WHOLE;
}

static enum proxy_result read_tlvs(const uint8_t *bytes, struct proxy_header *header,
                                   const char **why)
{
    struct proxy_tlv_view rest = header->tlvs, crc = {0};
    while (rest.length > 0) {
        struct proxy_tlv tlv;
        if (!proxy_tlv_next(&rest, &tlv))
            return wrong(why, "a TLV overruns the header");
        if (take_tlv(header, &crc, &tlv, why) != PROXY_WHOLE)
            return PROXY_WRONG;
    }
    return crc.bytes != NULL ? check_crc(bytes, header, &crc, why) : PROXY_WHOLE;
}

static enum proxy_result read_v2(const uint8_t *bytes, size_t size, struct proxy_header *header,
                                 const char **why)
{
    const struct family *family;
    size_t length;
    enum proxy_result result = read_fixed(bytes, size, &family, &length, why);
    if (result != PROXY_WHOLE)
        return result;
    header->length = PROXY_V2_FIXED + length;
    if (size < header->length)
        return PROXY_PARTIAL;

    const uint8_t *block = bytes + PROXY_V2_FIXED;
    bool is_local = (bytes[12] & 0x0f) == 0;
    bool is_inet = family->family == AF_INET || family->family == AF_INET6;
    *header = (struct proxy_header){.version = 2,
                                    .local = is_local || !is_inet,
                                    .type = is_local ? 0 : family->type,
                                    .tlvs = {block + family->block, length - family->block},
                                    .length = header->length};
    if (!header->local)
        read_block(block, family->family, header);
    return read_tlvs(bytes, header, why);
}

/* ---- Both ---- */

static enum proxy_result match(const uint8_t *bytes, size_t size, const char *signature,
                               size_t length)
{
    if (memcmp(bytes, signature, MIN(size, length)) != 0)
        return PROXY_NONE;
    return size < length ? PROXY_PARTIAL : PROXY_WHOLE;
}

bool proxy_header_begins(const uint8_t *bytes, size_t size)
{
    return match(bytes, size, PROXY_V1_SIGNATURE, PROXY_V1_SIGNATURE_SIZE) == PROXY_WHOLE ||
           match(bytes, size, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE) == PROXY_WHOLE;
}

enum proxy_result proxy_header_read(const uint8_t *bytes, size_t size, struct proxy_header *out,
                                    const char **why)
{
    out->length = 0;
    if (size == 0)
        return PROXY_PARTIAL;
    /* The signatures differ in their first byte. */
    bool is_v1 = bytes[0] == PROXY_V1_SIGNATURE[0];
    enum proxy_result result =
        is_v1 ? match(bytes, size, PROXY_V1_SIGNATURE, PROXY_V1_SIGNATURE_SIZE)
              : match(bytes, size, PROXY_V2_SIGNATURE, PROXY_V2_SIGNATURE_SIZE);
    if (result != PROXY_WHOLE)
        return result;

    struct proxy_header header = {0};
    result = is_v1 ? read_v1(bytes, size, &header, why) : read_v2(bytes, size, &header, why);
    if (result == PROXY_WHOLE)
        *out = header;
    else if (result == PROXY_PARTIAL && !is_v1)
        out->length = header.length;
    return result;
}
