/*
 * Purpose: what the tests of listeners share: a configuration that they fill, sockets of others,
 *          and a look at what is open.
 * Thread:  one.
 * Owns:    `listeners`; teardown closes them, and finds a descriptor that is left.
 * Fails:   by an assertion of cmocka, which the test includes before.
 */
#pragma once

#include "lb/listener.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTENERS_MAX 3

static struct config_listener wanted[LISTENERS_MAX];
static struct config config;
static struct listener *listeners;
static char error[512];
static char bind_text[LISTENERS_MAX][ADDRESS_TEXT_MAX];
static size_t descriptors_before;

static inline size_t count_descriptors(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static inline int setup(void **state)
{
    (void)state;
    memset(wanted, 0, sizeof(wanted));
    config = (struct config){.weir = {.workers = 1}, .listeners = wanted};
    error[0] = '\0';
    listeners = NULL;
    descriptors_before = count_descriptors();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    listeners_close(&listeners, config.listener_count);
    assert_null(listeners);
    assert_int_equal(count_descriptors(), descriptors_before);
    return 0;
}

static inline struct address address_of(const char *text)
{
    struct address address;
    const char *why = "";
    if (address_parse(&address, text, &why) != 0)
        fail_msg("%s: %s", text, why);
    return address;
}

static inline struct config_listener *want(char *name, const char *text)
{
    size_t i = config.listener_count++;
    assert_true(i < LISTENERS_MAX);
    snprintf(bind_text[i], sizeof(bind_text[i]), "%s", text);
    wanted[i] = (struct config_listener){
        .name = name,
        .bind = {.text = bind_text[i], .address = address_of(text)},
        .backlog = 128,
        .idle_timeout = 600000,
        .half_close_timeout = 30000,
        .reset_flush_timeout = 5000,
        .notsent_lowat = 131072,
        .keepalive_idle = 1500,
        .keepalive_interval = 10000,
        .keepalive_count = 3,
        .log_sample = 1,
    };
    return &wanted[i];
}

static inline int open_all(void)
{
    return listeners_open(&config, &listeners, error, sizeof(error));
}

static inline void assert_opens(void)
{
    int code = open_all();
    if (code != 0)
        fail_msg("%s (%d)", error, code);
}

static inline void assert_refused(int code, const char *sentence)
{
    assert_int_equal(open_all(), code);
    assert_string_equal(error, sentence);
    assert_null(listeners);
    assert_int_equal(count_descriptors(), descriptors_before);
}

enum { PLAIN = 0, REUSEPORT = 1, LISTENS = 2, V6ONLY = 4, UDP = 8 };

/* Somebody else's socket; with SO_REUSEADDR, as servers have it. */
static inline int foreign_socket(const struct address *address, unsigned how)
{
    int one = 1;
    int fd = socket(address->any.sa_family, (how & UDP) != 0 ? SOCK_DGRAM : SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    if ((how & V6ONLY) != 0)
        assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
    if ((how & REUSEPORT) != 0)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
    if (bind(fd, &address->any, address->length) != 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    if ((how & LISTENS) != 0)
        assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline struct address local_address(int fd)
{
    struct address address = {.length = sizeof(union inet_address)};
    assert_int_equal(getsockname(fd, &address.any, &address.length), 0);
    return address;
}

/* True if nobody has the address for the protocol that `how` does not name. */
static inline bool is_free_for_the_other(const struct address *address, unsigned how)
{
    int fd = foreign_socket(address, (how & UDP) ^ UDP);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A port that somebody else holds, for one protocol; *out_text is its address. */
static inline int foreign_on(const char *host, unsigned how, char out_text[ADDRESS_TEXT_MAX])
{
    char text[ADDRESS_TEXT_MAX];
    snprintf(text, sizeof(text), "%s:0", host);
    for (;;) {
        struct address address = address_of(text);
        int fd = foreign_socket(&address, how);
        assert_true(fd >= 0);
        address = local_address(fd);
        address_format(&address, out_text);
        if (is_free_for_the_other(&address, how))
            return fd;
        close(fd);
    }
}

/* The address of a port that is free. */
static inline void free_address(const char *host, char out_text[ADDRESS_TEXT_MAX])
{
    close(foreign_on(host, PLAIN, out_text));
}

/* What listener_holder says of this process. */
static inline void assert_holder(const char *text, enum config_protocol protocol, bool found)
{
    struct address address = address_of(text);
    char holder[128];
    listener_holder(&address, protocol, holder, sizeof(holder));
    char expected[128] = "";
    if (found)
        snprintf(expected, sizeof(expected), "%.15s (pid %d)", program_invocation_short_name,
                 getpid());
    assert_string_equal(holder, expected);
}

static inline int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof(value);
    assert_int_equal(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}
