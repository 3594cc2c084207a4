/*
 * Sockets of UDP listeners: shared among our workers and with nobody else, beside TCP's on the same
 * address, and a refusal that names names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/listening.h"

/* ---- helpers ---- */

static struct config_listener *want_udp(char *name, const char *text)
{
    struct config_listener *listener = want(name, text);
    listener->protocol = CONFIG_PROTOCOL_UDP;
    listener->udp_fragment = true;
    return listener;
}

static void free_udp_address(const char *host, char out_text[ADDRESS_TEXT_MAX])
{
    close(foreign_on(host, UDP, out_text));
}

/* From a port of its own. */
static void send_to(const char *text)
{
    struct address address = address_of(text);
    int fd = socket(address.any.sa_family, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(sendto(fd, "x", 1, 0, &address.any, address.length), 1);
    close(fd);
}

static unsigned receive_all(int fd)
{
    char byte;
    unsigned count = 0;
    while (recv(fd, &byte, 1, 0) == 1)
        count++;
    assert_int_equal(errno, EAGAIN);
    return count;
}

/* ---- what is opened ---- */

static void opens_and_says_what_the_configuration_says(void **state)
{
    (void)state;
    struct config_listener *dns = want_udp("dns", "127.0.0.1:0");
    dns->pool = "servers";
    dns->pool_index = 3;
    dns->max_flows = 70;
    dns->udp_idle_timeout = 5000;
    dns->udp_quarantine = 2000;
    dns->responses = 1;
    dns->requests = 2;
    dns->max_replies = 3;
    dns->max_reply_bytes = 4;
    dns->log_sample = 5;
    dns->udp_rcvbuf = 65536;
    dns->udp_sndbuf = 32768;
    want_udp("any", "0.0.0.0:0")->per_packet = true;
    config.weir.log_access = true;
    assert_opens();
    const struct listener *listener = &listeners[0];
    assert_int_equal(listener->flow_limit, 70);
    assert_int_equal(listeners[1].flow_limit, UINT32_MAX);
    assert_int_equal(atomic_load(&listener->flows), 0);
    const struct udp_policy *policy = &listener->udp;
    assert_string_equal(policy->listener, "dns");
    assert_string_equal(policy->pool_name, "servers");
    assert_int_equal(policy->pool, 3);
    assert_int_equal(policy->idle_timeout_ms, 5000);
    assert_int_equal(policy->quarantine_ms, 2000);
    assert_int_equal(policy->responses, 1);
    assert_int_equal(policy->requests, 2);
    assert_int_equal(policy->max_replies, 3);
    assert_int_equal(policy->max_reply_bytes, 4);
    assert_int_equal(policy->log_sample, 5);
    assert_true(policy->log_access);
    assert_true(policy->fragment);
    assert_false(policy->per_packet);
    assert_false(policy->wildcard);
    assert_true(listeners[1].udp.per_packet);
    assert_true(listeners[1].udp.wildcard);
}

static void sockets_are_set_before_anybody_sends(void **state)
{
    (void)state;
    want_udp("dns", "127.0.0.1:0")->udp_rcvbuf = 65536;
    want_udp("any", "0.0.0.0:0");
    assert_opens();
    int fd = listeners[0].fd[0];
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_RCVBUF), 2 * 65536); /* socket(7) */
    /* Either would let others in. */
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEADDR), 0);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    /* Which address a client used is in question on a wildcard only. */
    assert_int_equal(option_of(fd, IPPROTO_IP, IP_PKTINFO), 0);
    assert_int_equal(option_of(listeners[1].fd[0], IPPROTO_IP, IP_PKTINFO), 1);
    assert_int_equal(receive_all(fd), 0); /* and so does not block */
}

static void assert_spread(const char *host)
{
    char text[ADDRESS_TEXT_MAX];
    free_udp_address(host, text);
    want_udp("dns", text);
    config.weir.workers = 3;
    assert_opens();
    for (unsigned i = 0; i < 90; i++)
        send_to(text);
    /* 90 ports hashed over three: one of them with fewer than 10 is a chance of one in 10^5. */
    unsigned sum = 0;
    for (uint32_t worker = 0; worker < 3; worker++) {
        unsigned count = receive_all(listeners[0].fd[worker]);
        assert_true(count >= 10);
        sum += count;
    }
    assert_int_equal(sum, 90);
}

static void spreads_over_the_workers(void **state)
{
    (void)state;
    assert_spread("127.0.0.1");
}

static void spreads_over_the_workers_on_a_wildcard(void **state)
{
    (void)state;
    assert_spread("0.0.0.0");
}

static void spreads_over_the_workers_on_ipv6(void **state)
{
    (void)state;
    assert_spread("[::1]");
}

/* A client comes to one worker, as long as the workers are the same. */
static void a_client_stays_with_its_worker(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_udp_address("127.0.0.1", text);
    want_udp("dns", text);
    config.weir.workers = 3;
    assert_opens();
    struct address address = address_of(text);
    int client = socket(AF_INET, SOCK_DGRAM, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(sendto(client, "x", 1, 0, &address.any, address.length), 1);
    close(client);
    for (uint32_t worker = 0; worker < 3; worker++) {
        unsigned count = receive_all(listeners[0].fd[worker]);
        assert_true(count == 0 || count == 20);
    }
}

static void v6only_is_as_configured(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    want_udp("both", "[::]:0");
    want_udp("six", "[::]:0")->v6only = true;
    config.weir.workers = 1;
    assert_opens();
    for (size_t i = 0; i < 2; i++) {
        struct address local = local_address(listeners[i].fd[0]);
        snprintf(text, sizeof(text), "127.0.0.1:%u", address_port(&local));
        send_to(text);
    }
    assert_int_equal(receive_all(listeners[0].fd[0]), 1);
    assert_int_equal(receive_all(listeners[1].fd[0]), 0);
}

static void freebind_takes_an_address_that_is_not_here(void **state)
{
    (void)state;
    want_udp("vip4", "192.0.2.1:53")->freebind = true;
    want_udp("vip6", "[2001:db8::1]:53")->freebind = true;
    config.weir.workers = 2;
    assert_opens();
}

static void both_protocols_share_an_address(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_udp_address("127.0.0.1", text);
    want_udp("dns-udp", text);
    want("dns-tcp", text);
    config.weir.workers = 2;
    assert_opens();
    assert_int_equal(option_of(listeners[0].fd[1], SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    assert_int_equal(option_of(listeners[1].fd[1], SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    send_to(text);
    assert_int_equal(receive_all(listeners[0].fd[0]) + receive_all(listeners[0].fd[1]), 1);
}

/* ---- what is refused ---- */

/* Whatever options the holder has, and however many sockets. */
static void names_who_holds_the_address(void **state)
{
    (void)state;
    static const unsigned how[] = {UDP, UDP | REUSEPORT};
    for (size_t i = 0; i < ARRAY_LEN(how); i++) {
        char text[ADDRESS_TEXT_MAX], sentence[512];
        setup(state);
        int foreign = foreign_on("127.0.0.1", how[i], text);
        descriptors_before++;
        want_udp("free", "127.0.0.1:0");
        want_udp("dns", text);
        config.weir.workers = 2;
        snprintf(sentence, sizeof(sentence),
                 "listener \"dns\": %s/udp is already in use by %.15s (pid %d): "
                 "stop it or choose another bind",
                 text, program_invocation_short_name, getpid());
        assert_refused(-EADDRINUSE, sentence);
        close(foreign);
    }
    setup(state);
}

static void a_wildcard_holds_every_address(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], mine[ADDRESS_TEXT_MAX];
    int foreign = foreign_on("[::]", UDP, text);
    descriptors_before++;
    snprintf(mine, sizeof(mine), "127.0.0.1:%s", strrchr(text, ':') + 1);
    want_udp("dns", mine);
    assert_int_equal(open_all(), -EADDRINUSE);
    assert_non_null(strstr(error, "(pid "));
    close(foreign);
    descriptors_before--;
}

static void a_second_weir_is_refused(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_udp_address("127.0.0.1", text);
    want_udp("dns", text);
    config.weir.workers = 2;
    assert_opens();
    struct listener *second = NULL;
    assert_int_equal(listeners_open(&config, &second, error, sizeof(error)), -EADDRINUSE);
    assert_null(second);
    for (unsigned i = 0; i < 20; i++)
        send_to(text); /* and takes nothing of the first's */
    assert_int_equal(receive_all(listeners[0].fd[0]) + receive_all(listeners[0].fd[1]), 20);
}

static void says_which_listeners_overlap(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], other[ADDRESS_TEXT_MAX], sentence[512];
    free_udp_address("127.0.0.1", text);
    snprintf(other, sizeof(other), "0.0.0.0:%s", strrchr(text, ':') + 1);
    want("tcp", text);
    want_udp("dns", text);
    want_udp("all", other);
    snprintf(sentence, sizeof(sentence),
             "listener \"all\": %s/udp overlaps listener \"dns\" at %s: "
             "choose another bind for one of them",
             other, text);
    assert_refused(-EADDRINUSE, sentence);
}

static void an_address_that_is_not_here(void **state)
{
    (void)state;
    want_udp("vip", "192.0.2.1:53");
    assert_refused(-EADDRNOTAVAIL,
                   "listener \"vip\": 192.0.2.1:53/udp is not an address of this machine: add it "
                   "to an interface, or set freebind = true");
}

/* ---- the holder ---- */

static void finds_the_holder_of_either_family(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], same_port[ADDRESS_TEXT_MAX];
    int fd = foreign_on("127.0.0.1", UDP, text);
    assert_holder(text, CONFIG_PROTOCOL_UDP, true);
    snprintf(same_port, sizeof(same_port), "[::]:%s", strrchr(text, ':') + 1);
    assert_holder(same_port, CONFIG_PROTOCOL_UDP, true);
    close(fd);
    assert_holder(text, CONFIG_PROTOCOL_UDP, false);

    fd = foreign_on("[::1]", UDP, text);
    assert_holder(text, CONFIG_PROTOCOL_UDP, true);
    close(fd);
}

/* A connected UDP socket is in the way of bind as any other. */
static void a_socket_that_is_connected_holds_its_address(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    int fd = foreign_on("127.0.0.1", UDP, text);
    struct address peer = address_of("127.0.0.1:9");
    assert_int_equal(connect(fd, &peer.any, peer.length), 0);
    assert_holder(text, CONFIG_PROTOCOL_UDP, true);
    descriptors_before++;
    want_udp("dns", text);
    assert_int_equal(open_all(), -EADDRINUSE);
    close(fd);
    descriptors_before--;
}

static void protocols_are_told_apart(void **state)
{
    (void)state;
    char tcp[ADDRESS_TEXT_MAX], udp[ADDRESS_TEXT_MAX];
    int listening = foreign_on("127.0.0.1", LISTENS, tcp);
    int fd = foreign_on("127.0.0.1", UDP, udp);
    if (strcmp(tcp, udp) != 0) {
        assert_holder(tcp, CONFIG_PROTOCOL_UDP, false);
        assert_holder(udp, CONFIG_PROTOCOL_TCP, false);
    }
    close(listening);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_and_says_what_the_configuration_says),
        TEST(sockets_are_set_before_anybody_sends),
        TEST(spreads_over_the_workers),
        TEST(spreads_over_the_workers_on_a_wildcard),
        TEST(spreads_over_the_workers_on_ipv6),
        TEST(a_client_stays_with_its_worker),
        TEST(v6only_is_as_configured),
        TEST(freebind_takes_an_address_that_is_not_here),
        TEST(both_protocols_share_an_address),
        TEST(names_who_holds_the_address),
        TEST(a_wildcard_holds_every_address),
        TEST(a_second_weir_is_refused),
        TEST(says_which_listeners_overlap),
        TEST(an_address_that_is_not_here),
        TEST(finds_the_holder_of_either_family),
        TEST(a_socket_that_is_connected_holds_its_address),
        TEST(protocols_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
