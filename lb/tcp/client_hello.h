/*
 * Purpose: reads the first bytes of a connection as a TLS ClientHello (RFC 8446 §4.1.2): which name
 *          and which protocols the client asks for. No TLS is terminated.
 * Thread:  any.
 * Owns:    nothing: bytes are looked at once and not kept; nothing is allocated.
 * Fails:   CLIENT_HELLO_WRONG, with a phrase; the bytes may still be relayed, or not.
 *
 * Private to lb/tcp. No socket and no clock in here. With an encrypted hello (ECH) it is the outer
 * one that is read: the inner one is not for a balancer to know.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

enum client_hello_result {
    CLIENT_HELLO_WHOLE,
    CLIENT_HELLO_PARTIAL, /* more bytes may complete it */
    CLIENT_HELLO_NOT_TLS,
    CLIENT_HELLO_WRONG,
};

#define CLIENT_HELLO_SNI_MAX 255
#define CLIENT_HELLO_ALPN_MAX 255

struct client_hello {
    char sni[CLIENT_HELLO_SNI_MAX + 1]; /* lower case, a trailing dot removed; "": none */
    uint16_t alpn_length;
    /* The names as offered, each behind a byte of its length, but for those of GREASE (RFC 8701
     * §2); a name that does not fit whole is left off. */
    uint8_t alpn[CLIENT_HELLO_ALPN_MAX];
};

/*
 * Reads the hello that `bytes` begin with; what follows it is not looked at. *out is written when
 * WHOLE is returned and *why, a phrase, when WRONG is; both are untouched otherwise.
 *
 * The result stands as soon as a byte proves it: of the beginnings of any bytes, the shorter are
 * PARTIAL, and from some length on all have one and the same other result. NOT_TLS is a matter of
 * the first two bytes. Each call reads from the start, in time linear in `size`.
 */
must_check enum client_hello_result client_hello_read(const uint8_t *bytes, size_t size,
                                                      struct client_hello *out, const char **why);

/* Is `protocol`, such as "h2", among the names? They are compared byte by byte, RFC 7301 §3.2. */
bool client_hello_offers(const struct client_hello *hello, const char *protocol);
