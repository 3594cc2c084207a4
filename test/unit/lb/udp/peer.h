/*
 * Purpose: loopback sockets of UDP, and what they send.
 * Thread:  the test's.
 * Owns:    nothing: the test closes.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"
#include "test/unit/addresses.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define PEER_PATIENCE_MS 10000

/* ---- sockets ---- */

static inline void peer_option(int fd, int level, int name, int value)
{
    assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static inline socklen_t peer_length(const union inet_address *address)
{
    return address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}

static inline union inet_address peer_name(int fd)
{
    union inet_address address = {0};
    socklen_t length = sizeof(address);

    assert_int_equal(getsockname(fd, &address.any, &length), 0);
    return address;
}

static inline int peer_socket(const char *text)
{
    union inet_address address = endpoint_of(text);
    int fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    peer_option(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    peer_option(fd, SOL_SOCKET, SO_SNDBUF, 1 << 20);
    assert_int_equal(bind(fd, &address.any, peer_length(&address)), 0);
    return fd;
}

static inline void peer_hang_up(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* What a thread on one processor sends over loopback arrives in order. */
static inline void peer_pin(void)
{
    cpu_set_t here;
    int processor = sched_getcpu();

    assert_true(processor >= 0);
    CPU_ZERO(&here);
    CPU_SET((size_t)processor, &here);
    assert_int_equal(sched_setaffinity(0, sizeof(here), &here), 0);
}

/* ---- what they send ---- */

static inline void peer_send(int from, const void *bytes, size_t length,
                             const union inet_address *to)
{
    assert_int_equal(sendto(from, bytes, length, 0, &to->any, peer_length(to)), length);
}

/* Bytes that tell where they belong. */
static inline void peer_fill(uint8_t *bytes, size_t length, unsigned salt)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((i * 131 + (i >> 8) * 7 + salt * 29) ^ salt);
}

/* One message that the kernel cuts into datagrams of `segment` bytes, udp(7). */
static inline void peer_send_train(int from, uint8_t *bytes, size_t length, uint16_t segment,
                                   const union inet_address *to)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(segment))];
    } control = {0};
    union inet_address address = *to;
    struct iovec piece = {bytes, length};
    struct msghdr header = {.msg_name = &address,
                            .msg_namelen = peer_length(to),
                            .msg_iov = &piece,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    struct cmsghdr *option = CMSG_FIRSTHDR(&header);

    option->cmsg_level = IPPROTO_UDP;
    option->cmsg_type = 103; /* UDP_SEGMENT */
    option->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(option), &segment, sizeof(segment));
    assert_int_equal(sendmsg(from, &header, 0), length);
}
