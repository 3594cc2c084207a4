/*
 * Purpose: a book of ports, two addresses of ours and a server, with a range of 1,000 ports and a
 *          clock that the test turns.
 * Thread:  the test's.
 * Owns:    the book; fixture_end frees it.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "lb/ports/ports.h"
#include "test/unit/addresses.h"

#define RANGE 1000

static struct ports_book book;
static struct port_range range;
static uint64_t now;

static inline void fixture_begin(void)
{
    now = 1000000;
    range = (struct port_range){.first = 40000, .last = 40999, .tcp = RANGE, .udp = RANGE};
    ports_book_init(&book);
    ports_book_advance(&book, &range, now);
}

static inline void fixture_end(void)
{
    ports_book_deinit(&book);
}

/* The addresses end with a NULL. */
static inline struct ports *ports_of(enum ports_protocol protocol, const char *server_text,
                                     const char *const *source_text)
{
    union inet_address source[PORTS_ADDRESSES];
    union inet_address server = endpoint_of(server_text);
    struct ports_user user = {"web", "a", &server, source, 0};
    struct ports *ports = NULL;
    for (; source_text[user.source_count] != NULL; user.source_count++)
        source[user.source_count] = endpoint_of(source_text[user.source_count]);
    assert_int_equal(ports_new(&book, protocol, &user, &ports), 0);
    return ports;
}

static const char *const two[] = {"10.0.0.5:0", "10.0.0.6:0", NULL};

static inline struct ports *two_of(enum ports_protocol protocol)
{
    return ports_of(protocol, "10.0.0.80:80", two);
}

static inline void pass(uint64_t ms)
{
    for (uint64_t until = now + ms; now < until;) {
        now += MIN(until - now, 200u);
        ports_book_advance(&book, &range, now);
    }
}

static inline void take(struct ports *ports, unsigned count)
{
    while (count-- > 0)
        assert_int_not_equal(ports_take(ports, 0, now), PORTS_NONE);
}

static inline void give(struct ports *ports, uint8_t index, unsigned count)
{
    while (count-- > 0)
        ports_give(ports, index);
}
