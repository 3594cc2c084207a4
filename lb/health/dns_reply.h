/*
 * Purpose: reads one datagram as the reply to a query (RFC 1035 §4.1): what it says, or why it
 *          cannot be one.
 * Thread:  any.
 * Owns:    nothing: bytes are looked at once and not kept.
 * Fails:   DNS_REPLY_BROKEN, with a phrase in `why`.
 *
 * Private to lb/health. No socket and no clock in here.
 */
#pragma once

#include "lb/health/dns_query.h"

#include <stdbool.h>

enum dns_reply_state {
    DNS_REPLY_FOREIGN, /* it carries another id, or none: no word on this query */
    DNS_REPLY_BROKEN,
    DNS_REPLY_WHOLE,
    DNS_REPLY_TRUNCATED, /* the server says so (TC): there is more that did not fit */
};

/* The data of a record that is looked for: an address is 4 bytes (A) or 16 (AAAA). */
struct dns_data {
    uint8_t bytes[16];
    size_t size;
};

/* What a reply that is whole or truncated says. */
struct dns_reply {
    const char *why;  /* of DNS_REPLY_BROKEN */
    unsigned rcode;   /* RFC 1035 §4.1.1 */
    unsigned answers; /* records of the answer section that are there */
    bool found;       /* among them one of the query's type with the data that was looked for */
};

/* `wanted` may be NULL: `found` is false then. */
must_check enum dns_reply_state dns_reply_read(struct dns_reply *out, const struct dns_query *query,
                                               const struct dns_data *wanted, const uint8_t *bytes,
                                               size_t size);
