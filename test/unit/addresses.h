/*
 * Purpose: addresses and networks of a test, from texts that are right.
 * Thread:  any.
 * Owns:    nothing: all are values.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/address.h"
#include "common/network.h"

/* "127.0.0.1:80" */
static inline union inet_address endpoint_of(const char *text)
{
    struct address address;
    const char *why = NULL;

    if (address_parse(&address, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    return address.inet;
}

/* "127.0.0.1"; port 0. */
static inline union inet_address host_of(const char *text)
{
    union inet_address address;
    const char *why = NULL;

    if (inet_address_parse(&address, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    return address;
}

/* "10.0.0.0/8" */
static inline struct network network_of(const char *text)
{
    struct network network;
    const char *why = NULL;

    if (network_parse(&network, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    return network;
}
