/*
 * Purpose: the receiving half of batch.h.
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
