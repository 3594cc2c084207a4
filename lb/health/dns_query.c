/*
 * Purpose: see dns_query.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 *
 * Recursion is desired (RD): a resolver that cannot recurse is of no use, and an authoritative
 * server does not mind. There is no EDNS: what a probe asks for is short, and a reply that is cut
 * at 512 bytes is one too.
 */
#include "lb/health/dns_query.h"

#include <string.h>

#define LABEL_MAX 63
#define FLAGS_RECURSION_DESIRED 0x0100

static void add(struct dns_query *query, const void *bytes, size_t size)
{
    BUG_ON(size > sizeof(query->bytes) - query->size);
    memcpy(query->bytes + query->size, bytes, size);
    query->size += size;
}

static void add_u16(struct dns_query *query, unsigned value)
{
    const uint8_t bytes[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    add(query, bytes, sizeof(bytes));
}

static void add_label(struct dns_query *query, const char *label, size_t length)
{
    BUG_ON(length > LABEL_MAX);
    const uint8_t prefix = (uint8_t)length;
    add(query, &prefix, 1);
    add(query, label, length);
}

static void add_name(struct dns_query *query, const char *name)
{
    size_t before = query->size;
    for (size_t length = strcspn(name, "."); length > 0; length = strcspn(name, ".")) {
        add_label(query, name, length);
        name += length;
        name += *name == '.';
    }
    add_label(query, "", 0);
    query->name_size = query->size - before;
    BUG_ON(query->name_size > DNS_NAME_MAX);
}

void dns_query_init(struct dns_query *query, const char *name, uint16_t type, uint16_t id)
{
    *query = (struct dns_query){.id = id, .type = type};
    add_u16(query, id);
    add_u16(query, FLAGS_RECURSION_DESIRED);
    add_u16(query, 1); /* questions */
    for (int section = 0; section < 3; section++)
        add_u16(query, 0);
    add_name(query, name);
    add_u16(query, type);
    add_u16(query, DNS_CLASS_IN);
}
