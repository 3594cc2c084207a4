/*
 * Purpose: the reader of dns_reply.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see dns_reply.h.
 *
 * It is strict, because a probe that passes by mistake sends people to a broken server: every
 * record of every section must be there in its whole length under a name that can be read, also
 * where nothing of it is looked at. Three things are let through, as resolvers let them:
 *  - bytes behind the last record;
 *  - an error without the question (a server that could not read it cannot repeat it);
 *  - in a reply that says it is truncated, any number of whole records, whatever its counts say.
 *
 * The name that an answer stands under is not compared: it may be the end of a chain of CNAMEs.
 */
#include "lb/health/dns_reply.h"

#include <string.h>

/* RFC 1035 §4.1.1; RFC 2535 has taken two of the bits that were to be zero. */
#define FLAG_REPLY 0x8000
#define FLAG_TRUNCATED 0x0200
#define FLAGS_OPCODE 0x7800
#define FLAGS_RCODE 0x000f

#define RCODE_NOERROR 0
#define RCODE_NXDOMAIN 3

/* The first byte of a label, RFC 1035 §4.1.4: its length, or a pointer to where the name goes on.
 */
#define LABEL_FORM 0xc0
#define LABEL_POINTER 0xc0

/* A name has room for so many labels, and a pointer that leads to another pointer is for nothing.
 */
#define POINTERS_MAX 127

/* `at` is never beyond `size`. */
struct cursor {
    const uint8_t *bytes;
    size_t size;
    size_t at;
};

struct name {
    uint8_t bytes[DNS_NAME_MAX];
    size_t size;
};

struct record {
    unsigned type, class;
    const uint8_t *data;
    size_t size;
};

enum section { SECTION_QUESTION, SECTION_ANSWER, SECTION_AUTHORITY, SECTION_ADDITIONAL, SECTIONS };

struct header {
    unsigned id, flags;
    unsigned count[SECTIONS];
};

/* ---- Bytes ---- */

/* The next `size` bytes, or NULL when there are not so many. */
static const uint8_t *take(struct cursor *cursor, size_t size)
{
    if (size > cursor->size - cursor->at)
        return NULL;
    const uint8_t *bytes = cursor->bytes + cursor->at;
    cursor->at += size;
    return bytes;
}

static bool take_u8(struct cursor *cursor, unsigned *out)
{
    const uint8_t *bytes = take(cursor, 1);
    if (bytes != NULL)
        *out = bytes[0];
    return bytes != NULL;
}

static bool take_u16(struct cursor *cursor, unsigned *out)
{
    const uint8_t *bytes = take(cursor, 2);
    if (bytes != NULL)
        *out = (unsigned)bytes[0] << 8 | bytes[1];
    return bytes != NULL;
}

/* ---- Names ---- */

static bool add_label(struct name *name, struct cursor *from, unsigned length)
{
    const uint8_t *label = take(from, length);
    if (label == NULL || length + 1 > sizeof(name->bytes) - name->size)
        return false;
    name->bytes[name->size] = (uint8_t)length;
    memcpy(name->bytes + name->size + 1, label, length);
    name->size += length + 1;
    return true;
}

/*
 * A pointer must lead to before the run of labels that it ends (§4.1.4: "a prior occurrence"), so
 * each run begins before the last one and a loop cannot be.
 */
static bool take_pointer(struct cursor *reader, unsigned first, size_t run)
{
    unsigned low;
    if (!take_u8(reader, &low))
        return false;
    size_t target = (size_t)(first & ~(unsigned)LABEL_POINTER) << 8 | low;
    if (target < DNS_HEADER_SIZE || target >= run)
        return false;
    reader->at = target;
    return true;
}

/* Writes it out in one piece; the cursor goes to behind its first one. */
static bool take_name(struct cursor *cursor, struct name *out)
{
    struct cursor reader = *cursor;
    size_t run = cursor->at;
    unsigned pointers = 0;
    unsigned first;
    out->size = 0;
    do {
        if (!take_u8(&reader, &first))
            return false;
        if ((first & LABEL_FORM) == LABEL_POINTER) {
            if (++pointers == 1)
                cursor->at = reader.at + 1;
            if (pointers > POINTERS_MAX || !take_pointer(&reader, first, run))
                return false;
            run = reader.at;
        } else if ((first & LABEL_FORM) != 0 || !add_label(out, &reader, first)) {
            return false;
        }
    } while (first != 0);
    if (pointers == 0)
        cursor->at = reader.at;
    return true;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
}

/* Without regard to case, RFC 4343. The lengths of labels are no letters: they are below 'A'. */
static bool is_same_name(const struct name *name, const struct dns_query *query)
{
    if (name->size != query->name_size)
        return false;
    for (size_t i = 0; i < name->size; i++) {
        if (lower(name->bytes[i]) != lower(dns_query_name(query)[i]))
            return false;
    }
    return true;
}

/* ---- Sections ---- */

static bool take_header(struct cursor *cursor, struct header *out)
{
    bool whole = take_u16(cursor, &out->id) && take_u16(cursor, &out->flags);
    for (size_t i = 0; i < SECTIONS; i++)
        whole = whole && take_u16(cursor, &out->count[i]);
    return whole;
}

static bool is_error(const struct header *header)
{
    unsigned rcode = header->flags & FLAGS_RCODE;
    return rcode != RCODE_NOERROR && rcode != RCODE_NXDOMAIN;
}

static bool take_question(struct cursor *cursor, const struct header *header,
                          const struct dns_query *query)
{
    struct name name;
    unsigned type, class;
    if (header->count[SECTION_QUESTION] == 0)
        return is_error(header);
    return header->count[SECTION_QUESTION] == 1 && take_name(cursor, &name) &&
           take_u16(cursor, &type) && take_u16(cursor, &class) && is_same_name(&name, query) &&
           type == query->type && class == DNS_CLASS_IN;
}

static bool take_record(struct cursor *cursor, struct record *out)
{
    struct name owner;
    unsigned size;
    if (!take_name(cursor, &owner) || !take_u16(cursor, &out->type) ||
        !take_u16(cursor, &out->class) || take(cursor, 4) == NULL || !take_u16(cursor, &size))
        return false;
    out->data = take(cursor, size);
    out->size = size;
    return out->data != NULL;
}

static bool is_wanted(const struct record *record, const struct dns_query *query,
                      const struct dns_data *wanted)
{
    return wanted != NULL && record->type == query->type && record->class == DNS_CLASS_IN &&
           record->size == wanted->size && memcmp(record->data, wanted->bytes, wanted->size) == 0;
}

static bool take_answers(struct cursor *cursor, const struct header *header,
                         const struct dns_query *query, const struct dns_data *wanted,
                         struct dns_reply *out)
{
    struct record record;
    for (unsigned i = 0; i < header->count[SECTION_ANSWER]; i++) {
        if (!take_record(cursor, &record))
            return false;
        out->answers++;
        out->found |= is_wanted(&record, query, wanted);
    }
    return true;
}

static bool take_others(struct cursor *cursor, const struct header *header)
{
    struct record record;
    unsigned count = header->count[SECTION_AUTHORITY] + header->count[SECTION_ADDITIONAL];
    for (unsigned i = 0; i < count; i++) {
        if (!take_record(cursor, &record))
            return false;
    }
    return true;
}

/* ---- The reply ---- */

static enum dns_reply_state broken(struct dns_reply *reply, const char *why)
{
    reply->why = why;
    return DNS_REPLY_BROKEN;
}

static bool has_id(const uint8_t *bytes, size_t size, uint16_t id)
{
    return size >= 2 && bytes[0] == id >> 8 && bytes[1] == (id & 0xff);
}

enum dns_reply_state dns_reply_read(struct dns_reply *out, const struct dns_query *query,
                                    const struct dns_data *wanted, const uint8_t *bytes,
                                    size_t size)
{
    struct cursor cursor = {.bytes = bytes, .size = size};
    struct header header = {0};
    *out = (struct dns_reply){0};
    if (!has_id(bytes, size, query->id))
        return DNS_REPLY_FOREIGN;
    if (!take_header(&cursor, &header))
        return broken(out, "a reply shorter than its header");
    if ((header.flags & FLAG_REPLY) == 0)
        return broken(out, "a query instead of a reply");
    if ((header.flags & FLAGS_OPCODE) != 0)
        return broken(out, "a reply of another kind");
    if (!take_question(&cursor, &header, query))
        return broken(out, "a reply to another question");

    out->rcode = header.flags & FLAGS_RCODE;
    bool whole =
        take_answers(&cursor, &header, query, wanted, out) && take_others(&cursor, &header);
    if ((header.flags & FLAG_TRUNCATED) != 0)
        return DNS_REPLY_TRUNCATED;
    return whole ? DNS_REPLY_WHOLE : broken(out, "a reply with a malformed record");
}
