/*
 * Purpose: datagrams with PROXY headers, as fronts send them and servers get them.
 * Thread:  the test's.
 * Owns:    nothing.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/proxy_header.h"
#include "test/unit/lb/udp/world.h"

#define HEADED_MAX 65536

static inline size_t headed_write(uint8_t *out, const struct proxy_write *header, const void *bytes,
                                  size_t length)
{
    size_t used = proxy_header_write(header, out, HEADED_MAX);

    assert_true(used > 0);
    memcpy(out + used, bytes, length);
    return used + length;
}

static inline struct proxy_write headed_of(const char *source, const char *destination)
{
    return (struct proxy_write){.version = 2,
                                .source = endpoint_of(source),
                                .destination = endpoint_of(destination),
                                .type = SOCK_DGRAM};
}

/* A front sends what a client of that address has said to 192.0.2.1:53. */
static inline void headed_say(struct world *w, int front, const char *client, const char *text)
{
    struct proxy_write header =
        headed_of(client, client[0] == '[' ? "[2001:db8::53]:53" : "192.0.2.1:53");
    uint8_t bytes[1024];

    peer_send(front, bytes, headed_write(bytes, &header, text, strlen(text)), &w->entry);
}

/* The next datagram of the socket begins with a header, which is returned; its views hold until the
 * next one. */
static inline struct proxy_header headed_read(struct world *w, int fd, const void *bytes,
                                              size_t length, union inet_address *from)
{
    static uint8_t heard[HEADED_MAX];
    size_t got = world_read(w, fd, heard, sizeof(heard), from);
    struct proxy_header header;
    const char *why = "";

    if (proxy_header_read(heard, got, &header, &why) != PROXY_WHOLE)
        fail_msg("no header: %s", why);
    assert_int_equal(header.version, 2);
    assert_int_equal(got - header.length, length);
    assert_memory_equal(heard + header.length, bytes, length);
    return header;
}

static inline void headed_assert(const struct proxy_header *header,
                                 const union inet_address *source,
                                 const union inet_address *destination)
{
    assert_false(header->local);
    assert_int_equal(header->type, SOCK_DGRAM);
    assert_true(inet_address_equal(&header->source, source));
    assert_true(inet_address_equal(&header->destination, destination));
}

/* Server `i` hears the text behind the header of a client that came to the listener itself. */
static inline union inet_address headed_hear(struct world *w, size_t i, int client,
                                             const char *text)
{
    union inet_address source = peer_name(client), from;
    struct proxy_header header = headed_read(w, w->socket[i], text, strlen(text), &from);

    headed_assert(&header, &source, &w->entry);
    return from;
}
