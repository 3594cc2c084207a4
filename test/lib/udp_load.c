/*
 * Purpose: a client of many flows that exchanges datagrams with an echo, and knows of each one what
 *          became of it.
 * Thread:  one process, one thread, one epoll set.
 * Owns:    the flows, each with its socket and its slots.
 * Fails:   exits 2 on wrong usage, 1 when it lacks descriptors. What is lost or wrong is counted.
 *
 * A datagram says of which run, flow and slot it is and its number, which tells the rest of it. A
 * slot holds the one datagram of its own that is under way:
 *
 *      free -> waiting -> answered: free again
 *                      -> lost, after the timeout: free again; a reply that comes still is late
 *
 * Sockets are not connected, so that a reply from another address than was addressed is told from
 * one that never came. In the mode `new` each datagram of a flow has a source address of its own:
 * the socket gives the port, so thousands of clients take few sockets.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "test/lib/share/plan.h"
#include "test/lib/share/stamp.h"
#include "test/lib/share/tally.h"
#include "test/lib/share/udp.h"

enum { EVENTS = 256, TICK_US = 10000 };

/* ---- state ---- */

struct slot {
    bool waiting;
    uint64_t seq;
    uint64_t sent_us;
    uint64_t lost_seq; /* the last that was; UINT64_MAX: none */
};

struct flow {
    int fd;
    uint32_t index;
    uint64_t next_seq;
    struct slot *slots;
    uint32_t *free; /* a stack of slots */
    size_t free_count;
};

static struct plan plan;
static uint32_t run_id;
static struct flow *flows;
static uint64_t waiting; /* slots of all flows */
static uint64_t paced;   /* datagrams that were due by the rate */
static struct tally tally;
static int epoll_fd;
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t telling;

/* Where a flow's datagram comes from, when it roves. */
static struct in_addr source_of(uint64_t seq)
{
    return v4_plus(plan.from, seq % plan.sources);
}

static uint32_t slot_take(struct flow *flow)
{
    uint32_t index = flow->free[--flow->free_count];

    flow->slots[index].waiting = true;
    waiting++;
    return index;
}

static void slot_put(struct flow *flow, uint32_t index)
{
    flow->slots[index].waiting = false;
    flow->free[flow->free_count++] = index;
    waiting--;
}

/* ---- sending ---- */

struct parcel {
    struct stamp stamp;
    struct iovec parts[2];
    union control control;
};

static void parcel_make(struct parcel *parcel, struct flow *flow, uint64_t now)
{
    uint32_t index = slot_take(flow);
    struct slot *slot = &flow->slots[index];

    slot->seq = flow->next_seq++;
    slot->sent_us = now;
    parcel->stamp = (struct stamp){STAMP_MAGIC, run_id, flow->index, index, slot->seq};
    parcel->parts[0] = (struct iovec){&parcel->stamp, sizeof(parcel->stamp)};
    parcel->parts[1] = (struct iovec){stamp_body(slot->seq), plan.size - sizeof(parcel->stamp)};
    tally.sent++;
}

static struct msghdr message_of(struct parcel *parcel, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_name = &plan.to,
                             .msg_namelen = inet_size(&plan.to),
                             .msg_iov = parts,
                             .msg_iovlen = count};

    if (plan.roving) {
        struct in_pktinfo info = {.ipi_spec_dst = source_of(parcel->stamp.seq)};
        message.msg_control = &parcel->control;
        control_add(&message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
    return message;
}

static void send_train(const struct flow *flow, struct parcel *parcels, size_t n)
{
    static struct iovec parts[2 * TRAIN_MAX];
    uint16_t size = (uint16_t)plan.size;

    for (size_t i = 0; i < n; i++)
        memcpy(&parts[2 * i], parcels[i].parts, sizeof(parcels[i].parts));
    struct msghdr message = message_of(&parcels[0], parts, 2 * n);
    message.msg_control = &parcels[0].control;
    control_add(&message, SOL_UDP, UDP_SEGMENT, &size, sizeof(size));
    if (sendmsg(flow->fd, &message, 0) < 0)
        tally.errors += n;
}

static void send_singly(const struct flow *flow, struct parcel *parcels, size_t n)
{
    static struct mmsghdr messages[TRAIN_MAX];
    size_t at = 0;

    for (size_t i = 0; i < n; i++)
        messages[i].msg_hdr = message_of(&parcels[i], parcels[i].parts, 2);
    while (at < n) {
        int sent = sendmmsg(flow->fd, messages + at, (unsigned)(n - at), 0);
        if (sent < 0 && errno == EINTR)
            continue;
        tally.errors += sent < 0;
        at += sent > 0 ? (size_t)sent : 1;
    }
}

/* As many as are wanted and have a free slot. */
static void flow_send(struct flow *flow, size_t wanted)
{
    static struct parcel parcels[TRAIN_MAX];
    uint64_t now = now_us();
    size_t n = wanted < flow->free_count ? wanted : flow->free_count;

    if (plan.count > 0 && n > plan.count - tally.sent)
        n = (size_t)(plan.count - tally.sent);
    for (size_t i = 0; i < n; i++)
        parcel_make(&parcels[i], flow, now);
    if (n > 1 && plan.train > 1)
        send_train(flow, parcels, n);
    else if (n > 0)
        send_singly(flow, parcels, n);
}

static bool may_send(void)
{
    if (stopping || (plan.count > 0 && tally.sent >= plan.count))
        return false;
    return plan.seconds == 0 || now_us() < tally.begin_us + plan.seconds * 1000000;
}

/* A train waits until all of it can go. */
static void flow_fill(struct flow *flow)
{
    size_t train = plan.train;

    while (flow->free_count >= train && may_send())
        flow_send(flow, train > 1 ? train : TRAIN_MAX);
}

/* ---- receiving ---- */

/* False: it was lost before, or is here for the second time. */
static bool count_reply(struct flow *flow, const struct stamp *stamp, uint64_t now)
{
    struct slot *slot = &flow->slots[stamp->slot];

    if (slot->waiting && slot->seq == stamp->seq) {
        tally_exchange(&tally, now - slot->sent_us);
        slot_put(flow, stamp->slot);
        return true;
    }
    if (slot->lost_seq == stamp->seq)
        tally.late++;
    else
        tally.twice++;
    return false;
}

static void judge(struct flow *flow, const char *data, size_t size, const struct in_addr *to,
                  uint64_t now)
{
    struct stamp stamp;
    size_t name;

    if (!stamp_read(&stamp, data, size, &name))
        tally.damaged++;
    else if (stamp.run != run_id || stamp.flow != flow->index ||
             (to != NULL && to->s_addr != source_of(stamp.seq).s_addr))
        tally.foreign++;
    else if (stamp.slot >= plan.outstanding || stamp.seq >= flow->next_seq ||
             !stamp_whole(&stamp, data, size, plan.size, plan.answer))
        tally.damaged++;
    else if (count_reply(flow, &stamp, now) && name > 0)
        tally_name(&tally, data, name);
}

/* One datagram, or several in a row. */
static void judge_message(struct flow *flow, struct msghdr *message, size_t left, uint64_t now)
{
    const char *data = message->msg_iov->iov_base;
    size_t segment = control_segment(message);
    const struct in_pktinfo *info = control_find(message, IPPROTO_IP, IP_PKTINFO);

    if (!inet_equal(message->msg_name, &plan.to)) {
        tally.astray++;
        return;
    }
    if (segment == 0)
        segment = left;
    tally.trains += segment < left;
    do {
        size_t size = left < segment ? left : segment;
        judge(flow, data, size, info != NULL ? &info->ipi_addr : NULL, now);
        data += size;
        left -= size;
    } while (left > 0);
}

static void flow_receive(struct flow *flow)
{
    static struct batch batch;
    size_t n = batch_receive(&batch, flow->fd, MSG_DONTWAIT, plan.gro || plan.roving);
    uint64_t now = now_us();

    for (size_t i = 0; i < n; i++)
        judge_message(flow, &batch.messages[i].msg_hdr, batch.messages[i].msg_len, now);
    if (plan.rate == 0)
        flow_fill(flow);
}

/* ---- time ---- */

static uint64_t paced_due_us(void)
{
    return tally.begin_us + paced * 1000000 / (plan.rate * plan.flows);
}

/* The flows in turn, so that each keeps its rate. */
static void send_paced(void)
{
    while (may_send() && now_us() >= paced_due_us())
        flow_send(&flows[paced++ % plan.flows], 1);
}

static void flow_expire(struct flow *flow, uint64_t now)
{
    for (uint32_t i = 0; i < plan.outstanding; i++) {
        struct slot *slot = &flow->slots[i];
        if (!slot->waiting || now < slot->sent_us + plan.timeout_ms * 1000)
            continue;
        tally_loss(&tally, flow->index, slot->seq, slot->sent_us);
        slot->lost_seq = slot->seq;
        slot_put(flow, i);
    }
}

/* Every TICK_US: what was lost makes room. */
static void expire(void)
{
    static uint64_t next_us;
    uint64_t now = now_us();

    if (now < next_us)
        return;
    next_us = now + TICK_US;
    for (uint64_t i = 0; i < plan.flows; i++) {
        flow_expire(&flows[i], now);
        if (plan.rate == 0)
            flow_fill(&flows[i]);
    }
}

static void wait_and_receive(void)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_us();
    uint64_t until = now + TICK_US;

    if (plan.rate > 0 && paced_due_us() < until)
        until = paced_due_us() < now ? now : paced_due_us();
    struct timespec left = {.tv_nsec = (long)(until - now) * 1000};
    int n = epoll_pwait2(epoll_fd, events, EVENTS, &left, NULL);
    for (int i = 0; i < n; i++)
        flow_receive(events[i].data.ptr);
}

static void run(void)
{
    tally_begin(&tally);
    do {
        if (plan.rate > 0)
            send_paced();
        wait_and_receive();
        expire();
        if (tally.end_us == 0 && !may_send())
            tally.end_us = now_us();
        if (telling) {
            telling = 0;
            tally_print(&tally, plan.mode);
        }
    } while (tally.end_us == 0 || waiting > 0);
}

/* ---- the program ---- */

static void flow_open(struct flow *flow)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = flow};
    union inet own = {.v4 = {.sin_family = AF_INET}};

    flow->fd = socket(plan.to.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (flow->fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, flow->fd, &ev) < 0)
        die("socket");
    if (plan.bound)
        own.v4.sin_addr = v4_plus(plan.from, flow->index % plan.sources);
    if ((plan.bound || plan.roving) && bind(flow->fd, &own.any, sizeof(own.v4)) < 0)
        die("bind");
    socket_widen(flow->fd);
    if (plan.roving)
        socket_set(flow->fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (plan.gro)
        socket_set(flow->fd, SOL_UDP, UDP_GRO, 1);
}

static void flow_init(struct flow *flow, uint32_t index)
{
    size_t slots = plan.outstanding;

    flow->index = index;
    flow->slots = calloc(slots, sizeof(*flow->slots));
    flow->free = calloc(slots, sizeof(*flow->free));
    if (flow->slots == NULL || flow->free == NULL)
        die("calloc");
    for (uint32_t i = 0; i < slots; i++) {
        flow->slots[i].lost_seq = UINT64_MAX;
        flow->free[flow->free_count++] = i;
    }
    flow_open(flow);
}

static void prepare(void)
{
    run_id = (uint32_t)getpid() ^ (uint32_t)now_us();
    files_raise();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    flows = calloc(plan.flows, sizeof(*flows));
    if (epoll_fd < 0 || flows == NULL)
        die("epoll");
    for (uint32_t i = 0; i < plan.flows; i++)
        flow_init(&flows[i], i);
}

int main(int argc, char **argv)
{
    plan = plan_parse(argc, argv);
    signals_take(&stopping, &telling);
    prepare();
    run();
    tally_print(&tally, plan.mode);
    return 0;
}
