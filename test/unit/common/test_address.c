/* What is read is what is written; what is refused is refused with the right words. */
#include "common/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct address parsed(const char *text)
{
    struct address address;
    const char *why = NULL;
    if (address_parse(&address, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    return address;
}

static void reads_what_it_writes(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "10.0.0.1:80",
        "0.0.0.0:1",
        "255.255.255.255:65535",
        "127.0.0.1:0",
        "[2001:db8::1]:80",
        "[::]:443",
        "[::1]:65535",
        "[::ffff:10.0.0.1]:80",
        "[1111:2222:3333:4444:5555:6666:7777:8888]:65535",
        "[fe80::1%lo]:80",
        "unix:/run/app.sock",
        "unix:/",
        "unix:/with space/and:colon",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct address address = parsed(texts[i]);
        char text[ADDRESS_TEXT_MAX];
        assert_ptr_equal(address_format(&address, text), text);
        assert_string_equal(text, texts[i]);
    }
}

static void reads_an_address_by_itself(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"10.0.0.1", "10.0.0.1:0"},
        {"2001:DB8::1", "[2001:db8::1]:0"},
        {"::", "[::]:0"},
        {"fe80::1%lo", "[fe80::1%lo]:0"},
    };
    static const char *const bad[] = {"",      "10.0.0.1:80", "[2001:db8::1]", "10.0.0",
                                      "a.b.c", "10.0.0.1%lo", "fe80::1",       "2001:db8::1%lo"};
    union inet_address address;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char text[ADDRESS_TEXT_MAX];
        const char *why;
        assert_int_equal(inet_address_parse(&address, good[i][0], &why), 0);
        assert_string_equal(inet_address_format(&address, text), good[i][1]);
        union inet_address again;
        assert_int_equal(inet_address_parse(&again, inet_host_format(&address, text), &why), 0);
        assert_true(inet_address_equal(&again, &address));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        union inet_address before = address;
        const char *why = NULL;
        assert_int_equal(inet_address_parse(&address, bad[i], &why), -EINVAL);
        assert_non_null(why);
        assert_memory_equal(&address, &before, sizeof(address));
    }
}

static void same_host_whatever_the_port(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } pairs[] = {
        {"10.0.0.1:80", "10.0.0.1:81", true},
        {"10.0.0.1:80", "10.0.0.2:80", false},
        {"[2001:db8::1]:80", "[2001:db8::1]:0", true},
        {"[2001:db8::1]:80", "[2001:db8::2]:80", false},
        {"[fe80::1%1]:80", "[fe80::1%2]:80", false},
        {"[::ffff:10.0.0.1]:80", "10.0.0.1:80", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct address a = parsed(pairs[i].a), b = parsed(pairs[i].b);
        assert_int_equal(inet_address_same_host(&a.inet, &b.inet), pairs[i].same);
    }
}

static void kinds_of_addresses(void **state)
{
    (void)state;
    static const char *const texts[] = {"0.0.0.0:1",  "[::]:1",          "127.8.0.1:1",
                                        "[::1]:1",    "224.0.0.1:1",     "[ff02::1]:1",
                                        "10.0.0.1:1", "[2001:db8::1]:1", "255.255.255.255:1"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct address address = parsed(texts[i]);
        assert_int_equal(inet_address_is_wildcard(&address.inet), i / 2 == 0);
        assert_int_equal(inet_address_is_loopback(&address.inet), i / 2 == 1);
        assert_int_equal(inet_address_is_multicast(&address.inet), i / 2 == 2);
        assert_int_equal(inet_address_is_broadcast(&address.inet), i / 2 == 4);
    }
}

static void reads_other_spellings(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"*:80", "[::]:80"},
        {"[2001:DB8:0:0:0:0:0:1]:00080", "[2001:db8::1]:80"},
        {"[fe80::1%1]:80", "[fe80::1%lo]:80"},
        {"[fe80::1%2147483647]:80", "[fe80::1%2147483647]:80"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct address address = parsed(pairs[i][0]);
        char text[ADDRESS_TEXT_MAX];
        assert_string_equal(address_format(&address, text), pairs[i][1]);
    }
}

static void fills_in_what_bind_wants(void **state)
{
    (void)state;
    struct address v4 = parsed("10.0.0.1:80");
    assert_int_equal(v4.any.sa_family, AF_INET);
    assert_int_equal(v4.length, sizeof(struct sockaddr_in));
    assert_int_equal(v4.v4.sin_addr.s_addr, htonl(0x0a000001));
    assert_int_equal(v4.v4.sin_port, htons(80));

    struct address v6 = parsed("[fe80::1%1]:80");
    assert_int_equal(v6.any.sa_family, AF_INET6);
    assert_int_equal(v6.length, sizeof(struct sockaddr_in6));
    assert_int_equal(v6.v6.sin6_scope_id, 1);
    assert_int_equal(v6.v6.sin6_flowinfo, 0);

    struct address un = parsed("unix:/a");
    assert_int_equal(un.any.sa_family, AF_UNIX);
    assert_int_equal(un.length, offsetof(struct sockaddr_un, sun_path) + 3);
    assert_string_equal(un.un.sun_path, "/a");
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "the address is missing"},
        {":80", "the address is missing"},
        {"10.0.0.1", "the port is missing"},
        {"10.0.0.1:", "the port is missing"},
        {"*:", "the port is missing"},
        {"[::1]", "the port is missing"},
        {"[::1]:", "the port is missing"},
        {"[::1]80", "the port is missing"},
        {"10.0.0.1:http", "the port is not a number"},
        {"10.0.0.1:-1", "the port is not a number"},
        {"10.0.0.1:+1", "the port is not a number"},
        {"10.0.0.1: 80", "the port is not a number"},
        {"10.0.0.1:80 ", "the port is not a number"},
        {"10.0.0.1:65536", "the port is above 65535"},
        {"10.0.0.1:4294967376", "the port is above 65535"},
        {"10.0.0.1:18446744073709551696", "the port is above 65535"},
        {"10.0.0:80", "this is not an IP address, and names are not resolved"},
        {"10.0.0.256:80", "this is not an IP address, and names are not resolved"},
        {"010.0.0.1:80", "this is not an IP address, and names are not resolved"},
        {"localhost:80", "this is not an IP address, and names are not resolved"},
        {"a-name-that-is-longer-than-any-address.example:80",
         "this is not an IP address, and names are not resolved"},
        {"2001:db8::1", "an IPv6 address needs brackets, as in [2001:db8::1]:80"},
        {"::1:80", "the address is missing"},
        {"[::1:80", "the closing bracket is missing"},
        {"[]:80", "what stands in brackets is not an IPv6 address"},
        {"[10.0.0.1]:80", "what stands in brackets is not an IPv6 address"},
        {"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff]:80",
         "what stands in brackets is not an IPv6 address"},
        {"[fe80::1]:80", "a link-local address needs its interface, as in fe80::1%eth0"},
        {"[2001:db8::1%lo]:80", "only a link-local address has an interface"},
        {"[fe80::1%]:80", "there is no such interface"},
        {"[fe80::1%none-such]:80", "there is no such interface"},
        {"[fe80::1%lo:x]:80", "there is no such interface"},
        {"[fe80::1%0]:80", "there is no such interface"},
        {"[fe80::1%1x]:80", "there is no such interface"},
        {"[fe80::1%99999999999]:80", "there is no such interface"},
        {"unix:", "the path of a Unix socket must begin with /"},
        {"unix:app.sock", "the path of a Unix socket must begin with /"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct address address, before;
        const char *why = "nothing";
        memset(&address, 0x5a, sizeof(address));
        before = address;
        assert_int_equal(address_parse(&address, cases[i][0], &why), -EINVAL);
        if (strcmp(why, cases[i][1]) != 0)
            fail_msg("\"%s\": %s", cases[i][0], why);
        assert_memory_equal(&address, &before, sizeof(address));
    }
}

static void takes_the_longest_path(void **state)
{
    (void)state;
    char text[120], back[ADDRESS_TEXT_MAX];
    const char *why;
    struct address address;
    snprintf(text, sizeof(text), "unix:/%0106d", 0);
    address = parsed(text);
    assert_int_equal(address.length, sizeof(struct sockaddr_un));
    assert_string_equal(address_format(&address, back), text);

    snprintf(text, sizeof(text), "unix:/%0107d", 0);
    assert_int_equal(address_parse(&address, text, &why), -EINVAL);
    assert_string_equal(why, "the path of a Unix socket is longer than 107 bytes");

    /* As the kernel may return it: 108 bytes without a NUL. */
    memset(address.un.sun_path, 'x', sizeof(address.un.sun_path));
    assert_int_equal(strlen(address_format(&address, back)), 5 + 108);
}

static void compares(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "10.0.0.1:80",    "10.0.0.1:81",    "10.0.0.2:80",
        "[::1]:80",       "[::1]:81",       "[::2]:80",
        "[fe80::1%1]:80", "[fe80::1%2]:80", "[::ffff:10.0.0.1]:80",
        "unix:/a",        "unix:/ab",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        for (size_t j = 0; j < ARRAY_LEN(texts); j++) {
            struct address a = parsed(texts[i]), b = parsed(texts[j]);
            assert_int_equal(address_equal(&a, &b), i == j);
        }
    }
}

static void answers_questions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_inet, is_wildcard;
        uint16_t port;
    } cases[] = {
        {"10.0.0.1:80", true, false, 80}, {"0.0.0.0:65535", true, true, 65535},
        {"[::1]:443", true, false, 443},  {"[::]:1", true, true, 1},
        {"*:8080", true, true, 8080},     {"unix:/a", false, false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct address address = parsed(cases[i].text);
        assert_int_equal(address_is_inet(&address), cases[i].is_inet);
        assert_int_equal(address_is_wildcard(&address), cases[i].is_wildcard);
        assert_int_equal(address_port(&address), cases[i].port);
        if (cases[i].is_inet)
            assert_int_equal(inet_address_port(&address.inet), cases[i].port);
    }
}

static void folds_mapped_addresses(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"[::ffff:10.1.2.3]:80", "10.1.2.3:80"},
        {"10.1.2.3:80", "10.1.2.3:80"},
        {"[2001:db8::1]:80", "[2001:db8::1]:80"},
        {"[::10.1.2.3]:80", "[::10.1.2.3]:80"}, /* compatible is not mapped */
        {"[::]:80", "[::]:80"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct address address = parsed(pairs[i][0]);
        char text[ADDRESS_TEXT_MAX];
        inet_address_fold(&address.inet);
        assert_string_equal(inet_address_format(&address.inet, text), pairs[i][1]);
    }
}

static uint64_t hash_of(const char *text, bool with_port, uint64_t seed)
{
    struct address address = parsed(text);
    return inet_address_hash(&address.inet, with_port, seed);
}

/*
 * Written down, because another machine and another version must come to the same numbers. They are
 * those of the reference tool: printf '\x0a\x00\x00\x01' | xxhsum -H3, and so on.
 */
static void hashes_the_same_everywhere(void **state)
{
    (void)state;
    assert_int_equal(hash_of("10.0.0.1:80", false, 0), UINT64_C(0x83cff27f7da39d96));
    assert_int_equal(hash_of("10.0.0.1:80", true, 0), UINT64_C(0x1fb5afa5f7eff109));
    assert_int_equal(hash_of("[2001:db8::1]:80", false, 0), UINT64_C(0x275c8fa58c2d19a0));
    assert_int_equal(hash_of("[2001:db8::1]:80", true, 0), UINT64_C(0x9d43d52d9356b881));
}

static void hashes_what_it_should(void **state)
{
    (void)state;
    assert_int_equal(hash_of("10.0.0.1:80", false, 7), hash_of("10.0.0.1:81", false, 7));
    assert_true(hash_of("10.0.0.1:80", true, 7) != hash_of("10.0.0.1:81", true, 7));
    assert_true(hash_of("10.0.0.1:80", true, 7) != hash_of("10.0.0.1:80", true, 8));
    assert_true(hash_of("10.0.0.1:80", false, 7) != hash_of("10.0.0.2:80", false, 7));
    assert_int_equal(hash_of("[::ffff:10.0.0.1]:80", true, 7), hash_of("10.0.0.1:80", true, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_an_address_by_itself),
        cmocka_unit_test(same_host_whatever_the_port),
        cmocka_unit_test(kinds_of_addresses),
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(reads_other_spellings),
        cmocka_unit_test(fills_in_what_bind_wants),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(takes_the_longest_path),
        cmocka_unit_test(compares),
        cmocka_unit_test(answers_questions),
        cmocka_unit_test(folds_mapped_addresses),
        cmocka_unit_test(hashes_the_same_everywhere),
        cmocka_unit_test(hashes_what_it_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
