/* The datagram that sd_notify(3) would send, to the socket that the service manager names. */
#include "common/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/weir-test-notify-XXXXXX";
static char path[64];

static int group_setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/notify", folder);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* A manager listening at an address of `length` bytes of name. */
static int manager_open(const char *name, size_t length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, length);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    return fd;
}

static void expect(int manager, const char *state)
{
    char text[256];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);
    assert_int_equal(n, strlen(state));
    text[n] = '\0';
    assert_string_equal(text, state);
}

static int next_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(fd);
    return fd;
}

static void test_no_manager(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_send("READY=1"), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(notify_send("READY=1"), 0);
}

static void test_path(void **state)
{
    (void)state;
    int manager = manager_open(path, strlen(path) + 1);
    int before = next_descriptor();
    setenv("NOTIFY_SOCKET", path, 1);
    assert_int_equal(notify_send("READY=1\nSTATUS=serving"), 0);
    assert_int_equal(notify_send("STOPPING=1"), 0);
    expect(manager, "READY=1\nSTATUS=serving");
    expect(manager, "STOPPING=1");
    assert_int_equal(next_descriptor(), before);
    close(manager);
    assert_int_equal(notify_send("READY=1"), -ECONNREFUSED);
    unlink(path);
    assert_int_equal(notify_send("READY=1"), -ENOENT);
    assert_int_equal(next_descriptor(), before - 1);
}

static void test_abstract_name(void **state)
{
    (void)state;
    char name[sizeof(path) + 1];
    snprintf(name, sizeof(name), "@%s", path);
    setenv("NOTIFY_SOCKET", name, 1);
    name[0] = '\0';
    int manager = manager_open(name, 1 + strlen(name + 1));
    assert_int_equal(notify_send("READY=1"), 0);
    expect(manager, "READY=1");
    close(manager);
}

static void test_longest_names(void **state)
{
    (void)state;
    char name[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    name[0] = '/';
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(notify_send("READY=1"), -ENAMETOOLONG);
    name[sizeof(name) - 2] = '\0';
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(notify_send("READY=1"), -ENOENT);
}

static void test_other_kinds_of_address(void **state)
{
    (void)state;
    setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
    assert_int_equal(notify_send("READY=1"), -EAFNOSUPPORT);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(notify_send("READY=1"), -EAFNOSUPPORT);
}

/* A loop calls this: a manager that has stopped must not stop it too. */
static void test_a_manager_that_does_not_read(void **state)
{
    (void)state;
    int manager = manager_open(path, strlen(path) + 1);
    setenv("NOTIFY_SOCKET", path, 1);
    int error = 0;
    for (int i = 0; i < 100000 && error == 0; i++)
        error = notify_send("WATCHDOG=1");
    assert_int_equal(error, -EAGAIN);
    close(manager);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_manager),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_abstract_name),
        cmocka_unit_test(test_longest_names),
        cmocka_unit_test(test_other_kinds_of_address),
        cmocka_unit_test(test_a_manager_that_does_not_read),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
