/*
 * Purpose: how many sockets of this machine go from some addresses to others, as the kernel counts
 *          them: those in TIME_WAIT, which no process holds any more, among them.
 * Thread:  one thread, which may be another than the one that opened it.
 * Owns:    the socket; whom to count is the caller's, until the count ends.
 * Fails:   a negative errno: of a kernel without sock_diag(7), without memory, or at its word. A
 *          count that failed is over, and another one may begin.
 *
 * Needs no privilege, and sees what other processes have open too. The kernel walks all of its
 * sockets for one count, but tells of those alone that are asked for; it stops where a message is
 * full, so that a count can be had in slices.
 */
#pragma once

#include "common/address.h"

/* One count asks for no more than so many pairs. */
#define SOCK_DIAG_PAIRS 64

/* All pairs of one count are of one family. */
struct sock_diag_pair {
    union inet_address local;  /* whatever its port is, from `first` to `last` */
    uint16_t first, last;      /* last 0: to the end */
    union inet_address remote; /* its port counts too; AF_UNSPEC: whoever it is */
    uint32_t used;             /* sockets; of TCP not those that listen */
    uint32_t time_wait;        /* of these */
};

struct sock_diag {
    int fd;
    uint32_t sequence; /* of the last question */
    struct sock_diag_pair *pair;
    size_t count; /* 0: nothing is asked */
};

must_check int sock_diag_open(struct sock_diag *diag);
void sock_diag_close(struct sock_diag *diag);

/*
 * Begins a count of the sockets of a protocol (IPPROTO_TCP, IPPROTO_UDP) that belong to the pairs,
 * whose figures begin at 0. Requires: no count is under way; 1 to SOCK_DIAG_PAIRS pairs.
 */
must_check int sock_diag_ask(struct sock_diag *diag, int protocol, struct sock_diag_pair *pair,
                             size_t count);

/* Counts on until `until_us` (of clock_now_us). Returns 1 when all is counted, 0 when there is more
 * to come. */
must_check int sock_diag_read(struct sock_diag *diag, uint64_t until_us);
