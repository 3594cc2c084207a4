/*
 * Purpose: the text of networks, and what is in them.
 * Thread:  any.
 * Owns:    one phrase per thread: see network_parse.
 * Fails:   see network.h.
 */
#include "common/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define V4_BITS 32
#define V6_BITS 128
/* What stands before an IPv4 address that is mapped: ::ffff:0:0/96. */
#define MAPPED_BITS 96

/* ---- Bits ---- */

static struct in6_addr map_v4(const struct in_addr *v4)
{
    struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&mapped.s6_addr[12], v4, sizeof(*v4));
    return mapped;
}

/* The bits of byte number `index` that a prefix of `bits` bits covers. */
static uint8_t byte_mask(unsigned index, unsigned bits)
{
    unsigned before = index * 8;
    if (bits <= before)
        return 0;
    return (uint8_t)(0xff00u >> MIN(bits - before, 8u));
}

struct in6_addr network_mask(const struct in6_addr *address, uint8_t bits)
{
    struct in6_addr masked;
    for (unsigned i = 0; i < sizeof(masked.s6_addr); i++)
        masked.s6_addr[i] = address->s6_addr[i] & byte_mask(i, bits);
    return masked;
}

struct in6_addr network_map(const union inet_address *address)
{
    return address->any.sa_family == AF_INET6 ? address->v6.sin6_addr
                                              : map_v4(&address->v4.sin_addr);
}

bool network_has(const struct network *network, const union inet_address *address)
{
    struct in6_addr mapped = network_map(address);
    struct in6_addr masked = network_mask(&mapped, network->bits);
    return IN6_ARE_ADDR_EQUAL(&masked, &network->address);
}

int network_compare(const struct network *a, const struct network *b)
{
    int order = memcmp(&a->address, &b->address, sizeof(a->address));
    return order != 0 ? order : a->bits - b->bits;
}

bool network_any_has(const struct network *network, size_t count, const union inet_address *address)
{
    for (size_t i = 0; i < count; i++) {
        if (network_has(&network[i], address))
            return true;
    }
    return false;
}

/* ---- From text ---- */

static int refuse(const char **why, const char *phrase)
{
    *why = phrase;
    return -EINVAL;
}

/* The part before the slash: *width is 32 or 128. */
static int parse_host(struct in6_addr *out, unsigned *width, const char *text, size_t length,
                      const char **why)
{
    char host[INET6_ADDRSTRLEN];
    struct in_addr v4;
    if (length == 0)
        return refuse(why, "the address is missing");
    if (length >= sizeof(host))
        return refuse(why, "this is not an IP address");
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET6, host, out) == 1) {
        *width = V6_BITS;
        return 0;
    }
    if (inet_pton(AF_INET, host, &v4) != 1)
        return refuse(why, "this is not an IP address");
    *out = map_v4(&v4);
    *width = V4_BITS;
    return 0;
}

/* Digits only, and no more than three: strtoul(3) would take signs and spaces too. */
static int parse_bits(unsigned *out, unsigned width, const char *text, const char **why)
{
    unsigned bits = 0;
    if (*text == '\0')
        return refuse(why, "the prefix length is missing");
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return refuse(why, "the prefix length is not a number");
        bits = bits * 10 + (unsigned)(*c - '0');
        if (bits > width)
            return refuse(why, width == V4_BITS ? "the prefix length is above 32"
                                                : "the prefix length is above 128");
    }
    *out = bits;
    return 0;
}

/* Whoever wrote 10.1.2.3/8 meant either 10.1.2.3 or 10.0.0.0/8: which, is not ours to guess. */
static int refuse_bits(const char **why, const struct network *meant)
{
    static _Thread_local char
        phrase[sizeof("bits are set behind the prefix: the network is ") + NETWORK_TEXT_MAX];
    char text[NETWORK_TEXT_MAX];
    snprintf(phrase, sizeof(phrase), "bits are set behind the prefix: the network is %s",
             network_format(meant, text));
    return refuse(why, phrase);
}

int network_parse(struct network *out, const char *text, const char **why)
{
    const char *slash = strchrnul(text, '/');
    struct in6_addr address;
    unsigned width;
    int rc = parse_host(&address, &width, text, (size_t)(slash - text), why);
    if (rc < 0)
        return rc;
    unsigned bits = width;
    if (*slash == '/')
        rc = parse_bits(&bits, width, slash + 1, why);
    if (rc < 0)
        return rc;
    bits += V6_BITS - width;
    struct network network = {.address = network_mask(&address, (uint8_t)bits),
                              .bits = (uint8_t)bits};
    if (!IN6_ARE_ADDR_EQUAL(&network.address, &address))
        return refuse_bits(why, &network);
    *out = network;
    return 0;
}

/* ---- To text ---- */

char *network_format(const struct network *network, char text[NETWORK_TEXT_MAX])
{
    const struct in6_addr *address = &network->address;
    bool is_v4 = network->bits >= MAPPED_BITS && IN6_IS_ADDR_V4MAPPED(address);
    unsigned bits = network->bits - (is_v4 ? MAPPED_BITS : 0u);
    char host[INET6_ADDRSTRLEN];
    if (is_v4)
        inet_ntop(AF_INET, &address->s6_addr[12], host, sizeof(host));
    else
        inet_ntop(AF_INET6, address, host, sizeof(host));
    snprintf(text, NETWORK_TEXT_MAX, "%s/%u", host, bits);
    return text;
}
