/*
 * Purpose: what the programs that send and receive datagrams share: addresses, sockets, options.
 * Thread:  any; no state.
 * Owns:    nothing.
 * Fails:   in the name of the program: wrong usage exits 2, a machine that lacks something 1.
 */
#pragma once

#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    DATAGRAM_MAX = 65507, /* over IPv4, without options */
    TRAIN_MAX = 64,       /* datagrams in one send, udp(7) */
    NAME_LEN_MAX = 64,    /* of the name that a server puts before its replies */
};

/* Zeroed is none: AF_UNSPEC. */
union inet {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Room for a packet info and a number. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int))];
};

/* ---- leaving ---- */

/* With errno's text. */
_Noreturn void die(const char *what);

_Noreturn void refuse(const char *what);

/* ---- time ---- */

/* Monotonic. */
uint64_t now_us(void);

/* Since 1970. */
uint64_t wall_now_us(void);

/* ---- addresses ---- */

/* "127.0.0.1:53" or "[::1]:53" */
union inet inet_parse(const char *text);

socklen_t inet_size(const union inet *address);

bool inet_equal(const union inet *a, const union inet *b);

struct in_addr v4_parse(const char *text);

/* This address plus n. */
struct in_addr v4_plus(struct in_addr first, uint64_t n);

/* ---- sockets ---- */

/* The soft limit of descriptors becomes the hard one. */
void files_raise(void);

void socket_set(int fd, int level, int option, int value);

/* A queue as long as we may have, for what comes in bursts. */
void socket_widen(int fd);

/* Appends to msg_control, which has room (union control). */
void control_add(struct msghdr *message, int level, int type, const void *value, size_t size);

/* NULL: there is none. */
const void *control_find(struct msghdr *message, int level, int type);

/* The size of each datagram but the last, where several came as one (UDP_GRO); 0: it came alone. */
size_t control_segment(struct msghdr *message);

/* ---- receiving ---- */

enum { BATCH_MAX = 64, BUFFER_SIZE = 65536 };

/* What one call received. Large: static ones take memory only as far as they are used. */
struct batch {
    struct mmsghdr messages[BATCH_MAX]; /* msg_name is a union inet */
    struct iovec parts[BATCH_MAX];
    union inet from[BATCH_MAX];
    union control control[BATCH_MAX];
    char buffers[BATCH_MAX][BUFFER_SIZE];
};

/* How many came; 0 also at EAGAIN and EINTR. `controlled`: a socket that tells packet infos or
 * UDP_GRO. */
size_t batch_receive(struct batch *batch, int fd, int flags, bool controlled);

/* ---- the program ---- */

/* A whole number from `least` to `most`; `name` is the option's. */
uint64_t number_parse(const char *name, const char *text, uint64_t least, uint64_t most);

/* From now on SIGTERM and SIGINT set *stop, SIGUSR1 sets *tell. They end a wait with EINTR. */
void signals_take(volatile sig_atomic_t *stop, volatile sig_atomic_t *tell);
