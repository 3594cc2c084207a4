/*
 * Purpose: datagrams in batches: what one recvmmsg(2) has brought, and what one sendmmsg(2) is to
 *          take away.
 * Thread:  the worker's.
 * Owns:    a tray owns its bytes; an outbox only points at bytes, which must stay until it is
 *          flushed.
 * Fails:   tray_open without memory. What cannot be sent is told to the outbox's owner, datagram by
 *          datagram, and never tried in a circle.
 *
 * Private to lb/udp. The kernel joins datagrams of one sender and size into one message (UDP_GRO)
 * and cuts one message into datagrams (UDP_SEGMENT), udp(7): both are a struct train here, and so
 * is a datagram alone.
 */
#pragma once

#include "common/address.h"
#include "common/base.h"
#include "lb/metrics/metrics.h"

#include <sys/socket.h>

#define BATCH 64 /* messages in one system call */

/* What the kernel takes for one message that it is to cut: 64 datagrams (UDP_MAX_SEGMENTS of Linux
 * before 6.8), and an IPv6 packet's payload less extension headers. */
#define SEGMENTS_MAX 64
#define TRAIN_MAX 65487u

/* Room for some full messages whose datagrams each have a prefix; a call takes 1024 for each
 * (UIO_MAXIOV). */
#define PIECES (8 * 2 * SEGMENTS_MAX)

/* Bytes that one datagram has at the most, over IPv4. */
#define DATAGRAM_MAX 65507u

/* Bytes of datagrams of one size, one after the other; only the last may be shorter. */
struct train {
    uint8_t *bytes;
    uint32_t length;
    uint32_t segment; /* bytes of each but the last; `length` when there is one alone */
};

static inline uint32_t train_count(const struct train *train)
{
    return train->length <= train->segment ? 1
                                           : (train->length + train->segment - 1) / train->segment;
}

/* Takes the first `count` datagrams off the train; at least one, and not all of them. */
struct train train_cut(struct train *train, uint32_t count);

/*
 * The local address that a datagram was sent to, and its answer must come from; IPv4 ones mapped
 * into IPv6. All zero where the socket is bound to one.
 */
struct local {
    struct in6_addr address;
    uint32_t interface; /* of a link-local address */
};

/* Room for UDP_GRO or UDP_SEGMENT and for the packet info of both families, cmsg(3). */
#define CONTROL_SIZE                                                                               \
    (CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in_pktinfo)) +                             \
     CMSG_SPACE(sizeof(struct in6_pktinfo)))
struct control {
    _Alignas(struct cmsghdr) char bytes[CONTROL_SIZE];
};

/* ---- receiving ---- */

struct tray {
    uint8_t *bytes;
    uint32_t used; /* slots that hold a message */
    struct mmsghdr header[BATCH];
    struct iovec iov[BATCH];
    struct control control[BATCH];
    union inet_address from[BATCH];
};

must_check int tray_open(struct tray *tray);
void tray_close(struct tray *tray);

/*
 * Receives at most `most` messages into slots that are free (BUG if there are not so many) and
 * returns how many; fewer than `most` means that the socket is empty. Or a negative errno.
 */
must_check int tray_receive(struct tray *tray, int fd, uint32_t most);

/* What is in a slot. False: it was cut off by the kernel. */
must_check bool tray_get(const struct tray *tray, uint32_t slot, struct train *out_train,
                         struct local *out_local);

/* ---- sending ---- */

struct message {
    void *stream; /* whose: only datagrams of one stream are joined */
    union inet_address to;
    struct control control;
    uint32_t length;
    uint32_t segment;
    uint32_t segments;
    bool closed;   /* its last datagram is a short one: nothing can follow */
    bool prefixed; /* each of its datagrams is two pieces */
};

struct outbox {
    int fd;
    struct metrics *metrics;
    enum metric sent; /* counts the datagrams that the kernel took */
    bool no_gso;      /* the kernel or the device has none */
    void *owner;
    /*
     * The kernel did not take a message. The socket to try it on once more (and the rest of the
     * batch with it), or -1. What fails after that, too, is sent singly if it was a train, and
     * else `lost`.
     */
    int (*failed)(void *owner, void *stream, int error);
    void (*lost)(void *owner, void *stream, int error, uint32_t datagrams);
    /* Datagrams of this size cannot be cut from one message; they were sent singly. */
    void (*uncut)(void *owner, void *stream, uint32_t segment);
    /* Goes in front of each datagram that is added while it is set; the bytes stay as they are
     * until the flush. Counts as part of the datagram wherever a size is meant. */
    struct iovec prefix;
    /*
     * Goes in front of the next datagram that the kernel takes, in a flush, and is emptied then; a
     * datagram that has a prefix takes its place. For one stream in the outbox at a time. `failed`
     * may set it: what comes after the failure then begins with it.
     */
    struct iovec lead;
    uint32_t count; /* messages */
    uint32_t pieces;
    struct mmsghdr header[BATCH];
    struct message message[BATCH];
    struct iovec piece[PIECES];
};

/*
 * False: this kernel has no UDP_SEGMENT, and would send a train as one large datagram without a
 * word. Set `no_gso` then.
 */
must_check bool outbox_can_join(int fd);

/* Where to: both NULL when the socket is connected. `local` may be NULL alone. */
struct destination {
    const union inet_address *to;
    const struct local *local;
};

/*
 * Adds a train, joined to the last message where stream and size allow. Datagrams of `gso_below`
 * bytes and more, the prefix included, are sent singly. Flushes when there is no room.
 */
void outbox_add(struct outbox *outbox, const struct train *train, void *stream,
                const struct destination *to, uint32_t gso_below);

/* Hands all of it to the kernel. */
void outbox_flush(struct outbox *outbox);
