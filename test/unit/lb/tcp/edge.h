/*
 * Purpose: the surroundings of sessions whose clients say first who they are.
 * Thread:  the test's.
 * Owns:    nothing but the world.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/network.h"
#include "test/unit/lb/tcp/world.h"

static struct network edge_loopback[1];
static const struct config_networks edge_senders = {.network = edge_loopback, .count = 1};

static inline void edge_open(struct world *w)
{
    const char *why;

    assert_int_equal(network_parse(&edge_loopback[0], "127.0.0.0/8", &why), 0);
    world_init(w);
    w->policy.proxy_in = CONFIG_PROXY_REQUIRED;
    w->policy.proxy_from = &edge_senders;
    w->policy.preread_timeout_ms = 1000;
    w->policy.preread_max = 4096;
    world_open_with(w, WORLD_START_MS, 100);
}

static inline void edge_say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* All that the socket has, once `size` bytes of it are there. */
static inline void edge_gets(struct world *w, int fd, const char *text)
{
    char got[512] = "";
    size_t size = strlen(text);

    WORLD_UNTIL(w, recv(fd, got, sizeof(got), MSG_DONTWAIT | MSG_PEEK) >= (ssize_t)size);
    assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), size);
    assert_memory_equal(got, text, size);
}

static inline void edge_send(int fd, const uint8_t *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

/* A PROXY header of `size` bytes: what is behind the addresses is of no type that we know. */
static inline void edge_begin_v2(uint8_t *bytes, size_t size)
{
    static const uint8_t begin[] = {
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 0,
        192,  0,    2,    7,    198,  51,   100,  1,    0x12, 0x67, 0x01, 0xbb, 0x04, 0,    0};

    memset(bytes, 0, size);
    memcpy(bytes, begin, sizeof(begin));
    bytes[14] = (uint8_t)((size - 16) >> 8);
    bytes[15] = (uint8_t)(size - 16);
    bytes[29] = (uint8_t)((size - sizeof(begin)) >> 8);
    bytes[30] = (uint8_t)(size - sizeof(begin));
}

#define EDGE_LINE "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
