/* Networks are read as they are written, refused with the right words, and have what they cover. */
#include "common/network.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/addresses.h"

static bool has(const char *network_text, const char *address_text)
{
    struct network network = network_of(network_text);
    union inet_address address = endpoint_of(address_text);
    return network_has(&network, &address);
}

static void reads_what_it_writes(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "10.0.0.0/8",
        "0.0.0.0/0",
        "192.0.2.1/32",
        "255.255.255.254/31",
        "128.0.0.0/1",
        "2001:db8::/32",
        "::/0",
        "8000::/1",
        "fe80::1/128",
        "2001:db8::80/121",
        "::/96",
        "::fffe:0:0/95",
        "1111:2222:3333:4444:5555:6666:7777:8888/128",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct network network = network_of(texts[i]);
        char text[NETWORK_TEXT_MAX];
        assert_ptr_equal(network_format(&network, text), text);
        assert_string_equal(text, texts[i]);
    }
}

static void reads_other_spellings(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"192.0.2.1", "192.0.2.1/32"},  {"2001:DB8:0::1", "2001:db8::1/128"},
        {"10.0.0.0/008", "10.0.0.0/8"}, {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
        {"::ffff:0:0/96", "0.0.0.0/0"}, {"::ffff:192.0.2.1", "192.0.2.1/32"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct network network = network_of(pairs[i][0]);
        char text[NETWORK_TEXT_MAX];
        assert_string_equal(network_format(&network, text), pairs[i][1]);
    }
}

static void holds_ipv4_mapped(void **state)
{
    (void)state;
    struct network ten = network_of("10.0.0.0/8");
    assert_int_equal(ten.bits, 104);
    assert_true(IN6_IS_ADDR_V4MAPPED(&ten.address));
    assert_int_equal(ten.address.s6_addr[12], 10);
}

static void says_why_not(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", "the address is missing"},
        {"/8", "the address is missing"},
        {"10.0.0.0/", "the prefix length is missing"},
        {"10.0.0.0/8/8", "the prefix length is not a number"},
        {"10.0.0.0/-1", "the prefix length is not a number"},
        {"10.0.0.0/ 8", "the prefix length is not a number"},
        {"10.0.0.0/33", "the prefix length is above 32"},
        {"10.0.0.0/99999999999999999999", "the prefix length is above 32"},
        {"::/129", "the prefix length is above 128"},
        {"10.0.0/8", "this is not an IP address"},
        {"010.0.0.0/8", "this is not an IP address"},
        {"example.org", "this is not an IP address"},
        {"[::1]/128", "this is not an IP address"},
        {"fe80::1%eth0/128", "this is not an IP address"},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa/1", "this is not an IP address"},
        {"10.1.2.3/8", "bits are set behind the prefix: the network is 10.0.0.0/8"},
        {"10.0.0.0/0", "bits are set behind the prefix: the network is 0.0.0.0/0"},
        {"192.0.2.255/25", "bits are set behind the prefix: the network is 192.0.2.128/25"},
        {"2001:db8::1/64", "bits are set behind the prefix: the network is 2001:db8::/64"},
        {"::ffff:10.1.0.0/104", "bits are set behind the prefix: the network is 10.0.0.0/8"},
        {"::ffff:0:0/90", "bits are set behind the prefix: the network is ::ffc0:0:0/90"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct network network, before;
        memset(&network, 0x5a, sizeof(network));
        memcpy(&before, &network, sizeof(network));
        const char *why = NULL;
        assert_int_equal(network_parse(&network, pairs[i][0], &why), -EINVAL);
        assert_string_equal(why, pairs[i][1]);
        assert_memory_equal(&network, &before, sizeof(network));
    }
}

static void has_what_it_covers(void **state)
{
    (void)state;
    assert_true(has("10.0.0.0/8", "10.255.255.255:1"));
    assert_false(has("10.0.0.0/8", "11.0.0.0:1"));
    assert_true(has("192.0.2.128/25", "192.0.2.128:1"));
    assert_false(has("192.0.2.128/25", "192.0.2.127:1"));
    assert_true(has("192.0.2.1", "192.0.2.1:0"));
    assert_false(has("192.0.2.1", "192.0.2.0:0"));
    assert_true(has("2001:db8::/33", "[2001:db8:7fff::1]:1"));
    assert_false(has("2001:db8::/33", "[2001:db8:8000::1]:1"));
}

static void any_of_several(void **state)
{
    (void)state;
    struct network network[] = {network_of("10.0.0.0/8"), network_of("2001:db8::/32")};
    union inet_address v4 = endpoint_of("10.1.2.3:1"), v6 = endpoint_of("[2001:db8::1]:1");
    union inet_address other = endpoint_of("11.0.0.0:1");
    assert_true(network_any_has(network, 2, &v4));
    assert_true(network_any_has(network, 2, &v6));
    assert_false(network_any_has(network, 1, &v6));
    assert_false(network_any_has(network, 2, &other));
    assert_false(network_any_has(NULL, 0, &v4));
}

static void makes_no_difference_between_folded_and_mapped(void **state)
{
    (void)state;
    assert_true(has("10.0.0.0/8", "[::ffff:10.1.2.3]:1"));
    assert_true(has("::ffff:10.0.0.0/104", "10.1.2.3:1"));
    assert_true(has("0.0.0.0/0", "[::ffff:1.2.3.4]:1"));
    assert_false(has("0.0.0.0/0", "[2001:db8::1]:1"));
    assert_false(has("10.0.0.0/8", "[a00::]:1"));
    assert_true(has("::/0", "10.1.2.3:1"));
    assert_true(has("::/0", "[ffff::]:1"));
}

static void masks_every_number_of_bits(void **state)
{
    (void)state;
    struct in6_addr ones;
    memset(&ones, 0xff, sizeof(ones));
    for (unsigned bits = 0; bits <= 128; bits++) {
        struct in6_addr masked = network_mask(&ones, (uint8_t)bits);
        for (unsigned i = 0; i < 128; i++)
            assert_int_equal(masked.s6_addr[i / 8] >> (7 - i % 8) & 1, i < bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(reads_other_spellings),
        cmocka_unit_test(holds_ipv4_mapped),
        cmocka_unit_test(says_why_not),
        cmocka_unit_test(has_what_it_covers),
        cmocka_unit_test(any_of_several),
        cmocka_unit_test(makes_no_difference_between_folded_and_mapped),
        cmocka_unit_test(masks_every_number_of_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
