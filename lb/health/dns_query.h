/*
 * Purpose: one question to a name server as a datagram (RFC 1035 §4.1).
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never: a name of another form than the configuration lets through is a bug.
 *
 * Private to lb/health.
 */
#pragma once

#include "common/base.h"

#include <stdint.h>

#define DNS_HEADER_SIZE 12
#define DNS_NAME_MAX 255 /* in the message, RFC 1035 §3.1 */
#define DNS_QUESTION_MAX (DNS_NAME_MAX + 4)
#define DNS_CLASS_IN 1

struct dns_query {
    uint16_t id;
    uint16_t type;
    size_t name_size;
    size_t size;
    uint8_t bytes[DNS_HEADER_SIZE + DNS_QUESTION_MAX];
};

/* `name` is labels between dots, with a dot at the end or without; "." is the root. */
void dns_query_init(struct dns_query *query, const char *name, uint16_t type, uint16_t id);

static inline const uint8_t *dns_query_name(const struct dns_query *query)
{
    return query->bytes + DNS_HEADER_SIZE;
}
