/* The key `source`: what it takes, what it excludes, and that it survives the way from the helper.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include <errno.h>

#define FOUR "servers = ( { name = \"a\"; address = \"192.0.2.9:80\"; } ); "
#define SIX "servers = ( { name = \"a\"; address = \"[2001:db8::9]:80\"; } ); "
#define BOTH                                                                                       \
    "servers = ( { name = \"a\"; address = \"192.0.2.9:80\"; }, "                                  \
    "{ name = \"b\"; address = \"[2001:db8::9]:80\"; } ); "
#define LOCAL "servers = ( { name = \"a\"; address = \"unix:/run/a.sock\"; } ); "

static void make(char *text, size_t size, const char *pool, const char *bind)
{
    snprintf(text, size,
             "pools = ( { name = \"web\"; %s } );\n"
             "listeners = ( { name = \"web\"; pool = \"web\"; bind = \"%s\"; } );\n",
             pool, bind);
}

static struct config *parse(const char *pool, const char *bind)
{
    char text[8192];

    make(text, sizeof(text), pool, bind);
    return parse_copied(text);
}

static void assert_refused(const char *pool, const char *bind, const char *phrase)
{
    char text[8192];

    make(text, sizeof(text), pool, bind);
    assert_text_refused(text, phrase);
}

static void it_is_not_set(void **state)
{
    struct config *config = parse(FOUR, "*:80");
    const struct config_pool *pool = &config->pools[0];

    (void)state;
    assert_false(pool->source.client);
    assert_int_equal(pool->source.count, 0);
    assert_string_equal(pool->source.text, "");
    assert_int_equal(pool->health.source_count, 0);
    config_free(&config);
}

static void addresses_keep_the_order_of_the_file(void **state)
{
    struct config *config =
        parse(BOTH "source = [ \"10.0.0.5\", \"2001:db8::5\", \"10.0.0.6\" ];", "*:80");
    const struct config_pool *pool = &config->pools[0];
    static const char *const wanted[] = {"10.0.0.5:0", "[2001:db8::5]:0", "10.0.0.6:0"};
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    assert_false(pool->source.client);
    assert_int_equal(pool->source.count, ARRAY_LEN(wanted));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_string_equal(inet_address_format(&pool->source.address[i], text), wanted[i]);
    config_free(&config);
}

static void probes_go_the_way_of_sessions(void **state)
{
    struct config *config = parse(BOTH "source = [ \"10.0.0.5\", \"2001:db8::5\", \"10.0.0.6\" ]; "
                                       "health = { type = \"tcp\"; };",
                                  "*:80");
    const struct config_pool *pool = &config->pools[0];

    (void)state;
    assert_int_equal(pool->health.source_count, 3);
    assert_ptr_equal(pool->health.source, pool->source.address);
    config_free(&config);
    config = parse(FOUR "source = \"client\"; health = { type = \"tcp\"; };", "0.0.0.0:80");
    assert_int_equal(config->pools[0].health.source_count, 0);
    config_free(&config);
}

static void a_word_and_one_address_need_no_array(void **state)
{
    static const char *const client[] = {"source = \"client\";", "source = [ \"client\" ];"};
    char pool[256];
    struct config *config;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        snprintf(pool, sizeof(pool), "%s%s", FOUR, client[i]);
        config = parse(pool, "0.0.0.0:80");
        assert_true(config->pools[0].source.client);
        assert_int_equal(config->pools[0].source.count, 0);
        config_free(&config);
    }
    config = parse(FOUR "source = \"10.0.0.5\";", "*:80");
    assert_int_equal(config->pools[0].source.count, 1);
    config_free(&config);
}

static void a_dump_reads_back(void **state)
{
    static const char *const sources[] = {"[ \"client\" ]", "[ \"10.0.0.5\", \"10.0.0.6\" ]",
                                          "[ ]"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        char pool[256], line[128];
        char *text = NULL;
        size_t size = 0;
        snprintf(line, sizeof(line), "source = %s;", sources[i]);
        snprintf(pool, sizeof(pool), "%s%s", FOUR, line);
        struct config *config = parse(pool, "0.0.0.0:80");
        FILE *stream = open_memstream(&text, &size);
        config_print(config, stream);
        fclose(stream);
        assert_non_null(strstr(text, line));
        struct config *again = parse_good(text);
        assert_string_equal(again->pools[0].source.text, config->pools[0].source.text);
        assert_int_equal(again->pools[0].source.client, config->pools[0].source.client);
        free(text);
        config_free(&again);
        config_free(&config);
    }
}

static void what_is_no_source(void **state)
{
    static const char *const bad[][2] = {
        {"[ \"10.0.0.5:80\" ]", "without a port"},
        {"[ \"lo\" ]", "is not an address"},
        {"\"clients\"", "\"client\""},
        {"[ \"fe80::5\" ]", "fe80::1%eth0"},
        {"[ \"0.0.0.0\" ]", "wildcard"},
        {"[ \"::\" ]", "wildcard"},
        {"[ \"224.0.0.5\" ]", "multicast"},
        {"[ \"ff02::5\" ]", "multicast"},
        {"[ \"255.255.255.255\" ]", "broadcast"},
        {"[ \"::ffff:10.0.0.5\" ]", "by itself"},
        {"[ \"10.0.0.5\", \"10.0.0.6\", \"10.0.0.5\" ]", "has \"10.0.0.5\" twice"},
        {"[ \"10.0.0.5\", \"client\" ]", "stands alone"},
        {"\"10.0.0.5, 10.0.0.5\"", "twice"},
        {"5", "must be of type sources"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char pool[256];
        snprintf(pool, sizeof(pool), "%ssource = %s;", FOUR, bad[i][0]);
        assert_refused(pool, "*:80", bad[i][1]);
    }
}

static void there_are_64_at_most(void **state)
{
    (void)state;
    for (int count = CONFIG_SOURCES_MAX; count <= CONFIG_SOURCES_MAX + 1; count++) {
        char pool[4096] = FOUR "source = [ \"10.0.0.1\"";
        size_t used = strlen(pool);
        for (int i = 2; i <= count; i++)
            used += (size_t)snprintf(pool + used, sizeof(pool) - used, ", \"10.0.0.%d\"", i);
        snprintf(pool + used, sizeof(pool) - used, " ];");
        if (count > CONFIG_SOURCES_MAX) {
            assert_refused(pool, "*:80", "has 65 addresses, may have 64");
            continue;
        }
        struct config *config = parse(pool, "0.0.0.0:80");
        assert_int_equal(config->pools[0].source.count, CONFIG_SOURCES_MAX);
        config_free(&config);
    }
}

static void every_server_needs_one_of_its_family(void **state)
{
    (void)state;
    assert_refused(BOTH "source = [ \"10.0.0.5\" ];", "*:80",
                   "the server \"b\" ([2001:db8::9]:80) has an IPv6 address and source = "
                   "\"10.0.0.5\" has none; add an IPv6 address");
    assert_refused(FOUR "source = [ \"2001:db8::5\" ];", "*:80", "add an IPv4 address");
    assert_refused(LOCAL "source = [ \"10.0.0.5\" ];", "*:80", "nothing connects to a Unix socket");
    assert_refused(LOCAL "source = \"client\";", "*:80", "a pool without source");
    assert_refused("servers = ( { name = \"a\"; address = \"[::ffff:192.0.2.9]:80\"; } ); "
                   "source = [ \"10.0.0.5\" ];",
                   "*:80", "write the IPv4 address by itself");
}

static void clients_have_the_servers_family(void **state)
{
    static const char *const good[][2] = {
        {FOUR "source = \"client\";", "*:80\"; v6only = false; refuse = \"reset"},
        {FOUR "source = \"client\";", "10.0.0.1:80"},
        {SIX "source = \"client\";", "*:80"},
        {SIX "source = \"client\";", "[2001:db8::1]:80"},
        {SIX "source = \"client\";",
         "10.0.0.1:80\"; proxy_protocol = \"required\"; proxy_protocol_from = \"10.0.0.0/8"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct config *config = parse(good[i][0], good[i][1]);
        config_free(&config);
    }
    assert_refused(BOTH "source = \"client\";", "*:80", "give each family a pool and a listener");
    assert_refused(SIX "source = \"client\";", "10.0.0.1:80",
                   "brings clients of IPv4 (bind = \"10.0.0.1:80\")");
    assert_refused(FOUR "source = \"client\";", "[2001:db8::1]:80", "brings clients of IPv6");
    assert_refused(FOUR "source = \"client\"; ", "*:80", "brings clients of IPv6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_not_set),
        cmocka_unit_test(addresses_keep_the_order_of_the_file),
        cmocka_unit_test(probes_go_the_way_of_sessions),
        cmocka_unit_test(a_word_and_one_address_need_no_array),
        cmocka_unit_test(a_dump_reads_back),
        cmocka_unit_test(what_is_no_source),
        cmocka_unit_test(there_are_64_at_most),
        cmocka_unit_test(every_server_needs_one_of_its_family),
        cmocka_unit_test(clients_have_the_servers_family),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
