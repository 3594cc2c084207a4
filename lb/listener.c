/*
 * Purpose: opens the listening sockets of all workers, or says in one sentence why not.
 * Thread:  control.
 * Owns:    the descriptors, until listeners_close or until a worker closes its own.
 * Fails:   see listener.h.
 *
 * Why the first socket listens before SO_REUSEPORT goes on (seen on kernel 6.18): two sockets with
 * SO_REUSEADDR may both be bound while neither listens. listen(2) looks for conflicts once more, so
 * of two weirs that start at the same moment one still fails there, as long as neither socket
 * carries SO_REUSEPORT yet. The option may be put on a listening socket: those that join later then
 * form one group with it, and connections spread over all.
 *
 * UDP (same kernel): bind(2) alone decides. Two sockets get one address when both carry
 * SO_REUSEADDR, or both SO_REUSEPORT for one user: so ours have no SO_REUSEADDR, which nothing in
 * UDP calls for, and the first is bound without SO_REUSEPORT; a foreign holder is met whichever
 * options it has. The option may be put on a bound socket: those that bind with it later form a
 * group with it, and clients spread over all (300 of them: 101, 103 and 96). A bound socket takes
 * datagrams in at once, and those that came before IP_PKTINFO was on lack the address that the
 * client used: hence its options come before bind.
 */
#include "lb/listener.h"

#include "common/random.h"
#include "common/text.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- why not, in words ---- */

/* Where a failed step of the opening leaves its sentence. */
struct opening {
    const struct config *config;
    struct listener *listener; /* all; `config->listener_count` of them */
    struct text error;
};

static bool is_udp(const struct config_listener *config)
{
    return config->protocol == CONFIG_PROTOCOL_UDP;
}

/* Do their addresses exclude each other? Asked only when the kernel has said that somebody's do. */
static bool overlap(const struct config_listener *a, const struct config_listener *b)
{
    const struct address *x = &a->bind.address, *y = &b->bind.address;
    if (a->protocol != b->protocol || address_port(x) != address_port(y))
        return false;
    if (x->any.sa_family == y->any.sa_family)
        return address_is_wildcard(x) || address_is_wildcard(y) || address_equal(x, y);
    const struct config_listener *v6 = x->any.sa_family == AF_INET6 ? a : b;
    return address_is_wildcard(&v6->bind.address) && !v6->v6only;
}

/* The listener of this configuration that is in the way, or NULL. */
static const struct config_listener *overlapping(const struct opening *opening,
                                                 const struct config_listener *config)
{
    for (size_t i = 0; i < opening->config->listener_count; i++) {
        const struct config_listener *other = &opening->config->listeners[i];
        if (other != config && overlap(other, config))
            return other;
    }
    return NULL;
}

static void say_in_use(struct opening *opening, const struct config_listener *config)
{
    const struct config_listener *other = overlapping(opening, config);
    if (other != NULL) {
        text_addf(&opening->error,
                  " overlaps listener \"%s\" at %s: choose another bind for one of them",
                  other->name, other->bind.text);
        return;
    }
    char holder[128];
    listener_holder(&config->bind.address, (enum config_protocol)config->protocol, holder,
                    sizeof(holder));
    if (holder[0] != '\0')
        text_addf(&opening->error, " is already in use by %s: stop it or choose another bind",
                  holder);
    else
        text_add(&opening->error, " is already in use: choose another bind");
}

static int refuse(struct opening *opening, const struct config_listener *config, int code,
                  const char *call)
{
    struct text *error = &opening->error;
    text_addf(error, "listener \"%s\": %s%s", config->name, config->bind.text,
              is_udp(config) ? "/udp" : "");
    switch (code) {
    case EADDRINUSE:
        say_in_use(opening, config);
        break;
    case EACCES:
        text_add(error, " needs a privilege: start as root, give CAP_NET_BIND_SERVICE, or choose "
                        "a port that is not privileged");
        break;
    case EADDRNOTAVAIL:
        text_add(error, " is not an address of this machine: add it to an interface, or set "
                        "freebind = true");
        break;
    default:
        text_addf(error, ": %s: %s", call, strerror(code));
        break;
    }
    return -code;
}

/* ---- one socket ---- */

static int switch_option(int fd, int level, int option, bool on)
{
    int value = on;
    return setsockopt(fd, level, option, &value, sizeof(value));
}

static int set_bind_options(int fd, const struct config_listener *config)
{
    bool is_v6 = config->bind.address.any.sa_family == AF_INET6;
    /* An address that old connections linger on can be bound again. */
    if (!is_udp(config) && switch_option(fd, SOL_SOCKET, SO_REUSEADDR, true) != 0)
        return -1;
    /* Explicit both ways: net.ipv6.bindv6only must not decide what a configuration means. */
    if (is_v6 && switch_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, config->v6only) != 0)
        return -1;
    if (!config->freebind)
        return 0;
    return is_v6 ? switch_option(fd, IPPROTO_IPV6, IPV6_FREEBIND, true)
                 : switch_option(fd, IPPROTO_IP, IP_FREEBIND, true);
}

/* Makes and binds the socket of one worker; `shared`: it joins others on the address. */
static int bind_socket(struct opening *opening, struct listener *listener, uint32_t worker,
                       bool shared)
{
    const struct config_listener *config = listener->config;
    const struct address *address = &config->bind.address;
    /* clang-tidy takes it that listener_count may have grown since listener_init saw each. */
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    int type = config->protocol == CONFIG_PROTOCOL_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(address->any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse(opening, config, errno, "socket");
    listener->fd[worker] = fd;
    if (set_bind_options(fd, config) != 0)
        return refuse(opening, config, errno, "setsockopt");
    if (shared && switch_option(fd, SOL_SOCKET, SO_REUSEPORT, true) != 0)
        return refuse(opening, config, errno, "setsockopt SO_REUSEPORT");
    int error = is_udp(config) ? udp_listener_options(fd, &listener->udp) : 0;
    if (error != 0)
        return refuse(opening, config, -error, "socket options");
    if (bind(fd, &address->any, address->length) != 0)
        return refuse(opening, config, errno, "bind");
    return 0;
}

static int start_listening(struct opening *opening, struct listener *listener, uint32_t worker)
{
    int fd = listener->fd[worker];
    if (is_udp(listener->config))
        return 0;
    int error = tcp_listener_options(fd, &listener->policy);
    if (error != 0)
        return refuse(opening, listener->config, -error, "socket options");
    if (listen(fd, (int)listener->config->backlog) != 0)
        return refuse(opening, listener->config, errno, "listen");
    return 0;
}

/* ---- all of them ---- */

/* Seconds for the kernel: rounded up, for 0 would mean none. */
static int seconds(int64_t ms)
{
    return (int)((ms + 999) / 1000);
}

static struct tcp_policy tcp_policy_of(const struct config *config,
                                       const struct config_listener *listener)
{
    struct tcp_policy policy = {
        .pool = (uint32_t)listener->pool_index,
        .splice = (enum config_splice)listener->splice,
        .idle_timeout_ms = (uint64_t)listener->idle_timeout,
        .half_close_timeout_ms = (uint64_t)listener->half_close_timeout,
        .reset_flush_timeout_ms = (uint64_t)listener->reset_flush_timeout,
        .rcvbuf = (int)listener->rcvbuf,
        .sndbuf = (int)listener->sndbuf,
        .notsent_lowat = (int)listener->notsent_lowat,
        .keepalive_idle_s = seconds(listener->keepalive_idle),
        .keepalive_interval_s = seconds(listener->keepalive_interval),
        .keepalive_count = (int)listener->keepalive_count,
        .user_timeout_ms = (int)listener->user_timeout,
        .log_sample = (uint32_t)listener->log_sample,
        .log_access = config->weir.log_access,
        .refuse = (enum config_refuse)listener->refuse,
        .proxy_in = (enum config_proxy_in)listener->proxy_protocol,
        .proxy_from = &listener->proxy_protocol_from,
        .preread_timeout_ms = (uint64_t)listener->preread_timeout,
        .preread_max = (uint32_t)listener->preread_max,
        .routes = listener->routes,
        .route_count = listener->route_count,
        .refuse_unrouted = listener->no_route == CONFIG_NO_ROUTE_REFUSE,
    };
    snprintf(policy.listener, sizeof(policy.listener), "%s", listener->name);
    snprintf(policy.pool_name, sizeof(policy.pool_name), "%s", listener->pool);
    return policy;
}

static struct udp_policy udp_policy_of(const struct config *config,
                                       const struct config_listener *listener)
{
    struct udp_policy policy = {
        .pool = (uint32_t)listener->pool_index,
        .idle_timeout_ms = (uint64_t)listener->udp_idle_timeout,
        .quarantine_ms = (uint64_t)listener->udp_quarantine,
        .responses = (uint32_t)listener->responses,
        .requests = (uint32_t)listener->requests,
        .max_replies = (uint32_t)listener->max_replies,
        .max_reply_bytes = (uint64_t)listener->max_reply_bytes,
        .log_sample = (uint32_t)listener->log_sample,
        .rcvbuf = (int)listener->udp_rcvbuf,
        .sndbuf = (int)listener->udp_sndbuf,
        .per_packet = listener->per_packet,
        .fragment = listener->udp_fragment,
        .wildcard = address_is_wildcard(&listener->bind.address),
        .log_access = config->weir.log_access,
        .proxy_in = (enum config_proxy_in)listener->proxy_protocol,
        .proxy_from = &listener->proxy_protocol_from,
    };
    snprintf(policy.listener, sizeof(policy.listener), "%s", listener->name);
    snprintf(policy.pool_name, sizeof(policy.pool_name), "%s", listener->pool);
    return policy;
}

/* A key's "at once"; 0 says that the listener has none of its own. */
static uint32_t limit_of(int64_t most)
{
    return most > 0 && most < UINT32_MAX ? (uint32_t)most : UINT32_MAX;
}

/* At once a tenth of a second's worth, at least one: over any second that much above the rate. */
void listener_rate_init(struct rate_meter *meter, int64_t per_second)
{
    rate_meter_init(meter, (uint32_t)per_second, (uint32_t)per_second / 10);
}

static struct gate_list list_of(const struct config_networks *from)
{
    return (struct gate_list){from->network, from->count};
}

/* Also where nobody is kept out yet: operators may say otherwise. */
static int open_gate(struct listener *listener, const struct config_listener *from)
{
    struct gate_options options = {
        .allow = {list_of(&from->allow), list_of(&from->allow_file.networks)},
        .deny = {list_of(&from->deny), list_of(&from->deny_file.networks)},
        .source_max = (uint32_t)from->source_max_sessions,
        .source_rate = (uint32_t)from->source_rate,
        .datagram_rate = (uint32_t)from->source_datagram_rate,
        .prefix_v4 = (uint8_t)from->source_prefix_v4,
        .prefix_v6 = (uint8_t)from->source_prefix_v6,
        .dry_run = from->dry_run,
        .seed = random_seed(),
    };

    return gate_new(&listener->gate, &options);
}

static int listener_init(struct listener *listener, const struct config *config,
                         const struct config_listener *from)
{
    listener->config = from;
    int error = open_gate(listener, from);
    if (error != 0)
        return error;
    if (is_udp(from))
        listener->udp = udp_policy_of(config, from);
    else
        listener->policy = tcp_policy_of(config, from);
    listener->policy.gate = listener->gate;
    listener->udp.gate = listener->gate;
    listener->limit = limit_of(from->max_connections);
    listener->flow_limit = limit_of(from->max_flows);
    listener_rate_init(&listener->session_rate, from->session_rate);
    listener_rate_init(&listener->taken_rate, from->session_rate);
    listener->fd = calloc((size_t)config->weir.workers, sizeof(*listener->fd));
    if (listener->fd == NULL)
        return -ENOMEM;
    listener->fd_count = (uint32_t)config->weir.workers;
    for (uint32_t worker = 0; worker < listener->fd_count; worker++)
        listener->fd[worker] = -1;
    return 0;
}

/* Binds the first socket of each address, so that what is taken is known before anybody comes. */
static int bind_all(struct opening *opening)
{
    int error = 0;
    for (size_t i = 0; i < opening->config->listener_count && error == 0; i++)
        error = bind_socket(opening, &opening->listener[i], 0, false);
    return error;
}

static int listen_on(struct opening *opening, struct listener *listener)
{
    int error = start_listening(opening, listener, 0);
    if (error != 0 || listener->fd_count == 1)
        return error;
    if (switch_option(listener->fd[0], SOL_SOCKET, SO_REUSEPORT, true) != 0)
        return refuse(opening, listener->config, errno, "setsockopt SO_REUSEPORT");
    for (uint32_t worker = 1; worker < listener->fd_count && error == 0; worker++) {
        error = bind_socket(opening, listener, worker, true);
        if (error == 0)
            error = start_listening(opening, listener, worker);
    }
    return error;
}

static int listen_all(struct opening *opening)
{
    int error = 0;
    for (size_t i = 0; i < opening->config->listener_count && error == 0; i++)
        error = listen_on(opening, &opening->listener[i]);
    return error;
}

int listeners_open(const struct config *config, struct listener **out, char *error,
                   size_t error_size)
{
    struct opening opening = {.config = config};
    text_init(&opening.error, error, error_size);
    int code = -ENOMEM;
    opening.listener = calloc(MAX(config->listener_count, 1u), sizeof(*opening.listener));
    if (opening.listener == NULL)
        goto fail;
    for (size_t i = 0; i < config->listener_count; i++) {
        code = listener_init(&opening.listener[i], config, &config->listeners[i]);
        if (code != 0)
            goto fail;
    }
    code = bind_all(&opening);
    if (code == 0)
        code = listen_all(&opening);
    if (code != 0)
        goto fail;
    *out = opening.listener;
    return 0;

fail:
    if (opening.error.length == 0)
        text_add(&opening.error, "no memory for the listeners");
    listeners_close(&opening.listener, config->listener_count);
    return code;
}

void listeners_close(struct listener **listeners, size_t count)
{
    struct listener *old = *listeners;
    if (old == NULL)
        return;
    *listeners = NULL;
    for (size_t i = 0; i < count; i++) {
        for (uint32_t worker = 0; worker < old[i].fd_count; worker++) {
            if (old[i].fd[worker] >= 0)
                close(old[i].fd[worker]);
        }
        free(old[i].fd);
        gate_free(&old[i].gate);
    }
    free(old);
}
