/*
 * What is made from the key table for people. docs/configuration.md and config/examples/all.cfg
 * must be what the table makes now; WEIR_WRITE=1 in the environment has them written anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include "config/keys.h"

typedef void print_fn(FILE *to);

static char *made_by(print_fn *print)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    print(stream);
    fclose(stream);
    return text;
}

static char *content_of(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *from = fopen(path, "r");
    if (from == NULL || getdelim(&text, &size, '\0', from) < 0)
        fail_msg("%s cannot be read", path);
    fclose(from);
    return text;
}

static void assert_up_to_date(const char *path, print_fn *print)
{
    char *made = made_by(print);
    if (getenv("WEIR_WRITE") != NULL) {
        FILE *to = fopen(path, "w");
        assert_non_null(to);
        fputs(made, to);
        fclose(to);
    }
    char *kept = content_of(path);
    bool same = strcmp(made, kept) == 0;
    free(made);
    free(kept);
    if (!same)
        fail_msg("%s is not what the key table makes; run this test with WEIR_WRITE=1", path);
}

static void the_reference_is_up_to_date(void **state)
{
    (void)state;
    assert_up_to_date("docs/configuration.md", config_print_reference);
}

static void the_example_is_up_to_date(void **state)
{
    (void)state;
    assert_up_to_date("config/examples/all.cfg", config_print_example);
}

static void the_help_names_every_key(void **state)
{
    (void)state;
    char *help = made_by(config_print_help);
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        assert_non_null(strstr(help, key->name));
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        assert_non_null(strstr(help, config_sections[i].path));
    free(help);
}

static void the_help_fits_a_terminal(void **state)
{
    (void)state;
    char *help = made_by(config_print_help);
    for (char *line = strtok(help, "\n"); line != NULL; line = strtok(NULL, "\n"))
        if (strlen(line) > 100)
            fail_msg("%zu columns: %s", strlen(line), line);
    free(help);
}

static char *dump_of(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_print(config, stream);
    fclose(stream);
    return text;
}

/* A dump is a configuration that says the same. */
static void a_dump_reads_back(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "defaults = { retries = 4; keepalive_idle = \"90s\"; };\n"
        "weir = { log = { target = \"/tmp/a \\\"b\\\" \\\\ c\"; }; admin = { mode = \"0666\"; }; "
        "};\n"
        "pools = ( { name = \"web\"; " TEST_SERVERS "health = { interval = \"1500ms\"; }; },\n"
        "  { name = \"other\"; " TEST_SERVERS " } );\n"
        "listeners = ( " TEST_LISTENER ", " TEST_UDP_LISTENER " );\n");
    char *text = dump_of(config);
    assert_non_null(strstr(text, "retries = 4;"));
    assert_non_null(strstr(text, "keepalive_idle = \"90s\";"));
    assert_non_null(strstr(text, "target = \"/tmp/a \\\"b\\\" \\\\ c\";"));
    assert_non_null(strstr(text, "interval = \"1500ms\";"));
    struct config *again = parse_good(text);
    char *text_again = dump_of(again);
    assert_string_equal(text, text_again);
    free(text);
    free(text_again);
    config_free(&config);
    config_free(&again);
}

/* Which would not be read back. */
static void a_dump_says_no_key_of_the_other_protocol(void **state)
{
    (void)state;
    static const char *const listeners[] = {TEST_LISTENER, TEST_UDP_LISTENER};
    for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
        char file[512];
        snprintf(file, sizeof(file), TEST_POOLS "listeners = ( %s );\n", listeners[i]);
        struct config *config = parse_good(file);
        char *text = dump_of(config);
        bool is_udp = config->listeners[0].protocol == CONFIG_PROTOCOL_UDP;
        assert_true((strstr(text, "max_flows = ") != NULL) == is_udp);
        assert_true((strstr(text, "backlog = ") != NULL) == !is_udp);
        assert_non_null(strstr(text, "log_sample = 1;"));
        free(text);
        config_free(&config);
    }
}

static void a_dump_says_every_key(void **state)
{
    (void)state;
    struct config *config =
        parse_good(TEST_POOLS "listeners = ( { name = \"web\"; bind = \"127.0.0.1:8080\"; "
                              "pool = \"web\"; routes = ( { sni = \"a.b\"; pool = \"web\"; } ); "
                              "}, " TEST_UDP_LISTENER " );\n");
    char *text = dump_of(config);
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        char setting[64];
        snprintf(setting, sizeof(setting), " %s = ", key->name);
        if (strstr(text, setting) == NULL)
            fail_msg("the dump lacks %s", key->name);
    }
    free(text);
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_is_up_to_date),
        cmocka_unit_test(the_example_is_up_to_date),
        cmocka_unit_test(the_help_names_every_key),
        cmocka_unit_test(the_help_fits_a_terminal),
        cmocka_unit_test(a_dump_reads_back),
        cmocka_unit_test(a_dump_says_every_key),
        cmocka_unit_test(a_dump_says_no_key_of_the_other_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
