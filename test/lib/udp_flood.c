/*
 * Purpose: datagrams from more clients than there are ports, none of which ever reads a reply.
 * Thread:  one process, one thread.
 * Owns:    one socket for each port.
 * Fails:   exits 2 on wrong usage, 1 when it lacks descriptors. What cannot be sent is counted.
 *
 * A socket is bound to a port of all addresses, and each datagram is given its source by
 * IP_PKTINFO. So a port serves as many clients as there are addresses, and since it is there,
 * nothing refuses the replies: they fill a queue of the least size and are dropped.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "test/lib/share/stamp.h"
#include "test/lib/share/udp.h"

enum { BURST = 50, NAP_US = 1000 };

static struct {
    union inet to;
    struct in_addr from;
    uint64_t sources;
    uint64_t ports;
    uint64_t rate;
    uint64_t seconds;
    uint64_t size;
} opt = {.sources = 10000, .ports = 100, .rate = 50000, .seconds = 10, .size = 100};

static int *sockets;
static uint64_t begin_us;
static uint64_t sent;
static uint64_t errors;
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t telling;

_Noreturn static void usage(void)
{
    puts("usage: udp_flood --to ADDRESS [OPTION...]\n"
         "\n"
         "Sends datagrams, each from another address and port until all pairs had their turn, and\n"
         "reads none. Prints a line of JSON at its end, and at SIGUSR1: sent, errors, clients.\n"
         "\n"
         "  --to ADDRESS    an IPv4 address and port\n"
         "  --from ADDRESS  the first source address (127.64.0.1)\n"
         "  --sources N     so many addresses (10000)\n"
         "  --ports N       so many ports (100)\n"
         "  --rate N        datagrams a second (50000)\n"
         "  --seconds S     the end (10)\n"
         "  --size B        bytes of a datagram (100)");
    exit(0);
}

static void tell(void)
{
    uint64_t clients = opt.sources * opt.ports;

    telling = 0;
    printf("{\"mode\":\"flood\",\"seconds\":%.6f,\"sent\":%" PRIu64 ",\"errors\":%" PRIu64
           ",\"clients\":%" PRIu64 "}\n",
           (double)(now_us() - begin_us) / 1e6, sent, errors, sent < clients ? sent : clients);
    fflush(stdout);
}

/* ---- sending ---- */

struct parcel {
    struct stamp stamp;
    struct iovec parts[2];
    union control control;
};

static void parcel_make(struct parcel *parcel, struct msghdr *message, uint64_t address)
{
    struct in_pktinfo info = {.ipi_spec_dst = v4_plus(opt.from, address % opt.sources)};

    parcel->stamp.magic = STAMP_MAGIC;
    parcel->stamp.seq = sent;
    parcel->parts[0] = (struct iovec){&parcel->stamp, sizeof(parcel->stamp)};
    parcel->parts[1] = (struct iovec){stamp_body(sent), opt.size - sizeof(parcel->stamp)};
    *message = (struct msghdr){.msg_name = &opt.to,
                               .msg_namelen = sizeof(opt.to.v4),
                               .msg_iov = parcel->parts,
                               .msg_iovlen = 2,
                               .msg_control = &parcel->control};
    control_add(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    sent++;
}

/* From one port, and as many addresses as the burst has datagrams. */
static void burst_send(uint64_t burst)
{
    static struct parcel parcels[BURST];
    static struct mmsghdr messages[BURST];
    uint64_t first = burst / opt.ports * BURST;
    unsigned at = 0;

    for (unsigned i = 0; i < BURST; i++)
        parcel_make(&parcels[i], &messages[i].msg_hdr, first + i);
    while (at < BURST) {
        int n = sendmmsg(sockets[burst % opt.ports], messages + at, BURST - at, 0);
        if (n < 0 && errno == EINTR)
            continue;
        errors += n < 0;
        at += n > 0 ? (unsigned)n : 1;
    }
}

static void run(void)
{
    uint64_t burst = 0;

    begin_us = now_us();
    while (!stopping && now_us() < begin_us + opt.seconds * 1000000) {
        if (telling)
            tell();
        if (now_us() >= begin_us + burst * BURST * 1000000 / opt.rate)
            burst_send(burst++);
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_US * 1000}, NULL);
    }
}

/* ---- the program ---- */

static void prepare(void)
{
    const union inet any = {.v4 = {.sin_family = AF_INET}};

    files_raise();
    sockets = calloc(opt.ports, sizeof(*sockets));
    if (sockets == NULL)
        die("calloc");
    for (uint64_t i = 0; i < opt.ports; i++) {
        sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (sockets[i] < 0 || bind(sockets[i], &any.any, sizeof(any.v4)) < 0)
            die("socket");
        socket_set(sockets[i], SOL_SOCKET, SO_RCVBUF, 1);
    }
}

static void option_set(int option)
{
    if (option == 't')
        opt.to = inet_parse(optarg);
    else if (option == 'f')
        opt.from = v4_parse(optarg);
    else if (option == 'a')
        opt.sources = number_parse("sources", optarg, 1, 1 << 24);
    else if (option == 'p')
        opt.ports = number_parse("ports", optarg, 1, 15000);
    else if (option == 'r')
        opt.rate = number_parse("rate", optarg, 1, 10000000);
    else if (option == 's')
        opt.seconds = number_parse("seconds", optarg, 1, 86400);
    else if (option == 'b')
        opt.size = number_parse("size", optarg, sizeof(struct stamp), DATAGRAM_MAX);
    else
        refuse("wrong option");
}

static void options_parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"to", required_argument, NULL, 't'},
        {"from", required_argument, NULL, 'f'},
        {"sources", required_argument, NULL, 'a'},
        {"ports", required_argument, NULL, 'p'},
        {"rate", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"size", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    opt.from = v4_parse("127.64.0.1");
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == 'h')
            usage();
        option_set(option);
    }
    if (opt.to.any.sa_family != AF_INET || optind < argc)
        refuse("--to ADDRESS is needed, and IPv4");
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    signals_take(&stopping, &telling);
    prepare();
    run();
    tell();
    return 0;
}
