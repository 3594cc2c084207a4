/*
 * Purpose: a small HTTP server that answers with its own name, for scripts/run and e2e tests.
 * Thread:  one process, one thread, one epoll set.
 * Owns:    each connection belongs to the set and frees itself in conn_run.
 * Fails:   exits 2 on wrong usage, 1 when it cannot listen; a bad request is answered and closed.
 *
 * A connection answers one request at a time, so pipelined requests wait in its buffer:
 *
 *     read -> parse -> throw the body away -> answer -> (delayed) -> flush -> parse what is left
 *
 * Sockets are edge-triggered: conn_run goes on until it meets EAGAIN or a delay, and both have
 * something that calls it again. A delayed connection is never closed, so the delay queue holds
 * no dangling pointer.
 */
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 4096, ANSWER_MAX = 512, NAME_LEN_MAX = 64, EVENTS = 64 };

struct request {
    bool head;
    bool health;
    bool keep_alive;
    uint64_t body;
    int status; /* 200, or why it is refused */
};

struct conn {
    int fd;
    bool last;       /* close once the answer is out */
    uint64_t due_ms; /* 0: not delayed */
    bool parsed;     /* request holds one that is not answered yet */
    struct request request;
    uint64_t body_left; /* request body bytes still to be thrown away */
    size_t in_len;
    size_t out_len;
    size_t out_sent;
    TAILQ_ENTRY(conn) delayed;
    char in[HEAD_MAX];
    char out[ANSWER_MAX];
};

static struct {
    const char *listen;
    const char *name;
    uint64_t delay_ms;
    bool close;
} opt;

/* One delay for all, so the queue is in order of due time by itself. */
static TAILQ_HEAD(, conn) delay_queue = TAILQ_HEAD_INITIALIZER(delay_queue);
static int epoll_fd;
static int listen_fd;
static bool accept_paused;
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t unhealthy;

static void usage(FILE *to)
{
    fputs("usage: responder --listen ADDRESS --name NAME [--delay MS] [--close]\n"
          "\n"
          "Answers every HTTP request with NAME, and prints one line once it listens.\n"
          "\n"
          "  --listen ADDRESS  127.0.0.1:8081, [::1]:8081 or unix:/path; port 0 takes a free one\n"
          "  --name NAME       what the answers say\n"
          "  --delay MS        wait this long before each answer (health checks too)\n"
          "  --close           close each connection after its answer\n"
          "\n"
          "/healthz answers 200; SIGUSR1 has it answer 503, a second SIGUSR1 200 again.\n"
          "SIGTERM and SIGINT end the program.\n",
          to);
}

_Noreturn static void usage_exit(void)
{
    usage(stderr);
    exit(2);
}

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "responder: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- HTTP ---- */

/* The value of a header, or NULL. Lines end with CRLF, the head with an empty one. */
static const char *header_find(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = strstr(head, "\r\n"); at; at = strstr(at + 2, "\r\n")) {
        if (strncasecmp(at + 2, name, len) == 0 && at[2 + len] == ':')
            return at + 3 + len + strspn(at + 3 + len, " \t");
    }
    return NULL;
}

static bool value_is(const char *value, const char *word)
{
    return value && strncasecmp(value, word, strlen(word)) == 0;
}

static struct request request_parse(const char *head)
{
    struct request r = {.status = 200};
    const char *target = strchr(head, ' ');
    const char *version = target ? strchr(target + 1, ' ') : NULL;
    const char *connection = header_find(head, "Connection");
    const char *length = header_find(head, "Content-Length");

    if (!version || strncmp(version + 1, "HTTP/1.", 7) != 0) {
        r.status = 400;
        return r;
    }
    r.head = strncmp(head, "HEAD ", 5) == 0;
    r.health = strncmp(target + 1, "/healthz ", 9) == 0;
    r.keep_alive = !opt.close && (version[8] == '0' ? value_is(connection, "keep-alive")
                                                    : !value_is(connection, "close"));
    if (length)
        r.body = strtoull(length, NULL, 10);
    if (header_find(head, "Transfer-Encoding")) {
        r.status = 411;
        r.keep_alive = false;
    }
    if (r.health && unhealthy)
        r.status = 503;
    return r;
}

static const char *status_text(int status)
{
    return status == 200 ? "OK" : status == 503 ? "Service Unavailable" : "Bad Request";
}

static void conn_answer(struct conn *c, const struct request *r)
{
    int n = snprintf(c->out, sizeof(c->out),
                     "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                     "Connection: %s\r\n\r\n%s%s",
                     r->status, status_text(r->status), strlen(opt.name) + 1,
                     r->keep_alive ? "keep-alive" : "close", r->head ? "" : opt.name,
                     r->head ? "" : "\n");

    c->out_len = (size_t)n;
    c->out_sent = 0;
    c->last = !r->keep_alive;
    if (opt.delay_ms > 0) {
        c->due_ms = now_ms() + opt.delay_ms;
        TAILQ_INSERT_TAIL(&delay_queue, c, delayed);
    }
}

/* ---- Connections ---- */

enum step { STEP_ON, STEP_WAIT, STEP_CLOSE };

static void conn_consume(struct conn *c, size_t n)
{
    memmove(c->in, c->in + n, c->in_len - n);
    c->in_len -= n;
}

static enum step conn_flush(struct conn *c)
{
    while (c->out_sent < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
        c->out_sent += (size_t)n;
    }
    c->out_len = 0;
    return c->last ? STEP_CLOSE : STEP_ON;
}

static enum step conn_read(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - 1 - c->in_len, 0);

    if (n > 0) {
        c->in_len += (size_t)n;
        return STEP_ON;
    }
    return n < 0 && errno == EAGAIN ? STEP_WAIT : STEP_CLOSE;
}

/* Finds the next head in the buffer, if it is whole. */
static bool conn_parse(struct conn *c)
{
    char *end;

    c->in[c->in_len] = '\0';
    end = strstr(c->in, "\r\n\r\n");
    if (end) {
        end[2] = '\0';
        c->request = request_parse(c->in);
        conn_consume(c, (size_t)(end + 4 - c->in));
    } else if (c->in_len == sizeof(c->in) - 1) {
        c->request = (struct request){.status = 431};
    } else {
        return false;
    }
    c->parsed = true;
    c->body_left = c->request.body;
    return true;
}

/* Takes one step: parses a head, throws body away, answers, or reads. */
static enum step conn_step(struct conn *c)
{
    size_t body = c->body_left < c->in_len ? (size_t)c->body_left : c->in_len;

    conn_consume(c, body);
    c->body_left -= body;
    if (!c->parsed && conn_parse(c))
        return STEP_ON;
    if (c->parsed && c->body_left == 0) {
        conn_answer(c, &c->request);
        c->parsed = false;
        return STEP_ON;
    }
    return conn_read(c);
}

static void listener_watch(bool on)
{
    struct epoll_event ev = {.events = on ? EPOLLIN : 0, .data.ptr = NULL};

    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, listen_fd, &ev) < 0)
        die("epoll_ctl");
    accept_paused = !on;
}

static void conn_close(struct conn *c)
{
    /* Bytes left unread would turn the close into a reset that can overtake the answer. */
    shutdown(c->fd, SHUT_WR);
    while (recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT) > 0)
        ;
    close(c->fd);
    free(c);
    if (accept_paused)
        listener_watch(true);
}

static void conn_run(struct conn *c)
{
    enum step step = STEP_ON;

    while (step == STEP_ON && c->due_ms == 0)
        step = c->out_len > 0 ? conn_flush(c) : conn_step(c);
    if (step == STEP_CLOSE)
        conn_close(c);
}

static void conn_accept(void)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
    struct conn *c;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE)
            listener_watch(false);
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        die("calloc");
    c->fd = fd;
    ev.data.ptr = c;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        die("epoll_ctl");
}

/* ---- Delays ---- */

static int delay_timeout(void)
{
    struct conn *c = TAILQ_FIRST(&delay_queue);
    uint64_t now = now_ms();

    if (!c)
        return -1;
    return c->due_ms > now ? (int)(c->due_ms - now) : 0;
}

static void delay_run_due(void)
{
    uint64_t now = now_ms();
    struct conn *c;

    while ((c = TAILQ_FIRST(&delay_queue)) && c->due_ms <= now) {
        TAILQ_REMOVE(&delay_queue, c, delayed);
        c->due_ms = 0;
        conn_run(c);
    }
}

/* ---- Listening ---- */

static int listen_unix(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(sun.sun_path)) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(sun.sun_path, path, strlen(path));
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
        die(path);
    return fd;
}

static int listen_inet(const char *address)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[64];
    const char *colon = strrchr(address, ':');
    bool bracket = address[0] == '[';
    size_t len;
    int fd;

    if (!colon || (size_t)(colon - address) >= sizeof(host) || (bracket && colon[-1] != ']'))
        usage_exit();
    len = (size_t)(colon - address) - (bracket ? 2 : 0);
    memcpy(host, address + bracket, len);
    host[len] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        usage_exit();
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0)
        die(address);
    freeaddrinfo(found);
    return fd;
}

static void listen_announce(void)
{
    struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(ss);
    char host[64];
    char port[8];

    if (getsockname(listen_fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family != AF_UNIX &&
        getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        printf(ss.ss_family == AF_INET6 ? "%s: listening on [%s]:%s\n" : "%s: listening on %s:%s\n",
               opt.name, host, port);
    else
        printf("%s: listening on %s\n", opt.name, opt.listen);
    fflush(stdout);
}

static void listen_open(void)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};

    if (strncmp(opt.listen, "unix:", 5) == 0)
        listen_fd = listen_unix(opt.listen + 5);
    else
        listen_fd = listen_inet(opt.listen);
    if (listen(listen_fd, SOMAXCONN) < 0)
        die(opt.listen);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &ev) < 0)
        die("epoll");
    listen_announce();
}

/* ---- The program ---- */

static void on_signal(int signo)
{
    if (signo == SIGUSR1)
        unhealthy = !unhealthy;
    else
        stopping = 1;
}

/*
 * Those that end the program are let in only while epoll_pwait waits, so none is missed between
 * test and wait. SIGUSR1 is let in at all times: epoll_pwait would hold it back while there are
 * events.
 */
static sigset_t signals_prepare(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigset_t blocked;
    sigset_t before;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    sigdelset(&before, SIGTERM);
    sigdelset(&before, SIGINT);
    return before;
}

static void serve(const sigset_t *while_waiting)
{
    struct epoll_event events[EVENTS];

    while (!stopping) {
        int n = epoll_pwait(epoll_fd, events, EVENTS, delay_timeout(), while_waiting);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                conn_run(events[i].data.ptr);
            else
                conn_accept();
        }
        delay_run_due();
    }
}

static void options_parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"listen", required_argument, NULL, 'l'}, {"name", required_argument, NULL, 'n'},
        {"delay", required_argument, NULL, 'd'},  {"close", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'l':
            opt.listen = optarg;
            break;
        case 'n':
            opt.name = optarg;
            break;
        case 'd':
            opt.delay_ms = strtoul(optarg, NULL, 10);
            break;
        case 'c':
            opt.close = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage_exit();
        }
    }
    if (!opt.listen || !opt.name || strlen(opt.name) > NAME_LEN_MAX || optind < argc)
        usage_exit();
}

int main(int argc, char **argv)
{
    struct rlimit files;
    sigset_t while_waiting;

    options_parse(argc, argv);
    while_waiting = signals_prepare();
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    listen_open();
    serve(&while_waiting);
    if (strncmp(opt.listen, "unix:", 5) == 0)
        unlink(opt.listen + 5);
    return 0;
}
