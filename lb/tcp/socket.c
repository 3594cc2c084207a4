#include "lb/tcp/session.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

int socket_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_keepalive(int fd, const struct tcp_policy *policy)
{
    int failed = socket_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);

    failed = failed ? failed : socket_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, policy->keepalive_idle_s);
    failed =
        failed ? failed : socket_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, policy->keepalive_interval_s);
    return failed ? failed : socket_set(fd, IPPROTO_TCP, TCP_KEEPCNT, policy->keepalive_count);
}

/* What must be there before the first segment, or before the first byte. */
static int set_early(int fd, const struct tcp_policy *policy)
{
    int failed = socket_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);

    failed = failed ? failed : socket_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (!failed && policy->rcvbuf > 0)
        failed = socket_set(fd, SOL_SOCKET, SO_RCVBUF, policy->rcvbuf);
    if (!failed && policy->sndbuf > 0)
        failed = socket_set(fd, SOL_SOCKET, SO_SNDBUF, policy->sndbuf);
    if (!failed && policy->user_timeout_ms > 0)
        failed = socket_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, policy->user_timeout_ms);
    return failed;
}

int socket_tune(int fd, const struct tcp_policy *policy)
{
    int failed = 0;

    if (policy->notsent_lowat > 0)
        failed = socket_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, policy->notsent_lowat);
    if (!failed && policy->keepalive_idle_s > 0)
        failed = set_keepalive(fd, policy);
    return failed;
}

/* A server's socket gets the same options as the listener that its client came in by. */
int tcp_listener_options(int fd, const struct tcp_policy *policy)
{
    int failed = set_early(fd, policy);

    return failed ? failed : socket_tune(fd, policy);
}

int socket_connect(const struct address *to, const struct source *from,
                   const struct tcp_policy *policy, int *out_fd)
{
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failed = 0;

    if (fd < 0)
        return -errno;
    if (address_is_inet(to))
        failed = set_early(fd, policy);
    if (!failed)
        failed = source_connect(fd, from, to);
    if (failed && failed != -EINPROGRESS) {
        close(fd);
        return failed;
    }
    *out_fd = fd;
    return 0;
}

bool socket_error_is_dearth(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
           error == ENOSPC; /* epoll watches (/proc/sys/fs/epoll/max_user_watches) */
}

bool socket_error_is_ours(int error)
{
    return socket_error_is_dearth(error) ||
           error == EADDRNOTAVAIL || /* no local port left towards that server */
           error == EPERM;           /* a local firewall rule */
}

uint32_t socket_unsent(int fd)
{
    int unsent = 0;

    return ioctl(fd, SIOCOUTQ, &unsent) < 0 || unsent < 0 ? 0 : (uint32_t)unsent;
}

uint32_t socket_unread(int fd)
{
    int unread = 0;

    if (ioctl(fd, SIOCINQ, &unread) < 0 || unread < 0)
        return 0;
    return (uint32_t)unread;
}

void socket_close(int fd, bool reset)
{
    static const struct linger now = {.l_onoff = 1, .l_linger = 0};

    /* Fails on a Unix socket, which has no reset: its peer reads an end. */
    if (reset)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}
