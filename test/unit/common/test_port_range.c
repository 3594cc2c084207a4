/* The kernel's settings about local ports, as it writes them and as they are. */
#include "common/port_range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/network.h"

static struct port_range parsed(const char *range, const char *reserved, const char *reuse)
{
    struct port_range out;
    port_range_parse(range, reserved, reuse, &out);
    return out;
}

static void has_all_ports_of_the_range(void **state)
{
    (void)state;
    struct port_range range = parsed("32768\t60999\n", "\n", "2\n");
    assert_int_equal(range.first, 32768);
    assert_int_equal(range.last, 60999);
    assert_int_equal(range.tcp, 28232);
    assert_int_equal(range.udp, 28232);
}

static void of_an_odd_range_connections_miss_one(void **state)
{
    (void)state;
    assert_int_equal(parsed("40000\t40010\n", "", "0").tcp, 10);
    assert_int_equal(parsed("40000\t40010\n", "", "0").udp, 11);
    assert_int_equal(parsed("40000\t40000\n", "", "0").tcp, 1);
}

static void reserved_ports_are_not_there(void **state)
{
    (void)state;
    assert_int_equal(parsed("40000 40009", "8080,40002,40004-40005\n", "0").tcp, 7);
    assert_int_equal(parsed("40000 40009", "8080,40002,40004-40005\n", "0").udp, 7);
    assert_int_equal(parsed("40000 40009", "1-40003,40008-65535\n", "0").udp, 4);
    assert_int_equal(parsed("40000 40009", "1-39999,40010-50000\n", "0").udp, 10);
    assert_int_equal(parsed("40000 40009", "1-65535\n", "0").tcp, 0);
}

static void says_what_time_wait_is_worth(void **state)
{
    (void)state;
    assert_false(parsed("1 9", "", "0\n").reuse_loopback);
    assert_false(parsed("1 9", "", "0\n").reuse);
    assert_true(parsed("1 9", "", "1\n").reuse);
    assert_true(parsed("1 9", "", "1\n").reuse_loopback);
    assert_false(parsed("1 9", "", "2\n").reuse);
    assert_true(parsed("1 9", "", "2\n").reuse_loopback);
}

static void what_is_not_known_is_the_default(void **state)
{
    (void)state;
    static const char *const texts[] = {NULL, "", "x", "40000", "9 1", "1 65536"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct port_range range = parsed(texts[i], NULL, NULL);
        assert_int_equal(range.first, 32768);
        assert_int_equal(range.udp, 28232);
        assert_false(range.reuse);
        assert_true(range.reuse_loopback);
    }
    assert_int_equal(parsed("40000 40009", "40002,", "0").udp, 9);
    assert_int_equal(parsed("40000 40009", "40002-x", "0").udp, 10);
}

static void read_while_they_change(void)
{
    struct port_files files;
    struct port_range range;
    port_files_open(&files);
    assert_true(network_set("ipv4/ip_local_port_range", "40000 40999"));
    port_range_read(&files, &range);
    assert_int_equal(range.tcp, 1000);
    assert_true(network_set("ipv4/ip_local_port_range", "41000 41099"));
    assert_true(network_set("ipv4/ip_local_reserved_ports", "41001-41003"));
    assert_true(network_set("ipv4/tcp_tw_reuse", "1"));
    port_range_read(&files, &range);
    assert_int_equal(range.first, 41000);
    assert_int_equal(range.udp, 97);
    assert_true(range.reuse);
    port_files_close(&files);
    port_range_read(&files, &range); /* the default, then */
    assert_int_equal(range.first, 32768);
}

static void is_read_anew_each_time(void **state)
{
    (void)state;
    network_run(read_while_they_change);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_all_ports_of_the_range),
        cmocka_unit_test(of_an_odd_range_connections_miss_one),
        cmocka_unit_test(reserved_ports_are_not_there),
        cmocka_unit_test(says_what_time_wait_is_worth),
        cmocka_unit_test(what_is_not_known_is_the_default),
        cmocka_unit_test(is_read_anew_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
