/*
 * Purpose: see batch.h.
 * Thread:  the worker's.
 * Owns:    see batch.h.
 * Fails:   see batch.h.
 *
 * A slot has 64 KiB and some: whole datagrams, never cut. Of a slot only the pages that a message
 * fills are ever touched, and the odd size keeps slots from falling into the same lines of a cache.
 */
#include "lb/udp/batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>

#define SLOT_SIZE (65536u + 192u)

struct train train_cut(struct train *train, uint32_t count)
{
    struct train head = *train;

    BUG_ON(count == 0 || count >= train_count(train));
    head.length = count * train->segment;
    train->bytes += head.length;
    train->length -= head.length;
    return head;
}

/* ---- receiving ---- */

int tray_open(struct tray *tray)
{
    void *bytes = mmap(NULL, BATCH * SLOT_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        return -ENOMEM;
    *tray = (struct tray){.bytes = bytes};
    for (uint32_t i = 0; i < BATCH; i++) {
        tray->iov[i] = (struct iovec){tray->bytes + i * SLOT_SIZE, SLOT_SIZE};
        tray->header[i].msg_hdr = (struct msghdr){.msg_iov = &tray->iov[i],
                                                  .msg_iovlen = 1,
                                                  .msg_name = &tray->from[i],
                                                  .msg_control = &tray->control[i]};
    }
    return 0;
}

void tray_close(struct tray *tray)
{
    if (tray->bytes != NULL)
        munmap(tray->bytes, BATCH * SLOT_SIZE);
    tray->bytes = NULL;
}

int tray_receive(struct tray *tray, int fd, uint32_t most)
{
    struct mmsghdr *header = &tray->header[tray->used];
    int got;

    BUG_ON(tray->used + most > BATCH);
    for (uint32_t i = 0; i < most; i++) {
        header[i].msg_hdr.msg_namelen = sizeof(tray->from[0]);
        header[i].msg_hdr.msg_controllen = sizeof(tray->control[0]);
    }
    got = recvmmsg(fd, header, most, MSG_DONTWAIT, NULL);
    if (got < 0)
        return -errno;
    tray->used += (uint32_t)got;
    return got;
}

static void read_control(const struct cmsghdr *one, struct train *train, struct local *local)
{
    if (one->cmsg_level == SOL_UDP && one->cmsg_type == UDP_GRO) {
        int segment;
        memcpy(&segment, CMSG_DATA(one), sizeof(segment));
        train->segment = (uint32_t)segment;
    } else if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(one), sizeof(info));
        /* The address to answer from: the one that was used, unless that was a broadcast. */
        local->address.s6_addr32[2] = htonl(0xffff);
        local->address.s6_addr32[3] = info.ipi_spec_dst.s_addr;
    } else if (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_PKTINFO) {
        struct in6_pktinfo info;
        memcpy(&info, CMSG_DATA(one), sizeof(info));
        if (IN6_IS_ADDR_MULTICAST(&info.ipi6_addr))
            return;
        local->address = info.ipi6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            local->interface = info.ipi6_ifindex;
    }
}

bool tray_get(const struct tray *tray, uint32_t slot, struct train *out_train,
              struct local *out_local)
{
    struct msghdr header = tray->header[slot].msg_hdr;
    uint32_t length = tray->header[slot].msg_len;

    BUG_ON(slot >= tray->used);
    *out_local = (struct local){.interface = 0};
    *out_train = (struct train){tray->iov[slot].iov_base, length, length};
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&header); one; one = CMSG_NXTHDR(&header, one))
        read_control(one, out_train, out_local);
    return (header.msg_flags & MSG_TRUNC) == 0;
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

static bool can_join(const struct outbox *outbox, const struct train *train, const void *stream)
{
    const struct message *last;

    if (outbox->count == 0 || outbox->pieces == BATCH)
        return false;
    last = &outbox->message[outbox->count - 1];
    if (last->stream != stream || last->closed)
        return false;
    if (train->length == 0 || train->segment > last->segment ||
        (train->segment < last->segment && train_count(train) > 1))
        return false;
    return last->segments + train_count(train) <= SEGMENTS_MAX &&
           last->length + train->length <= TRAIN_MAX;
}

static void put_piece(struct outbox *outbox, const struct train *train)
{
    struct message *message = &outbox->message[outbox->count - 1];

    outbox->piece[outbox->pieces++] = (struct iovec){train->bytes, train->length};
    outbox->header[outbox->count - 1].msg_hdr.msg_iovlen++;
    message->length += train->length;
    message->segments += train_count(train);
    message->closed = message->length != message->segment * message->segments;
}

static void begin_message(struct outbox *outbox, const struct train *train, void *stream,
                          const struct destination *to)
{
    static const struct in6_addr none;
    struct msghdr *header = &outbox->header[outbox->count].msg_hdr;
    struct message *message = &outbox->message[outbox->count];

    outbox->count++;
    message->stream = stream;
    message->segment = train->segment;
    message->length = 0;
    message->segments = 0;
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
    if (!may_join || !can_join(outbox, train, stream)) {
        if (outbox->pieces == BATCH)
            outbox_flush(outbox);
        begin_message(outbox, train, stream, to);
    }
    put_piece(outbox, train);
    outbox->message[outbox->count - 1].closed |= !may_join;
}

void outbox_add(struct outbox *outbox, const struct train *train, void *stream,
                const struct destination *to, uint32_t gso_below)
{
    bool may_join = !outbox->no_gso && train->segment < gso_below;
    struct train rest = *train;

    if (may_join) {
        add_one(outbox, train, stream, to, true);
        return;
    }
    while (train_count(&rest) > 1) {
        struct train one = train_cut(&rest, 1);
        add_one(outbox, &one, stream, to, false);
    }
    rest.segment = rest.length;
    add_one(outbox, &rest, stream, to, false);
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

/* What the owner makes of an error: 0 when the message went after all, or the errno that stays. */
static int try_again(struct outbox *outbox, const struct msghdr *header,
                     const struct message *message, int error)
{
    int fd = outbox->failed(outbox->owner, message->stream, error);

    if (fd < 0)
        return error;
    outbox->fd = fd;
    return send_one(outbox, header);
}

static void settle(struct outbox *outbox, const struct message *message, int error)
{
    if (error != 0)
        outbox->lost(outbox->owner, message->stream, error, message->segments);
    else
        count_sent(outbox, message);
}

static void send_alone(struct outbox *outbox, const struct msghdr *header,
                       const struct message *message)
{
    int error = send_one(outbox, header);

    if (error != 0)
        error = try_again(outbox, header, message, error);
    settle(outbox, message, error);
}

/* A message that the kernel would not cut: datagram by datagram. Each lies within one piece. */
static void send_uncut(struct outbox *outbox, struct msghdr *header, const struct message *message)
{
    struct iovec one;
    struct msghdr alone = *header;
    struct message single = {.stream = message->stream, .segments = 1};

    alone.msg_controllen -= CMSG_SPACE(sizeof(uint16_t));
    alone.msg_iov = &one;
    alone.msg_iovlen = 1;
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        const struct iovec *piece = &header->msg_iov[i];
        for (size_t at = 0; at < piece->iov_len; at += message->segment) {
            one.iov_base = (uint8_t *)piece->iov_base + at;
            one.iov_len = MIN(piece->iov_len - at, message->segment);
            send_alone(outbox, &alone, &single);
        }
    }
}

/*
 * EINVAL: larger than the path takes in one piece; EMSGSIZE: the same, seen later. EIO: the device
 * cannot do the checksums (udp(7), net/ipv4/udp.c).
 */
static bool is_gso_error(int error)
{
    return error == EINVAL || error == EMSGSIZE || error == EIO;
}

static void send_failed(struct outbox *outbox, uint32_t index, int error)
{
    struct message *message = &outbox->message[index];
    struct msghdr *header = &outbox->header[index].msg_hdr;

    /* First: an error may be of an earlier datagram (ICMP), and say nothing of this message. */
    error = try_again(outbox, header, message, error);
    if (message->segments == 1 || !is_gso_error(error)) {
        settle(outbox, message, error);
        return;
    }
    if (error == EIO)
        outbox->no_gso = true;
    else
        outbox->uncut(outbox->owner, message->stream, message->segment);
    send_uncut(outbox, header, message);
}

void outbox_flush(struct outbox *outbox)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < outbox->count; i++) {
        if (outbox->message[i].segments > 1)
            put_segment(&outbox->header[i].msg_hdr, &outbox->message[i]);
    }
    while (done < outbox->count) {
        int sent = sendmmsg(outbox->fd, &outbox->header[done], outbox->count - done,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        metrics_add(outbox->metrics, METRIC_UDP_SENDS, 1);
        for (int i = 0; i < sent; i++)
            count_sent(outbox, &outbox->message[done++]);
        if (sent <= 0) {
            send_failed(outbox, done, errno);
            done++;
        }
    }
    outbox->count = 0;
    outbox->pieces = 0;
}
