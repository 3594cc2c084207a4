/*
 * Purpose: connected pairs of loopback sockets, and the bytes that pass through them.
 * Thread:  the test's.
 * Owns:    nothing: the test closes.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/base.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A wait that long is a hang. */
#define PAIR_PATIENCE_MS 10000

static inline void pair_option(int fd, int level, int name, int value)
{
    if (value > 0)
        assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

/* A listener of 127.0.0.1 on a port of the kernel's choice. */
static inline int pair_listen(struct sockaddr_in *out, int backlog, int rcvbuf)
{
    socklen_t length = sizeof(*out);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    pair_option(fd, SOL_SOCKET, SO_RCVBUF, rcvbuf);
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)out, sizeof(*out)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)out, &length), 0);
    return fd;
}

static inline void pair_wait(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};

    assert_int_equal(poll(&wait, 1, PAIR_PATIENCE_MS), 1);
}

/* Until one of them is ready. */
static inline void pair_wait_either(int fd, short events, int other, short other_events)
{
    struct pollfd wait[] = {{.fd = fd, .events = events}, {.fd = other, .events = other_events}};

    assert_true(poll(wait, ARRAY_LEN(wait), PAIR_PATIENCE_MS) > 0);
}

static inline int pair_accept(int listener)
{
    int fd;

    pair_wait(listener, POLLIN);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* fd[0] connected to fd[1]; buffers of fd[0] for sending and of fd[1] for receiving, 0: as usual.
 */
static inline void pair_tcp(int fd[2], int sndbuf, int rcvbuf)
{
    struct sockaddr_in address;
    int listener = pair_listen(&address, 1, rcvbuf);

    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd[0] >= 0);
    pair_option(fd[0], SOL_SOCKET, SO_SNDBUF, sndbuf);
    pair_option(fd[0], IPPROTO_TCP, TCP_NODELAY, 1);
    assert_int_equal(connect(fd[0], (struct sockaddr *)&address, sizeof(address)), 0);
    fd[1] = pair_accept(listener);
    assert_int_equal(ioctl(fd[0], FIONBIO, &(int){1}), 0);
    pair_option(fd[1], SOL_SOCKET, SO_OOBINLINE, 1);
    close(listener);
}

static inline void pair_unix(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

static inline void pair_reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(fd);
}

/* The byte at a place of a stream: no period that a buffer's size could divide. */
static inline uint8_t pair_byte(uint64_t place)
{
    uint64_t mixed = (place + 1) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint8_t)(mixed >> 56);
}

/* Sends what the socket takes of the stream from `place` on, `count` bytes at most. */
static inline uint64_t pair_feed(int fd, uint64_t place, uint64_t count)
{
    uint8_t bytes[16384];
    uint64_t fed = 0;

    while (fed < count) {
        size_t size = (size_t)MIN(count - fed, sizeof(bytes));
        for (size_t i = 0; i < size; i++)
            bytes[i] = pair_byte(place + fed + i);
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            assert_int_equal(errno, EAGAIN);
        if (sent <= 0)
            break;
        fed += (uint64_t)sent;
    }
    return fed;
}

struct pair_eaten {
    uint64_t place; /* of the next byte of the stream */
    bool end;       /* a FIN came */
    int error;      /* or this did */
};

/* Reads what has come, `most` bytes at most, and compares it with the stream. */
static inline uint64_t pair_eat(int fd, struct pair_eaten *eaten, uint64_t most)
{
    uint8_t bytes[16384];
    uint64_t before = eaten->place;

    while (eaten->place - before < most && !eaten->end && eaten->error == 0) {
        size_t size = (size_t)MIN(most - (eaten->place - before), sizeof(bytes));
        ssize_t got = recv(fd, bytes, size, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            break;
        if (got < 0)
            eaten->error = errno;
        eaten->end = got == 0;
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] != pair_byte(eaten->place))
                fail_msg("byte %llu of the stream is another", (unsigned long long)eaten->place);
            eaten->place++;
        }
    }
    return eaten->place - before;
}
