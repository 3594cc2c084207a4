/* Files of networks: what they may hold, each error with its line, and the way through the image.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include <errno.h>
#include <sys/stat.h>

#define LISTENER(keys)                                                                             \
    TEST_POOLS "listeners = ( { name = \"web\"; bind = \"127.0.0.1:8080\"; pool = \"web\"; " keys  \
               " } );\n"

/* A directory of its own for each test. */
static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/weir-lists-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

static void put_bytes(const char *name, const char *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    assert_int_equal(fwrite(data, 1, size, to), size);
    assert_int_equal(fclose(to), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

/* Parses weir.cfg of the folder. */
static int parse(const char *text, struct config **out, struct config_errors *errors)
{
    char path[128];
    put("weir.cfg", text);
    snprintf(path, sizeof(path), "%s/weir.cfg", folder);
    return config_parse(path, &test_names, out, errors);
}

static struct config *good(const char *text)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    int rc = parse(text, &config, &errors);
    config_errors_print(&errors, stderr);
    assert_int_equal(rc, 0);
    return config;
}

/* The error number `index` of `count`, by its file in the folder, its line and part of its text. */
static void assert_told(const struct config_errors *errors, size_t index, const char *file,
                        int line, const char *part)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    assert_true(index < errors->count);
    const struct config_error *error = &errors->error[index];
    assert_string_equal(error->file, path);
    assert_int_equal(error->line, line);
    if (strstr(error->text, part) == NULL)
        fail_msg("\"%s\" has no \"%s\"", error->text, part);
}

/* One error alone, as a list of this text has it; `file` and `line` say where. */
static void assert_refused(const char *keys, const char *file, int line, const char *part)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    char text[1024];
    snprintf(text, sizeof(text),
             TEST_POOLS "listeners = ( { name = \"web\"; bind = \"127.0.0.1:8080\";\n"
                        "pool = \"web\";\n%s } );\n",
             keys);
    assert_int_equal(parse(text, &config, &errors), -EINVAL);
    if (errors.count != 1)
        config_errors_print(&errors, stderr);
    assert_int_equal(errors.count, 1);
    assert_told(&errors, 0, file, line, part);
    config_errors_clear(&errors);
}

static void assert_holds(const struct config_networks *networks, const char *const *text,
                         size_t count)
{
    char found[NETWORK_TEXT_MAX];
    assert_int_equal(networks->count, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(network_format(&networks->network[i], found), text[i]);
}

static void lines_comments_and_blanks(void **state)
{
    static const char *const wanted[] = {"10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128",
                                         "198.51.100.0/24"};
    (void)state;
    put("in.txt", "# the office\n10.0.0.0/8\n\n \t192.0.2.7  # a printer\r\n#10.1.0.0/16\n"
                  "2001:db8::/32\n::1\n   \n198.51.100.0/24");
    put("out.txt", "");
    struct config *config = good(LISTENER("allow_file = \"in.txt\"; deny_file = \"out.txt\";"));
    const struct config_listener *listener = &config->listeners[0];
    assert_holds(&listener->allow_file.networks, wanted, ARRAY_LEN(wanted));
    assert_int_equal(listener->deny_file.networks.count, 0);
    assert_string_equal(listener->allow_file.path, "in.txt");
    assert_int_equal(listener->allow.count, 0);
    config_free(&config);
}

/* From where the file stands that says the key, as @include has it too. */
static void paths_are_relative_to_the_file(void **state)
{
    char text[512], sub[128];
    (void)state;
    snprintf(sub, sizeof(sub), "%s/sub", folder);
    assert_int_equal(mkdir(sub, 0755), 0);
    put("sub/list", "10.0.0.0/8\n");
    put("sub/part.cfg", "deny_file = \"list\";\n");
    struct config *config = good(LISTENER("deny_file = \"sub/list\";"));
    assert_int_equal(config->listeners[0].deny_file.networks.count, 1);
    config_free(&config);
    config = good(LISTENER("\n@include \"sub/part.cfg\"\n"));
    assert_int_equal(config->listeners[0].deny_file.networks.count, 1);
    config_free(&config);
    snprintf(text, sizeof(text), LISTENER("deny_file = \"%s/sub/list\";"), folder);
    config = good(text);
    assert_int_equal(config->listeners[0].deny_file.networks.count, 1);
    config_free(&config);
}

static void files_that_cannot_be_read(void **state)
{
    char fifo[128];
    (void)state;
    assert_refused("deny_file = \"gone\";", "weir.cfg", 4, "deny_file: cannot read");
    assert_refused("deny_file = \"gone\";", "weir.cfg", 4, "No such file or directory");
    assert_refused("allow_file = \".\";", "weir.cfg", 4, "it is a directory");
    snprintf(fifo, sizeof(fifo), "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_refused("deny_file = \"fifo\";", "weir.cfg", 4, "it is not a regular file");
}

static void lines_that_are_no_networks(void **state)
{
    (void)state;
    put("list", "10.0.0.0/8\n10.1.2.3/8\n");
    assert_refused("deny_file = \"list\";", "list", 2,
                   "bits are set behind the prefix: the network is 10.0.0.0/8");
    put("list", "# none\noffice\n");
    assert_refused("deny_file = \"list\";", "list", 2, "\"office\" is not a network");
    put("list", "10.0.0.0/8 10.1.0.0/16\n");
    assert_refused("allow_file = \"list\";", "list", 1, "one a line");
    put("list", "10.0.0.0/8, 192.0.2.1\n");
    assert_refused("allow_file = \"list\";", "list", 1, "one a line");
    put("list", "10.0.0.0/33\n");
    assert_refused("deny_file = \"list\";", "list", 1, "is not a network");
    put_bytes("list", "10.0.0.0/8\0\n", 12);
    assert_refused("deny_file = \"list\";", "list", 1, "this is not a network");
    char text[4096];
    memset(text, '1', sizeof(text));
    put_bytes("list", text, sizeof(text));
    assert_refused("deny_file = \"list\";", "list", 1, "this is not a network");
}

/* Nobody reads 100,000 errors, and a file of them is of another kind. */
static void only_the_first_are_told(void **state)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    (void)state;
    char *text = malloc(100000 * 4 + 1);
    assert_non_null(text);
    for (size_t i = 0; i < 100000; i++)
        memcpy(text + 4 * i, "bad\n", 5);
    put("list", text);
    free(text);
    assert_int_equal(parse(LISTENER("deny_file = \"list\";"), &config, &errors), -EINVAL);
    assert_int_equal(errors.count, 21);
    assert_told(&errors, 19, "list", 20, "\"bad\" is not a network");
    assert_told(&errors, 20, "list", 20, "the rest was not read");
    config_errors_clear(&errors);
}

static void an_empty_list_lets_nobody_in_by_mistake(void **state)
{
    (void)state;
    put("list", "# to be filled\n");
    assert_refused("allow_file = \"list\";", "weir.cfg", 4, "holds no network");
}

static void of_many_in_both_the_first_are_told(void **state)
{
    char text[64 * 16] = "";
    struct config_errors errors = {0};
    struct config *config = NULL;
    (void)state;
    for (unsigned i = 0, at = 0; i < 64; i++)
        at += (unsigned)snprintf(text + at, sizeof(text) - at, "10.0.0.%u\n", i);
    put("in", text);
    put("out", text);
    assert_int_equal(parse(LISTENER("allow_file = \"in\"; deny_file = \"out\";"), &config, &errors),
                     -EINVAL);
    assert_int_equal(errors.count, 21);
    assert_told(&errors, 19, "out", 20, "the network 10.0.0.19/32 is in allow and in deny");
    assert_told(&errors, 20, "out", 20, "the rest is not told");
    config_errors_clear(&errors);
}

static void what_is_in_both(void **state)
{
    (void)state;
    put("in", "10.0.0.0/8\n192.0.2.0/24\n");
    put("out", "198.51.100.0/24\n\n10.0.0.0/8\n10.0.0.0/9\n");
    assert_refused("allow_file = \"in\"; deny_file = \"out\";", "out", 3,
                   "the network 10.0.0.0/8 is in allow and in deny");
    assert_refused("allow = \"10.0.0.0/8\"; deny_file = \"out\";", "out", 3,
                   "in allow and in deny");
    assert_refused("allow_file = \"in\"; deny = \"192.0.2.0/24\";", "weir.cfg", 4,
                   "the network 192.0.2.0/24 is in allow and in deny");
}

/* ---- many ---- */

/* Single addresses from 10.0.0.0 on, or networks of IPv6, so that texts are of all lengths. */
static void put_many(const char *name, uint32_t count)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    for (uint32_t i = 0; i < count; i++) {
        if (i % 2 == 0)
            fprintf(to, "10.%u.%u.%u\n", i >> 16, i >> 8 & 255, i & 255);
        else
            fprintf(to, "2001:db8:%x:%x::/64\n", i >> 16, i & 0xffff);
    }
    assert_int_equal(fclose(to), 0);
}

static void as_many_as_may_be_go_through_the_image(void **state)
{
    (void)state;
    put_many("list", CONFIG_LIST_MAX);
    struct config *config = good(LISTENER("deny_file = \"list\";"));
    struct config *decoded = copy_of(config);
    const struct config_list *list = &config->listeners[0].deny_file;
    assert_int_equal(list->networks.count, CONFIG_LIST_MAX);
    const struct config_list *other = &decoded->listeners[0].deny_file;
    assert_int_equal(other->networks.count, CONFIG_LIST_MAX);
    assert_string_equal(other->path, "list");
    for (size_t i = 0; i < CONFIG_LIST_MAX; i++) {
        assert_int_equal(other->networks.network[i].bits, list->networks.network[i].bits);
        assert_memory_equal(&other->networks.network[i].address, &list->networks.network[i].address,
                            sizeof(struct in6_addr));
    }
    config_free(&config);
    config_free(&decoded);
}

static void one_more_is_too_many(void **state)
{
    (void)state;
    put_many("list", CONFIG_LIST_MAX + 100);
    assert_refused("deny_file = \"list\";", "list", CONFIG_LIST_MAX + 1,
                   "there are more than 100000 networks");
}

/* A file that says the same names the list, and does not hold it. */
static void the_dump_has_the_path(void **state)
{
    char *text = NULL;
    size_t size;
    (void)state;
    put("list", "10.20.0.0/16\n");
    struct config *config = good(LISTENER("deny_file = \"list\";"));
    FILE *to = open_memstream(&text, &size);
    assert_non_null(to);
    config_print(config, to);
    assert_int_equal(fclose(to), 0);
    assert_non_null(strstr(text, "deny_file = \"list\";"));
    assert_non_null(strstr(text, "allow_file = \"\";"));
    assert_null(strstr(text, "10.20"));
    free(text);
    config_free(&config);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_comments_and_blanks),
        TEST(paths_are_relative_to_the_file),
        TEST(files_that_cannot_be_read),
        TEST(lines_that_are_no_networks),
        TEST(only_the_first_are_told),
        TEST(an_empty_list_lets_nobody_in_by_mistake),
        TEST(of_many_in_both_the_first_are_told),
        TEST(what_is_in_both),
        TEST(as_many_as_may_be_go_through_the_image),
        TEST(one_more_is_too_many),
        TEST(the_dump_has_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
