/*
 * Purpose: trains, and the sending half of batch.h.
 * Thread:  the worker's.
 * Owns:    see batch.h.
 * Fails:   see batch.h.
 *
 * A prefix makes two pieces of each datagram, since the bytes in front of it lie elsewhere. The
 * lead is no part of the messages: it goes out ahead of the first datagram of whichever is next
 * when they are sent, singly, until the kernel has taken one. So a message need not be laid out
 * anew when its stream goes to another socket on the way.
 */
#include "lb/udp/batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

struct train train_cut(struct train *train, uint32_t count)
{
    struct train head = *train;

    BUG_ON(count == 0 || count >= train_count(train));
    head.length = count * train->segment;
    train->bytes += head.length;
    train->length -= head.length;
    train->segment = MIN(train->segment, train->length);
    return head;
}

/* ---- sending: filling ---- */

static struct cmsghdr *next_control(struct msghdr *header, struct control *control, int level,
                                    int type, size_t size)
{
    size_t at = header->msg_controllen;
    struct cmsghdr *one = (struct cmsghdr *)(void *)(control->bytes + at);

    BUG_ON(at + CMSG_SPACE(size) > sizeof(*control));
    header->msg_control = control;
    header->msg_controllen = at + CMSG_SPACE(size);
    memset(one, 0, CMSG_SPACE(size));
    one->cmsg_level = level;
    one->cmsg_type = type;
    one->cmsg_len = CMSG_LEN(size);
    return one;
}

/* An IPv4 socket knows its own kind of packet info only; an IPv6 one takes mapped addresses. */
static void put_local(struct msghdr *header, struct message *message, const struct local *local)
{
    if (message->to.any.sa_family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst.s_addr = local->address.s6_addr32[3]};
        memcpy(CMSG_DATA(
                   next_control(header, &message->control, IPPROTO_IP, IP_PKTINFO, sizeof(info))),
               &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {local->address, local->interface};
        memcpy(CMSG_DATA(next_control(header, &message->control, IPPROTO_IPV6, IPV6_PKTINFO,
                                      sizeof(info))),
               &info, sizeof(info));
    }
}

static void put_segment(struct msghdr *header, struct message *message)
{
    uint16_t segment = (uint16_t)message->segment;

    memcpy(
        CMSG_DATA(next_control(header, &message->control, SOL_UDP, UDP_SEGMENT, sizeof(segment))),
        &segment, sizeof(segment));
}

/* What a train measures with the prefix in front of each datagram. */
static struct train measure(const struct outbox *outbox, const struct train *train)
{
    uint32_t prefix = (uint32_t)outbox->prefix.iov_len;

    return (struct train){NULL, train->length + train_count(train) * prefix,
                          train->segment + prefix};
}

static bool has_room(const struct outbox *outbox)
{
    return outbox->count < BATCH && outbox->pieces + 2 <= PIECES;
}

static bool can_join(const struct outbox *outbox, const struct train *size, const void *stream)
{
    const struct message *last;

    if (outbox->count == 0 || outbox->pieces + 2 > PIECES)
        return false;
    last = &outbox->message[outbox->count - 1];
    if (last->stream != stream || last->closed || last->prefixed != (outbox->prefix.iov_len > 0))
        return false;
    if (size->length == 0 || size->segment > last->segment ||
        (size->segment < last->segment && train_count(size) > 1))
        return false;
    return last->segments + train_count(size) <= SEGMENTS_MAX &&
           last->length + size->length <= TRAIN_MAX;
}

static void put_piece(struct outbox *outbox, const struct train *train, const struct train *size)
{
    struct message *message = &outbox->message[outbox->count - 1];
    struct msghdr *header = &outbox->header[outbox->count - 1].msg_hdr;

    if (message->prefixed) {
        outbox->piece[outbox->pieces++] = outbox->prefix;
        header->msg_iovlen++;
    }
    outbox->piece[outbox->pieces++] = (struct iovec){train->bytes, train->length};
    header->msg_iovlen++;
    message->length += size->length;
    message->segments += train_count(size);
    message->closed = message->length != message->segment * message->segments;
}

static void begin_message(struct outbox *outbox, uint32_t segment, void *stream,
                          const struct destination *to)
{
    static const struct in6_addr none;
    struct msghdr *header = &outbox->header[outbox->count].msg_hdr;
    struct message *message = &outbox->message[outbox->count];

    outbox->count++;
    message->stream = stream;
    message->segment = segment;
    message->length = 0;
    message->segments = 0;
    message->prefixed = outbox->prefix.iov_len > 0;
    *header = (struct msghdr){.msg_iov = &outbox->piece[outbox->pieces]};
    if (to->to != NULL) {
        message->to = *to->to;
        header->msg_name = &message->to;
        header->msg_namelen =
            to->to->any.sa_family == AF_INET ? sizeof(to->to->v4) : sizeof(to->to->v6);
    }
    if (to->local != NULL && memcmp(&to->local->address, &none, sizeof(none)) != 0)
        put_local(header, message, to->local);
}

static void add_one(struct outbox *outbox, const struct train *train, void *stream,
                    const struct destination *to, bool may_join)
{
    struct train size = measure(outbox, train);

    if (!may_join || !can_join(outbox, &size, stream)) {
        if (!has_room(outbox))
            outbox_flush(outbox);
        begin_message(outbox, size.segment, stream, to);
    }
    put_piece(outbox, train, &size);
    outbox->message[outbox->count - 1].closed |= !may_join;
}

void outbox_add(struct outbox *outbox, const struct train *train, void *stream,
                const struct destination *to, uint32_t gso_below)
{
    bool may_join = !outbox->no_gso && train->segment + outbox->prefix.iov_len < gso_below;
    struct train rest = *train;

    if (may_join && outbox->prefix.iov_len == 0) {
        add_one(outbox, train, stream, to, true);
        return;
    }
    while (train_count(&rest) > 1) {
        struct train one = train_cut(&rest, 1);
        add_one(outbox, &one, stream, to, may_join);
    }
    add_one(outbox, &rest, stream, to, may_join);
}

/* ---- sending: the system calls ---- */

bool outbox_can_join(int fd)
{
    int segment = 0;
    socklen_t length = sizeof(segment);

    return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, &length) == 0;
}

static void count_sent(struct outbox *outbox, const struct message *message)
{
    metrics_add(outbox->metrics, outbox->sent, message->segments);
    if (message->segments == 1)
        return;
    metrics_add(outbox->metrics, METRIC_GSO_SENT, 1);
    metrics_add(outbox->metrics, METRIC_GSO_DATAGRAMS, message->segments);
}

/* 0 or the errno of one message. */
static int send_one(struct outbox *outbox, const struct msghdr *header)
{
    metrics_add(outbox->metrics, METRIC_UDP_SENDS, 1);
    return sendmsg(outbox->fd, header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* The owner may have another socket for it, or want it tried once more. */
static bool ask(struct outbox *outbox, void *stream, int error)
{
    int fd = outbox->failed(outbox->owner, stream, error);

    if (fd >= 0)
        outbox->fd = fd;
    return fd >= 0;
}

static void settle(struct outbox *outbox, const struct message *message, int error)
{
    if (error != 0)
        outbox->lost(outbox->owner, message->stream, error, message->segments);
    else
        count_sent(outbox, message);
}

/* The first datagram of a message, which lies within one piece, or two with its prefix. Returns how
 * many. */
static size_t get_first(const struct msghdr *header, const struct message *message,
                        struct iovec out[2])
{
    size_t last = message->prefixed ? 1 : 0;
    size_t before = message->prefixed ? header->msg_iov[0].iov_len : 0;

    out[0] = header->msg_iov[0];
    out[last] = header->msg_iov[last];
    out[last].iov_len = MIN(out[last].iov_len, message->segment - before);
    return last + 1;
}

/* Takes it off. False: it was the last. */
static bool shed_first(struct msghdr *header, struct message *message)
{
    struct iovec first[2];
    size_t count = get_first(header, message, first);
    struct iovec *piece = &header->msg_iov[count - 1];

    if (--message->segments == 0)
        return false;
    if (message->segments == 1)
        header->msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
    piece->iov_base = (uint8_t *)piece->iov_base + first[count - 1].iov_len;
    piece->iov_len -= first[count - 1].iov_len;
    if (piece->iov_len == 0) {
        header->msg_iov += count;
        header->msg_iovlen -= count;
    }
    return true;
}

/*
 * Sends the first datagram of a message behind the lead, if that is still to go, and takes it off.
 * False: it was the last. One that has a prefix, has the same bytes in front of it already.
 */
static bool send_first(struct outbox *outbox, struct msghdr *header, struct message *message)
{
    struct message single = {.stream = message->stream, .segments = 1};
    struct msghdr alone = *header;
    struct iovec piece[3];
    int error;

    if (message->segments > 1)
        alone.msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
    for (int i = 0; i < 2; i++) {
        bool leads = outbox->lead.iov_len > 0 && !message->prefixed;
        piece[0] = outbox->lead;
        alone.msg_iov = leads ? piece : piece + 1;
        alone.msg_iovlen = get_first(header, message, piece + 1) + leads;
        error = send_one(outbox, &alone);
        if (error == 0 || i == 1 || !ask(outbox, message->stream, error))
            break;
    }
    if (error == 0)
        outbox->lead.iov_len = 0;
    settle(outbox, &single, error);
    return shed_first(header, message);
}

/* A message that the kernel would not cut: datagram by datagram. */
static void send_uncut(struct outbox *outbox, struct msghdr *header, struct message *message)
{
    while (send_first(outbox, header, message))
        continue;
}

/*
 * EINVAL: larger than the path takes in one piece; EMSGSIZE: the same, seen later. EIO: the device
 * cannot do the checksums (udp(7), net/ipv4/udp.c).
 */
static bool is_gso_error(int error)
{
    return error == EINVAL || error == EMSGSIZE || error == EIO;
}

/* True: the message is done with. */
static bool send_failed(struct outbox *outbox, uint32_t index, int error)
{
    struct message *message = &outbox->message[index];
    struct msghdr *header = &outbox->header[index].msg_hdr;

    /* First: an error may be of an earlier datagram (ICMP), and say nothing of this message. */
    if (ask(outbox, message->stream, error)) {
        if (outbox->lead.iov_len > 0)
            return false;
        error = send_one(outbox, header);
    }
    if (message->segments == 1 || !is_gso_error(error)) {
        settle(outbox, message, error);
        return true;
    }
    if (error == EIO)
        outbox->no_gso = true;
    else
        outbox->uncut(outbox->owner, message->stream, message->segment);
    send_uncut(outbox, header, message);
    return true;
}

/* As many messages as one call takes. Returns how many are done with. */
static uint32_t send_many(struct outbox *outbox, uint32_t first)
{
    int sent = sendmmsg(outbox->fd, &outbox->header[first], outbox->count - first,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;

    metrics_add(outbox->metrics, METRIC_UDP_SENDS, 1);
    for (int i = 0; i < sent; i++)
        count_sent(outbox, &outbox->message[first + (uint32_t)i]);
    if (sent > 0)
        return (uint32_t)sent;
    return send_failed(outbox, first, error) ? 1 : 0;
}

void outbox_flush(struct outbox *outbox)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < outbox->count; i++) {
        if (outbox->message[i].segments > 1)
            put_segment(&outbox->header[i].msg_hdr, &outbox->message[i]);
    }
    while (done < outbox->count) {
        if (outbox->lead.iov_len == 0)
            done += send_many(outbox, done);
        else if (!send_first(outbox, &outbox->header[done].msg_hdr, &outbox->message[done]))
            done++;
    }
    outbox->count = 0;
    outbox->pieces = 0;
}
