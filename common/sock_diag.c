/*
 * Purpose: see sock_diag.h.
 * Thread:  see sock_diag.h.
 * Owns:    see sock_diag.h.
 * Fails:   see sock_diag.h.
 *
 * What to tell of is a program of conditions that the kernel runs on each socket. It goes through
 * it by jumps forward, and a socket is told of when it comes out exactly at the end; each `no` must
 * lead to the beginning of an instruction, or one word past the end (net/ipv4/inet_diag.c).
 *
 *      from A?  to B?  ─▶ the end          a `no` leads to the next pair,
 *      from A?  to C?  ─▶ the end          that of the last one past the end
 */
#include "common/sock_diag.h"

#include "common/clock.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the kernel puts into one message, when a reader has asked for so much before. */
#define ANSWER_SIZE (32u * 1024u)

/* A condition on an address: the instruction, what it holds, the address. */
#define CONDITION_MAX                                                                              \
    (sizeof(struct inet_diag_bc_op) + sizeof(struct inet_diag_hostcond) + sizeof(struct in6_addr))
#define PROGRAM_MAX (SOCK_DIAG_PAIRS * (2 * CONDITION_MAX + sizeof(struct inet_diag_bc_op)))

/* An instruction one word past the end: "no". */
#define PAST_END sizeof(struct inet_diag_bc_op)

struct question {
    struct nlmsghdr header;
    struct inet_diag_req_v2 request;
    struct nlattr attribute;
    uint8_t program[PROGRAM_MAX];
};

int sock_diag_open(struct sock_diag *diag)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int error;

    *diag = (struct sock_diag){
        .fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (diag->fd < 0)
        return -errno;
    /* Nobody else is listened to. */
    if (connect(diag->fd, (struct sockaddr *)&kernel, sizeof(kernel)) == 0)
        return 0;
    error = errno;
    sock_diag_close(diag);
    return -error;
}

void sock_diag_close(struct sock_diag *diag)
{
    if (diag->fd >= 0)
        close(diag->fd);
    *diag = (struct sock_diag){.fd = -1};
}

/* ---- the question ---- */

static const void *host_of(const union inet_address *address, size_t *out_size)
{
    if (address->any.sa_family == AF_INET) {
        *out_size = sizeof(address->v4.sin_addr);
        return &address->v4.sin_addr;
    }
    *out_size = sizeof(address->v6.sin6_addr);
    return &address->v6.sin6_addr;
}

static size_t condition_size(const union inet_address *address)
{
    size_t size;

    if (address->any.sa_family == AF_UNSPEC)
        return 0;
    (void)host_of(address, &size);
    return sizeof(struct inet_diag_bc_op) + sizeof(struct inet_diag_hostcond) + size;
}

/* Writes it at `at`; `no` is the distance to where a socket goes that it does not hold for. */
static size_t put_condition(uint8_t *at, uint8_t code, const union inet_address *address, int port,
                            size_t no)
{
    struct inet_diag_bc_op op = {.code = code, .no = (unsigned short)no};
    struct inet_diag_hostcond condition = {.family = (uint8_t)address->any.sa_family, .port = port};
    size_t size;
    const void *host = host_of(address, &size);

    condition.prefix_len = (uint8_t)(8 * size);
    op.yes = (unsigned char)condition_size(address);
    memcpy(at, &op, sizeof(op));
    memcpy(at + sizeof(op), &condition, sizeof(condition));
    memcpy(at + sizeof(op) + sizeof(condition), host, size);
    return op.yes;
}

static size_t pair_size(const struct sock_diag_pair *pair)
{
    return condition_size(&pair->local) + condition_size(&pair->remote);
}

/* `left` is what comes behind this pair, the jump to the end that it may need not counted. */
static size_t put_pair(uint8_t *at, const struct sock_diag_pair *pair, size_t left)
{
    struct inet_diag_bc_op to_end = {.code = INET_DIAG_BC_JMP, .yes = sizeof(to_end)};
    size_t jump = left > 0 ? sizeof(to_end) : 0;
    size_t over = pair_size(pair) + (left > 0 ? jump : PAST_END);
    size_t used = put_condition(at, INET_DIAG_BC_S_COND, &pair->local, -1, over);

    if (pair->remote.any.sa_family != AF_UNSPEC)
        used += put_condition(at + used, INET_DIAG_BC_D_COND, &pair->remote,
                              inet_address_port(&pair->remote), over - used);
    to_end.no = (unsigned short)(jump + left);
    memcpy(at + used, &to_end, jump);
    return used + jump;
}

static size_t write_program(uint8_t program[PROGRAM_MAX], const struct sock_diag_pair *pair,
                            size_t count)
{
    size_t left = (count - 1) * sizeof(struct inet_diag_bc_op);
    size_t used = 0;

    for (size_t i = 0; i < count; i++)
        left += pair_size(&pair[i]);
    for (size_t i = 0; i < count; i++) {
        left -= pair_size(&pair[i]) + (i + 1 < count ? sizeof(struct inet_diag_bc_op) : 0);
        used += put_pair(program + used, &pair[i], left);
    }
    return used;
}

int sock_diag_ask(struct sock_diag *diag, int protocol, struct sock_diag_pair *pair, size_t count)
{
    struct question question = {
        .header = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = ++diag->sequence},
        .request = {.sdiag_protocol = (uint8_t)protocol, .idiag_states = UINT32_MAX},
        .attribute = {.nla_type = INET_DIAG_REQ_BYTECODE},
    };
    size_t length = offsetof(struct question, program);

    BUG_ON(diag->count != 0 || count == 0 || count > SOCK_DIAG_PAIRS);
    question.request.sdiag_family = (uint8_t)pair->local.any.sa_family;
    if (protocol == IPPROTO_TCP)
        question.request.idiag_states &= ~(1u << TCP_LISTEN | 1u << TCP_CLOSE);
    length += write_program(question.program, pair, count);
    question.attribute.nla_len = (unsigned short)(length - offsetof(struct question, attribute));
    question.header.nlmsg_len = (uint32_t)length;
    if (send(diag->fd, &question, length, 0) < 0)
        return -errno;
    for (size_t i = 0; i < count; i++)
        pair[i].used = pair[i].time_wait = 0;
    diag->pair = pair;
    diag->count = count;
    return 0;
}

/* ---- the answer ---- */

static bool is_host(const union inet_address *address, const uint32_t words[static 4])
{
    size_t size;
    const void *host = host_of(address, &size);

    return memcmp(host, words, size) == 0;
}

static bool is_of(const struct sock_diag_pair *pair, const struct inet_diag_sockid *id)
{
    uint16_t port = ntohs(id->idiag_sport);

    if (port < pair->first || (pair->last != 0 && port > pair->last))
        return false;
    if (!is_host(&pair->local, id->idiag_src))
        return false;
    return pair->remote.any.sa_family == AF_UNSPEC ||
           (ntohs(id->idiag_dport) == inet_address_port(&pair->remote) &&
            is_host(&pair->remote, id->idiag_dst));
}

static void count_socket(struct sock_diag *diag, const struct inet_diag_msg *found)
{
    for (size_t i = 0; i < diag->count; i++) {
        struct sock_diag_pair *pair = &diag->pair[i];
        if (!is_of(pair, &found->id))
            continue;
        pair->used++;
        pair->time_wait += found->idiag_state == TCP_TIME_WAIT;
        return;
    }
}

/* The end of a count may tell an errno too, as a kernel without the module for it does. */
static int end_of(const struct nlmsghdr *header)
{
    int error = 0;

    if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
        memcpy(&error, NLMSG_DATA(header), sizeof(error));
    if (header->nlmsg_type == NLMSG_ERROR && error == 0)
        return -EPROTO;
    return error < 0 ? error : 1;
}

/* As sock_diag_read. What belongs to an earlier count, which failed, is passed over. */
static int take_answer(struct sock_diag *diag, const struct nlmsghdr *header, size_t length)
{
    for (; NLMSG_OK(header, length); header = NLMSG_NEXT(header, length)) {
        if (header->nlmsg_seq != diag->sequence)
            continue;
        if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
            return end_of(header);
        if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
            count_socket(diag, NLMSG_DATA(header));
    }
    return 0;
}

int sock_diag_read(struct sock_diag *diag, uint64_t until_us)
{
    _Alignas(struct nlmsghdr) uint8_t answer[ANSWER_SIZE];
    int ended = 0;

    BUG_ON(diag->count == 0);
    do {
        ssize_t length = recv(diag->fd, answer, sizeof(answer), 0);
        /* The kernel makes a message when the one before is taken: nothing is to be waited for. */
        ended = length < 0 ? -errno : take_answer(diag, (void *)answer, (size_t)length);
    } while (ended == 0 && clock_now_us() < until_us);
    if (ended != 0)
        diag->count = 0;
    return ended;
}
