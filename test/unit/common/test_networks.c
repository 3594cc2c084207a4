/* The longest match is found, whatever lies in what, as a plain walk over all networks finds it. */
#include "common/networks.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/addresses.h"

#define SEED 20240229
#define NETWORKS 10000
#define LOOKS 3000

/* What is found for an address; -1: nothing. */
static int64_t found(const struct networks *networks, const char *text)
{
    struct address address;
    const char *why = NULL;
    uint32_t value = 4711;
    if (address_parse(&address, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    if (networks_find(networks, &address.inet, &value))
        return value;
    assert_int_equal(value, 4711);
    return -1;
}

static struct networks *made(const char *const *texts, size_t count)
{
    struct network network[16];
    uint32_t value[16];
    struct networks *networks = NULL;
    assert_true(count <= ARRAY_LEN(network));
    for (size_t i = 0; i < count; i++) {
        network[i] = network_of(texts[i]);
        value[i] = (uint32_t)i;
    }
    assert_int_equal(networks_new(&networks, network, value, count), 0);
    return networks;
}

static void nothing_matches_nothing(void **state)
{
    (void)state;
    assert_int_equal(found(NULL, "10.0.0.1:1"), -1);
    struct networks *networks = made(NULL, 0);
    assert_int_equal(found(networks, "10.0.0.1:1"), -1);
    assert_int_equal(found(networks, "[::]:1"), -1);
    networks_free(&networks);
    assert_null(networks);
}

static void the_longest_matches(void **state)
{
    (void)state;
    static const char *const texts[] = {"10.1.0.0/16", "10.0.0.0/8",  "10.1.2.3",
                                        "::/0",        "10.0.0.0/16", "fe80::/10"};
    struct networks *networks = made(texts, ARRAY_LEN(texts));
    assert_int_equal(found(networks, "10.1.2.3:1"), 2);
    assert_int_equal(found(networks, "10.1.2.2:1"), 0);
    assert_int_equal(found(networks, "10.1.2.4:1"), 0);
    assert_int_equal(found(networks, "10.2.0.0:1"), 1);
    assert_int_equal(found(networks, "10.0.255.255:1"), 4);
    assert_int_equal(found(networks, "11.0.0.0:1"), 3);
    assert_int_equal(found(networks, "[::ffff:10.1.2.3]:1"), 2);
    assert_int_equal(found(networks, "[febf:ffff::%1]:1"), 5);
    assert_int_equal(found(networks, "[fec0::]:1"), 3);
    networks_free(&networks);
}

static void of_two_alike_the_last_holds(void **state)
{
    (void)state;
    static const char *const texts[] = {"10.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.0/8",
                                        "10.0.0.0/9"};
    struct networks *networks = made(texts, ARRAY_LEN(texts));
    assert_int_equal(found(networks, "10.200.0.1:1"), 3);
    assert_int_equal(found(networks, "10.0.0.1:1"), 4);
    assert_int_equal(found(networks, "[2001:db8::1]:1"), -1);
    networks_free(&networks);
}

static void the_ends_of_the_address_space_are_no_special_case(void **state)
{
    (void)state;
    static const char *const texts[] = {"::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                        "8000::/1", "::/64"};
    struct networks *networks = made(texts, ARRAY_LEN(texts));
    assert_int_equal(found(networks, "[::]:1"), 0);
    assert_int_equal(found(networks, "[::1]:1"), 3);
    assert_int_equal(found(networks, "[0:0:0:0:ffff:ffff:ffff:ffff]:1"), 3);
    assert_int_equal(found(networks, "[0:0:0:1::]:1"), -1);
    assert_int_equal(found(networks, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1"), 1);
    assert_int_equal(found(networks, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:1"), 2);
    networks_free(&networks);
}

/* ---- Against a model ---- */

/* Few different bytes, so that networks lie in each other and addresses are often in several. */
static struct in6_addr random_bytes(struct random_state *random)
{
    static const uint8_t bytes[] = {0x00, 0xff, 0x80, 0x7f, 0x0a};
    struct in6_addr address = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    bool is_v4 = random_below(random, 2) == 0;
    for (unsigned i = is_v4 ? 12 : 0; i < 16; i++)
        address.s6_addr[i] = random_below(random, 4) == 0
                                 ? (uint8_t)random_below(random, 256)
                                 : bytes[random_below(random, ARRAY_LEN(bytes))];
    return address;
}

static union inet_address random_address(struct random_state *random, const struct network *network,
                                         size_t count)
{
    union inet_address address = {.v6 = {.sin6_family = AF_INET6}};
    address.v6.sin6_addr = random_bytes(random);
    if (random_below(random, 2) == 0) {
        const struct network *near = &network[random_below(random, (uint32_t)count)];
        address.v6.sin6_addr = near->address;
        uint32_t bit = random_below(random, 128);
        address.v6.sin6_addr.s6_addr[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    if (random_below(random, 2) == 0)
        inet_address_fold(&address);
    return address;
}

static int64_t modelled(const struct network *network, const uint32_t *value, size_t count,
                        const union inet_address *address)
{
    int64_t best = -1;
    int best_bits = -1;
    for (size_t i = 0; i < count; i++) {
        if (network[i].bits < best_bits || !network_has(&network[i], address))
            continue;
        best = value[i];
        best_bits = network[i].bits;
    }
    return best;
}

static void compare(const struct network *network, const uint32_t *value, size_t count,
                    struct random_state *random)
{
    struct networks *networks = NULL;
    size_t matched = 0;
    assert_int_equal(networks_new(&networks, network, value, count), 0);
    for (size_t i = 0; i < LOOKS; i++) {
        union inet_address address = random_address(random, network, count);
        uint32_t out = 0;
        int64_t is = networks_find(networks, &address, &out) ? (int64_t)out : -1;
        assert_int_equal(is, modelled(network, value, count, &address));
        matched += is >= 0;
    }
    assert_true(matched > 0);
    networks_free(&networks);
}

static void finds_what_a_walk_finds(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 7, 100, NETWORKS};
    static struct network network[NETWORKS];
    static uint32_t value[NETWORKS];
    struct random_state random;
    random_init(&random, SEED);
    for (size_t round = 0; round < ARRAY_LEN(counts); round++) {
        for (size_t i = 0; i < counts[round]; i++) {
            struct in6_addr address = random_bytes(&random);
            uint8_t least = IN6_IS_ADDR_V4MAPPED(&address) ? 96 : 1;
            uint8_t bits = (uint8_t)(least + random_below(&random, 129u - least));
            network[i] = (struct network){network_mask(&address, bits), bits};
            value[i] = (uint32_t)random_next(&random);
        }
        compare(network, value, counts[round], &random);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_matches_nothing),
        cmocka_unit_test(the_longest_matches),
        cmocka_unit_test(of_two_alike_the_last_holds),
        cmocka_unit_test(the_ends_of_the_address_space_are_no_special_case),
        cmocka_unit_test(finds_what_a_walk_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
