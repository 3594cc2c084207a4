/*
 * Purpose: addresses of sockets: text to binary and back, equality, hashing.
 * Thread:  any.
 * Owns:    nothing: addresses are values.
 * Fails:   address_parse says why in one phrase; the rest cannot fail.
 */
#pragma once

#include "common/base.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* An IPv4 or IPv6 address and port: what a client has. 28 bytes, so that a session can hold it. */
union inet_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Any address weir can listen on or connect to. `length` is what bind(2) and connect(2) want. */
struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
        union inet_address inet;
    };
    socklen_t length;
};

/* The longest text address_format writes, with its NUL: "unix:" and a full sun_path. */
#define ADDRESS_TEXT_MAX 128

/*
 * Reads "10.0.0.1:80", "[2001:db8::1]:80", "[fe80::1%eth0]:80", "*:80" (the IPv6 wildcard) or
 * "unix:/path". Names are not resolved. Returns 0, or -EINVAL with *why set to a phrase such as
 * "the port is missing"; *out is untouched then. Port 0 is read too: whether it makes sense is the
 * caller's to say.
 */
must_check int address_parse(struct address *out, const char *text, const char **why);

/*
 * Reads an IP address by itself: "10.0.0.1", "2001:db8::1", "fe80::1%eth0". As address_parse; the
 * port is 0.
 */
must_check int inet_address_parse(union inet_address *out, const char *text, const char **why);

/* Writes what address_parse reads; never more than ADDRESS_TEXT_MAX bytes. Returns `text`. */
char *address_format(const struct address *address, char text[ADDRESS_TEXT_MAX]);
char *inet_address_format(const union inet_address *address, char text[ADDRESS_TEXT_MAX]);
/* Without the port: what inet_address_parse reads. */
char *inet_host_format(const union inet_address *address, char text[ADDRESS_TEXT_MAX]);

bool address_equal(const struct address *a, const struct address *b);
/* As they are: an IPv4-mapped address differs from the IPv4 address it stands for. */
bool inet_address_equal(const union inet_address *a, const union inet_address *b);
bool address_is_inet(const struct address *address);
/* True for 0.0.0.0 and [::]. */
bool address_is_wildcard(const struct address *address);
bool inet_address_is_wildcard(const union inet_address *address);
bool inet_address_is_loopback(const union inet_address *address);
bool inet_address_is_multicast(const union inet_address *address);
/* True for 255.255.255.255. */
bool inet_address_is_broadcast(const union inet_address *address);
/* As they are, the ports apart. */
bool inet_address_same_host(const union inet_address *a, const union inet_address *b);

/* 0 for a Unix socket. */
uint16_t address_port(const struct address *address);
uint16_t inet_address_port(const union inet_address *address);

/* Turns an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) into the IPv4 address it stands for. */
void inet_address_fold(union inet_address *address);

/*
 * A hash of the folded address, with or without its port, that is the same on every machine and in
 * every version: instances must agree on it (maglev). XXH3-64 over the 4 or 16 address bytes in
 * network order, then the 2 port bytes.
 */
uint64_t inet_address_hash(const union inet_address *address, bool with_port, uint64_t seed);
