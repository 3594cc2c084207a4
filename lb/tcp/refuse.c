/*
 * How the refused are turned away: with a reset, with a FIN, or without a word.
 *
 * An accepted socket cannot be forgotten silently (TCP_REPAIR takes CAP_NET_ADMIN), and a closed
 * one does not stay silent: the kernel answers what the client sends next with a reset of the full
 * hop limit (seen on 6.18, also after a first reset that died on its way). So a drop cuts the
 * socket off on both sides before it is closed:
 *
 *   - a hop limit of 1: what it sends dies at the first router;
 *   - a least hop count of 255 (RFC 5082): what the client sends is taken for forged, and not
 *     answered. (A socket filter would do as well, where users other than root may set one.)
 *
 * Both hold beyond close(2). The kernel then waits for an acknowledgement of its FIN that cannot
 * come, until TCP_USER_TIMEOUT, and forgets the socket without a segment. All that costs no
 * descriptor, but such sockets count towards net.ipv4.tcp_max_orphans, above which the kernel
 * resets honest clients whose last bytes are under way. Hence a flood of the refused gets few of
 * them: who comes after is reset, by a segment that does not pass a router either.
 */
#include "lb/tcp/session.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int set_number(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

/* Of IPv4, IPv6, or both: an IPv6 socket may carry either. It fails where it has no meaning. */
static bool set_either(int fd, int v4, int v6, int value)
{
    bool has_v4 = set_number(fd, IPPROTO_IP, v4, value) == 0;

    return set_number(fd, IPPROTO_IPV6, v6, value) == 0 || has_v4;
}

static bool cut_off(int fd)
{
    return set_either(fd, IP_MINTTL, IPV6_MINHOPCOUNT, 255) &&
           set_number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, REFUSE_SILENCE_MS) == 0;
}

static bool may_be_silent(struct tcp *tcp)
{
    if (tcp->now_ms - tcp->silence_began_ms >= REFUSE_SILENCE_MS) {
        tcp->silence_began_ms = tcp->now_ms;
        tcp->silenced = 0;
    }
    return tcp->silenced < REFUSE_SILENT_MOST;
}

static void drop_client(struct tcp *tcp, int fd)
{
    bool is_silent = may_be_silent(tcp) && cut_off(fd);

    (void)set_either(fd, IP_TTL, IPV6_UNICAST_HOPS, 1);
    if (is_silent) {
        tcp->silenced++;
        /* What came before: close(2) would reset for the sake of a byte unread. */
        (void)!recv(fd, NULL, INT_MAX, MSG_TRUNC | MSG_DONTWAIT);
    }
    socket_close(fd, !is_silent);
}

void refuse_client(struct tcp *tcp, const struct tcp_policy *policy, int fd)
{
    if (policy->refuse == CONFIG_REFUSE_DROP)
        drop_client(tcp, fd);
    else
        socket_close(fd, policy->refuse == CONFIG_REFUSE_RESET);
}
