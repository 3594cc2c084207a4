/*
 * Purpose: replies of a name server, good and bad, built piece by piece.
 * Thread:  the test's.
 * Owns:    nothing.
 * Fails:   as a cmocka assertion, which the test includes before.
 */
#pragma once

#include "lb/health/dns_query.h"

#include <string.h>

#define MESSAGE_REPLY 0x8180 /* QR, RD, RA */
#define MESSAGE_TRUNCATED 0x0200

enum { MESSAGE_QUESTION, MESSAGE_ANSWER, MESSAGE_AUTHORITY, MESSAGE_ADDITIONAL };

#define DNS_TYPE_A 1
#define DNS_TYPE_CNAME 5
#define DNS_TYPE_AAAA 28

struct message {
    uint8_t bytes[65536];
    size_t size;
};

static inline void message_put_u16(struct message *message, size_t at, unsigned value)
{
    message->bytes[at] = (uint8_t)(value >> 8);
    message->bytes[at + 1] = (uint8_t)value;
}

static inline void message_add(struct message *message, const void *bytes, size_t size)
{
    assert_true(size <= sizeof(message->bytes) - message->size);
    memcpy(message->bytes + message->size, bytes, size);
    message->size += size;
}

static inline void message_add_u16(struct message *message, unsigned value)
{
    const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    message_add(message, bytes, sizeof(bytes));
}

static inline void message_set_flags(struct message *message, unsigned flags)
{
    message_put_u16(message, 2, flags);
}

static inline void message_set_count(struct message *message, unsigned section, unsigned count)
{
    message_put_u16(message, 4 + 2 * section, count);
}

/* The query's id and question, and no records. */
static inline void message_begin(struct message *message, const struct dns_query *query,
                                 unsigned rcode)
{
    message->size = 0;
    message_add(message, query->bytes, query->size);
    message_set_flags(message, MESSAGE_REPLY | rcode);
}

/* Under a pointer to the question's name. */
static inline void message_add_record(struct message *message, unsigned type, const void *data,
                                      size_t size)
{
    message_add_u16(message, 0xc000 | DNS_HEADER_SIZE);
    message_add_u16(message, type);
    message_add_u16(message, DNS_CLASS_IN);
    message_add(message, "\0\0\1\x2c", 4);
    message_add_u16(message, (unsigned)size);
    message_add(message, data, size);
}

static inline void message_answer(struct message *message, unsigned type, const void *data,
                                  size_t size)
{
    unsigned count = (unsigned)message->bytes[6] << 8 | message->bytes[7];
    message_add_record(message, type, data, size);
    message_set_count(message, MESSAGE_ANSWER, count + 1);
}
