/*
 * Purpose: see socket.h.
 * Thread:  see socket.h.
 * Owns:    see socket.h.
 * Fails:   see socket.h.
 *
 * A socket file outlives the process that made it, so whether one is in use is found out by
 * connecting to it. Between that and our listen(2) another weir could do the same and either of the
 * two would remove the other's socket; hence the lock on the directory, which leaves no file
 * behind.
 */
#include "lb/admin/socket.h"

#include "common/log.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DIRECTORY_MODE 0750

/* What every step works on. */
struct claim {
    const struct admin_socket_options *options;
    struct sockaddr_un address;
    int directory; /* locked */
    char *error;
    size_t error_size;
};

/* Returns -code, so that the caller says why and returns in one statement. */
static int printf_like(3, 4) refuse(struct claim *claim, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(claim->error, claim->error_size, format, arguments);
    va_end(arguments);
    return -code;
}

static int refuse_path(struct claim *claim, int code, const char *what)
{
    return refuse(claim, code, "cannot %s the admin socket %s: %s", what, claim->options->path,
                  strerrordesc_np(code));
}

static int set_address(struct claim *claim)
{
    const char *path = claim->options->path;
    size_t size = strlen(path) + 1;
    if (size > sizeof(claim->address.sun_path))
        return refuse(claim, ENAMETOOLONG,
                      "the path of the admin socket %s is longer than %zu bytes", path,
                      sizeof(claim->address.sun_path) - 1);
    claim->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(claim->address.sun_path, path, size);
    return 0;
}

/* ---- the directory ---- */

#define PATH_SIZE sizeof(((struct sockaddr_un *)NULL)->sun_path)

/* "." when the path names none. */
static void directory_of(const char *path, char out[PATH_SIZE])
{
    const char *slash = strrchr(path, '/');
    size_t length = slash != NULL ? MAX((size_t)(slash - path), (size_t)1) : 1;
    snprintf(out, PATH_SIZE, "%.*s", (int)length, slash != NULL ? path : ".");
}

/* The mode anew: mkdir(2) had it cut by the umask. */
static int give_directory(struct claim *claim, const char *name)
{
    const struct admin_socket_options *options = claim->options;
    if (fchown(claim->directory, options->uid, options->gid) < 0 ||
        fchmod(claim->directory, DIRECTORY_MODE) < 0)
        return refuse(claim, errno, "cannot hand the new directory %s over to its user: %s", name,
                      strerrordesc_np(errno));
    return 0;
}

static int open_directory(struct claim *claim)
{
    char name[PATH_SIZE];
    directory_of(claim->options->path, name);
    bool made = mkdir(name, DIRECTORY_MODE) == 0;
    if (!made && errno != EEXIST)
        return refuse(claim, errno, "cannot make the directory %s of the admin socket: %s", name,
                      strerrordesc_np(errno));
    claim->directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (claim->directory < 0)
        return refuse(claim, errno, "cannot open the directory %s of the admin socket: %s", name,
                      strerrordesc_np(errno));
    if (made) {
        int rc = give_directory(claim, name);
        if (rc < 0)
            return rc;
    }
    if (flock(claim->directory, LOCK_EX) < 0)
        return refuse(claim, errno, "cannot lock the directory %s of the admin socket: %s", name,
                      strerrordesc_np(errno));
    return 0;
}

/* ---- what is there already ---- */

static void name_process(pid_t pid, struct text *to)
{
    char path[32], name[64] = "";
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(name, sizeof(name), file) != NULL)
            name[strcspn(name, "\n")] = '\0';
        fclose(file);
    }
    text_addf(to, "%s (pid %d)", name[0] != '\0' ? name : "a process", (int)pid);
}

/* The process that called listen(2): unix(7), SO_PEERCRED. */
static int refuse_live(struct claim *claim, int fd)
{
    char holder[128];
    struct text text;
    struct ucred peer;
    socklen_t size = sizeof(peer);
    text_init(&text, holder, sizeof(holder));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0)
        name_process(peer.pid, &text);
    else
        text_add(&text, "another process");
    return refuse(claim, EADDRINUSE,
                  "the admin socket %s is in use by %s: end that one, or give this weir another "
                  "admin.socket",
                  claim->options->path, holder);
}

/* Not blocking: a live one whose queue is full would keep us waiting, and says EAGAIN instead. */
static int probe(struct claim *claim)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse_path(claim, errno, "look at");
    int rc = 0;
    if (connect(fd, (struct sockaddr *)&claim->address, sizeof(claim->address)) == 0 ||
        errno == EAGAIN)
        rc = refuse_live(claim, fd);
    else if (errno != ECONNREFUSED && errno != ENOENT)
        rc = refuse_path(claim, errno, "find out whether anybody uses");
    close(fd);
    return rc;
}

static int clear_path(struct claim *claim)
{
    const char *path = claim->options->path;
    struct stat found;
    if (lstat(path, &found) < 0)
        return errno == ENOENT ? 0 : refuse_path(claim, errno, "look at");
    if (!S_ISSOCK(found.st_mode))
        return refuse(claim, EEXIST,
                      "%s is not a socket, so weir does not remove it: move it away, or give weir "
                      "another admin.socket",
                      path);
    int rc = probe(claim);
    if (rc < 0)
        return rc;
    return unlink(path) == 0 || errno == ENOENT ? 0 : refuse_path(claim, errno, "remove the dead");
}

/* ---- ours ---- */

/* The mode comes last: chown(2) may clear bits of it. Neither follows a link put there meanwhile.
 */
static int give_file(struct claim *claim, struct admin_socket *made)
{
    const struct admin_socket_options *options = claim->options;
    struct stat found;
    if (lchown(options->path, options->uid, options->gid) < 0)
        return refuse_path(claim, errno, "change the owner of");
    if (fchmodat(AT_FDCWD, options->path, options->mode, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse_path(claim, errno, "change the mode of");
    if (lstat(options->path, &found) < 0)
        return refuse_path(claim, errno, "look at");
    made->device = found.st_dev;
    made->inode = found.st_ino;
    return 0;
}

static int bind_privately(struct claim *claim, int fd)
{
    mode_t before = umask(0177);
    int rc = bind(fd, (struct sockaddr *)&claim->address, sizeof(claim->address));
    int code = errno;
    umask(before);
    return rc == 0 ? 0 : refuse_path(claim, code, "bind");
}

static int make_socket(struct claim *claim, struct admin_socket *made)
{
    made->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    made->path = strdup(claim->options->path);
    if (made->fd < 0 || made->path == NULL)
        return refuse_path(claim, made->path == NULL ? ENOMEM : errno, "make");
    int rc = bind_privately(claim, made->fd);
    if (rc < 0)
        return rc;
    rc = give_file(claim, made);
    if (rc == 0 && listen(made->fd, claim->options->backlog) < 0)
        rc = refuse_path(claim, errno, "listen on");
    if (rc < 0)
        unlink(claim->options->path);
    return rc;
}

int admin_socket_open(struct admin_socket *out, const struct admin_socket_options *options,
                      char *error, size_t error_size)
{
    struct claim claim = {
        .options = options, .directory = -1, .error = error, .error_size = error_size};
    struct admin_socket made = {.fd = -1};
    int rc = set_address(&claim);
    if (rc == 0)
        rc = open_directory(&claim);
    if (rc == 0)
        rc = clear_path(&claim);
    if (rc == 0)
        rc = make_socket(&claim, &made);
    if (claim.directory >= 0)
        close(claim.directory);
    if (rc == 0) {
        *out = made;
        return 0;
    }
    if (made.fd >= 0)
        close(made.fd);
    free(made.path);
    return rc;
}

static bool is_ours(const struct admin_socket *socket)
{
    struct stat found;
    return lstat(socket->path, &found) == 0 && found.st_dev == socket->device &&
           found.st_ino == socket->inode;
}

void admin_socket_unlink(struct admin_socket *socket)
{
    if (socket->path == NULL)
        return;
    if (is_ours(socket) && unlink(socket->path) < 0)
        log_warn("the admin socket stays behind", LOG_S("path", socket->path),
                 LOG_S("error", strerrordesc_np(errno)));
    free(socket->path);
    socket->path = NULL;
}
