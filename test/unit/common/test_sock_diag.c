/* What the kernel counts: against sockets of our own, in a network where there are no others. */
#include "common/sock_diag.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "test/unit/addresses.h"
#include "test/unit/network.h"

#define NEVER UINT64_MAX

static struct sock_diag_pair pair_of(const char *local, const char *remote)
{
    struct sock_diag_pair pair = {.local = endpoint_of(local), .used = 99, .time_wait = 99};
    if (remote != NULL)
        pair.remote = endpoint_of(remote);
    return pair;
}

static socklen_t size_of(const union inet_address *address)
{
    return address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}

static int bound(const char *text, int type)
{
    union inet_address address = endpoint_of(text);
    int on = 1;
    int fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, &address.any, size_of(&address)), 0);
    return fd;
}

static int listening(const char *text)
{
    int fd = bound(text, SOCK_STREAM);
    assert_int_equal(listen(fd, 4096), 0);
    return fd;
}

/* From the address, whose port is 0, to the other one. */
static int connected(const char *from, const char *to, int type)
{
    union inet_address remote = endpoint_of(to);
    int fd = bound(from, type);
    assert_int_equal(connect(fd, &remote.any, size_of(&remote)), 0);
    return fd;
}

static void count_all(struct sock_diag *diag, int protocol, struct sock_diag_pair *pair,
                      size_t count)
{
    assert_int_equal(sock_diag_ask(diag, protocol, pair, count), 0);
    assert_int_equal(sock_diag_read(diag, NEVER), 1);
}

static void meet_tcp(void)
{
    struct sock_diag diag;
    assert_int_equal(sock_diag_open(&diag), 0);
    int server = listening("127.0.0.1:8001");
    int other = listening("127.0.0.1:8002");
    int far = listening("127.0.0.2:8001");
    int held[6];
    held[0] = connected("127.0.0.5:0", "127.0.0.1:8001", SOCK_STREAM);
    held[1] = connected("127.0.0.5:0", "127.0.0.1:8001", SOCK_STREAM);
    held[2] = connected("127.0.0.6:0", "127.0.0.1:8001", SOCK_STREAM);
    held[3] = connected("127.0.0.5:0", "127.0.0.1:8002", SOCK_STREAM);
    held[4] = connected("127.0.0.5:0", "127.0.0.2:8001", SOCK_STREAM);
    held[5] = connected("127.0.0.7:0", "127.0.0.1:8001", SOCK_STREAM);
    struct sock_diag_pair pairs[] = {
        pair_of("127.0.0.5:0", "127.0.0.1:8001"),
        pair_of("127.0.0.6:0", "127.0.0.1:8001"),
        pair_of("127.0.0.5:0", "127.0.0.1:8002"),
        pair_of("127.0.0.9:0", "127.0.0.1:8001"),
        pair_of("127.0.0.5:0", NULL),
    };
    count_all(&diag, IPPROTO_TCP, pairs, 4);
    assert_int_equal(pairs[0].used, 2);
    assert_int_equal(pairs[1].used, 1);
    assert_int_equal(pairs[2].used, 1);
    assert_int_equal(pairs[3].used, 0);
    assert_int_equal(pairs[0].time_wait, 0);
    /* Each by itself, and whoever is at the other end. */
    count_all(&diag, IPPROTO_TCP, &pairs[2], 1);
    assert_int_equal(pairs[2].used, 1);
    count_all(&diag, IPPROTO_TCP, &pairs[4], 1);
    assert_int_equal(pairs[4].used, 4);
    for (size_t i = 0; i < ARRAY_LEN(held); i++)
        close(held[i]);
    close(server);
    close(other);
    close(far);
    sock_diag_close(&diag);
}

static void counts_connections_by_both_ends(void **state)
{
    (void)state;
    network_run(meet_tcp);
}

static void leave_time_wait(void)
{
    struct sock_diag diag;
    assert_int_equal(sock_diag_open(&diag), 0);
    int server = listening("127.0.0.1:8001");
    for (int i = 0; i < 20; i++) {
        int client = connected("127.0.0.5:0", "127.0.0.1:8001", SOCK_STREAM);
        int accepted = accept(server, NULL, NULL);
        char byte;
        close(client); /* first: its end is the one that waits */
        assert_int_equal(read(accepted, &byte, 1), 0);
        close(accepted);
    }
    int held = connected("127.0.0.5:0", "127.0.0.1:8001", SOCK_STREAM);
    struct sock_diag_pair pair = pair_of("127.0.0.5:0", "127.0.0.1:8001");
    count_all(&diag, IPPROTO_TCP, &pair, 1);
    assert_int_equal(pair.used, 21);
    assert_int_equal(pair.time_wait, 20);
    close(held);
    close(server);
    sock_diag_close(&diag);
}

static void counts_what_no_process_holds(void **state)
{
    (void)state;
    network_run(leave_time_wait);
}

static void meet_v6(void)
{
    struct sock_diag diag;
    assert_int_equal(sock_diag_open(&diag), 0);
    int server = listening("[::1]:8001");
    int held = connected("[::1]:0", "[::1]:8001", SOCK_STREAM);
    struct sock_diag_pair pairs[] = {
        pair_of("[::1]:0", "[::1]:8001"),
        pair_of("[::1]:0", "[::1]:8002"),
        pair_of("[2001:db8::1]:0", "[::1]:8001"),
    };
    count_all(&diag, IPPROTO_TCP, pairs, ARRAY_LEN(pairs));
    assert_int_equal(pairs[0].used, 1);
    assert_int_equal(pairs[1].used, 0);
    assert_int_equal(pairs[2].used, 0);
    close(held);
    close(server);
    sock_diag_close(&diag);
}

static void counts_ipv6(void **state)
{
    (void)state;
    network_run(meet_v6);
}

static void meet_udp(void)
{
    struct sock_diag diag;
    assert_int_equal(sock_diag_open(&diag), 0);
    int held[4] = {
        connected("127.0.0.5:0", "127.0.0.1:53", SOCK_DGRAM),
        connected("127.0.0.5:0", "127.0.0.2:53", SOCK_DGRAM),
        connected("127.0.0.6:0", "127.0.0.1:53", SOCK_DGRAM),
        bound("127.0.0.5:4000", SOCK_DGRAM),
    };
    struct sock_diag_pair pairs[] = {
        pair_of("127.0.0.5:0", NULL),
        pair_of("127.0.0.6:0", NULL),
        pair_of("127.0.0.7:0", NULL),
    };
    count_all(&diag, IPPROTO_UDP, pairs, ARRAY_LEN(pairs));
    assert_int_equal(pairs[0].used, 3);
    assert_int_equal(pairs[1].used, 1);
    assert_int_equal(pairs[2].used, 0);

    pairs[0].first = 4001;
    count_all(&diag, IPPROTO_UDP, pairs, 1);
    assert_int_equal(pairs[0].used, 2);
    pairs[0].first = pairs[0].last = 4000;
    count_all(&diag, IPPROTO_UDP, pairs, 1);
    assert_int_equal(pairs[0].used, 1);
    pairs[0].last = 3999;
    count_all(&diag, IPPROTO_UDP, pairs, 1);
    assert_int_equal(pairs[0].used, 0);
    for (size_t i = 0; i < ARRAY_LEN(held); i++)
        close(held[i]);
    sock_diag_close(&diag);
}

static void counts_udp_by_our_end(void **state)
{
    (void)state;
    network_run(meet_udp);
}

/* Both ends of so many. */
#define MANY 1500

/* The kernel's answer has many parts, each of which may be read by itself. */
static void meet_many(void)
{
    struct sock_diag diag;
    int fds[MANY];
    unsigned parts = 1;
    int ended;
    assert_int_equal(sock_diag_open(&diag), 0);
    int server = listening("127.0.0.1:8001");
    for (int i = 0; i < MANY; i++)
        fds[i] =
            connected(i % 3 == 0 ? "127.0.0.6:0" : "127.0.0.5:0", "127.0.0.1:8001", SOCK_STREAM);
    struct sock_diag_pair pairs[SOCK_DIAG_PAIRS];
    for (unsigned i = 0; i < SOCK_DIAG_PAIRS; i++) {
        char local[32];
        snprintf(local, sizeof(local), "127.0.0.%u:0", 5 + i);
        pairs[i] = pair_of(local, "127.0.0.1:8001");
    }
    assert_int_equal(sock_diag_ask(&diag, IPPROTO_TCP, pairs, SOCK_DIAG_PAIRS), 0);
    while ((ended = sock_diag_read(&diag, 0)) == 0)
        parts++;
    assert_int_equal(ended, 1);
    assert_true(parts > 4);
    assert_int_equal(pairs[0].used, MANY * 2 / 3);
    assert_int_equal(pairs[1].used, MANY / 3);
    assert_int_equal(pairs[2].used, 0);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    close(server);
    sock_diag_close(&diag);
}

static void counts_in_slices(void **state)
{
    (void)state;
    network_run(meet_many);
}

/* A protocol that the kernel has no count of; the socket is good for others after that. */
static void meet_nothing(void)
{
    struct sock_diag diag;
    assert_int_equal(sock_diag_open(&diag), 0);
    struct sock_diag_pair pair = pair_of("127.0.0.5:0", NULL);
    assert_int_equal(sock_diag_ask(&diag, IPPROTO_IGMP, &pair, 1), 0);
    assert_int_equal(sock_diag_read(&diag, NEVER), -ENOENT);
    count_all(&diag, IPPROTO_UDP, &pair, 1);
    assert_int_equal(pair.used, 0);
    sock_diag_close(&diag);
    assert_int_equal(diag.fd, -1);
    sock_diag_close(&diag);
}

static void says_what_it_cannot_count(void **state)
{
    (void)state;
    network_run(meet_nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_connections_by_both_ends),
        cmocka_unit_test(counts_what_no_process_holds),
        cmocka_unit_test(counts_ipv6),
        cmocka_unit_test(counts_udp_by_our_end),
        cmocka_unit_test(counts_in_slices),
        cmocka_unit_test(says_what_it_cannot_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
