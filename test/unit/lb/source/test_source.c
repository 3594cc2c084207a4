/* Which address a socket to a server is bound to, and that the server sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/source/source.h"
#include "test/unit/addresses.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct address server_at(const char *text)
{
    struct address server = {.inet = host_of(text)};

    server.length = server.any.sa_family == AF_INET ? sizeof(server.v4) : sizeof(server.v6);
    return server;
}

static void assert_source(const struct source *source, const char *text)
{
    union inet_address wanted = host_of(text);

    assert_true(inet_address_equal(&source->address, &wanted));
}

/* ---- the choice ---- */

static void a_client_is_folded_and_keeps_no_port(void **state)
{
    struct address four = server_at("10.0.0.9"), six = server_at("2001:db8::9");
    union inet_address client = host_of("::ffff:192.0.2.1");
    struct source source;

    (void)state;
    client.v6.sin6_port = htons(4711);
    assert_true(source_of_client(&four, &client, &source));
    assert_source(&source, "192.0.2.1");
    assert_true(source.transparent);
    client = host_of("2001:db8:1::1");
    client.v6.sin6_port = htons(4711);
    assert_true(source_of_client(&six, &client, &source));
    assert_source(&source, "2001:db8:1::1");
}

static void some_clients_cannot_be_a_source(void **state)
{
    static const struct {
        const char *client, *server;
        bool can;
    } pairs[] = {
        {"192.0.2.1", "2001:db8::9", false},   {"2001:db8:1::1", "10.0.0.9", false},
        {"0.0.0.0", "10.0.0.9", false},        {"::", "2001:db8::9", false},
        {"224.0.0.1", "10.0.0.9", false},      {"ff02::1", "2001:db8::9", false},
        {"127.0.0.1", "10.0.0.9", false},      {"::1", "2001:db8::9", false},
        {"fe80::1%lo", "2001:db8::9", false},  {"fe80::1%lo", "fe80::9%lo", true},
        {"127.0.0.2", "127.0.0.1", true},      {"::1", "::1", true},
        {"::ffff:0.0.0.0", "10.0.0.9", false}, {"255.255.255.255", "10.0.0.9", false},
        {"fe80::1%lo", "fe80::9%2", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct address server = server_at(pairs[i].server);
        union inet_address client = host_of(pairs[i].client);
        struct source source;
        assert_int_equal(source_of_client(&server, &client, &source), pairs[i].can);
    }
}

/* ---- the socket ---- */

static int listen_at(struct address *address, int type)
{
    int fd = socket(address->any.sa_family, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &address->any, address->length), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, &address->any, &address->length), 0);
    return fd;
}

/* A socket bound to the source is connected to a server on loopback, and has its name. */
static void assert_connects(const char *text, const char *server_text, int type)
{
    struct address server = server_at(server_text);
    struct source source = {.address = host_of(text)};
    union inet_address own = {0};
    socklen_t length = sizeof(own);
    int listener = listen_at(&server, type);
    int fd = socket(server.any.sa_family, type | SOCK_CLOEXEC, 0);

    assert_int_equal(source_connect(fd, &source, &server), 0);
    assert_int_equal(getsockname(fd, &own.any, &length), 0);
    assert_true(inet_address_same_host(&own, &source.address));
    assert_int_not_equal(inet_address_port(&own), 0);
    close(fd);
    close(listener);
}

static void a_server_sees_the_source(void **state)
{
    (void)state;
    assert_connects("127.0.0.5", "127.0.0.1", SOCK_STREAM);
    assert_connects("127.0.0.5", "127.0.0.1", SOCK_DGRAM);
    assert_connects("::1", "::1", SOCK_STREAM);
    assert_connects("::1", "::1", SOCK_DGRAM);
}

/* A bind takes no port: two servers may be connected to from the same one. */
static void the_port_comes_with_the_connect(void **state)
{
    static const char *const texts[] = {"127.0.0.5", "::1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct source source = {.address = host_of(texts[i])};
        union inet_address own = {0};
        socklen_t length = sizeof(own);
        int fd = socket(source.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(source_bind(fd, &source), 0);
        assert_int_equal(getsockname(fd, &own.any, &length), 0);
        assert_int_equal(inet_address_port(&own), 0);
        close(fd);
    }
}

static void what_fails_is_ours(void **state)
{
    struct address local = server_at("127.0.0.1"), remote = server_at("192.0.2.9");
    struct source foreign = {.address = host_of("192.0.2.7")};
    struct source loopback = {.address = host_of("127.0.0.1")};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    local.v4.sin_port = remote.v4.sin_port = htons(9);
    assert_int_equal(source_connect(fd, &foreign, &local), -EADDRNOTAVAIL);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failed = source_connect(fd, &loopback, &remote);
    /* Without any route at all the kernel does not come as far. */
    assert_true(failed == -EADDRNOTAVAIL || failed == -ENETUNREACH);
    close(fd);
}

/* Of nobody here, with the capability that it takes; else it is refused, and says so. */
static void a_transparent_socket_has_any_address(void **state)
{
    static const char *const texts[] = {"192.0.2.7", "2001:db8::7"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct source source = {.address = host_of(texts[i]), .transparent = true};
        union inet_address own = {0};
        socklen_t length = sizeof(own);
        int fd = socket(source.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int failed = source_bind(fd, &source);
        if (failed != -EPERM) {
            assert_int_equal(failed, 0);
            assert_int_equal(getsockname(fd, &own.any, &length), 0);
            assert_true(inet_address_same_host(&own, &source.address));
        }
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_folded_and_keeps_no_port),
        cmocka_unit_test(some_clients_cannot_be_a_source),
        cmocka_unit_test(a_server_sees_the_source),
        cmocka_unit_test(the_port_comes_with_the_connect),
        cmocka_unit_test(what_fails_is_ours),
        cmocka_unit_test(a_transparent_socket_has_any_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
