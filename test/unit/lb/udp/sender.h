/*
 * Purpose: an outbox, its owner, which notes what it is told, and a socket that gets what is sent.
 * Thread:  the test's.
 * Owns:    sockets, from sender_open to sender_close.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "lb/udp/batch.h"
#include "test/unit/lb/udp/peer.h"

struct sender {
    struct metrics metrics;
    struct outbox outbox;
    int fd[2]; /* the second one receives */
    int other; /* connected to it as well */
    int again; /* what `failed` answers */
    unsigned failures, losses;
    int last_error;
    uint32_t lost;
    uint32_t uncut; /* the last size */
    void *stream;   /* of the last call */
};

static inline int sender_on_failed(void *owner, void *stream, int error)
{
    struct sender *sender = owner;

    sender->failures++;
    sender->last_error = error;
    sender->stream = stream;
    return sender->again;
}

static inline void sender_on_lost(void *owner, void *stream, int error, uint32_t datagrams)
{
    struct sender *sender = owner;

    sender->losses++;
    sender->last_error = error;
    sender->lost += datagrams;
    sender->stream = stream;
}

static inline void sender_on_uncut(void *owner, void *stream, uint32_t segment)
{
    struct sender *sender = owner;

    sender->uncut = segment;
    sender->stream = stream;
}

static inline int sender_socket(int fd)
{
    union inet_address to = peer_name(fd);
    int from = peer_socket("127.0.0.1:0");

    assert_int_equal(connect(from, &to.any, peer_length(&to)), 0);
    return from;
}

static inline void sender_open(struct sender *sender)
{
    memset(sender, 0, sizeof(*sender));
    peer_pin();
    sender->fd[1] = peer_socket("127.0.0.1:0");
    sender->fd[0] = sender_socket(sender->fd[1]);
    sender->other = sender_socket(sender->fd[1]);
    sender->again = -1;
    sender->outbox.fd = sender->fd[0];
    sender->outbox.metrics = &sender->metrics;
    sender->outbox.sent = METRIC_DATAGRAMS_IN;
    sender->outbox.owner = sender;
    sender->outbox.failed = sender_on_failed;
    sender->outbox.lost = sender_on_lost;
    sender->outbox.uncut = sender_on_uncut;
}

/* All that came has been expected, and nothing waits. */
static inline void sender_close(struct sender *sender)
{
    char byte;

    assert_int_equal(recv(sender->fd[1], &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(sender->outbox.count, 0);
    assert_int_equal(sender->outbox.pieces, 0);
    peer_hang_up(&sender->fd[0]);
    peer_hang_up(&sender->fd[1]);
    peer_hang_up(&sender->other);
}

static inline uint64_t sender_count(const struct sender *sender, enum metric which)
{
    return metrics_get(&sender->metrics, which);
}

static inline void sender_add(struct sender *sender, uint8_t *bytes, uint32_t length,
                              uint32_t segment, void *stream, uint32_t gso_below)
{
    static const struct destination connected;
    struct train train = {bytes, length, segment};

    outbox_add(&sender->outbox, &train, stream, &connected, gso_below);
}

static inline union inet_address sender_expect(const struct sender *sender, const uint8_t *bytes,
                                               size_t length)
{
    static uint8_t heard[65536];
    struct pollfd wait = {.fd = sender->fd[1], .events = POLLIN};
    union inet_address from = {0};
    socklen_t size = sizeof(from);

    assert_int_equal(poll(&wait, 1, PEER_PATIENCE_MS), 1);
    assert_int_equal(recvfrom(sender->fd[1], heard, sizeof(heard), 0, &from.any, &size), length);
    if (length > 0)
        assert_memory_equal(heard, bytes, length);
    return from;
}

/* A datagram of `length` bytes behind those of `head`. */
static inline void sender_expect_headed(const struct sender *sender, const struct iovec *head,
                                        const uint8_t *bytes, size_t length)
{
    static uint8_t wanted[65536];

    memcpy(wanted, head->iov_base, head->iov_len);
    memcpy(wanted + head->iov_len, bytes, length);
    (void)sender_expect(sender, wanted, head->iov_len + length);
}

static inline void sender_expect_train(const struct sender *sender, const uint8_t *bytes,
                                       size_t length, size_t segment)
{
    for (size_t at = 0; at < length; at += segment)
        (void)sender_expect(sender, bytes + at, MIN(segment, length - at));
}
