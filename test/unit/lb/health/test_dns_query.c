/* The bytes of a question. */
#include "lb/health/dns_query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_bytes(const struct dns_query *query, const char *bytes, size_t size)
{
    assert_int_equal(query->size, size);
    assert_memory_equal(query->bytes, bytes, size);
}

static void a_name_becomes_labels(void **state)
{
    (void)state;
    static const char expected[] = "\xbe\xef\x01\x00\0\1\0\0\0\0\0\0"
                                   "\3www\7example\3org\0"
                                   "\0\1\0\1";
    struct dns_query query;
    dns_query_init(&query, "www.example.org", 1, 0xbeef);
    assert_bytes(&query, expected, sizeof(expected) - 1);
    assert_int_equal(query.name_size, 17);
    assert_int_equal(query.type, 1);
    assert_int_equal(query.id, 0xbeef);
    dns_query_init(&query, "www.example.org.", 1, 0xbeef);
    assert_bytes(&query, expected, sizeof(expected) - 1);
}

static void the_root_is_a_dot(void **state)
{
    (void)state;
    static const char expected[] = "\0\0\1\0\0\1\0\0\0\0\0\0\0\1\1\0\1";
    struct dns_query query;
    dns_query_init(&query, ".", 257, 0);
    assert_bytes(&query, expected, sizeof(expected) - 1);
    assert_int_equal(query.name_size, 1);
}

/* 253 bytes between the dots and 255 in the message, RFC 1035 §2.3.4. */
static void the_longest_name_fits(void **state)
{
    (void)state;
    char name[254];
    memset(name, 'a', sizeof(name));
    for (size_t dot = 63; dot < 253; dot += 64)
        name[dot] = '.';
    name[253] = '\0';
    struct dns_query query;
    dns_query_init(&query, name, 16, 7);
    assert_int_equal(query.name_size, DNS_NAME_MAX);
    assert_int_equal(query.size, sizeof(query.bytes));
    assert_int_equal(dns_query_name(&query)[0], 63);
    assert_int_equal(dns_query_name(&query)[192], 61);
    assert_int_equal(dns_query_name(&query)[254], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_becomes_labels),
        cmocka_unit_test(the_root_is_a_dot),
        cmocka_unit_test(the_longest_name_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
