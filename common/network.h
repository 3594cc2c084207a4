/*
 * Purpose: networks of IP addresses, such as 10.0.0.0/8: text to binary and back, and membership.
 * Thread:  any.
 * Owns:    nothing: networks are values.
 * Fails:   network_parse says why in one phrase; the rest cannot fail.
 *
 * IPv4 networks are held as the IPv4-mapped IPv6 ones that they are too (RFC 4291 §2.5.5.2), so
 * that one table holds both: 10.0.0.0/8 has 96 + 8 bits.
 */
#pragma once

#include "common/address.h"

#include <netinet/in.h>

struct network {
    struct in6_addr address; /* bits behind the prefix are 0 */
    uint8_t bits;            /* 0 to 128 */
};

/* The longest text network_format writes, with its NUL. */
#define NETWORK_TEXT_MAX (INET6_ADDRSTRLEN + 4)

/*
 * Reads "10.0.0.0/8", "2001:db8::/32", or one address without a prefix length. Returns 0, or
 * -EINVAL with *why set to a phrase such as "bits are set behind the prefix: the network
 * is 10.0.0.0/8"; *out is untouched then. The phrase lasts until this thread's next call of
 * network_parse.
 */
must_check int network_parse(struct network *out, const char *text, const char **why);

/* Writes what network_parse reads; an IPv4 network as one of IPv4. Returns `text`. */
char *network_format(const struct network *network, char text[NETWORK_TEXT_MAX]);

/* By address, then by length; 0: they are the same. */
int network_compare(const struct network *a, const struct network *b);

/* Is the (folded or mapped) address in it? The port does not matter. */
bool network_has(const struct network *network, const union inet_address *address);

/* Is it in one of them? Looks at all: for a handful; common/networks.h is for more. */
bool network_any_has(const struct network *network, size_t count,
                     const union inet_address *address);

/* The address as the table has it: 16 bytes, IPv4 mapped. */
struct in6_addr network_map(const union inet_address *address);

/* The first `bits` bits of a mapped address, the others 0. */
struct in6_addr network_mask(const struct in6_addr *address, uint8_t bits);
