#include "test/lib/share/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { SOCKET_BUFFER = 4 << 20 };

_Noreturn void die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

_Noreturn void refuse(const char *what)
{
    fprintf(stderr, "%s: %s; --help tells more\n", program_invocation_short_name, what);
    exit(2);
}

static uint64_t clock_us(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t wall_now_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

/* ---- addresses ---- */

union inet inet_parse(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    union inet out;
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    bool bracket = text[0] == '[';

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || (bracket && colon[-1] != ']'))
        refuse("an address is 127.0.0.1:53 or [::1]:53");
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - (bracket ? 2 : 0), text + bracket);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        refuse("an address is 127.0.0.1:53 or [::1]:53");
    memset(&out, 0, sizeof(out));
    memcpy(&out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return out;
}

socklen_t inet_size(const union inet *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

bool inet_equal(const union inet *a, const union inet *b)
{
    if (a->any.sa_family != b->any.sa_family)
        return false;
    if (a->any.sa_family == AF_INET6)
        return a->v6.sin6_port == b->v6.sin6_port &&
               memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
    return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

struct in_addr v4_parse(const char *text)
{
    struct in_addr out;

    if (inet_pton(AF_INET, text, &out) != 1)
        refuse("a source is an IPv4 address");
    return out;
}

struct in_addr v4_plus(struct in_addr first, uint64_t n)
{
    return (struct in_addr){htonl(ntohl(first.s_addr) + (uint32_t)n)};
}

/* ---- sockets ---- */

void files_raise(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        die("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        die("setrlimit");
}

void socket_set(int fd, int level, int option, int value)
{
    if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
        die("setsockopt");
}

void socket_widen(int fd)
{
    int bytes = SOCKET_BUFFER;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
        socket_set(fd, SOL_SOCKET, SO_RCVBUF, bytes);
}

void control_add(struct msghdr *message, int level, int type, const void *value, size_t size)
{
    struct cmsghdr *at = (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);

    at->cmsg_level = level;
    at->cmsg_type = type;
    at->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(at), value, size);
    message->msg_controllen += CMSG_SPACE(size);
}

const void *control_find(struct msghdr *message, int level, int type)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at != NULL; at = CMSG_NXTHDR(message, at)) {
        if (at->cmsg_level == level && at->cmsg_type == type)
            return CMSG_DATA(at);
    }
    return NULL;
}

size_t control_segment(struct msghdr *message)
{
    const void *value = control_find(message, SOL_UDP, UDP_GRO);
    int size = 0;

    if (value != NULL)
        memcpy(&size, value, sizeof(size));
    return (size_t)size;
}

/* ---- receiving ---- */

size_t batch_receive(struct batch *batch, int fd, int flags, bool controlled)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        batch->parts[i] = (struct iovec){batch->buffers[i], BUFFER_SIZE};
        batch->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->from[i],
            .msg_namelen = sizeof(batch->from[i]),
            .msg_iov = &batch->parts[i],
            .msg_iovlen = 1,
            .msg_control = controlled ? &batch->control[i] : NULL,
            .msg_controllen = controlled ? sizeof(batch->control[i]) : 0,
        };
    }
    int n = recvmmsg(fd, batch->messages, BATCH_MAX, flags, NULL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        die("recvmmsg");
    return n > 0 ? (size_t)n : 0;
}

/* ---- the program ---- */

uint64_t number_parse(const char *name, const char *text, uint64_t least, uint64_t most)
{
    char wrong[128];
    char *end;

    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && value >= least &&
        value <= most)
        return value;
    snprintf(wrong, sizeof(wrong), "--%s is a number from %ju to %ju", name, (uintmax_t)least,
             (uintmax_t)most);
    refuse(wrong);
}

static volatile sig_atomic_t *on_stop;
static volatile sig_atomic_t *on_tell;

static void on_signal(int signo)
{
    *(signo == SIGUSR1 ? on_tell : on_stop) = 1;
}

void signals_take(volatile sig_atomic_t *stop, volatile sig_atomic_t *tell)
{
    struct sigaction sa = {.sa_handler = on_signal};

    on_stop = stop;
    on_tell = tell;
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
}
