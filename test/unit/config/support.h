/*
 * Purpose: what the tests of config share: the names that the caller of config_parse hands in, and
 *          configurations from a text.
 * Thread:  any.
 * Owns:    what parse_text returns is the test's.
 * Fails:   by an assertion of cmocka, which the test includes before.
 */
#pragma once

#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const test_schedulers[] = {
    "round-robin", "least-connections", "p2c", "random", "first", "maglev"};
static const char *const test_probes[] = {"tcp", "http", "udp", "dns"};

static inline bool test_probe_is_inet(const char *name)
{
    return strcmp(name, "udp") == 0 || strcmp(name, "dns") == 0;
}

static const struct config_names test_names = {
    .schedulers = test_schedulers,
    .scheduler_count = ARRAY_LEN(test_schedulers),
    .probes = test_probes,
    .probe_count = ARRAY_LEN(test_probes),
    .probe_is_inet = test_probe_is_inet,
};

/* The smallest that is good. */
#define TEST_SERVERS "servers = ( { name = \"a\"; address = \"127.0.0.1:8081\"; } ); "
#define TEST_POOL "{ name = \"web\"; " TEST_SERVERS "}"
#define TEST_LISTENER "{ name = \"web\"; bind = \"127.0.0.1:8080\"; pool = \"web\"; }"
#define TEST_UDP_LISTENER                                                                          \
    "{ name = \"udp\"; bind = \"127.0.0.1:8080\"; protocol = \"udp\"; pool = \"web\"; }"
#define TEST_POOLS "pools = ( " TEST_POOL " );\n"
#define TEST_LISTENERS "listeners = ( " TEST_LISTENER " );\n"

/* Parses a text by way of a file, whose name is written to `path`. */
static inline int parse_text(const char *text, char path[32], struct config **out,
                             struct config_errors *errors)
{
    strcpy(path, "/tmp/weir-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
    int rc = config_parse(path, &test_names, out, errors);
    unlink(path);
    return rc;
}

/* Of a text that is good. */
static inline struct config *parse_good(const char *text)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    char path[32];
    int rc = parse_text(text, path, &config, &errors);
    config_errors_print(&errors, stderr);
    assert_int_equal(rc, 0);
    assert_int_equal(errors.count, 0);
    assert_non_null(config);
    return config;
}

/* As the daemon gets it from the helper. */
static inline struct config *copy_of(const struct config *config)
{
    struct config *copy = NULL;
    uint8_t *image;
    size_t size;

    assert_int_equal(config_encode(config, &image, &size), 0);
    assert_int_equal(config_decode(image, size, &copy), 0);
    free(image);
    return copy;
}

/* Of a text that is good, as the daemon gets it. */
static inline struct config *parse_copied(const char *text)
{
    struct config *config = parse_good(text);
    struct config *copy = copy_of(config);

    config_free(&config);
    return copy;
}

/* A text that is wrong in this one way. */
static inline void assert_text_refused(const char *text, const char *phrase)
{
    struct config_errors errors = {0};
    struct config *config = NULL;
    char path[32];

    assert_int_equal(parse_text(text, path, &config, &errors), -EINVAL);
    assert_int_equal(errors.count, 1);
    if (strstr(errors.error[0].text, phrase) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", errors.error[0].text, phrase);
    config_errors_clear(&errors);
}
