/*
 * What is left of root afterwards. Each case runs in a child, which cannot go back; as an
 * unprivileged user the same calls must refuse.
 */
#include "common/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BIND_SERVICE (UINT64_C(1) << CAP_NET_BIND_SERVICE)
#define NET_RAW (UINT64_C(1) << CAP_NET_RAW)

static const struct privileges_user stranger = {.uid = 4711, .gid = 4712};
static char error[256];

/* Ends the child with the line that did not hold. */
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return __LINE__;                                                                       \
    } while (0)

/* cmocka's way out of a test does not work in a child: its exit status is what it has to say. */
static void in_child(int (*check)(void))
{
    int ends[2];
    int failed = -1;
    int status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        failed = check();
        _exit(write(ends[1], &failed, sizeof(failed)) != sizeof(failed));
    }
    close(ends[1]);
    ssize_t told = read(ends[0], &failed, sizeof(failed));
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (told != sizeof(failed) || status != 0)
        fail_msg("the child died: wait status %x", status);
    if (failed != 0)
        fail_msg("line %d did not hold in the child", failed);
}

/* A set in /proc/self/status, such as "CapPrm:". */
static uint64_t capability_set(const char *name)
{
    char line[256];
    uint64_t set = UINT64_MAX;
    FILE *status = fopen("/proc/self/status", "re");
    while (status && fgets(line, sizeof(line), status)) {
        if (strncmp(line, name, strlen(name)) == 0)
            set = strtoull(line + strlen(name), NULL, 16);
    }
    if (status)
        fclose(status);
    return set;
}

static int drop(const struct privileges_user *user, uint64_t capabilities)
{
    error[0] = '\0';
    return privileges_drop(user, capabilities, error, sizeof(error));
}

/* ---- looking up ---- */

static void test_lookup(void **state)
{
    (void)state;
    struct privileges_user user = {.uid = 99, .gid = 99};
    assert_int_equal(privileges_lookup("root", NULL, &user, error, sizeof(error)), 0);
    assert_int_equal(user.uid, 0);
    assert_int_equal(user.gid, 0);
    assert_int_equal(privileges_lookup("daemon", "", &user, error, sizeof(error)), 0);
    assert_int_equal(user.uid, 1);
    assert_int_equal(user.gid, 1);
    assert_int_equal(privileges_lookup("daemon", "sys", &user, error, sizeof(error)), 0);
    assert_int_equal(user.uid, 1);
    assert_int_equal(user.gid, 3);
}

static void test_lookup_of_nobody_there(void **state)
{
    (void)state;
    struct privileges_user user = {.uid = 99, .gid = 98};
    assert_int_equal(privileges_lookup("no-such-user", NULL, &user, error, sizeof(error)), -ENOENT);
    assert_string_equal(error, "there is no user no-such-user");
    assert_int_equal(privileges_lookup("root", "no-such-group", &user, error, sizeof(error)),
                     -ENOENT);
    assert_string_equal(error, "there is no group no-such-group");
    assert_int_equal(user.uid, 99);
    assert_int_equal(user.gid, 98);
}

/* ---- dropping, as root ---- */

static int becomes_stranger(void)
{
    gid_t groups[] = {0, 1, 2};
    uid_t uid[3];
    gid_t gid[3];
    HOLDS(setgroups(ARRAY_LEN(groups), groups) == 0);
    HOLDS(drop(&stranger, BIND_SERVICE) == 0);
    HOLDS(getresuid(&uid[0], &uid[1], &uid[2]) == 0 && getresgid(&gid[0], &gid[1], &gid[2]) == 0);
    for (int i = 0; i < 3; i++)
        HOLDS(uid[i] == stranger.uid && gid[i] == stranger.gid);
    HOLDS(getgroups(0, NULL) == 0);
    return 0;
}

static int keeps_exactly_what_was_asked(void)
{
    HOLDS(drop(&stranger, BIND_SERVICE | NET_RAW) == 0);
    HOLDS(capability_set("CapPrm:") == (BIND_SERVICE | NET_RAW));
    HOLDS(capability_set("CapEff:") == (BIND_SERVICE | NET_RAW));
    HOLDS(capability_set("CapInh:") == 0);
    HOLDS(capability_set("CapAmb:") == 0);
    HOLDS(capability_set("CapBnd:") == 0);
    return 0;
}

static int keeps_nothing(void)
{
    HOLDS(drop(&stranger, 0) == 0);
    HOLDS(capability_set("CapPrm:") == 0);
    HOLDS(capability_set("CapEff:") == 0);
    return 0;
}

static int cannot_go_back(void)
{
    HOLDS(drop(&stranger, BIND_SERVICE) == 0);
    HOLDS(setuid(0) == -1 && errno == EPERM);
    HOLDS(setgid(0) == -1 && errno == EPERM);
    HOLDS(setgroups(0, NULL) == -1 && errno == EPERM);
    HOLDS(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    HOLDS(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) == 0);
    HOLDS(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1);
    return 0;
}

/* As after a service manager with User= and AmbientCapabilities=. */
static int is_that_user_already(void)
{
    HOLDS(drop(&stranger, BIND_SERVICE) == 0);
    HOLDS(drop(&stranger, BIND_SERVICE) == 0);
    HOLDS(drop(&stranger, 0) == 0);
    HOLDS(capability_set("CapPrm:") == 0);
    HOLDS(drop(&stranger, BIND_SERVICE) == -EPERM);
    HOLDS(strcmp(error, "cannot keep the capability net_bind_service: it was not granted") == 0);
    return 0;
}

/* The user's own group among the supplementary ones is no further right; another one is. */
static int is_that_user_with_groups(void)
{
    gid_t groups[] = {stranger.gid, 1};
    HOLDS(setgroups(1, groups) == 0);
    HOLDS(setresgid(stranger.gid, stranger.gid, stranger.gid) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(setresuid(stranger.uid, stranger.uid, stranger.uid) != 0 || drop(&stranger, 0) != 0);
    int status;
    HOLDS(waitpid(child, &status, 0) == child && status == 0);

    HOLDS(setgroups(2, groups) == 0);
    HOLDS(setresuid(stranger.uid, stranger.uid, stranger.uid) == 0);
    HOLDS(drop(&stranger, 0) == -EPERM);
    HOLDS(strcmp(error, "cannot leave the supplementary groups: Operation not permitted") == 0);
    return 0;
}

static int refuses_a_way_back(void)
{
    HOLDS(drop(&stranger, UINT64_C(1) << CAP_SETUID) == -EPERM);
    HOLDS(strcmp(error, "could still become root") == 0);
    return 0;
}

static int refuses_unknown_capability(void)
{
    HOLDS(drop(&stranger, UINT64_C(1) << 63) == -EPERM);
    HOLDS(error[0] != '\0');
    return 0;
}

/* ---- dropping, as anybody else ---- */

static int refuses_without_root(void)
{
    HOLDS(drop(&stranger, 0) == -EPERM);
    HOLDS(strncmp(error, "cannot ", strlen("cannot ")) == 0);
    return 0;
}

static int refuses_without_the_capability(void)
{
    const struct privileges_user self = {.uid = getuid(), .gid = getgid()};
    HOLDS(drop(&self, BIND_SERVICE) == -EPERM);
    HOLDS(strncmp(error, "cannot ", strlen("cannot ")) == 0);
    return 0;
}

/* Root runs the cases as root, and then the refusals as somebody else: no case is left out. */
static int as_nobody(int (*check)(void))
{
    HOLDS(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0);
    HOLDS(setresuid(65534, 65534, 65534) == 0);
    return check();
}

static int refuses_without_root_as_nobody(void)
{
    return as_nobody(refuses_without_root);
}

static int refuses_without_the_capability_as_nobody(void)
{
    return as_nobody(refuses_without_the_capability);
}

static void test_as_root(void **state)
{
    (void)state;
    if (geteuid() != 0)
        return;
    in_child(becomes_stranger);
    in_child(keeps_exactly_what_was_asked);
    in_child(keeps_nothing);
    in_child(cannot_go_back);
    in_child(is_that_user_already);
    in_child(is_that_user_with_groups);
    in_child(refuses_a_way_back);
    in_child(refuses_unknown_capability);
    in_child(refuses_without_root_as_nobody);
    in_child(refuses_without_the_capability_as_nobody);
}

static void test_as_anybody_else(void **state)
{
    (void)state;
    if (geteuid() == 0)
        return;
    in_child(refuses_without_root);
    in_child(refuses_without_the_capability);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_lookup_of_nobody_there),
        cmocka_unit_test(test_as_root),
        cmocka_unit_test(test_as_anybody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
