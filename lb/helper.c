/*
 * Purpose: the helper process, from both sides.
 * Thread:  control; the helper has one thread of its own.
 * Owns:    weir's end: the socket and the process. The helper's end: the other socket.
 * Fails:   see helper.h.
 *
 *      weir ── request: path, write end of a pipe ──▶ helper
 *        ▲                                              │ fork
 *        └────────── pipe: model or errors ────────── parser
 *
 * The pipe's end of file is the end of the answer, and also what tells of a parser that died: an
 * answer that config_decode finds whole was given by one that did not. A parser that hangs is ended
 * by its alarm; weir has stopped listening by then.
 */
#include "lb/helper.h"

#include "common/clock.h"
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* More than any model takes; a parser gone mad does not fill weir's memory. */
#define ANSWER_MAX (256u << 20)
#define ANSWER_LEAST 65536u

/* The helper's end of the socket, once all other descriptors are closed. */
#define HELPER_SOCKET 3

struct helper {
    pid_t pid;
    int socket;
};

struct request {
    int deadline_ms;
    char path[PATH_MAX];
};

/* ---- A request and the descriptor that goes with it ---- */

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static int send_request(int socket, const struct request *request, int descriptor)
{
    struct iovec data = {.iov_base = (void *)request,
                         .iov_len = offsetof(struct request, path) + strlen(request->path) + 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* The descriptor, -EAGAIN when it did not come along, or -EPIPE when weir is gone. */
static int receive_request(int socket, struct request *request)
{
    struct iovec data = {.iov_base = request, .iov_len = sizeof(*request) - 1};
    union control control;
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    memset(request, 0, sizeof(*request));
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (got == 0 || (got < 0 && errno != EINTR))
        return -EPIPE;
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS)
        return -EAGAIN;
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(header), sizeof(descriptor));
    return descriptor;
}

/* ---- In the parser ---- */

static void write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return;
        data += written;
        size -= (size_t)written;
    }
}

/* Nothing is freed: the process ends. */
static int make_answer(const char *path, const struct config_names *names, uint8_t **answer,
                       size_t *size)
{
    struct config *config;
    struct config_errors errors = {0};
    int rc = config_parse(path, names, &config, &errors);
    if (rc == 0)
        return config_encode(config, answer, size);
    if (rc != -EINVAL)
        return rc;
    return config_errors_encode(&errors, answer, size);
}

static _Noreturn void run_parser(const struct request *request, int answer_to,
                                 const struct config_names *names)
{
    uint8_t *answer;
    size_t size;
    close(HELPER_SOCKET);
    alarm((unsigned)request->deadline_ms / 1000 + 1);
    if (make_answer(request->path, names, &answer, &size) == 0)
        write_all(answer_to, answer, size);
    _exit(0);
}

/* ---- In the helper ---- */

static void become_quiet(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A Ctrl-C reaches the whole process group; the helper lives until its socket closes. */
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    /* Ignored, it has the kernel reap the parsers. */
    signal(SIGCHLD, SIG_IGN);
}

/* stderr stays: what a library or a sanitizer has to say must not get lost. */
static bool close_descriptors(int socket)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
           dup2(socket, HELPER_SOCKET) >= 0 && close_range(HELPER_SOCKET + 1, ~0u, 0) == 0;
}

/* A kernel without seccomp has nothing to give up; weir itself warns of it. */
static bool give_up_calls(void)
{
    char error[128];
    int failed = sandbox_enter(SANDBOX_HELPER, error, sizeof(error));
    if (failed && failed != -ENOSYS)
        fprintf(stderr, "weir: the helper process %s\n", error);
    return !failed || failed == -ENOSYS;
}

static _Noreturn void run_helper(int socket, pid_t parent, const struct config_names *names)
{
    static struct request request;
    become_quiet();
    prctl(PR_SET_NAME, "weir-helper");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* The parent may have ended before it could be watched. */
    if (getppid() != parent || !close_descriptors(socket) || !give_up_calls())
        _exit(1);
    for (;;) {
        int answer_to = receive_request(HELPER_SOCKET, &request);
        if (answer_to == -EPIPE)
            _exit(0);
        if (answer_to < 0)
            continue;
        if (fork() == 0)
            run_parser(&request, answer_to, names);
        /* Also when there is no parser: the end of file says so. */
        close(answer_to);
    }
}

/* ---- In weir ---- */

int helper_start(struct helper **out, const struct config_names *names)
{
    int ends[2];
    pid_t parent = getpid();
    struct helper *helper = calloc(1, sizeof(*helper));
    if (helper == NULL)
        return -ENOMEM;
    int rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
    if (rc < 0)
        goto fail;
    helper->socket = ends[0];
    helper->pid = fork();
    if (helper->pid == 0)
        run_helper(ends[1], parent, names);
    rc = helper->pid < 0 ? -errno : 0;
    close(ends[1]);
    if (rc < 0)
        goto fail_socket;
    *out = helper;
    return 0;

fail_socket:
    close(ends[0]);
fail:
    free(helper);
    return rc;
}

pid_t helper_pid(const struct helper *helper)
{
    return helper->pid;
}

void helper_stop(struct helper **helper)
{
    if (*helper == NULL)
        return;
    close((*helper)->socket);
    /*
     * It holds nothing that could be lost, and may be stopped or busy. A weir that has dropped its
     * privileges may not signal it; the closed socket ends it then.
     */
    kill((*helper)->pid, SIGKILL);
    while (waitpid((*helper)->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(*helper);
    *helper = NULL;
}

struct answer {
    uint8_t *data;
    size_t size;
    size_t room;
};

/* 0, or -ETIMEDOUT. */
static int wait_readable(int fd, uint64_t deadline)
{
    for (;;) {
        uint64_t now = clock_now_ms();
        if (now >= deadline)
            return -ETIMEDOUT;
        struct pollfd watch = {.fd = fd, .events = POLLIN};
        int ready = poll(&watch, 1, (int)(deadline - now));
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return -errno;
    }
}

static int make_room(struct answer *answer)
{
    if (answer->size < answer->room)
        return 0;
    size_t room = MAX(2 * answer->room, ANSWER_LEAST);
    uint8_t *data = room <= ANSWER_MAX ? realloc(answer->data, room) : NULL;
    if (data == NULL)
        return -ENOMEM;
    answer->data = data;
    answer->room = room;
    return 0;
}

static int read_answer(int fd, uint64_t deadline, struct answer *answer)
{
    for (;;) {
        int rc = make_room(answer);
        if (rc == 0)
            rc = wait_readable(fd, deadline);
        if (rc < 0)
            return rc;
        ssize_t got = read(fd, answer->data + answer->size, answer->room - answer->size);
        if (got == 0)
            return 0;
        if (got < 0 && errno != EINTR)
            return -errno;
        answer->size += got > 0 ? (size_t)got : 0;
    }
}

static int ask(struct helper *helper, const struct request *request, struct answer *answer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    uint64_t deadline = clock_now_ms() + (uint64_t)request->deadline_ms;
    int rc = send_request(helper->socket, request, ends[1]);
    close(ends[1]);
    if (rc == 0)
        rc = read_answer(ends[0], deadline, answer);
    close(ends[0]);
    return rc;
}

static int open_answer(const struct answer *answer, struct config **out,
                       struct config_errors *errors)
{
    size_t before = errors->count;
    int rc = config_decode(answer->data, answer->size, out);
    if (rc != -EINVAL)
        return rc;
    rc = config_errors_decode(answer->data, answer->size, errors);
    if (rc == -EINVAL)
        return -EPROTO;
    /* The texts of errors may be lost for want of memory. */
    return rc < 0 || errors->count == before ? -ENOMEM : -EINVAL;
}

static void tell(struct config_errors *errors, const char *path, const struct helper *helper,
                 int deadline_ms, int rc)
{
    switch (rc) {
    case -EPIPE:
    case -ECONNRESET:
        config_errors_add(errors, path, 0,
                          "cannot be read: the helper process %d is gone; restart weir",
                          (int)helper->pid);
        return;
    case -ETIMEDOUT:
        config_errors_add(errors, path, 0, "was not read within %d ms: is its disk there?",
                          deadline_ms);
        return;
    case -EPROTO:
        config_errors_add(errors, path, 0,
                          "cannot be read: the parser ended without an answer; libconfig ends its "
                          "process when it cannot go on, as on an @include that it cannot read");
        return;
    default:
        config_errors_add(errors, path, 0, "cannot be read: %s", strerror(-rc));
    }
}

int helper_load(struct helper *helper, const char *path, int deadline_ms, struct config **out,
                struct config_errors *errors)
{
    struct request request = {.deadline_ms = deadline_ms};
    struct answer answer = {0};
    size_t length = strlen(path);
    int rc = -ENAMETOOLONG;
    /* One byte less than the buffer, so that the helper's copy always ends in a NUL. */
    if (length < sizeof(request.path) - 1) {
        memcpy(request.path, path, length);
        rc = ask(helper, &request, &answer);
    }
    if (rc == 0)
        rc = open_answer(&answer, out, errors);
    free(answer.data);
    if (rc < 0 && rc != -EINVAL)
        tell(errors, path, helper, deadline_ms, rc);
    return rc == -ECONNRESET ? -EPIPE : rc;
}
