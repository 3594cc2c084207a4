/*
 * Purpose: a server that sends datagrams back, with what a test wants of it.
 * Thread:  one process, one thread, one socket.
 * Owns:    delayed replies, in a list that is in order of their due times by itself.
 * Fails:   exits 2 on wrong usage, 1 when it cannot have the address. A reply that cannot be sent
 * is counted.
 *
 * Made so that it is not what is measured: as many datagrams a call as there are, replies out of
 * the buffers that they came in. A wait ends every WAIT_US, so that a signal just before it is not
 * missed for long.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "test/lib/share/udp.h"

enum { WAIT_US = 100000 };

static struct {
    union inet listen;
    const char *name;
    bool named; /* the name goes before each reply */
    uint64_t delay_us;
    bool late; /* the first reply is not delayed */
    unsigned replies;
    size_t size; /* of a reply; 0: the request's */
    bool gro;
} opt = {.name = "echo", .replies = 1};

static struct {
    uint64_t datagrams;
    uint64_t bytes;
    uint64_t trains; /* came as one, by UDP_GRO */
    uint64_t sent;
    uint64_t errors;
} counts;

struct request {
    union inet from;
    socklen_t from_size;
    const char *data;
    size_t size;
    size_t segment; /* 0: one datagram */
};

struct delayed {
    STAILQ_ENTRY(delayed) link;
    uint64_t due_us;
    struct request request;
    char data[];
};

static STAILQ_HEAD(, delayed) delayed = STAILQ_HEAD_INITIALIZER(delayed);
static int fd;
static char label[NAME_LEN_MAX + 2];
static char padding[DATAGRAM_MAX];
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t telling;

static void usage(void)
{
    puts("usage: udp_echo --listen ADDRESS [OPTION...]\n"
         "\n"
         "Sends each datagram back to where it came from. Prints a line once it listens, and one "
         "of\n"
         "JSON with its counts at SIGUSR1 and at its end. SIGTERM and SIGINT end it.\n"
         "\n"
         "  --listen ADDRESS  127.0.0.1:53 or [::1]:53\n"
         "  --name NAME       replies begin with NAME and a space\n"
         "  --delay MS        each reply waits so long\n"
         "  --replies N       so many replies to each datagram (1); 0: it only counts\n"
         "  --late            the first of them does not wait\n"
         "  --size B          a reply is cut to B bytes, or zeroes are added\n"
         "  --gro             takes and sends what belongs together in one piece (UDP_GRO,\n"
         "                    UDP_SEGMENT); a reply is then the bare request\n"
         "\n"
         "The counts: datagrams, bytes and trains received, replies sent, errors of sending, and\n"
         "overflow, what the kernel dropped because the socket's queue was full.");
    exit(0);
}

/* ---- counts ---- */

static uint32_t overflow(void)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof(info);

    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size);
    return info[SK_MEMINFO_DROPS];
}

static void tell(void)
{
    telling = 0;
    printf("{\"name\":\"%s\",\"datagrams\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"trains\":%" PRIu64
           ",\"sent\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"overflow\":%" PRIu32 "}\n",
           opt.name, counts.datagrams, counts.bytes, counts.trains, counts.sent, counts.errors,
           overflow());
    fflush(stdout);
}

static size_t datagrams_of(const struct request *request)
{
    if (request->segment == 0 || request->size <= request->segment)
        return 1;
    return (request->size + request->segment - 1) / request->segment;
}

/* ---- replies ---- */

struct reply {
    struct iovec parts[3]; /* name, request, padding */
    union control control;
};

static void reply_make(struct reply *reply, struct request *request, struct mmsghdr *message)
{
    size_t label_size = opt.named ? strlen(label) : 0;
    size_t whole = opt.size > 0 ? opt.size : label_size + request->size;
    size_t left = whole < DATAGRAM_MAX || request->segment > 0 ? whole : DATAGRAM_MAX;
    const struct iovec parts[3] = {
        {label, label_size}, {(char *)request->data, request->size}, {padding, left}};

    for (size_t i = 0; i < 3; i++) {
        reply->parts[i] = parts[i];
        if (reply->parts[i].iov_len > left)
            reply->parts[i].iov_len = left;
        left -= reply->parts[i].iov_len;
    }
    message->msg_hdr = (struct msghdr){.msg_name = &request->from,
                                       .msg_namelen = request->from_size,
                                       .msg_iov = reply->parts,
                                       .msg_iovlen = 3};
    if (request->segment > 0 && request->size > request->segment) {
        message->msg_hdr.msg_control = &reply->control;
        control_add(&message->msg_hdr, SOL_UDP, UDP_SEGMENT,
                    &(uint16_t){(uint16_t)request->segment}, sizeof(uint16_t));
    }
}

static void replies_send(struct request *requests, size_t n)
{
    static struct reply replies[BATCH_MAX];
    static struct mmsghdr messages[BATCH_MAX];
    size_t at = 0;

    for (size_t i = 0; i < n; i++)
        reply_make(&replies[i], &requests[i], &messages[i]);
    while (at < n && !stopping) {
        int sent = sendmmsg(fd, messages + at, (unsigned)(n - at), 0);
        if (sent < 0 && errno == EINTR)
            continue;
        counts.errors += sent < 0;
        for (int i = 0; i < sent; i++)
            counts.sent += datagrams_of(&requests[at + (size_t)i]);
        /* One that cannot be sent must not hold up the others. */
        at += sent > 0 ? (size_t)sent : 1;
    }
}

static void answer(struct request *requests, size_t n, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        replies_send(requests, n);
}

static void delay(const struct request *request)
{
    struct delayed *kept = malloc(sizeof(*kept) + request->size);

    if (kept == NULL)
        die("malloc");
    kept->due_us = now_us() + opt.delay_us;
    kept->request = *request;
    memcpy(kept->data, request->data, request->size);
    kept->request.data = kept->data;
    STAILQ_INSERT_TAIL(&delayed, kept, link);
}

static void answer_due(void)
{
    uint64_t now = now_us();
    struct delayed *kept;

    while ((kept = STAILQ_FIRST(&delayed)) != NULL && kept->due_us <= now) {
        STAILQ_REMOVE_HEAD(&delayed, link);
        answer(&kept->request, 1, opt.late ? opt.replies - 1 : opt.replies);
        free(kept);
    }
}

/* ---- requests ---- */

static size_t receive(struct request requests[BATCH_MAX], int flags)
{
    static struct batch batch;
    size_t n = batch_receive(&batch, fd, flags, opt.gro);

    for (size_t i = 0; i < n; i++) {
        requests[i].from = batch.from[i];
        requests[i].from_size = batch.messages[i].msg_hdr.msg_namelen;
        requests[i].data = batch.buffers[i];
        requests[i].size = batch.messages[i].msg_len;
        requests[i].segment = control_segment(&batch.messages[i].msg_hdr);
    }
    return n;
}

/* Waits for datagrams, or until a reply is due. */
static size_t next_requests(struct request requests[BATCH_MAX])
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    const struct delayed *first = STAILQ_FIRST(&delayed);
    uint64_t now;

    if (first == NULL)
        return receive(requests, MSG_WAITFORONE);
    now = now_us();
    if (first->due_us > now) {
        uint64_t left = first->due_us - now < WAIT_US ? first->due_us - now : WAIT_US;
        ppoll(&waiting, 1, &(struct timespec){0, (long)left * 1000}, NULL);
    }
    return receive(requests, MSG_DONTWAIT);
}

static void serve(void)
{
    static struct request requests[BATCH_MAX];

    while (!stopping) {
        size_t n = next_requests(requests);
        for (size_t i = 0; i < n; i++) {
            size_t datagrams = datagrams_of(&requests[i]);
            counts.datagrams += datagrams;
            counts.bytes += requests[i].size;
            counts.trains += datagrams > 1;
            if (opt.delay_us > 0)
                delay(&requests[i]);
        }
        if (opt.delay_us == 0 || opt.late)
            answer(requests, n, opt.late ? 1 : opt.replies);
        answer_due();
        if (telling)
            tell();
    }
}

/* ---- the program ---- */

static void open_socket(const char *address)
{
    struct timeval wait = {.tv_usec = WAIT_US};

    fd = socket(opt.listen.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, &opt.listen.any, inet_size(&opt.listen)) < 0)
        die(address);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
        die("setsockopt");
    socket_widen(fd);
    if (opt.gro)
        socket_set(fd, SOL_UDP, UDP_GRO, 1);
    printf("%s: listening on %s\n", opt.name, address);
    fflush(stdout);
}

static void name_set(const char *name)
{
    if (name[0] == '\0' || strlen(name) > NAME_LEN_MAX || strpbrk(name, " \"\\\n") != NULL)
        refuse("a name is a word");
    opt.name = name;
    opt.named = true;
    snprintf(label, sizeof(label), "%s ", name);
}

/* Returns the text of --listen. */
static const char *options_parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"listen", required_argument, NULL, 'l'},
        {"name", required_argument, NULL, 'n'},
        {"delay", required_argument, NULL, 'd'},
        {"size", required_argument, NULL, 's'},
        {"replies", required_argument, NULL, 'r'},
        {"late", no_argument, NULL, 'a'},
        {"gro", no_argument, NULL, 'g'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *listen = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == 'h')
            usage();
        else if (option == 'l')
            listen = optarg;
        else if (option == 'n')
            name_set(optarg);
        else if (option == 'd')
            opt.delay_us = number_parse("delay", optarg, 0, 3600000) * 1000;
        else if (option == 'r')
            opt.replies = (unsigned)number_parse("replies", optarg, 0, 1000);
        else if (option == 's')
            opt.size = number_parse("size", optarg, 1, DATAGRAM_MAX);
        else if (option == 'a')
            opt.late = true;
        else if (option == 'g')
            opt.gro = true;
        else
            refuse("wrong option");
    }
    if (listen == NULL || optind < argc)
        refuse("--listen ADDRESS is needed");
    if (opt.late && (opt.delay_us == 0 || opt.replies < 2))
        refuse("--late goes with --delay, and --replies of 2 or more");
    if (opt.gro && (opt.named || opt.size > 0))
        refuse("--gro goes with neither --name nor --size");
    return listen;
}

int main(int argc, char **argv)
{
    const char *listen = options_parse(argc, argv);

    opt.listen = inet_parse(listen);
    signals_take(&stopping, &telling);
    open_socket(listen);
    serve();
    tell();
    return 0;
}
