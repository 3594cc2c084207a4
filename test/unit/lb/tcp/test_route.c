/* Which route a client takes: every condition holds, the longest name goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/network.h"
#include "lb/tcp/session.h"

#include <string.h>

static char any[] = "";
static struct network office[1];

static const struct config_route routes[] = {
    {.sni = (char[]){"*.example.com"}, .alpn = any, .pool = (char[]){"wild"}},
    {.sni = (char[]){"*.api.example.com"}, .alpn = any, .pool = (char[]){"deep"}},
    {.sni = (char[]){"www.example.com"}, .alpn = any, .pool = (char[]){"exact"}},
    {.sni = (char[]){"www.example.com"}, .alpn = (char[]){"h2"}, .pool = (char[]){"second"}},
    {.sni = (char[]){"alpn.org"}, .alpn = (char[]){"h2"}, .pool = (char[]){"h2"}},
    {.sni = (char[]){"alpn.org"}, .alpn = any, .pool = (char[]){"other"}},
    {.sni = (char[]){"office.org"},
     .alpn = any,
     .from = {.network = office, .count = 1},
     .pool = (char[]){"office"}},
    {.sni = any, .alpn = (char[]){"acme-tls/1"}, .pool = (char[]){"acme"}},
    {.sni = any, .alpn = any, .protocol = CONFIG_ROUTE_NOT_TLS, .pool = (char[]){"plain"}},
    {.sni = any,
     .alpn = any,
     .protocol = CONFIG_ROUTE_TLS,
     .from = {.network = office, .count = 1},
     .pool = (char[]){"inside"}},
};

static const struct tcp_policy policy = {.routes = routes, .route_count = ARRAY_LEN(routes)};

struct asks {
    const char *client;
    const char *sni; /* NULL: not TLS */
    const char *alpn;
    const char *pool; /* NULL: no route */
};

static void assert_route(const struct asks *asks)
{
    struct client_hello hello = {0};
    struct address client;
    const char *why;
    struct route_facts facts = {.client = &client.inet};
    const struct config_route *route;

    assert_int_equal(address_parse(&client, asks->client, &why), 0);
    if (asks->sni != NULL) {
        memcpy(hello.sni, asks->sni, strlen(asks->sni) + 1);
        facts.hello = &hello;
    }
    if (asks->alpn != NULL) {
        hello.alpn_length = (uint16_t)(strlen(asks->alpn) + 1);
        hello.alpn[0] = (uint8_t)strlen(asks->alpn);
        memcpy(hello.alpn + 1, asks->alpn, strlen(asks->alpn));
    }
    route = route_choose(&policy, &facts);
    if (asks->pool == NULL)
        assert_null(route);
    else if (route == NULL)
        fail_msg("no route for %s", asks->sni);
    else
        assert_string_equal(route->pool, asks->pool);
}

static void test_table(void **state)
{
    static const struct asks table[] = {
        {"192.0.2.1:1", "a.example.com", NULL, "wild"},
        {"192.0.2.1:1", "a.b.example.com", NULL, "wild"},
        {"192.0.2.1:1", "a.api.example.com", NULL, "deep"},
        {"192.0.2.1:1", "api.example.com", NULL, "wild"},
        {"192.0.2.1:1", "example.com", NULL, NULL},
        {"192.0.2.1:1", "notexample.com", NULL, NULL},
        {"192.0.2.1:1", "www.example.com", NULL, "exact"},
        {"192.0.2.1:1", "www.example.com", "h2", "exact"}, /* the file's order */
        {"192.0.2.1:1", "alpn.org", "h2", "h2"},
        {"192.0.2.1:1", "alpn.org", "h3", "other"},
        {"192.0.2.1:1", "office.org", NULL, NULL},
        {"10.1.2.3:1", "office.org", NULL, "office"},
        {"10.1.2.3:1", "elsewhere.org", NULL, "inside"},
        {"192.0.2.1:1", "elsewhere.org", "acme-tls/1", "acme"},
        {"192.0.2.1:1", "", NULL, NULL},
        {"192.0.2.1:1", NULL, NULL, "plain"},
        {"10.1.2.3:1", NULL, NULL, "plain"},
    };
    const char *why;

    (void)state;
    assert_int_equal(network_parse(&office[0], "10.0.0.0/8", &why), 0);
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        assert_route(&table[i]);
}

static void test_by_address_alone_no_hello_is_needed(void **state)
{
    const struct config_route from = {
        .sni = any, .alpn = any, .from = {.network = office, .count = 1}};
    const struct tcp_policy by_address = {.routes = &from, .route_count = 1};
    const struct tcp_policy none = {0};

    (void)state;
    assert_false(route_needs_hello(&by_address));
    assert_false(route_needs_hello(&none));
    assert_true(route_needs_hello(&policy));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_by_address_alone_no_hello_is_needed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
