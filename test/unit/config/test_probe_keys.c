/* The keys of udp and dns probes: what is let through. What is not is in
 * test/fuzz/corpus/config_file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

/* A good configuration with this health group; the caller frees it. */
static struct config *parse_health(const char *health)
{
    char text[16384];
    snprintf(text, sizeof(text),
             "pools = ( { name = \"web\"; " TEST_SERVERS " health = { %s }; } );\n" TEST_LISTENERS,
             health);
    return parse_good(text);
}

static void a_udp_probe_needs_no_more_than_its_type(void **state)
{
    (void)state;
    struct config *config = parse_health("type = \"udp\";");
    const struct config_health *health = &config->pools[0].health;
    assert_string_equal(health->send, "");
    assert_string_equal(health->expect, "");
    config_free(&config);
}

static void payloads_are_text_or_digits(void **state)
{
    (void)state;
    struct config *config =
        parse_health("type = \"udp\"; send = \"GET \\\"a\\\"\"; expect = \"hex:ff FF 00\" \"01\";");
    const struct config_health *health = &config->pools[0].health;
    assert_string_equal(health->send, "GET \"a\"");
    assert_string_equal(health->expect, "hex:ff FF 0001");
    config_free(&config);
}

/* In the three ways that a byte can take: one, two and three characters. */
static void the_longest_payload_has_1472_bytes(void **state)
{
    (void)state;
    static const char *const bytes[] = {"x", "00", "00 "};
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        char text[8192] = "type = \"udp\"; send = \"";
        char *end = text + strlen(text);
        end = stpcpy(end, i > 0 ? "hex:" : "");
        for (int count = 0; count < CONFIG_PAYLOAD_MAX; count++)
            end = stpcpy(end, bytes[i]);
        stpcpy(end, "\";");
        struct config *config = parse_health(text);
        config_free(&config);
    }
}

static void a_dns_probe_needs_a_name(void **state)
{
    (void)state;
    struct config *config = parse_health("type = \"dns\"; dns_name = \"example.org\";");
    const struct config_health *health = &config->pools[0].health;
    assert_string_equal(health->dns_name, "example.org");
    assert_int_equal(health->dns_type, CONFIG_DNS_A);
    assert_int_equal(health->dns_rcode, CONFIG_DNS_NOERROR);
    assert_string_equal(health->dns_address, "");
    config_free(&config);
}

#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LABEL_61 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void names_of_all_forms_are_good(void **state)
{
    (void)state;
    static const char *const names[] = {
        ".",
        "org",
        "org.",
        "www.Example.org.",
        "_a._b.c",
        "1.0.0.127.in-addr.arpa",
        LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_61,
        LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_61 ".",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char text[512];
        snprintf(text, sizeof(text), "type = \"dns\"; dns_name = \"%s\"; dns_type = \"PTR\";",
                 names[i]);
        struct config *config = parse_health(text);
        assert_string_equal(config->pools[0].health.dns_name, names[i]);
        config_free(&config);
    }
}

static void each_type_and_code_is_found_by_its_word(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        enum config_dns_type type;
        enum config_dns_rcode rcode;
    } rows[] = {
        {"dns_type = \"AAAA\"; dns_address = \"2001:db8::1\";", CONFIG_DNS_AAAA,
         CONFIG_DNS_NOERROR},
        {"dns_type = \"A\"; dns_address = \"192.0.2.1\";", CONFIG_DNS_A, CONFIG_DNS_NOERROR},
        {"dns_type = \"TXT\"; dns_rcode = \"REFUSED\";", CONFIG_DNS_TXT, CONFIG_DNS_REFUSED},
        {"dns_type = \"SOA\"; dns_rcode = \"NXDOMAIN\";", CONFIG_DNS_SOA, CONFIG_DNS_NXDOMAIN},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[256];
        snprintf(text, sizeof(text), "type = \"dns\"; dns_name = \".\"; %s", rows[i].keys);
        struct config *config = parse_health(text);
        assert_int_equal(config->pools[0].health.dns_type, rows[i].type);
        assert_int_equal(config->pools[0].health.dns_rcode, rows[i].rcode);
        config_free(&config);
    }
}

/* The registry's numbers, of which the codes are the enum itself. */
static void codes_have_their_numbers(void **state)
{
    (void)state;
    assert_int_equal(CONFIG_DNS_NOERROR, 0);
    assert_int_equal(CONFIG_DNS_SERVFAIL, 2);
    assert_int_equal(CONFIG_DNS_NXDOMAIN, 3);
    assert_int_equal(CONFIG_DNS_REFUSED, 5);
}

/* A port that answers TCP may speak for the servers of a UDP listener. */
static void a_pool_of_datagrams_may_have_a_tcp_probe(void **state)
{
    (void)state;
    struct config *config =
        parse_good("pools = ( { name = \"web\"; " TEST_SERVERS
                   " health = { type = \"tcp\"; port = 8082; }; } );\n"
                   "listeners = ( { name = \"web\"; bind = \"127.0.0.1:8080\"; pool = \"web\"; "
                   "protocol = \"udp\"; } );\n");
    assert_string_equal(config->pools[0].health.type, "tcp");
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_udp_probe_needs_no_more_than_its_type),
        cmocka_unit_test(payloads_are_text_or_digits),
        cmocka_unit_test(the_longest_payload_has_1472_bytes),
        cmocka_unit_test(a_dns_probe_needs_a_name),
        cmocka_unit_test(names_of_all_forms_are_good),
        cmocka_unit_test(each_type_and_code_is_found_by_its_word),
        cmocka_unit_test(codes_have_their_numbers),
        cmocka_unit_test(a_pool_of_datagrams_may_have_a_tcp_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
