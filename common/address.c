/*
 * Purpose: the text, the comparison and the hash of addresses.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see address.h.
 */
#include "common/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define UNIX_PREFIX "unix:"

/* ---- From text ---- */

static int refuse(const char **why, const char *phrase)
{
    *why = phrase;
    return -EINVAL;
}

/* Digits only: strtoul(3) would take signs and spaces too. */
static int parse_port(const char *text, in_port_t *out, const char **why)
{
    if (*text == '\0')
        return refuse(why, "the port is missing");
    unsigned long port = 0;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return refuse(why, "the port is not a number");
        port = port * 10 + (unsigned long)(*c - '0');
        if (port > UINT16_MAX)
            return refuse(why, "the port is above 65535");
    }
    *out = htons((uint16_t)port);
    return 0;
}

static int parse_unix(struct address *out, const char *path, const char **why)
{
    size_t size = strlen(path) + 1;
    if (path[0] != '/')
        return refuse(why, "the path of a Unix socket must begin with /");
    if (size > sizeof(out->un.sun_path))
        return refuse(why, "the path of a Unix socket is longer than 107 bytes");
    *out = (struct address){.un.sun_family = AF_UNIX};
    memcpy(out->un.sun_path, path, size);
    out->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return 0;
}

/* Copies [from, to) as a string; an empty one when it does not fit, which no host parser takes. */
static void copy_host(char *out, size_t size, const char *from, const char *to)
{
    size_t length = (size_t)(to - from);
    if (length >= size)
        length = 0;
    memcpy(out, from, length);
    out[length] = '\0';
}

static int parse_v4(struct address *out, const char *text, const char *colon, const char **why)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN];
    copy_host(host, sizeof(host), text, colon);
    if (inet_pton(AF_INET, host, &v4.sin_addr) != 1)
        return refuse(why, "this is not an IP address, and names are not resolved");
    int rc = parse_port(colon + 1, &v4.sin_port, why);
    if (rc < 0)
        return rc;
    *out = (struct address){.v4 = v4, .length = sizeof(v4)};
    return 0;
}

/* The number of an interface, given by name or as a number; 0 when there is none. */
static uint32_t parse_scope(const char *text)
{
    /* Of lo:x the kernel looks at lo alone, whatever x is. */
    if (strchr(text, ':') != NULL)
        return 0;
    uint32_t scope = if_nametoindex(text);
    if (scope > 0 || text[0] < '0' || text[0] > '9')
        return scope;
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    return *end == '\0' && number <= INT32_MAX ? (uint32_t)number : 0;
}

static int parse_v6_host(struct sockaddr_in6 *v6, char *host, const char **why)
{
    char *percent = strchr(host, '%');
    if (percent != NULL)
        *percent = '\0';
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return refuse(why, "what stands in brackets is not an IPv6 address");
    bool link_local = IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr);
    if (percent == NULL)
        return link_local
                   ? refuse(why, "a link-local address needs its interface, as in fe80::1%eth0")
                   : 0;
    if (!link_local)
        return refuse(why, "only a link-local address has an interface");
    v6->sin6_scope_id = parse_scope(percent + 1);
    return v6->sin6_scope_id > 0 ? 0 : refuse(why, "there is no such interface");
}

static int parse_v6(struct address *out, const char *text, const char **why)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
    const char *close = strchr(text, ']');
    if (close == NULL)
        return refuse(why, "the closing bracket is missing");
    copy_host(host, sizeof(host), text + 1, close);
    int rc = parse_v6_host(&v6, host, why);
    if (rc < 0)
        return rc;
    if (close[1] != ':')
        return refuse(why, "the port is missing");
    rc = parse_port(close + 2, &v6.sin6_port, why);
    if (rc < 0)
        return rc;
    *out = (struct address){.v6 = v6, .length = sizeof(v6)};
    return 0;
}

static int parse_any(struct address *out, const char *port, const char **why)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any};
    int rc = parse_port(port, &v6.sin6_port, why);
    if (rc < 0)
        return rc;
    *out = (struct address){.v6 = v6, .length = sizeof(v6)};
    return 0;
}

int address_parse(struct address *out, const char *text, const char **why)
{
    if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
        return parse_unix(out, text + strlen(UNIX_PREFIX), why);
    if (text[0] == '[')
        return parse_v6(out, text, why);
    if (strncmp(text, "*:", 2) == 0)
        return parse_any(out, text + 2, why);

    const char *colon = strchr(text, ':');
    if (colon == text || *text == '\0')
        return refuse(why, "the address is missing");
    if (colon == NULL)
        return refuse(why, "the port is missing");
    if (strchr(colon + 1, ':') != NULL)
        return refuse(why, "an IPv6 address needs brackets, as in [2001:db8::1]:80");
    return parse_v4(out, text, colon, why);
}

int inet_address_parse(union inet_address *out, const char *text, const char **why)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        *out = (union inet_address){.v4 = v4};
        return 0;
    }
    copy_host(host, sizeof(host), text, text + strlen(text));
    int rc = parse_v6_host(&v6, host, why);
    if (rc == 0)
        *out = (union inet_address){.v6 = v6};
    return rc;
}

/* ---- To text ---- */

static void format_v4(const struct sockaddr_in *v4, char text[ADDRESS_TEXT_MAX])
{
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
    snprintf(text, ADDRESS_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(v4->sin_port));
}

static void format_v6(const struct sockaddr_in6 *v6, char text[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    char name[IF_NAMESIZE];
    unsigned port = ntohs(v6->sin6_port);
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
    if (v6->sin6_scope_id == 0)
        snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u", host, port);
    else if (if_indextoname(v6->sin6_scope_id, name) != NULL)
        snprintf(text, ADDRESS_TEXT_MAX, "[%s%%%s]:%u", host, name, port);
    else
        snprintf(text, ADDRESS_TEXT_MAX, "[%s%%%u]:%u", host, v6->sin6_scope_id, port);
}

char *inet_address_format(const union inet_address *address, char text[ADDRESS_TEXT_MAX])
{
    if (address->any.sa_family == AF_INET6)
        format_v6(&address->v6, text);
    else
        format_v4(&address->v4, text);
    return text;
}

char *inet_host_format(const union inet_address *address, char text[ADDRESS_TEXT_MAX])
{
    size_t brackets = address->any.sa_family == AF_INET6;
    inet_address_format(address, text);
    size_t length = (size_t)(strrchr(text, ':') - text) - 2 * brackets;
    memmove(text, text + brackets, length);
    text[length] = '\0';
    return text;
}

char *address_format(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    if (address_is_inet(address))
        return inet_address_format(&address->inet, text);
    /* The kernel may fill sun_path to its end and leave the NUL out: unix(7). */
    snprintf(text, ADDRESS_TEXT_MAX, UNIX_PREFIX "%.*s", (int)sizeof(address->un.sun_path),
             address->un.sun_path);
    return text;
}

/* ---- Questions ---- */

bool address_is_inet(const struct address *address)
{
    return address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6;
}

bool inet_address_same_host(const union inet_address *a, const union inet_address *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr) &&
           a->v6.sin6_scope_id == b->v6.sin6_scope_id;
}

bool inet_address_equal(const union inet_address *a, const union inet_address *b)
{
    return inet_address_same_host(a, b) && inet_address_port(a) == inet_address_port(b);
}

bool address_equal(const struct address *a, const struct address *b)
{
    if (a->any.sa_family == AF_UNIX && b->any.sa_family == AF_UNIX)
        return strncmp(a->un.sun_path, b->un.sun_path, sizeof(a->un.sun_path)) == 0;
    return address_is_inet(a) && inet_address_equal(&a->inet, &b->inet);
}

bool inet_address_is_wildcard(const union inet_address *address)
{
    if (address->any.sa_family == AF_INET)
        return address->v4.sin_addr.s_addr == htonl(INADDR_ANY);
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address->v6.sin6_addr);
}

bool inet_address_is_loopback(const union inet_address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

bool inet_address_is_multicast(const union inet_address *address)
{
    if (address->any.sa_family == AF_INET)
        return IN_MULTICAST(ntohl(address->v4.sin_addr.s_addr));
    return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_MULTICAST(&address->v6.sin6_addr);
}

bool inet_address_is_broadcast(const union inet_address *address)
{
    return address->any.sa_family == AF_INET &&
           address->v4.sin_addr.s_addr == htonl(INADDR_BROADCAST);
}

bool address_is_wildcard(const struct address *address)
{
    return address_is_inet(address) && inet_address_is_wildcard(&address->inet);
}

uint16_t inet_address_port(const union inet_address *address)
{
    bool is_v6 = address->any.sa_family == AF_INET6;
    return ntohs(is_v6 ? address->v6.sin6_port : address->v4.sin_port);
}

uint16_t address_port(const struct address *address)
{
    return address_is_inet(address) ? inet_address_port(&address->inet) : 0;
}

/* ---- For hashing ---- */

void inet_address_fold(union inet_address *address)
{
    if (address->any.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        return;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = address->v6.sin6_port};
    memcpy(&v4.sin_addr, &address->v6.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
    *address = (union inet_address){.v4 = v4};
}

uint64_t inet_address_hash(const union inet_address *address, bool with_port, uint64_t seed)
{
    union inet_address folded = *address;
    inet_address_fold(&folded);

    bool is_v6 = folded.any.sa_family == AF_INET6;
    const void *host = is_v6 ? (const void *)&folded.v6.sin6_addr : &folded.v4.sin_addr;
    in_port_t port = is_v6 ? folded.v6.sin6_port : folded.v4.sin_port;

    unsigned char key[sizeof(struct in6_addr) + sizeof(port)];
    size_t length = is_v6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
    memcpy(key, host, length);
    if (with_port) {
        memcpy(key + length, &port, sizeof(port));
        length += sizeof(port);
    }
    return XXH3_64bits_withSeed(key, length, seed);
}
