/* The keys of PROXY headers, of routes and of who may come in: what they mean, what excludes what,
 * and that all of it survives the way from the helper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include <errno.h>

#define BOUND "name = \"web\"; bind = \"127.0.0.1:8080\"; pool = \"web\"; "

static void make(char *text, size_t size, const char *pool, const char *listener)
{
    snprintf(text, size,
             "pools = ( { name = \"web\"; " TEST_SERVERS " %s }, { name = \"tls\"; " TEST_SERVERS
             " } );\nlisteners = ( { " BOUND "%s } );\n",
             pool, listener);
}

static struct config *parse(const char *pool, const char *listener)
{
    char text[8192];

    make(text, sizeof(text), pool, listener);
    return parse_copied(text);
}

static void assert_refused(const char *pool, const char *listener, const char *phrase)
{
    char text[8192];

    make(text, sizeof(text), pool, listener);
    assert_text_refused(text, phrase);
}

static void what_is_not_said(void **state)
{
    struct config *config = parse("", "");
    const struct config_listener *listener = &config->listeners[0];

    (void)state;
    assert_int_equal(config->pools[0].send_proxy, CONFIG_SEND_PROXY_OFF);
    assert_int_equal(config->pools[0].health.proxy_version, 0);
    assert_int_equal(listener->proxy_protocol, CONFIG_PROXY_OFF);
    assert_int_equal(listener->preread_timeout, 3000);
    assert_int_equal(listener->preread_max, 16384);
    assert_int_equal(listener->route_count, 0);
    assert_int_equal(listener->allow.count + listener->deny.count, 0);
    assert_int_equal(listener->source_prefix_v4, 32);
    assert_int_equal(listener->source_prefix_v6, 64);
    assert_false(listener->dry_run);
    config_free(&config);
}

static void networks_and_words_come_in_arrays(void **state)
{
    struct config *config =
        parse("send_proxy = \"v2\"; send_proxy_tlvs = [ \"authority\", \"crc32c\" ]; "
              "health = { type = \"tcp\"; };",
              "proxy_protocol = \"required\"; proxy_protocol_from = [ \"10.0.0.0/8\", "
              "\"2001:db8::1\" ]; allow = [ \"192.0.2.0/24\" ]; deny = [ \"192.0.2.7\" ]; "
              "source_prefix_v6 = 56; source_max_sessions = 10; source_rate = 5; dry_run = true; "
              "refuse = \"drop\";");
    const struct config_listener *listener = &config->listeners[0];

    (void)state;
    assert_int_equal(config->pools[0].send_proxy_tlvs, CONFIG_TLV_AUTHORITY | CONFIG_TLV_CRC32C);
    assert_int_equal(config->pools[0].health.proxy_version, 2);
    assert_int_equal(listener->proxy_protocol_from.count, 2);
    assert_int_equal(listener->proxy_protocol_from.network[0].bits, 104);
    assert_int_equal(listener->proxy_protocol_from.network[1].bits, 128);
    assert_int_equal(listener->allow.network[0].bits, 120);
    assert_int_equal(listener->deny.count, 1);
    assert_int_equal(listener->source_prefix_v6, 56);
    assert_int_equal(listener->source_max_sessions, 10);
    assert_int_equal(listener->source_rate, 5);
    assert_int_equal(listener->refuse, CONFIG_REFUSE_DROP);
    assert_true(listener->dry_run);
    config_free(&config);
}

/* Another port is another service's, which may know nothing of the header. */
static void a_probe_of_another_port_sends_no_header(void **state)
{
    struct config *config =
        parse("send_proxy = \"v1\"; health = { type = \"tcp\"; port = 81; };", "");

    (void)state;
    assert_int_equal(config->pools[0].health.proxy_version, 0);
    config_free(&config);
    config = parse("send_proxy = \"v1\"; health = { type = \"tcp\"; send_proxy = false; };", "");
    assert_int_equal(config->pools[0].health.proxy_version, 0);
    config_free(&config);
}

static void datagrams_have_headers_too(void **state)
{
    struct config *config = parse("send_proxy = \"v2\";", "protocol = \"udp\";");

    (void)state;
    assert_int_equal(config->pools[0].send_proxy_udp, CONFIG_SEND_PROXY_EACH);
    assert_int_equal(config->pools[0].health.proxy_version, 2);
    config_free(&config);
    config = parse("send_proxy = \"v2\"; send_proxy_udp = \"first\";",
                   "protocol = \"udp\"; proxy_protocol = \"required\"; "
                   "proxy_protocol_from = [ \"10.0.0.0/8\" ];");
    assert_int_equal(config->pools[0].send_proxy_udp, CONFIG_SEND_PROXY_FIRST);
    assert_int_equal(config->listeners[0].proxy_protocol, CONFIG_PROXY_REQUIRED);
    assert_int_equal(config->listeners[0].proxy_protocol_from.count, 1);
    config_free(&config);
}

static int64_t version_of(const char *pool, const char *listener)
{
    struct config *config = parse(pool, listener);
    int64_t version = config->pools[0].health.proxy_version_udp;

    config_free(&config);
    return version;
}

/* As other datagrams that go there; where there are none, servers expect no header in one. */
static void probes_in_datagrams_have_the_header_where_clients_do(void **state)
{
#define PROBES "health = { type = \"dns\"; dns_name = \"a.b\"; };"
    (void)state;
    assert_int_equal(version_of("send_proxy = \"v2\"; " PROBES, "protocol = \"udp\";"), 2);
    assert_int_equal(version_of("send_proxy = \"v2\"; " PROBES, ""), 0);
    assert_int_equal(version_of("send_proxy = \"v1\"; " PROBES, ""), 0);
    assert_int_equal(
        version_of("send_proxy = \"v2\"; health = { type = \"udp\"; };", "protocol = \"udp\";"), 2);
    assert_int_equal(version_of("send_proxy = \"v2\"; health = { type = \"udp\"; port = 9; };",
                                "protocol = \"udp\";"),
                     0);
    assert_int_equal(
        version_of("send_proxy = \"v2\"; health = { type = \"udp\"; send_proxy = false; };",
                   "protocol = \"udp\";"),
        0);
    assert_int_equal(version_of(PROBES, "protocol = \"udp\";"), 0);
}

static void routes_lead_to_pools(void **state)
{
    struct config *config =
        parse("", "routes = ( { sni = \"*.example.com\"; alpn = \"h2\"; pool = \"tls\"; }, "
                  "{ protocol = \"not-tls\"; from = [ \"10.0.0.0/8\" ]; pool = \"web\"; } ); "
                  "no_route = \"refuse\";");
    const struct config_listener *listener = &config->listeners[0];

    (void)state;
    assert_int_equal(listener->route_count, 2);
    assert_string_equal(listener->routes[0].sni, "*.example.com");
    assert_string_equal(listener->routes[0].alpn, "h2");
    assert_int_equal(listener->routes[0].pool_index, 1);
    assert_int_equal(listener->routes[1].protocol, CONFIG_ROUTE_NOT_TLS);
    assert_int_equal(listener->routes[1].from.count, 1);
    assert_int_equal(listener->routes[1].pool_index, 0);
    assert_int_equal(listener->no_route, CONFIG_NO_ROUTE_REFUSE);
    config_free(&config);
}

#define RICH_POOL "send_proxy = \"v2\"; send_proxy_tlvs = [ \"alpn\", \"received\" ];"
#define RICH_LISTENER                                                                              \
    "proxy_protocol = \"optional\"; proxy_protocol_from = [ \"10.0.0.0/8\", \"2001:db8::1\" ]; "   \
    "allow = \"192.0.2.0/24\"; deny = [ ]; routes = ( { sni = \"WWW.Example.com\"; pool = "        \
    "\"tls\"; }, { from = [ \"::/0\" ]; pool = \"web\"; } );"

static char *dump_of(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_print(config, stream);
    fclose(stream);
    return text;
}

static void a_dump_of_it_reads_back(void **state)
{
    (void)state;
    struct config *config = parse(RICH_POOL, RICH_LISTENER);
    char *text = dump_of(config);

    assert_non_null(strstr(text, "proxy_protocol_from = [ \"10.0.0.0/8\", \"2001:db8::1\" ];"));
    assert_non_null(strstr(text, "allow = [ \"192.0.2.0/24\" ];"));
    assert_non_null(strstr(text, "deny = [ ];"));
    assert_non_null(strstr(text, "send_proxy_tlvs = [ \"alpn\", \"received\" ];"));
    assert_non_null(strstr(text, "sni = \"www.example.com\";"));
    struct config *again = parse_good(text);
    char *text_again = dump_of(again);
    assert_string_equal(text, text_again);
    assert_int_equal(again->pools[0].health.proxy_version, 2);
    assert_int_equal(again->listeners[0].routes[0].pool_index, 1);
    free(text);
    free(text_again);
    config_free(&config);
    config_free(&again);
}

/* No routes are a list too. */
static void a_list_of_no_routes_is_good(void **state)
{
    (void)state;
    struct config *config = parse("", "routes = ( );");
    assert_int_equal(config->listeners[0].route_count, 0);
    config_free(&config);
}

static void every_shorter_image_of_it_is_refused(void **state)
{
    (void)state;
    struct config *config = parse(RICH_POOL, RICH_LISTENER);
    uint8_t *image;
    size_t size;
    assert_int_equal(config_encode(config, &image, &size), 0);
    for (size_t cut = 0; cut < size; cut++) {
        struct config *copy = NULL;
        uint8_t *exact = malloc(MAX(cut, 1));
        memcpy(exact, image, cut);
        assert_int_equal(config_decode(exact, cut, &copy), -EINVAL);
        assert_null(copy);
        free(exact);
    }
    free(image);
    config_free(&config);
}

static void defaults_speak_of_it(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "defaults = { preread_timeout = \"5s\"; preread_max = \"8k\"; refuse = \"close\"; "
        "source_rate = 7; source_max_sessions = 9; source_datagram_rate = 500; };\n" TEST_POOLS
        "listeners = ( " TEST_LISTENER ", " TEST_UDP_LISTENER " );\n");
    const struct config_listener *tcp = &config->listeners[0];
    const struct config_listener *udp = &config->listeners[1];
    assert_int_equal(tcp->preread_timeout, 5000);
    assert_int_equal(tcp->preread_max, 8192);
    assert_int_equal(tcp->refuse, CONFIG_REFUSE_CLOSE);
    assert_int_equal(tcp->source_rate, 7);
    assert_int_equal(udp->source_rate, 7);
    assert_int_equal(udp->source_max_sessions, 9);
    assert_int_equal(udp->source_datagram_rate, 500);
    assert_int_equal(udp->session_rate, 0);
    config_free(&config);
}

static void rates_have_a_place_and_a_limit(void **state)
{
    (void)state;
    struct config *config =
        parse_good("weir = { session_rate = 1000000; };\n" TEST_POOLS "listeners = ( { "
                   "name = \"web\"; bind = \"127.0.0.1:80\"; pool = \"web\"; "
                   "session_rate = 50; } );\n");
    assert_int_equal(config->weir.session_rate, 1000000);
    assert_int_equal(config->listeners[0].session_rate, 50);
    config_free(&config);
    assert_refused("", "session_rate = 1000001;", "1000000");
    assert_refused("", "session_rate = -1;", "session_rate");
    assert_refused("", "source_datagram_rate = 5;", "means nothing");
    assert_refused("", "protocol = \"udp\"; session_rate = 5;", "means nothing");
}

static void what_excludes_what(void **state)
{
    (void)state;
    assert_refused("", "proxy_protocol = \"required\";", "needs proxy_protocol_from");
    assert_refused("", "proxy_protocol_from = [ \"10.0.0.0/8\" ];", "means nothing");
    assert_refused("send_proxy = \"v1\"; send_proxy_tlvs = [ \"alpn\" ];", "", "carries");
    assert_refused("", "routes = ( { pool = \"tls\"; } );", "no condition");
    assert_refused("", "routes = ( { sni = \"a.b\"; pool = \"tsl\"; } );", "tls");
    assert_refused("", "routes = ( { sni = \"a.b\"; protocol = \"not-tls\"; pool = \"tls\"; } );",
                   "contradicts");
    assert_refused("", "allow = [ \"10.0.0.1/8\" ];", "10.0.0.0/8");
    assert_refused("", "allow = [ \"10.0.0.0/8\" ]; deny = [ \"10.0.0.0/8\" ];", "10.0.0.0/8");
    assert_refused("", "source_prefix_v6 = 129;", "128");
    assert_refused("send_proxy = \"v1\";", "protocol = \"udp\";",
                   "send_proxy = \"v1\" cannot speak of datagrams, and the listener \"web\" of ");
    assert_refused("send_proxy_udp = \"first\";", "",
                   "send_proxy_udp means nothing with send_proxy = \"off\"");
    assert_refused("send_proxy = \"v1\"; send_proxy_udp = \"first\";", "",
                   "send_proxy_udp means nothing with send_proxy = \"v1\"");
    assert_refused("", "protocol = \"udp\"; proxy_protocol = \"optional\";",
                   "needs proxy_protocol_from");
    assert_refused("", "protocol = \"udp\"; preread_max = \"4k\";", "means nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said),
        cmocka_unit_test(networks_and_words_come_in_arrays),
        cmocka_unit_test(a_probe_of_another_port_sends_no_header),
        cmocka_unit_test(datagrams_have_headers_too),
        cmocka_unit_test(probes_in_datagrams_have_the_header_where_clients_do),
        cmocka_unit_test(routes_lead_to_pools),
        cmocka_unit_test(a_dump_of_it_reads_back),
        cmocka_unit_test(a_list_of_no_routes_is_good),
        cmocka_unit_test(every_shorter_image_of_it_is_refused),
        cmocka_unit_test(defaults_speak_of_it),
        cmocka_unit_test(rates_have_a_place_and_a_limit),
        cmocka_unit_test(what_excludes_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
