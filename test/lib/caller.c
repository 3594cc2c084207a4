/*
 * Purpose: an HTTP client that makes a new connection for each request and tells how each one went.
 * Thread:  one process, one thread, one epoll set.
 * Owns:    the lanes: each makes one call after the other.
 * Fails:   exits 2 on wrong usage, 1 when it lacks descriptors. A call that fails is a line like
 *          the others.
 *
 * wrk counts; this one remembers, so that a test can lay each call beside the balancer's own record
 * of it: when it began, from which port, who answered, and how it ended. A call is right only when
 * the whole answer came and a FIN after it.
 *
 * All calls have the same time to live, so the list of those under way is in order of their
 * deadlines by itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 2048, REQUEST_MAX = 512, EVENTS = 64, WAIT_US = 2000 };

union inet {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct lane {
    int fd; /* -1: between two calls */
    bool sent;
    uint64_t begin_us; /* monotonic */
    uint64_t wall_us;
    size_t received; /* bytes of the answer; the first HEAD_MAX are in `head` */
    char from[INET6_ADDRSTRLEN + 8];
    TAILQ_ENTRY(lane) link; /* of `idle` or `busy` */
    char head[HEAD_MAX + 1];
};
TAILQ_HEAD(lanes, lane);

static struct {
    union inet to;
    union inet from; /* AF_UNSPEC: whatever the kernel takes */
    socklen_t size;
    const char *path;
    uint64_t count; /* 0: no end */
    uint64_t lanes;
    uint64_t rate; /* calls a second; 0: as fast as it goes */
    uint64_t seconds;
    uint64_t timeout_ms;
    bool wait;
    bool silent;
} opt = {.path = "/", .lanes = 16, .timeout_ms = 30000};

static struct lanes idle = TAILQ_HEAD_INITIALIZER(idle);
static struct lanes busy = TAILQ_HEAD_INITIALIZER(busy);
static int epoll_fd;
static char request[REQUEST_MAX];
static uint64_t begun;
static uint64_t start_us;
static uint64_t next_us; /* not before it does the next call begin */
static bool met;         /* a connection was accepted: a refusal is one from now on */
static volatile sig_atomic_t stopping;

static void usage(FILE *to)
{
    fputs(
        "usage: caller --to ADDRESS [OPTION...]\n"
        "\n"
        "Calls an HTTP server again and again, a new connection each time. Prints for each call\n"
        "begin and end (seconds since 1970), its own address, the outcome and what was answered.\n"
        "The outcome is ok, short (a FIN too early), timeout, status-503 or an error's name.\n"
        "\n"
        "  --to ADDRESS     127.0.0.1:80 or [::1]:80\n"
        "  --lanes N        so many calls at once (16)\n"
        "  --rate N         at most so many new calls a second\n"
        "  --count N        end after so many calls\n"
        "  --seconds S      begin no call after so long\n"
        "  --from ADDRESS   call number n comes from this IPv4 address plus n\n"
        "  --path PATH      what is asked for (/)\n"
        "  --timeout MS     how long a call may take (30000)\n"
        "  --wait           do not count refusals until the first connection is accepted\n"
        "  --silent         send nothing: the server speaks first, and any answer is right\n"
        "\n"
        "SIGTERM and SIGINT end it as --seconds does: calls under way are finished.\n",
        to);
}

_Noreturn static void usage_exit(void)
{
    usage(stderr);
    exit(2);
}

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- The answer ---- */

static const char *outcome_of_status(const char *head, char text[16])
{
    int status = 0;

    if (sscanf(head, "HTTP/1.%*d %d", &status) != 1)
        return "short";
    if (status == 200)
        return NULL;
    snprintf(text, 16, "status-%d", status);
    return text;
}

/* What a call came to whose connection ended with a FIN. *body is the answer's. */
static const char *outcome_of(const struct lane *lane, char text[16], const char **body)
{
    const char *head = lane->head;
    const char *end = strstr(head, "\r\n\r\n");
    const char *length = strcasestr(head, "\r\nContent-Length:");
    const char *wrong;

    if (opt.silent) {
        *body = head;
        return lane->received > 0 ? "ok" : "short";
    }
    if (end == NULL || length == NULL || length > end)
        return "short";
    *body = end + 4;
    wrong = outcome_of_status(head, text);
    if (wrong != NULL)
        return wrong;
    return lane->received - (size_t)(*body - head) == strtoull(length + 17, NULL, 10) ? "ok"
                                                                                      : "short";
}

static void print_call(const struct lane *lane, const char *outcome, const char *body)
{
    uint64_t end_us = lane->wall_us + now_us(CLOCK_MONOTONIC) - lane->begin_us;
    int shown = (int)strcspn(body, " \t\r\n");

    printf("%" PRIu64 ".%06" PRIu64 " %" PRIu64 ".%06" PRIu64 " %s %s %.*s\n",
           lane->wall_us / 1000000, lane->wall_us % 1000000, end_us / 1000000, end_us % 1000000,
           lane->from, outcome, shown > 64 ? 64 : shown, body);
}

/* ---- Calls ---- */

static void call_finish(struct lane *lane, const char *outcome, const char *body)
{
    close(lane->fd);
    lane->fd = -1;
    TAILQ_REMOVE(&busy, lane, link);
    TAILQ_INSERT_TAIL(&idle, lane, link);
    if (opt.wait && !met && strcmp(outcome, "ECONNREFUSED") == 0) {
        begun--;
        next_us = now_us(CLOCK_MONOTONIC) + WAIT_US;
        return;
    }
    print_call(lane, outcome, body);
}

static void call_fail(struct lane *lane, int error)
{
    call_finish(lane, strerrorname_np(error), "");
}

static void call_end(struct lane *lane)
{
    char text[16];
    const char *body = "";
    const char *outcome;

    lane->head[lane->received < HEAD_MAX ? lane->received : HEAD_MAX] = '\0';
    outcome = outcome_of(lane, text, &body);
    call_finish(lane, outcome, body);
}

/* Notes the port that the connection got: the balancer's log knows it by that. */
static void note_address(struct lane *lane)
{
    union inet own = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof(own);
    char host[INET6_ADDRSTRLEN];
    char port[8];

    lane->from[0] = '-';
    lane->from[1] = '\0';
    if (getsockname(lane->fd, &own.any, &size) == 0 &&
        getnameinfo(&own.any, size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(lane->from, sizeof(lane->from),
                 own.any.sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int bind_source(int fd, uint64_t number)
{
    union inet from = opt.from;

    from.v4.sin_addr.s_addr = htonl(ntohl(from.v4.sin_addr.s_addr) + (uint32_t)number);
    /* The port is chosen at connect, where the whole pair of addresses is known. */
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int)) < 0)
        return -1;
    return bind(fd, &from.any, sizeof(from.v4));
}

static void call_begin(struct lane *lane)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = lane};
    uint64_t number = begun++;

    TAILQ_REMOVE(&idle, lane, link);
    TAILQ_INSERT_TAIL(&busy, lane, link);
    lane->sent = false;
    lane->received = 0;
    lane->fd = socket(opt.to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (lane->fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, lane->fd, &ev) < 0)
        die("socket");
    if (opt.from.any.sa_family != AF_UNSPEC && bind_source(lane->fd, number) < 0)
        die("bind");
    lane->begin_us = now_us(CLOCK_MONOTONIC);
    lane->wall_us = now_us(CLOCK_REALTIME);
    int rc = connect(lane->fd, &opt.to.any, opt.size);
    int error = rc < 0 ? errno : 0;
    note_address(lane);
    if (error != 0 && error != EINPROGRESS)
        call_fail(lane, error);
}

/* False when the call is over. */
static bool call_connected(struct lane *lane)
{
    int error = 0;
    socklen_t size = sizeof(error);

    getsockopt(lane->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0 && !opt.silent &&
        send(lane->fd, request, strlen(request), MSG_NOSIGNAL) < (ssize_t)strlen(request))
        error = errno;
    lane->sent = true;
    met = met || error == 0;
    if (error != 0)
        call_fail(lane, error);
    return error == 0;
}

static void call_read(struct lane *lane)
{
    char rest[65536];

    for (;;) {
        bool in_head = lane->received < HEAD_MAX;
        ssize_t n = recv(lane->fd, in_head ? lane->head + lane->received : rest,
                         in_head ? HEAD_MAX - lane->received : sizeof(rest), 0);
        if (n > 0) {
            lane->received += (size_t)n;
        } else if (n == 0) {
            call_end(lane);
            return;
        } else {
            if (errno != EAGAIN)
                call_fail(lane, errno);
            return;
        }
    }
}

static void call_event(struct lane *lane, uint32_t events)
{
    bool over = events & (EPOLLERR | EPOLLHUP);

    if (!lane->sent && !(events & EPOLLOUT) && !over)
        return;
    if (!lane->sent && !call_connected(lane))
        return;
    call_read(lane);
}

/* ---- Time ---- */

static bool may_begin(void)
{
    if (stopping || (opt.count > 0 && begun >= opt.count))
        return false;
    return opt.seconds == 0 || now_us(CLOCK_MONOTONIC) < start_us + opt.seconds * 1000000;
}

/* Those that are due. At a rate a call that finds no lane is late, and the next are not skipped. */
static void begin_calls(void)
{
    struct lane *lane;

    while ((lane = TAILQ_FIRST(&idle)) != NULL && may_begin()) {
        if (now_us(CLOCK_MONOTONIC) < next_us)
            return;
        if (opt.rate > 0)
            next_us += 1000000 / opt.rate;
        call_begin(lane);
    }
}

static void end_late_calls(void)
{
    struct lane *lane;

    while ((lane = TAILQ_FIRST(&busy)) != NULL &&
           now_us(CLOCK_MONOTONIC) >= lane->begin_us + opt.timeout_ms * 1000)
        call_finish(lane, "timeout", "");
}

/* Milliseconds until something is due, rounded up. */
static int time_to_wait(void)
{
    uint64_t now = now_us(CLOCK_MONOTONIC);
    uint64_t due = now + 1000000;
    const struct lane *oldest = TAILQ_FIRST(&busy);

    if (oldest != NULL && oldest->begin_us + opt.timeout_ms * 1000 < due)
        due = oldest->begin_us + opt.timeout_ms * 1000;
    if (!TAILQ_EMPTY(&idle) && next_us < due)
        due = next_us;
    return due > now ? (int)((due - now + 999) / 1000) : 0;
}

static void run(const sigset_t *while_waiting)
{
    struct epoll_event events[EVENTS];

    start_us = next_us = now_us(CLOCK_MONOTONIC);
    while (may_begin() || !TAILQ_EMPTY(&busy)) {
        begin_calls();
        int n = epoll_pwait(epoll_fd, events, EVENTS, time_to_wait(), while_waiting);
        for (int i = 0; i < n; i++)
            call_event(events[i].data.ptr, events[i].events);
        end_late_calls();
    }
}

/* ---- The program ---- */

static void on_signal(int signo)
{
    (void)signo;
    stopping = 1;
}

/* Let in only while epoll_pwait waits, so that none is missed between test and wait. */
static sigset_t signals_prepare(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigset_t blocked;
    sigset_t before;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    return before;
}

static void lanes_make(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll");
    for (uint64_t i = 0; i < opt.lanes; i++) {
        struct lane *lane = calloc(1, sizeof(*lane));
        if (lane == NULL)
            die("calloc");
        lane->fd = -1;
        TAILQ_INSERT_TAIL(&idle, lane, link);
    }
}

static socklen_t parse_address(const char *text, union inet *out)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[INET6_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    bool bracket = text[0] == '[';
    socklen_t size;

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || (bracket && colon[-1] != ']'))
        usage_exit();
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - (bracket ? 2 : 0), text + bracket);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        usage_exit();
    size = found->ai_addrlen;
    memcpy(out, found->ai_addr, size);
    freeaddrinfo(found);
    return size;
}

static void parse_from(const char *text)
{
    opt.from.v4.sin_family = AF_INET;
    if (inet_pton(AF_INET, text, &opt.from.v4.sin_addr) != 1)
        usage_exit();
}

static void option_set(int option)
{
    static uint64_t *const numbers[128] = {
        ['l'] = &opt.lanes,   ['r'] = &opt.rate,       ['c'] = &opt.count,
        ['s'] = &opt.seconds, ['m'] = &opt.timeout_ms,
    };

    if (option == 't')
        opt.size = parse_address(optarg, &opt.to);
    else if (option == 'f')
        parse_from(optarg);
    else if (option == 'p')
        opt.path = optarg;
    else if (option == 'w')
        opt.wait = true;
    else if (option == 'q')
        opt.silent = true;
    else if (option != '?' && numbers[option] != NULL)
        *numbers[option] = strtoull(optarg, NULL, 10);
    else
        usage_exit();
}

static void options_parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"to", required_argument, NULL, 't'},      {"from", required_argument, NULL, 'f'},
        {"path", required_argument, NULL, 'p'},    {"lanes", required_argument, NULL, 'l'},
        {"rate", required_argument, NULL, 'r'},    {"count", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 's'}, {"timeout", required_argument, NULL, 'm'},
        {"wait", no_argument, NULL, 'w'},          {"silent", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == 'h') {
            usage(stdout);
            exit(0);
        }
        option_set(option);
    }
    if (opt.size == 0 || opt.lanes == 0 || opt.timeout_ms == 0 || optind < argc)
        usage_exit();
    if ((size_t)snprintf(request, sizeof(request),
                         "GET %s HTTP/1.1\r\nHost: caller\r\nConnection: close\r\n\r\n",
                         opt.path) >= sizeof(request))
        usage_exit();
}

int main(int argc, char **argv)
{
    sigset_t while_waiting;

    options_parse(argc, argv);
    while_waiting = signals_prepare();
    lanes_make();
    /* Whoever started it may look on while it runs. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    run(&while_waiting);
    return 0;
}
