/*
 * Purpose: the server of peer.h in datagrams, and ICMP errors that no host on the way has sent.
 * Thread:  the test's.
 * Owns:    a struct yard owns its bench and the server's socket; yard_end closes all of it.
 * Fails:   as a cmocka assertion.
 */
#pragma once

#include "test/unit/lb/health/peer.h"
#include "test/unit/network.h"

#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>

struct yard;
/* The last datagram is in yard->request. */
typedef void yard_request_fn(struct yard *yard);

struct yard {
    struct bench bench;
    yard_request_fn *on_request; /* NULL: no answer */
    unsigned requests;
    struct address client; /* of the last */
    char buffer[65536];
    char request[65536];
    size_t request_size;
};

/* ---- The server ---- */

static inline void yard_buffer(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct yard *yard = handle->data;
    (void)size;
    *out = uv_buf_init(yard->buffer, sizeof(yard->buffer));
}

static inline void yard_receive(uv_udp_t *udp, ssize_t got, const uv_buf_t *buffer,
                                const struct sockaddr *from, unsigned flags)
{
    struct yard *yard = udp->data;
    (void)flags;
    if (from == NULL) /* nothing more for now */
        return;
    assert_true(got >= 0);
    yard->requests++;
    yard->client.length =
        from->sa_family == AF_INET ? sizeof(yard->client.v4) : sizeof(yard->client.v6);
    memcpy(&yard->client, from, yard->client.length);
    memcpy(yard->request, buffer->base, (size_t)got);
    yard->request_size = (size_t)got;
    if (yard->on_request != NULL)
        yard->on_request(yard);
}

static inline void yard_answer(struct yard *yard, const void *bytes, size_t size)
{
    uv_buf_t buffer = uv_buf_init((char *)bytes, (unsigned)size);
    assert_int_equal(uv_udp_try_send(&yard->bench.listener.udp, &buffer, 1, &yard->client.any),
                     size);
}

static inline void yard_listen(struct yard *yard, const char *address, yard_request_fn *on_request)
{
    struct bench *bench = &yard->bench;
    uv_udp_t *udp = &bench->listener.udp;
    int length = sizeof(bench->address.v6);
    bench_address(bench, address);
    yard->on_request = on_request;
    assert_int_equal(uv_udp_init(&bench->loop, udp), 0);
    assert_int_equal(uv_udp_bind(udp, &bench->address.any, 0), 0);
    assert_int_equal(uv_udp_getsockname(udp, &bench->address.any, &length), 0);
    udp->data = yard;
    assert_int_equal(uv_udp_recv_start(udp, yard_buffer, yard_receive), 0);
    uv_unref(&bench->listener.handle);
}

/* An address whose port nobody has: it was ours a moment ago. */
static inline void yard_refuse(struct yard *yard, const char *address)
{
    struct bench *bench = &yard->bench;
    bench_address(bench, address);
    int fd = socket(bench->address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    socklen_t length = bench->address.length;
    assert_int_equal(bind(fd, &bench->address.any, length), 0);
    assert_int_equal(getsockname(fd, &bench->address.any, &length), 0);
    close(fd);
}

/* "send to ADDRESS: what" */
static inline const char *send_detail(const struct yard *yard, const char *what)
{
    static char detail[PROBE_DETAIL_MAX];
    char address[ADDRESS_TEXT_MAX];
    snprintf(detail, sizeof(detail), "send to %s: %s",
             address_format(&yard->bench.address, address), what);
    return detail;
}

/* ---- The probe ---- */

static inline void yard_begin(struct yard *yard)
{
    memset(yard, 0, sizeof(*yard));
    bench_begin(&yard->bench);
}

static inline void yard_end(struct yard *yard)
{
    bench_end(&yard->bench);
}

/* Until the server has met so many datagrams. */
static inline void yard_run_to_request(struct yard *yard, unsigned requests)
{
    while (yard->requests < requests)
        uv_run(&yard->bench.loop, UV_RUN_ONCE);
}

/* The deadline comes now, and the verdict right after. */
static inline void yard_run_deadline(struct yard *yard)
{
    unsigned done = yard->bench.done;
    bench_deadline(&yard->bench);
    while (yard->bench.done == done)
        uv_run(&yard->bench.loop, UV_RUN_ONCE);
    assert_int_equal(yard->bench.done, done + 1);
}

static inline uint16_t icmp_checksum(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* A router's word on the last datagram (RFC 792): what could not be delivered, and why. */
static inline void send_unreachable(const struct yard *yard, uint8_t code)
{
    struct {
        struct icmphdr icmp;
        struct iphdr ip;
        struct udphdr udp;
    } packet = {
        .icmp = {.type = ICMP_DEST_UNREACH, .code = code},
        .ip = {.version = 4,
               .ihl = 5,
               .ttl = 64,
               .protocol = IPPROTO_UDP,
               .tot_len = htons(sizeof(struct iphdr) + sizeof(struct udphdr)),
               .saddr = yard->client.v4.sin_addr.s_addr,
               .daddr = yard->bench.address.v4.sin_addr.s_addr},
        .udp = {.source = yard->client.v4.sin_port, .dest = yard->bench.address.v4.sin_port},
    };
    if (code == ICMP_FRAG_NEEDED)
        packet.icmp.un.frag.mtu = htons(1000);
    packet.icmp.checksum = icmp_checksum(&packet, sizeof(packet));
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    assert_true(fd >= 0);
    assert_int_equal(sendto(fd, &packet, sizeof(packet), 0, &yard->client.any, yard->client.length),
                     sizeof(packet));
    close(fd);
}
