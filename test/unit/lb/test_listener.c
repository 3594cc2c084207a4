/*
 * Listening sockets: shared among our workers, with nobody else, and a refusal that names names.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/listening.h"

#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int connect_to(const char *text)
{
    struct address address = address_of(text);
    int fd = socket(address.any.sa_family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (connect(fd, &address.any, address.length) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- what is opened ---- */

static void opens_and_says_what_the_configuration_says(void **state)
{
    (void)state;
    want("web", "127.0.0.1:0")->pool_index = 3;
    wanted[0].max_connections = 70;
    want("other", "127.0.0.1:0")->splice = CONFIG_SPLICE_ON;
    config.weir.log_access = true;
    assert_opens();
    assert_string_equal(error, "");
    const struct listener *web = &listeners[0];
    assert_ptr_equal(web->config, &wanted[0]);
    assert_int_equal(web->limit, 70);
    assert_int_equal(listeners[1].limit, UINT32_MAX);
    assert_int_equal(atomic_load(&web->sessions), 0);
    assert_int_equal(web->fd_count, 1);
    assert_string_equal(web->policy.listener, "web");
    assert_int_equal(web->policy.pool, 3);
    assert_int_equal(web->policy.idle_timeout_ms, 600000);
    assert_int_equal(web->policy.half_close_timeout_ms, 30000);
    assert_int_equal(web->policy.reset_flush_timeout_ms, 5000);
    assert_int_equal(web->policy.keepalive_idle_s, 2); /* 1.5 s: never less than was asked */
    assert_int_equal(web->policy.keepalive_interval_s, 10);
    assert_int_equal(web->policy.keepalive_count, 3);
    assert_true(web->policy.log_access);
    assert_int_equal(listeners[1].policy.splice, CONFIG_SPLICE_ON);
    assert_int_equal(option_of(web->fd[0], SOL_SOCKET, SO_ACCEPTCONN), 1);
    /* The only worker: nobody at all may join. */
    assert_int_equal(option_of(web->fd[0], SOL_SOCKET, SO_REUSEPORT), 0);
}

static unsigned accept_all(int fd)
{
    unsigned count = 0;
    int client;
    while ((client = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        close(client);
        count++;
    }
    assert_int_equal(errno, EAGAIN);
    return count;
}

static void spreads_over_the_workers(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_address("127.0.0.1", text);
    want("web", text);
    config.weir.workers = 3;
    assert_opens();
    int client[90];
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        client[i] = connect_to(text);
        assert_true(client[i] >= 0);
    }
    /* 90 ports hashed over three: one of them with fewer than 10 is a chance of one in 10^5. */
    unsigned sum = 0;
    for (uint32_t worker = 0; worker < 3; worker++) {
        unsigned count = accept_all(listeners[0].fd[worker]);
        assert_true(count >= 10);
        sum += count;
    }
    assert_int_equal(sum, ARRAY_LEN(client));
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        close(client[i]);
}

static void binds_again_while_old_connections_linger(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_address("127.0.0.1", text);
    want("web", text);
    assert_opens();
    int client = connect_to(text);
    assert_true(client >= 0);
    int accepted = accept4(listeners[0].fd[0], NULL, NULL, 0);
    assert_true(accepted >= 0);
    close(accepted); /* first: our end waits in TIME_WAIT */
    close(client);
    listeners_close(&listeners, 1);
    assert_opens();
}

static void v6only_is_as_configured(void **state)
{
    (void)state;
    want("both", "[::]:0");
    want("six", "[::]:0")->v6only = true;
    assert_opens();
    assert_int_equal(option_of(listeners[0].fd[0], IPPROTO_IPV6, IPV6_V6ONLY), 0);
    assert_int_equal(option_of(listeners[1].fd[0], IPPROTO_IPV6, IPV6_V6ONLY), 1);
    char text[ADDRESS_TEXT_MAX];
    struct address local = local_address(listeners[0].fd[0]);
    snprintf(text, sizeof(text), "127.0.0.1:%u", address_port(&local));
    int client = connect_to(text);
    assert_true(client >= 0);
    close(client);
    local = local_address(listeners[1].fd[0]);
    snprintf(text, sizeof(text), "127.0.0.1:%u", address_port(&local));
    assert_int_equal(connect_to(text), -1);
}

static void families_share_a_port_when_v6only(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], six[ADDRESS_TEXT_MAX];
    free_address("0.0.0.0", text);
    snprintf(six, sizeof(six), "[::]:%s", strrchr(text, ':') + 1);
    want("four", text);
    want("six", six)->v6only = true;
    config.weir.workers = 2;
    assert_opens();
}

static void freebind_takes_an_address_that_is_not_here(void **state)
{
    (void)state;
    want("vip4", "192.0.2.1:8080")->freebind = true;
    want("vip6", "[2001:db8::1]:8080")->freebind = true;
    config.weir.workers = 2;
    assert_opens();
}

/* ---- what is refused ---- */

static void names_who_holds_the_address(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], sentence[512];
    int foreign = foreign_on("127.0.0.1", LISTENS | REUSEPORT, text);
    descriptors_before++;
    want("free", "127.0.0.1:0");
    want("web", text);
    config.weir.workers = 2;
    snprintf(sentence, sizeof(sentence),
             "listener \"web\": %s is already in use by %.15s (pid %d): "
             "stop it or choose another bind",
             text, program_invocation_short_name, getpid());
    assert_refused(-EADDRINUSE, sentence);
    close(foreign);
    descriptors_before--;
}

static void a_wildcard_holds_every_address(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    int foreign = foreign_on("[::]", LISTENS, text);
    descriptors_before++;
    char mine[ADDRESS_TEXT_MAX];
    snprintf(mine, sizeof(mine), "127.0.0.1:%s", strrchr(text, ':') + 1);
    want("web", mine);
    assert_int_equal(open_all(), -EADDRINUSE);
    assert_non_null(strstr(error, "(pid "));
    close(foreign);
    descriptors_before--;
}

static void a_second_weir_is_refused(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    free_address("127.0.0.1", text);
    want("web", text);
    config.weir.workers = 2;
    assert_opens();
    struct listener *second = NULL;
    assert_int_equal(listeners_open(&config, &second, error, sizeof(error)), -EADDRINUSE);
    assert_null(second);
    int client = connect_to(text); /* the first serves on */
    assert_true(client >= 0);
    close(client);
}

/* Bound and not yet listening: bind(2) lets both pass, listen(2) only one. */
static void of_two_that_start_at_once_one_is_refused(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX];
    int other = foreign_on("127.0.0.1", PLAIN, text);
    descriptors_before++;
    want("web", text);
    config.weir.workers = 2;
    assert_opens();
    assert_int_equal(listen(other, 16), -1);
    assert_int_equal(errno, EADDRINUSE);
    close(other);
    descriptors_before--;
}

static void says_which_listeners_overlap(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], other[ADDRESS_TEXT_MAX], sentence[512];
    free_address("127.0.0.1", text);
    snprintf(other, sizeof(other), "0.0.0.0:%s", strrchr(text, ':') + 1);
    want("web", text);
    want("all", other);
    snprintf(sentence, sizeof(sentence),
             "listener \"all\": %s overlaps listener \"web\" at %s: "
             "choose another bind for one of them",
             other, text);
    assert_refused(-EADDRINUSE, sentence);
}

static void an_address_that_is_not_here(void **state)
{
    (void)state;
    want("web", "127.0.0.1:0");
    want("vip", "192.0.2.1:8080");
    assert_refused(-EADDRNOTAVAIL,
                   "listener \"vip\": 192.0.2.1:8080 is not an address of this machine: add it to "
                   "an interface, or set freebind = true");
}

/* Whoever runs the tests: the child is nobody, and nobody may not bind low ports. */
static void without_privilege(const char *text, int foreign, int pipe_fd)
{
    if (foreign >= 0)
        close(foreign); /* or the child would hold it too, and find itself */
    const struct passwd *nobody = getpwnam("nobody");
    if (geteuid() == 0 &&
        (nobody == NULL || setgid(nobody->pw_gid) != 0 || setuid(nobody->pw_uid) != 0))
        _exit(2);
    want("web", text);
    int code = open_all();
    dprintf(pipe_fd, "%s", error);
    _exit(code == 0 ? 3 : 0);
}

static void run_without_privilege(const char *text, int foreign, char *said, size_t size)
{
    int fd[2], status;
    assert_int_equal(pipe(fd), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        without_privilege(text, foreign, fd[1]);
    close(fd[1]);
    ssize_t length = read(fd[0], said, size - 1);
    close(fd[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(length > 0);
    said[length] = '\0';
}

static bool low_ports_are_privileged(void)
{
    int first = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (file == NULL)
        return true;
    bool read = fscanf(file, "%d", &first) == 1;
    fclose(file);
    return !read || first > 81;
}

static void a_low_port_needs_a_privilege(void **state)
{
    (void)state;
    if (!low_ports_are_privileged())
        skip();
    char said[512];
    run_without_privilege("127.0.0.1:81", -1, said, sizeof(said));
    assert_string_equal(said, "listener \"web\": 127.0.0.1:81 needs a privilege: start as root, "
                              "give CAP_NET_BIND_SERVICE, or choose a port that is not privileged");
}

/* A process that may not be looked into, by root's leave or its own (PR_SET_DUMPABLE, prctl(2)). */
static void names_the_user_at_least(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], said[512], sentence[512];
    int foreign = foreign_on("127.0.0.1", LISTENS, text);
    assert_int_equal(prctl(PR_SET_DUMPABLE, 0), 0);
    run_without_privilege(text, foreign, said, sizeof(said));
    assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
    close(foreign);
    snprintf(sentence, sizeof(sentence),
             "listener \"web\": %s is already in use by a process of user id %u: "
             "stop it or choose another bind",
             text, geteuid());
    assert_string_equal(said, sentence);
}

/* ---- the holder ---- */

static void finds_the_holder_of_either_family(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], same_port[ADDRESS_TEXT_MAX];
    int fd = foreign_on("127.0.0.1", LISTENS, text);
    const char *port = strrchr(text, ':') + 1;
    assert_holder(text, CONFIG_PROTOCOL_TCP, true);
    snprintf(same_port, sizeof(same_port), "127.0.0.2:%s", port);
    assert_holder(same_port, CONFIG_PROTOCOL_TCP, false);
    snprintf(same_port, sizeof(same_port), "0.0.0.0:%s", port);
    assert_holder(same_port, CONFIG_PROTOCOL_TCP, true);
    snprintf(same_port, sizeof(same_port), "[::]:%s", port);
    assert_holder(same_port, CONFIG_PROTOCOL_TCP, true);
    snprintf(same_port, sizeof(same_port), "[::1]:%s", port);
    assert_holder(same_port, CONFIG_PROTOCOL_TCP, false);
    close(fd);
    assert_holder(text, CONFIG_PROTOCOL_TCP, false);

    fd = foreign_on("[::1]", LISTENS, text);
    assert_holder(text, CONFIG_PROTOCOL_TCP, true);
    close(fd);
}

static void a_socket_that_only_connects_holds_nothing(void **state)
{
    (void)state;
    char text[ADDRESS_TEXT_MAX], local_text[ADDRESS_TEXT_MAX];
    int listening = foreign_on("127.0.0.1", LISTENS, text);
    int client = connect_to(text);
    assert_true(client >= 0);
    struct address local = local_address(client);
    assert_holder(address_format(&local, local_text), CONFIG_PROTOCOL_TCP, false);
    close(client);
    close(listening);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_and_says_what_the_configuration_says),
        TEST(spreads_over_the_workers),
        TEST(binds_again_while_old_connections_linger),
        TEST(v6only_is_as_configured),
        TEST(families_share_a_port_when_v6only),
        TEST(freebind_takes_an_address_that_is_not_here),
        TEST(names_who_holds_the_address),
        TEST(a_wildcard_holds_every_address),
        TEST(a_second_weir_is_refused),
        TEST(of_two_that_start_at_once_one_is_refused),
        TEST(says_which_listeners_overlap),
        TEST(an_address_that_is_not_here),
        TEST(a_low_port_needs_a_privilege),
        TEST(names_the_user_at_least),
        TEST(finds_the_holder_of_either_family),
        TEST(a_socket_that_only_connects_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
