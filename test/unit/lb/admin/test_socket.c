/*
 * The admin socket's file: who may have it, what becomes of what was there before, and that nothing
 * is removed that is not ours.
 */
#include "lb/admin/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char directory[64];
    char path[80]; /* in it */
    char error[512];
};

static int setup(void **state)
{
    static struct place place;
    place = (struct place){.directory = "/tmp/weir-socket-XXXXXX"};
    if (mkdtemp(place.directory) == NULL)
        return -1;
    snprintf(place.path, sizeof(place.path), "%s/admin.sock", place.directory);
    *state = &place;
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    unlink(place->path);
    return rmdir(place->directory);
}

static int try_open(struct place *place, const char *path, mode_t mode, struct admin_socket *out)
{
    const struct admin_socket_options options = {
        .path = path, .mode = mode, .uid = getuid(), .gid = getgid(), .backlog = 1};
    return admin_socket_open(out, &options, place->error, sizeof(place->error));
}

static void assert_said(const struct place *place, const char *words)
{
    if (strstr(place->error, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", place->error, words);
}

static mode_t mode_of(const char *path)
{
    struct stat found;
    assert_int_equal(lstat(path, &found), 0);
    return found.st_mode;
}

static void close_socket(struct admin_socket *socket)
{
    admin_socket_unlink(socket);
    close(socket->fd);
}

/* A socket at the path, listening or not, as another program would make it. */
static int make_foreign(const char *path, bool listening)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (listening)
        assert_int_equal(listen(fd, 0), 0);
    return fd;
}

static int connect_to(const char *path, int flags)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void makes_a_private_socket(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    mode_t before = umask(0);
    assert_int_equal(try_open(place, place->path, 0600, &socket), 0);
    assert_int_equal(umask(before), 0); /* put back as it was */
    assert_int_equal(mode_of(place->path), S_IFSOCK | 0600);
    int fd = connect_to(place->path, 0);
    assert_true(fd >= 0);
    close(fd);
    close_socket(&socket);
    assert_int_equal(access(place->path, F_OK), -1);
}

static void gives_it_the_mode_asked_for(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    mode_t before = umask(0077);
    assert_int_equal(try_open(place, place->path, 0660, &socket), 0);
    umask(before);
    assert_int_equal(mode_of(place->path), S_IFSOCK | 0660);
    close_socket(&socket);
}

static void gives_it_to_its_user(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0)
        skip();
    const struct admin_socket_options options = {
        .path = place->path, .mode = 0660, .uid = 4711, .gid = 4712, .backlog = 1};
    struct admin_socket socket;
    struct stat found;
    assert_int_equal(admin_socket_open(&socket, &options, place->error, sizeof(place->error)), 0);
    assert_int_equal(lstat(place->path, &found), 0);
    assert_int_equal(found.st_uid, 4711);
    assert_int_equal(found.st_gid, 4712);
    assert_int_equal(found.st_mode, S_IFSOCK | 0660);
    close_socket(&socket);
}

static void makes_a_missing_directory(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    char directory[96], path[112];
    snprintf(directory, sizeof(directory), "%s/run", place->directory);
    snprintf(path, sizeof(path), "%s/admin.sock", directory);
    mode_t before = umask(0077);
    assert_int_equal(try_open(place, path, 0600, &socket), 0);
    umask(before);
    assert_int_equal(mode_of(directory), S_IFDIR | 0750);
    close_socket(&socket);
    assert_int_equal(rmdir(directory), 0);
}

static void leaves_a_directory_as_it_is(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    assert_int_equal(chmod(place->directory, 0711), 0);
    assert_int_equal(try_open(place, place->path, 0600, &socket), 0);
    assert_int_equal(mode_of(place->directory), S_IFDIR | 0711);
    close_socket(&socket);
}

static void does_not_make_directories_above(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    char path[112];
    snprintf(path, sizeof(path), "%s/a/b/admin.sock", place->directory);
    assert_int_equal(try_open(place, path, 0600, &socket), -ENOENT);
    assert_said(place, "cannot make the directory");
}

static void replaces_a_dead_socket(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    close(make_foreign(place->path, true));
    assert_int_equal(try_open(place, place->path, 0600, &socket), 0);
    close_socket(&socket);
}

static void leaves_a_live_socket_alone(void **state)
{
    struct place *place = *state;
    struct admin_socket first, second;
    char pid[32];
    assert_int_equal(try_open(place, place->path, 0600, &first), 0);
    assert_int_equal(try_open(place, place->path, 0600, &second), -EADDRINUSE);
    snprintf(pid, sizeof(pid), "(pid %d)", (int)getpid());
    assert_said(place, pid);
    assert_said(place, "test_lb_admin_s"); /* the process's name, as far as the kernel keeps it */
    assert_said(place, "another admin.socket");
    int fd = connect_to(place->path, 0);
    assert_true(fd >= 0);
    close(fd);
    close_socket(&first);
}

/* Whoever is so busy that its queue is full is all the more alive. */
static void leaves_a_busy_socket_alone(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    int queued[8], count = 0;
    int foreign = make_foreign(place->path, true);
    while (count < 8 && (queued[count] = connect_to(place->path, SOCK_NONBLOCK)) >= 0)
        count++;
    assert_true(count < 8);
    assert_int_equal(try_open(place, place->path, 0600, &socket), -EADDRINUSE);
    assert_said(place, "another process");
    while (count > 0)
        close(queued[--count]);
    close(foreign);
}

static void never_removes_what_is_no_socket(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    int fd = open(place->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(try_open(place, place->path, 0600, &socket), -EEXIST);
    assert_said(place, "is not a socket");
    assert_int_equal(mode_of(place->path), S_IFREG | 0600);
}

/* Nor what a link points at: the link itself is no socket. */
static void does_not_follow_a_link(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    char target[96];
    snprintf(target, sizeof(target), "%s/target", place->directory);
    close(make_foreign(target, true));
    assert_int_equal(symlink(target, place->path), 0);
    assert_int_equal(try_open(place, place->path, 0600, &socket), -EEXIST);
    assert_int_equal(access(target, F_OK), 0);
    assert_int_equal(unlink(target), 0);
}

static void unlinks_only_its_own(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    assert_int_equal(try_open(place, place->path, 0600, &socket), 0);
    assert_int_equal(unlink(place->path), 0);
    int foreign = make_foreign(place->path, true);
    close_socket(&socket);
    int fd = connect_to(place->path, 0);
    assert_true(fd >= 0);
    close(fd);
    close(foreign);
}

static void unlinks_once(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    assert_int_equal(try_open(place, place->path, 0600, &socket), 0);
    admin_socket_unlink(&socket);
    admin_socket_unlink(&socket);
    close(socket.fd);
}

static void refuses_a_long_path(void **state)
{
    struct place *place = *state;
    struct admin_socket socket;
    char path[256];
    snprintf(path, sizeof(path), "%s/%0100d", place->directory, 0);
    assert_int_equal(try_open(place, path, 0600, &socket), -ENAMETOOLONG);
    assert_said(place, "longer than 107 bytes");
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void leaves_no_descriptor(void **state)
{
    struct place *place = *state;
    int before = count_descriptors();
    makes_a_private_socket(state);
    leaves_a_live_socket_alone(state);
    never_removes_what_is_no_socket(state);
    unlink(place->path);
    does_not_make_directories_above(state);
    assert_int_equal(count_descriptors(), before);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(makes_a_private_socket),
        CASE(gives_it_the_mode_asked_for),
        CASE(gives_it_to_its_user),
        CASE(makes_a_missing_directory),
        CASE(leaves_a_directory_as_it_is),
        CASE(does_not_make_directories_above),
        CASE(replaces_a_dead_socket),
        CASE(leaves_a_live_socket_alone),
        CASE(leaves_a_busy_socket_alone),
        CASE(never_removes_what_is_no_socket),
        CASE(does_not_follow_a_link),
        CASE(unlinks_only_its_own),
        CASE(unlinks_once),
        CASE(refuses_a_long_path),
        CASE(leaves_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
