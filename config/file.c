/*
 * Purpose: see file.h.
 * Thread:  the helper process.
 * Owns:    see file.h.
 * Fails:   see file.h.
 */
#include "config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads to the end; `*data` has room for one byte more than the limit, so that more is noticed. */
static int read_all(int fd, char *data, size_t limit, size_t *out_size)
{
    size_t size = 0;
    while (size <= limit) {
        ssize_t got = read(fd, data + size, limit + 1 - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            *out_size = size;
            return 0;
        }
        size += (size_t)got;
    }
    return -EFBIG;
}

/*
 * Only regular files: a fifo or a device may never end. The size that fstat tells is a floor only
 * (0 for a file in /proc), hence the least of 64 KiB.
 */
static int read_open_file(int fd, char **out, size_t *out_size)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if (status.st_size > CONFIG_FILE_SIZE_MAX)
        return -EFBIG;
    size_t limit = MAX((size_t)status.st_size, (size_t)64 * 1024);
    char *data = malloc(limit + 1);
    if (data == NULL)
        return -ENOMEM;
    int rc = read_all(fd, data, limit, out_size);
    if (rc < 0)
        free(data);
    else
        *out = data;
    return rc;
}

/* O_NONBLOCK, because to open a fifo waits for its writer. */
int config_file_read(const char *path, char **out, size_t *out_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int rc = read_open_file(fd, out, out_size);
    close(fd);
    return rc;
}

const char *config_file_reason(int rc)
{
    if (rc == -EINVAL)
        return "it is not a regular file";
    if (rc == -EISDIR)
        return "it is a directory";
    if (rc == -EFBIG)
        return "it is larger than 16 MiB, or grew while it was read";
    return strerror(-rc);
}

char *config_file_resolve(const char *said_by, const char *name)
{
    const char *slash = strrchr(said_by, '/');
    char *path = NULL;
    if (name[0] == '/' || slash == NULL)
        return strdup(name);
    return asprintf(&path, "%.*s/%s", (int)(slash - said_by), said_by, name) < 0 ? NULL : path;
}
