/*
 * Purpose: the socket of probe_datagram.h.
 * Thread:  control.
 * Owns:    see probe_datagram.h.
 * Fails:   see probe_datagram.h.
 *
 *      send --> waiting: replies are the kind's --> finished: closing --> done
 *        |                                             ^
 *        +------------ refused: an ICMP error ---------+
 *
 * One datagram, never a second one: how many losses make a server down is what `fall` says, and a
 * probe that tries again by itself would say it twice.
 *
 * The socket is connected, so that no other host can answer, and asks for every ICMP error
 * (IP_RECVERR, ip(7)): without it the kernel hands on that a port is closed, but not that a host
 * cannot be reached.
 */
#include "lb/health/probe_datagram.h"

#include "common/text.h"
#include "lb/health/probe_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Taken in one turn of the loop, whatever a server sends. */
#define REPLIES_MAX 64

/* No datagram is longer: the length in its own header has 16 bits. */
#define REPLY_SIZE_MAX 65535

static struct probe_datagram *datagram_of(uv_poll_t *poll)
{
    return container_of(poll, struct probe_datagram, poll);
}

/* ---- The end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct probe_datagram *datagram = datagram_of((uv_poll_t *)handle);
    struct probe *probe = &datagram->probe;
    probe->done(probe, datagram->verdict, datagram->detail, uv_now(probe->loop));
}

void probe_datagram_finish(struct probe_datagram *datagram, enum probe_verdict verdict,
                           const char *detail)
{
    if (datagram->fd < 0)
        return;
    struct text text;
    text_init(&text, datagram->detail, sizeof(datagram->detail));
    text_add(&text, detail);
    datagram->verdict = verdict;

    uv_close((uv_handle_t *)&datagram->poll, on_closed);
    close(datagram->fd);
    datagram->fd = -1;
}

/* "send to 10.0.0.2:53: connection refused" */
static void finish_unanswered(struct probe_datagram *datagram, enum probe_verdict verdict,
                              const char *what)
{
    char address[ADDRESS_TEXT_MAX];
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_addf(&text, "send to %s: %s", address_format(&datagram->probe.address, address), what);
    probe_datagram_finish(datagram, verdict, detail);
}

/* After a slow turn of the loop the deadline is told before what had come in time. */
void probe_datagram_stop(struct probe *probe, enum probe_verdict why, const char *detail)
{
    struct probe_datagram *datagram = (struct probe_datagram *)probe;
    if (why == PROBE_FAIL)
        probe_datagram_receive(datagram);
    finish_unanswered(datagram, why, detail);
}

/* ---- Receiving ---- */

/*
 * A narrower path on the way: the kernel has learnt its MTU, and the next probe goes through in
 * fragments. It says nothing of the server, and left in its queue it would wake the loop for ever.
 */
static void forget_path_error(int fd)
{
    (void)recv(fd, NULL, 0, MSG_ERRQUEUE);
}

void probe_datagram_receive(struct probe_datagram *datagram)
{
    uint8_t buffer[REPLY_SIZE_MAX];
    for (int i = 0; i < REPLIES_MAX && datagram->fd >= 0; i++) {
        ssize_t got = recv(datagram->fd, buffer, sizeof(buffer), 0);
        if (got >= 0)
            datagram->on_reply(datagram, buffer, (size_t)got);
        else if (errno == EAGAIN)
            return;
        else if (errno == EMSGSIZE)
            forget_path_error(datagram->fd);
        else
            finish_unanswered(datagram, PROBE_FAIL, uv_strerror(-errno));
    }
}

static void watch(struct probe_datagram *datagram);

/* libuv stops to watch a socket with an error; one that was forgotten ends nothing. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct probe_datagram *datagram = datagram_of(poll);
    probe_datagram_receive(datagram);
    if (status < 0 && datagram->fd >= 0)
        watch(datagram);
}

static void watch(struct probe_datagram *datagram)
{
    /* uv_poll_start(3) only fails on a handle that is closing. */
    int rc = uv_poll_start(&datagram->poll, UV_READABLE, on_ready);
    BUG_ON(rc < 0);
}

/* ---- Sending ---- */

/* Where an option is not of the socket's family it is refused, and not missed. */
static void ask_for_errors(int fd)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
}

/* Of a socket that is connected; 0 or an errno. */
static int send_all(int fd, const void *bytes, size_t size)
{
    ask_for_errors(fd);
    if (probe_socket_meets_itself(fd))
        return ECONNREFUSED;
    return send(fd, bytes, size, 0) < 0 ? errno : 0;
}

static int open_socket(const struct probe *probe, const void *bytes, size_t size, int *out_error)
{
    int fd = probe_socket_open(probe, SOCK_DGRAM, out_error);
    if (fd < 0)
        return fd;
    if (*out_error == 0)
        *out_error = send_all(fd, bytes, size);
    if (!probe_socket_is_own_error(*out_error, &probe->address))
        return fd;
    close(fd);
    return -*out_error;
}

int probe_datagram_send(struct probe_datagram *datagram, const void *bytes, size_t size,
                        probe_reply_fn *on_reply)
{
    uint8_t all[PROBE_GREETING_MAX + CONFIG_PAYLOAD_MAX];
    size_t greeting = probe_socket_greeting(datagram->probe.settings->proxy_version_udp, all);
    int error = 0;
    int fd;

    BUG_ON(size > CONFIG_PAYLOAD_MAX);
    memcpy(all + greeting, bytes, size);
    fd = open_socket(&datagram->probe, all, greeting + size, &error);
    if (fd < 0)
        return fd;
    int rc = uv_poll_init(datagram->probe.loop, &datagram->poll, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    datagram->fd = fd;
    datagram->on_reply = on_reply;
    if (error != 0)
        finish_unanswered(datagram, PROBE_FAIL, uv_strerror(-error));
    else
        watch(datagram);
    return 0;
}
