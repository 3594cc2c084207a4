/* A worker's UDP as a whole: what its listeners' sockets carry, and its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/death.h"
#include "test/unit/lb/udp/world.h"

#define UDP_GRO_OPTION 104

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

/* ---- options ---- */

static int socket_with(int family, const struct udp_policy *policy)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(udp_listener_options(fd, policy), 0);
    return fd;
}

static void a_listener_joins_datagrams_and_cuts_what_is_too_large(void **state)
{
    static const struct udp_policy policy = {.fragment = true};
    int plain = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fd = socket_with(AF_INET, &policy);

    (void)state;
    assert_int_equal(get(fd, IPPROTO_UDP, UDP_GRO_OPTION), 1);
    assert_int_equal(get(fd, IPPROTO_IP, IP_PKTINFO), 0);
    assert_int_equal(get(fd, IPPROTO_IP, IP_MTU_DISCOVER), get(plain, IPPROTO_IP, IP_MTU_DISCOVER));
    assert_int_equal(get(fd, SOL_SOCKET, SO_RCVBUF), get(plain, SOL_SOCKET, SO_RCVBUF));
    assert_int_equal(get(fd, SOL_SOCKET, SO_SNDBUF), get(plain, SOL_SOCKET, SO_SNDBUF));
    close(fd);
    close(plain);
}

static void a_wildcard_asks_for_the_address_that_was_used(void **state)
{
    static const struct udp_policy policy = {.fragment = true, .wildcard = true};
    int fd = socket_with(AF_INET, &policy);

    (void)state;
    assert_int_equal(get(fd, IPPROTO_IP, IP_PKTINFO), 1);
    close(fd);
    fd = socket_with(AF_INET6, &policy);
    assert_int_equal(get(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO), 1);
    close(fd);
}

static void without_fragments_df_is_set(void **state)
{
    static const struct udp_policy policy = {.fragment = false};
    int fd = socket_with(AF_INET, &policy);

    (void)state;
    assert_int_equal(get(fd, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_PROBE);
    close(fd);
    /* A socket of both families sends either. */
    fd = socket_with(AF_INET6, &policy);
    assert_int_equal(get(fd, IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_PROBE);
    assert_int_equal(get(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER), IPV6_PMTUDISC_PROBE);
    close(fd);
}

/* What the kernel reports is double: socket(7). */
static void buffers_are_as_large_as_asked_for(void **state)
{
    static const struct udp_policy policy = {.fragment = true, .rcvbuf = 50000, .sndbuf = 60000};
    int fd = socket_with(AF_INET, &policy);

    (void)state;
    assert_int_equal(get(fd, SOL_SOCKET, SO_RCVBUF), 100000);
    assert_int_equal(get(fd, SOL_SOCKET, SO_SNDBUF), 120000);
    close(fd);
}

static void what_is_no_socket_is_refused(void **state)
{
    static const struct udp_policy policy = {.fragment = true};
    int fd[2];

    (void)state;
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(udp_listener_options(fd[0], &policy), -ENOTSOCK);
    close(fd[0]);
    close(fd[1]);
}

/* A socket to a server that is to keep DF keeps it. */
static void sockets_to_servers_keep_df_too(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.fragment = false;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    assert_int_equal(get(world_newest(&w)->upstream->fd, IPPROTO_IP, IP_MTU_DISCOVER),
                     IP_PMTUDISC_PROBE);
    close(client);
    world_close(&w);
}

/* ---- the end ---- */

static void before_the_start_nothing_is_received(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    world_prepare(&w);
    w.entry = world_listen(&w, &w.policy, "127.0.0.1:0", &w.flows, w.limit);
    client = world_client();
    world_say(&w, client, "early");
    world_settle(&w);
    assert_int_equal(udp_flows(w.udp), 0);
    udp_start(w.udp);
    (void)world_hear(&w, w.socket[0], "early");
    close(client);
    world_close(&w);
}

/* With work queued, sockets at rest, and memory not reaped. */
static void all_of_it_goes_at_any_time(void **state)
{
    struct world w;
    union inet_address asker[2];
    int client[2];

    (void)state;
    world_init(&w);
    w.policy.responses = 1;
    world_open_at(&w, "127.0.0.1:0");
    for (size_t i = 0; i < 2; i++) {
        client[i] = world_client();
        asker[i] = world_ask(&w, client[i], 0, "?");
    }
    world_answer(&w, 0, &asker[0], client[0], "!");
    peer_send(w.socket[0], "!", 1, &asker[1]);
    world_fence(&w);
    poller_wait(&w.poller, 0);
    assert_true(poller_has_tasks(&w.poller));
    udp_free(&w.udp);
    assert_null(w.udp);
    udp_free(&w.udp);
    assert_false(poller_has_tasks(&w.poller));
    assert_int_equal(w.wheel.count, 0);
    refusals_free(&w.refusals);
    (void)peer_name(client[1]);
    poller_close(&w.poller);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        world_close_server(&w, i);
    for (size_t i = 0; i < 2; i++) {
        close(client[i]);
        peer_hang_up(&w.fence[i]);
    }
    assert_int_equal(world_descriptors(), w.descriptors);
}

static void free_it(void *udp)
{
    udp_free(udp);
}

static void a_flow_that_is_left_is_a_bug(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    (void)world_ask(&w, client, 0, "?");
    assert_bug(free_it, &w.udp, "live > 0");
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_joins_datagrams_and_cuts_what_is_too_large),
        cmocka_unit_test(a_wildcard_asks_for_the_address_that_was_used),
        cmocka_unit_test(without_fragments_df_is_set),
        cmocka_unit_test(buffers_are_as_large_as_asked_for),
        cmocka_unit_test(what_is_no_socket_is_refused),
        cmocka_unit_test(sockets_to_servers_keep_df_too),
        cmocka_unit_test(before_the_start_nothing_is_received),
        cmocka_unit_test(all_of_it_goes_at_any_time),
        cmocka_unit_test(a_flow_that_is_left_is_a_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
