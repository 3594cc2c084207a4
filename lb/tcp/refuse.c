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

/* Of IPv4, IPv6, or both: an IPv6 socket may carry either. It fails where it has no meaning. */
static bool set_either(int fd, int v4, int v6, int value)
{
    bool has_v4 = socket_set(fd, IPPROTO_IP, v4, value) == 0;

    return socket_set(fd, IPPROTO_IPV6, v6, value) == 0 || has_v4;
}

static bool cut_off(int fd)
{
    return set_either(fd, IP_MINTTL, IPV6_MINHOPCOUNT, 255) &&
           socket_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, REFUSE_SILENCE_MS) == 0;
}

static void drop_client(struct tcp *tcp, int fd)
{
    struct rate_claim claim = {0};
    bool is_silent = rate_claim_now(&tcp->silences, tcp->now_ms * 1000, &claim) == 0;

    if (is_silent && !cut_off(fd)) {
        rate_claim_return(&tcp->silences, &claim);
        is_silent = false;
    }
    (void)set_either(fd, IP_TTL, IPV6_UNICAST_HOPS, 1);
    /* What came before: close(2) would reset for the sake of a byte unread. */
    if (is_silent)
        (void)!recv(fd, NULL, INT_MAX, MSG_TRUNC | MSG_DONTWAIT);
    socket_close(fd, !is_silent);
}

void refuse_client(struct tcp *tcp, const struct tcp_policy *policy, int fd)
{
    if (policy->refuse == CONFIG_REFUSE_DROP)
        drop_client(tcp, fd);
    else
        socket_close(fd, policy->refuse == CONFIG_REFUSE_RESET);
}
