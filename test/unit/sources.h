/*
 * Purpose: addresses of ours that a test's server is connected to from.
 * Thread:  the test's.
 * Owns:    the server has a reference to its ports; the book is the test's.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "lb/pool/pool.h"
#include "test/unit/addresses.h"

static inline void sources_give(struct ports_book *book, struct server *server,
                                enum ports_protocol protocol, const char *const *hosts,
                                size_t count)
{
    union inet_address source[CONFIG_SOURCES_MAX];
    struct ports_user user = {server->pool, server->name, &server->address.inet, source, count};

    for (size_t i = 0; i < count; i++)
        source[i] = host_of(hosts[i]);
    assert_int_equal(ports_new(book, protocol, &user, &server->ports[protocol]), 0);
}
