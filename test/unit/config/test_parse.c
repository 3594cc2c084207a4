/* A good file: every value arrives where it belongs, what is not said has its default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include <errno.h>
#include <sched.h>
#include <sys/stat.h>

static void a_minimal_file_has_every_default(void **state)
{
    (void)state;
    struct config *config = parse_good(TEST_POOLS TEST_LISTENERS);
    cpu_set_t cpus;

    assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    assert_int_equal(config->weir.workers, CPU_COUNT(&cpus));
    assert_string_equal(config->weir.user, "");
    assert_string_equal(config->weir.group, "");
    assert_int_equal(config->weir.max_connections, 0);
    assert_int_equal(config->weir.shutdown_deadline, 30000);
    assert_string_equal(config->weir.admin_socket, "/run/weir/admin.sock");
    assert_int_equal(config->weir.admin_mode, 0600);
    assert_string_equal(config->weir.log_target, "stderr");
    assert_int_equal(config->weir.log_format, LOG_FORMAT_TEXT);
    assert_int_equal(config->weir.log_level, LOG_LEVEL_INFO);
    assert_true(config->weir.log_access);
    config_free(&config);
    assert_null(config);
}

static void a_pool_has_its_defaults(void **state)
{
    (void)state;
    struct config *config = parse_good(TEST_POOLS TEST_LISTENERS);
    assert_int_equal(config->pool_count, 1);
    const struct config_pool *pool = &config->pools[0];

    assert_string_equal(pool->scheduler, "p2c");
    assert_int_equal(pool->hash, CONFIG_HASH_SOURCE_IP);
    assert_int_equal(pool->connect_timeout, 3000);
    assert_int_equal(pool->retries, 2);
    assert_int_equal(pool->when_empty, CONFIG_EMPTY_HOLD);
    assert_int_equal(pool->on_down, CONFIG_DOWN_DRAIN);
    assert_int_equal(pool->drain_deadline, 300000);
    assert_string_equal(pool->health.type, "none");
    assert_int_equal(pool->server_count, 1);
    assert_string_equal(pool->servers[0].name, "a");
    assert_string_equal(pool->servers[0].address.text, "127.0.0.1:8081");
    assert_int_equal(address_port(&pool->servers[0].address.address), 8081);
    assert_int_equal(pool->servers[0].weight, 100);
    assert_false(pool->servers[0].backup);
    assert_int_equal(pool->servers[0].max_connections, 0);
    config_free(&config);
}

static void a_listener_has_its_defaults(void **state)
{
    (void)state;
    struct config *config = parse_good(TEST_POOLS TEST_LISTENERS);
    assert_int_equal(config->listener_count, 1);
    const struct config_listener *listener = &config->listeners[0];

    assert_int_equal(listener->protocol, CONFIG_PROTOCOL_TCP);
    assert_int_equal(listener->pool_index, 0);
    assert_int_equal(listener->backlog, 4096);
    assert_int_equal(listener->max_connections, 0);
    assert_false(listener->freebind);
    assert_true(listener->v6only);
    assert_int_equal(listener->idle_timeout, 600000);
    assert_int_equal(listener->half_close_timeout, 30000);
    assert_int_equal(listener->reset_flush_timeout, 5000);
    assert_int_equal(listener->splice, CONFIG_SPLICE_AUTO);
    assert_int_equal(listener->rcvbuf, 0);
    assert_int_equal(listener->sndbuf, 0);
    assert_int_equal(listener->notsent_lowat, 131072);
    assert_int_equal(listener->keepalive_idle, 60000);
    assert_int_equal(listener->keepalive_interval, 10000);
    assert_int_equal(listener->keepalive_count, 6);
    assert_int_equal(listener->user_timeout, 0);
    assert_int_equal(listener->log_sample, 1);
    config_free(&config);
}

static void a_udp_listener_has_its_defaults(void **state)
{
    (void)state;
    struct config *config = parse_good(TEST_POOLS "listeners = ( " TEST_UDP_LISTENER " );\n");
    const struct config_listener *listener = &config->listeners[0];

    assert_int_equal(listener->protocol, CONFIG_PROTOCOL_UDP);
    assert_int_equal(listener->max_flows, 0);
    assert_int_equal(listener->udp_idle_timeout, 60000);
    assert_int_equal(listener->responses, 0);
    assert_int_equal(listener->requests, 0);
    assert_false(listener->per_packet);
    assert_int_equal(listener->max_replies, 0);
    assert_int_equal(listener->max_reply_bytes, 0);
    assert_int_equal(listener->udp_quarantine, 2000);
    assert_int_equal(listener->udp_rcvbuf, 4 << 20);
    assert_int_equal(listener->udp_sndbuf, 0);
    assert_true(listener->udp_fragment);
    assert_int_equal(listener->log_sample, 1);
    config_free(&config);
}

static void a_health_group_has_its_defaults(void **state)
{
    (void)state;
    struct config *config = parse_good("pools = ( { name = \"web\"; " TEST_SERVERS
                                       "health = { }; } );\n" TEST_LISTENERS);
    const struct config_health *health = &config->pools[0].health;

    assert_string_equal(health->type, "tcp");
    assert_int_equal(health->interval, 2000);
    assert_int_equal(health->interval_changing, 1000);
    assert_int_equal(health->interval_down, 2000);
    assert_int_equal(health->timeout, 1000);
    assert_int_equal(health->rise, 2);
    assert_int_equal(health->fall, 3);
    assert_int_equal(health->jitter, 10);
    assert_false(health->start_up);
    assert_int_equal(health->port, 0);
    assert_string_equal(health->path, "/");
    assert_string_equal(health->host, "");
    assert_string_equal(health->status, "200-399");
    assert_string_equal(health->body, "");
    config_free(&config);
}

/* interval_changing follows the timeout, from 500 ms up to the interval. */
static void intervals_follow_each_other(void **state)
{
    (void)state;
    static const struct {
        const char *keys;
        int64_t changing;
        int64_t down;
    } cases[] = {
        {"interval = \"5s\"; timeout = \"100ms\";", 500, 5000},
        {"interval = \"200ms\"; timeout = \"100ms\";", 200, 200},
        {"interval = \"5s\"; timeout = \"4s\";", 4000, 5000},
        {"interval = \"5s\"; interval_down = \"30s\"; interval_changing = \"2s\";", 2000, 30000},
        {"timeout = \"50ms\"; interval_changing = \"50ms\";", 50, 2000},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "pools = ( { name = \"web\"; " TEST_SERVERS
                 "health = { %s }; } );\n" TEST_LISTENERS,
                 cases[i].keys);
        struct config *config = parse_good(text);
        assert_int_equal(config->pools[0].health.interval_changing, cases[i].changing);
        assert_int_equal(config->pools[0].health.interval_down, cases[i].down);
        config_free(&config);
    }
}

static void every_value_arrives(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "weir = { workers = 3; user = \"weir\"; group = \"adm\"; max_connections = 1000;\n"
        "  shutdown_deadline = \"2m\"; admin = { socket = \"/tmp/w\"; mode = \"0660\"; };\n"
        "  log = { target = \"/tmp/log\"; format = \"json\"; level = \"debug\"; access = false; }; "
        "};\n"
        "pools = ( { name = \"first\"; " TEST_SERVERS "},\n"
        "  { name = \"web\"; scheduler = \"maglev\"; hash = \"source-ip-port\";\n"
        "    connect_timeout = \"250ms\"; retries = 0; when_empty = \"reset\"; on_down = "
        "\"kill\";\n"
        "    drain_deadline = \"0\";\n"
        "    servers = ( { name = \"a\"; address = \"[2001:db8::1]:80\"; weight = 0; },\n"
        "      { name = \"b.c-d_e\"; address = \"unix:/run/app.sock\"; backup = true;\n"
        "        max_connections = 500; } );\n"
        "    health = { type = \"http\"; port = 8080; path = \"/up\"; host = \"a.example:80\";\n"
        "      status = \"200-299,304\"; body = \"ok \\\"now\\\"\"; rise = 1; fall = 5; jitter = "
        "0;\n"
        "      start_up = true; }; } );\n"
        "listeners = ( { name = \"l\"; bind = \"[::]:443\"; pool = \"web\"; backlog = 128;\n"
        "  max_connections = 10; freebind = true; v6only = false; splice = \"off\"; rcvbuf = "
        "65536;\n"
        "  sndbuf = \"1m\"; notsent_lowat = \"16k\"; keepalive_idle = 0; keepalive_count = 3;\n"
        "  keepalive_interval = \"5s\"; user_timeout = \"20s\"; protocol = \"tcp\";\n"
        "  idle_timeout = \"1h\"; half_close_timeout = \"5s\"; reset_flush_timeout = 0; } );\n");
    assert_int_equal(config->weir.workers, 3);
    assert_string_equal(config->weir.group, "adm");
    assert_int_equal(config->weir.admin_mode, 0660);
    assert_int_equal(config->weir.log_level, LOG_LEVEL_DEBUG);
    assert_false(config->weir.log_access);
    const struct config_pool *pool = &config->pools[1];
    assert_int_equal(pool->hash, CONFIG_HASH_SOURCE_IP_PORT);
    assert_int_equal(pool->connect_timeout, 250);
    assert_int_equal(pool->when_empty, CONFIG_EMPTY_RESET);
    assert_int_equal(pool->on_down, CONFIG_DOWN_KILL);
    assert_int_equal(pool->servers[1].address.address.any.sa_family, AF_UNIX);
    assert_true(pool->servers[1].backup);
    assert_string_equal(pool->health.body, "ok \"now\"");
    assert_int_equal(pool->health.port, 8080);
    const struct config_listener *listener = &config->listeners[0];
    assert_int_equal(listener->pool_index, 1);
    assert_int_equal(listener->rcvbuf, 65536);
    assert_int_equal(listener->sndbuf, 1 << 20);
    assert_int_equal(listener->keepalive_idle, 0);
    assert_int_equal(listener->splice, CONFIG_SPLICE_OFF);
    assert_false(listener->v6only);
    config_free(&config);
}

static void every_value_of_udp_arrives(void **state)
{
    (void)state;
    struct config *config = parse_good(
        TEST_POOLS
        "listeners = (\n"
        "  { name = \"a\"; bind = \"[::]:53\"; v6only = false; freebind = true; pool = "
        "\"web\";\n"
        "    max_flows = 1000; udp_idle_timeout = \"5s\"; responses = 2; requests = 3;\n"
        "    max_replies = 4; max_reply_bytes = \"5k\"; udp_quarantine = \"600ms\";\n"
        "    udp_rcvbuf = \"7m\"; udp_sndbuf = \"8m\"; udp_fragment = false; log_sample = "
        "9;\n"
        "    protocol = \"udp\"; },\n"
        "  { name = \"b\"; bind = \"127.0.0.1:54\"; protocol = \"udp\"; pool = \"web\";\n"
        "    per_packet = true; udp_rcvbuf = 0; } );\n");
    const struct config_listener *listener = &config->listeners[0];

    assert_int_equal(listener->protocol, CONFIG_PROTOCOL_UDP);
    assert_true(listener->freebind);
    assert_int_equal(listener->max_flows, 1000);
    assert_int_equal(listener->udp_idle_timeout, 5000);
    assert_int_equal(listener->responses, 2);
    assert_int_equal(listener->requests, 3);
    assert_int_equal(listener->max_replies, 4);
    assert_int_equal(listener->max_reply_bytes, 5 << 10);
    assert_int_equal(listener->udp_quarantine, 600);
    assert_int_equal(listener->udp_rcvbuf, 7 << 20);
    assert_int_equal(listener->udp_sndbuf, 8 << 20);
    assert_false(listener->udp_fragment);
    assert_int_equal(listener->log_sample, 9);
    assert_true(config->listeners[1].per_packet);
    assert_int_equal(config->listeners[1].udp_rcvbuf, 0);
    config_free(&config);
}

/* What speaks to listeners of both protocols is no mistake in either. */
static void defaults_are_for_both_protocols(void **state)
{
    (void)state;
    struct config *config =
        parse_good(TEST_POOLS "listeners = ( " TEST_LISTENER ", " TEST_UDP_LISTENER " );\n"
                              "defaults = { idle_timeout = \"1m\"; udp_idle_timeout = \"2m\"; "
                              "udp_rcvbuf = \"1m\"; udp_sndbuf = \"2m\";\n"
                              "  udp_quarantine = \"3s\"; max_replies = 4; max_reply_bytes = 5; "
                              "log_sample = 6; };\n");
    const struct config_listener *udp = &config->listeners[1];

    assert_int_equal(config->listeners[0].idle_timeout, 60000);
    assert_int_equal(config->listeners[0].log_sample, 6);
    assert_int_equal(udp->udp_idle_timeout, 120000);
    assert_int_equal(udp->udp_rcvbuf, 1 << 20);
    assert_int_equal(udp->udp_sndbuf, 2 << 20);
    assert_int_equal(udp->udp_quarantine, 3000);
    assert_int_equal(udp->max_replies, 4);
    assert_int_equal(udp->max_reply_bytes, 5);
    assert_int_equal(udp->log_sample, 6);
    config_free(&config);
}

/* `defaults` may stand behind what inherits from it. */
static void defaults_are_inherited(void **state)
{
    (void)state;
    struct config *config =
        parse_good("pools = ( { name = \"web\"; " TEST_SERVERS "retries = 5; },\n"
                   "  { name = \"other\"; " TEST_SERVERS " } );\n" TEST_LISTENERS
                   "defaults = { retries = 1; connect_timeout = \"9s\"; idle_timeout = \"1m\"; "
                   "splice = \"on\";\n"
                   "  rcvbuf = \"32k\"; when_empty = \"reset\"; keepalive_count = 2; };\n");
    assert_int_equal(config->pools[0].retries, 5);
    assert_int_equal(config->pools[1].retries, 1);
    assert_int_equal(config->pools[0].connect_timeout, 9000);
    assert_int_equal(config->pools[1].when_empty, CONFIG_EMPTY_RESET);
    assert_int_equal(config->listeners[0].idle_timeout, 60000);
    assert_int_equal(config->listeners[0].splice, CONFIG_SPLICE_ON);
    assert_int_equal(config->listeners[0].rcvbuf, 32768);
    assert_int_equal(config->listeners[0].keepalive_count, 2);
    config_free(&config);
}

static void elements_know_their_lines(void **state)
{
    (void)state;
    struct config *config = parse_good("pools = (\n"
                                       "  /* two\n"
                                       "     lines */ {\n"
                                       "    name = \"web\";\n"
                                       "    servers = (\n"
                                       "      { name = \"a\"; address = \"127.0.0.1:81\"; },\n"
                                       "\n"
                                       "      { name = \"b\"; address = \"127.0.0.1:82\"; }\n"
                                       "    );\n"
                                       "  }\n"
                                       ");\n" TEST_LISTENERS);
    assert_int_equal(config->pools[0].line, 3);
    assert_int_equal(config->pools[0].servers[0].line, 6);
    assert_int_equal(config->pools[0].servers[1].line, 8);
    assert_int_equal(config->listeners[0].line, 12);
    config_free(&config);
}

/* What editors and habits leave in files. */
static void the_look_of_a_file_does_not_matter(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\xef\xbb\xbf" TEST_POOLS TEST_LISTENERS,
        TEST_POOLS TEST_LISTENERS "# the last line is a comment without an end",
        TEST_POOLS TEST_LISTENERS "// as well",
        TEST_POOLS TEST_LISTENERS "weir = { user = \"\" \"we\" \"ir\" };",
        "pools = ( " TEST_POOL " ),\r\n" TEST_LISTENERS,
        "pools : ( " TEST_POOL " )\n" TEST_LISTENERS "weir : { workers : 0x2 }",
        TEST_POOLS TEST_LISTENERS "weir = { workers = 2L, max_connections = 2LL }",
        TEST_POOLS TEST_LISTENERS "weir = { log = { access = TRUE; }; };",
        TEST_POOLS TEST_LISTENERS "weir = { log = { target = \"/tmp/{[(#//*\\\\\\\"\"; }; };",
        TEST_POOLS TEST_LISTENERS "weir = { }; defaults = { };",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct config *config = parse_good(texts[i]);
        assert_int_equal(config->pool_count, 1);
        config_free(&config);
    }
}

/* Addresses that look alike and are not in each other's way. */
static void neighbours_may_be_bound(void **state)
{
    (void)state;
    static const char *const listeners[] = {
        "{ name = \"b\"; bind = \"127.0.0.2:8080\"; pool = \"web\"; }",
        "{ name = \"b\"; bind = \"127.0.0.1:8079\"; pool = \"web\"; }",
        "{ name = \"b\"; bind = \"[::1]:8080\"; pool = \"web\"; }",
        "{ name = \"b\"; bind = \"[::]:8080\"; pool = \"web\"; }",
        "{ name = \"b\"; bind = \"*:8080\"; v6only = true; pool = \"web\"; }",
        "{ name = \"b\"; bind = \"192.0.2.1:8081\"; freebind = true; pool = \"web\"; }",
        /* The server is on loopback, and this takes IPv6 alone. */
        "{ name = \"b\"; bind = \"[::]:8081\"; pool = \"web\"; }",
        TEST_UDP_LISTENER,
        "{ name = \"b\"; bind = \"0.0.0.0:8080\"; protocol = \"udp\"; pool = \"web\"; }",
        /* The server is TCP's, or another UDP program's: nothing of UDP feeds its pool. */
        "{ name = \"b\"; bind = \"127.0.0.1:8081\"; protocol = \"udp\"; pool = \"other\"; }",
    };
    for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "pools = ( " TEST_POOL
                 ", { name = \"other\"; servers = ( { name = \"a\"; address = "
                 "\"192.0.2.1:9\"; } ); } );\n"
                 "listeners = ( " TEST_LISTENER ", %s );",
                 listeners[i]);
        struct config *config = parse_good(text);
        assert_int_equal(config->listener_count, 2);
        config_free(&config);
    }
}

/* A server elsewhere on the port of a wildcard is no loop. */
static void a_wildcard_and_a_server_elsewhere(void **state)
{
    (void)state;
    struct config *config =
        parse_good("pools = ( { name = \"web\"; servers = (\n"
                   "  { name = \"a\"; address = \"192.0.2.1:80\"; },\n"
                   "  { name = \"b\"; address = \"[2001:db8::1]:80\"; } ); } );\n"
                   "listeners = ( { name = \"web\"; bind = \"0.0.0.0:80\"; pool = \"web\"; } );");
    config_free(&config);
}

/* "none" switches probes off without taking the other keys out of the file. */
static void none_ignores_the_rest_of_health(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "pools = ( { name = \"web\"; " TEST_SERVERS
        "health = { type = \"none\"; path = \"/up\"; timeout = \"1m\"; }; } );\n" TEST_LISTENERS);
    assert_string_equal(config->pools[0].health.type, "none");
    config_free(&config);
}

/* ---- Includes ---- */

struct folder {
    char path[32];
};

static void make_folder(struct folder *folder)
{
    strcpy(folder->path, "/tmp/weir-test-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
}

static void put_file(const struct folder *folder, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fputs(text, to);
    fclose(to);
}

static void remove_folder(const struct folder *folder)
{
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", folder->path);
    assert_int_equal(system(command), 0);
}

static int parse_in(const struct folder *folder, struct config **out, struct config_errors *errors)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/main.cfg", folder->path);
    return config_parse(path, &test_names, out, errors);
}

/* Names count from the including file's folder; text goes on behind the include on its line. */
static void includes_are_taken_in(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char sub[64];
    make_folder(&folder);
    snprintf(sub, sizeof(sub), "%s/sub", folder.path);
    assert_int_equal(mkdir(sub, 0700), 0);
    put_file(&folder, "main.cfg",
             "pools = (\n"
             "  @include \"sub/pool.inc\"\n"
             ");\n"
             "\t@include \"sub/listeners.inc\" weir = { workers = 7; };\n");
    put_file(&folder, "sub/pool.inc",
             "# a pool\n{ name = \"web\"; servers = (\n@include \"s.inc\"\n); }");
    put_file(&folder, "sub/s.inc", "\n{ name = \"a\"; address = \"127.0.0.1:81\"; }");
    put_file(&folder, "sub/listeners.inc", TEST_LISTENERS);

    assert_int_equal(parse_in(&folder, &config, &errors), 0);
    assert_int_equal(config->weir.workers, 7);
    assert_int_equal(config->pools[0].line, 2);
    assert_int_equal(config->pools[0].servers[0].line, 2);
    assert_int_equal(config->listeners[0].line, 1);
    config_free(&config);
    remove_folder(&folder);
}

/* Errors of the second file come after those of the first, each in the order of its lines. */
static void errors_of_includes_name_their_file(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char included[64];
    make_folder(&folder);
    put_file(&folder, "main.cfg",
             "weir = { workers = -1; };\n@include \"a.inc\"\n" TEST_LISTENERS "bad = 1;\n");
    put_file(&folder, "a.inc", "pools = ( { name = \"web\"; " TEST_SERVERS "\n  retries = 9; } );");

    assert_int_equal(parse_in(&folder, &config, &errors), -EINVAL);
    assert_int_equal(errors.count, 3);
    snprintf(included, sizeof(included), "%s/a.inc", folder.path);
    assert_int_equal(errors.error[0].line, 1);
    assert_int_equal(errors.error[1].line, 4);
    assert_string_equal(errors.error[2].file, included);
    assert_int_equal(errors.error[2].line, 2);
    config_errors_clear(&errors);
    remove_folder(&folder);
}

/* A file may be included again and again, but not without end. */
static void includes_are_bounded(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    make_folder(&folder);
    char name[16];
    char text[32];
    put_file(&folder, "main.cfg", "@include \"0.inc\"\n" TEST_POOLS TEST_LISTENERS);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof(name), "%d.inc", i);
        snprintf(text, sizeof(text), "@include \"%d.inc\"\n", i + 1);
        put_file(&folder, name, text);
    }
    assert_int_equal(parse_in(&folder, &config, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.error[0].text, "includes are nested deeper than 10");

    put_file(&folder, "9.inc", "# nothing\n");
    config_errors_clear(&errors);
    assert_int_equal(parse_in(&folder, &config, &errors), 0);
    config_free(&config);
    remove_folder(&folder);
}

static void too_many_files_are_refused(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    make_folder(&folder);
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (int i = 0; i < 1001; i++)
        fputs("@include \"empty.inc\"\n", stream);
    fputs(TEST_POOLS TEST_LISTENERS, stream);
    fclose(stream);
    put_file(&folder, "empty.inc", "");
    put_file(&folder, "main.cfg", text);
    assert_int_equal(parse_in(&folder, &config, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.error[0].text, "more than 1000 files are included");
    config_errors_clear(&errors);
    free(text);
    remove_folder(&folder);
}

/* ---- The file itself ---- */

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nonexistent/weir.cfg", "/tmp", "/dev/zero", ""};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        assert_int_equal(config_parse(paths[i], &test_names, &config, &errors), -EINVAL);
        assert_null(config);
        assert_int_equal(errors.count, 1);
        assert_int_equal(errors.error[0].line, 0);
        assert_string_equal(errors.error[0].file, paths[i]);
        config_errors_clear(&errors);
    }
}

/* To open a fifo waits for its writer. */
static void a_fifo_does_not_block(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char path[64];
    make_folder(&folder);
    snprintf(path, sizeof(path), "%s/main.cfg", folder.path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(parse_in(&folder, &config, &errors), -EINVAL);
    assert_non_null(strstr(errors.error[0].text, "it is not a regular file"));
    config_errors_clear(&errors);
    remove_folder(&folder);
}

static void a_file_beyond_bounds_is_refused(void **state)
{
    (void)state;
    struct folder folder;
    struct config *config = NULL;
    struct config_errors errors = {0};
    char path[64];
    make_folder(&folder);
    put_file(&folder, "main.cfg", "");
    snprintf(path, sizeof(path), "%s/main.cfg", folder.path);
    assert_int_equal(truncate(path, (16 << 20) + 1), 0);
    assert_int_equal(parse_in(&folder, &config, &errors), -EINVAL);
    assert_non_null(strstr(errors.error[0].text, "larger than 16 MiB"));
    config_errors_clear(&errors);
    remove_folder(&folder);
}

/* Ten thousand servers: names are compared by sorting, lines go on beyond 65535. */
static void a_large_file_is_read(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (int i = 0; i < 70000; i++)
        fputc('\n', stream);
    fputs("pools = ( { name = \"web\"; servers = (\n", stream);
    for (int i = 0; i < 10000; i++)
        fprintf(stream, "%s{ name = \"s%d\"; address = \"10.0.%d.%d:80\"; }\n", i > 0 ? "," : "", i,
                i / 256, i % 256);
    fputs("); } );\n" TEST_LISTENERS, stream);
    fclose(stream);
    struct config *config = parse_good(text);
    assert_int_equal(config->pools[0].server_count, 10000);
    assert_int_equal(config->pools[0].servers[9999].line, 80001);
    config_free(&config);
    free(text);
}

static void the_examples_are_good(void **state)
{
    (void)state;
    static const char *const paths[] = {"config/examples/minimal.cfg", "config/examples/demo.cfg",
                                        "config/examples/all.cfg", "config/examples/dns.cfg"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct config *config = NULL;
        struct config_errors errors = {0};
        int rc = config_parse(paths[i], &test_names, &config, &errors);
        config_errors_print(&errors, stderr);
        assert_int_equal(rc, 0);
        assert_string_equal(config->path, paths[i]);
        config_free(&config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_file_has_every_default),
        cmocka_unit_test(a_pool_has_its_defaults),
        cmocka_unit_test(a_listener_has_its_defaults),
        cmocka_unit_test(a_udp_listener_has_its_defaults),
        cmocka_unit_test(a_health_group_has_its_defaults),
        cmocka_unit_test(intervals_follow_each_other),
        cmocka_unit_test(every_value_arrives),
        cmocka_unit_test(every_value_of_udp_arrives),
        cmocka_unit_test(defaults_are_inherited),
        cmocka_unit_test(defaults_are_for_both_protocols),
        cmocka_unit_test(elements_know_their_lines),
        cmocka_unit_test(the_look_of_a_file_does_not_matter),
        cmocka_unit_test(neighbours_may_be_bound),
        cmocka_unit_test(a_wildcard_and_a_server_elsewhere),
        cmocka_unit_test(none_ignores_the_rest_of_health),
        cmocka_unit_test(includes_are_taken_in),
        cmocka_unit_test(errors_of_includes_name_their_file),
        cmocka_unit_test(includes_are_bounded),
        cmocka_unit_test(too_many_files_are_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_fifo_does_not_block),
        cmocka_unit_test(a_file_beyond_bounds_is_refused),
        cmocka_unit_test(a_large_file_is_read),
        cmocka_unit_test(the_examples_are_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
