/*
 * Purpose: reads the files of a configuration and keeps the map of their lines.
 * Thread:  the helper process.
 * Owns:    see source.h.
 * Fails:   see source.h.
 */
#include "config/source.h"

#include "config/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Files ---- */

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
static int read_file(const char *path, char **out, size_t *out_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int rc = read_open_file(fd, out, out_size);
    close(fd);
    return rc;
}

static const char *reason(int rc)
{
    if (rc == -EINVAL)
        return "it is not a regular file";
    if (rc == -EISDIR)
        return "it is a directory";
    if (rc == -EFBIG)
        return "it is larger than 16 MiB, or grew while it was read";
    return strerror(-rc);
}

/* ---- The map of lines ---- */

/* Room for one more in an array that doubles whenever its count is a power of two. */
static bool make_room(void *array, size_t count, size_t size)
{
    if ((count & (count - 1)) != 0)
        return true;
    void *old;
    memcpy(&old, array, sizeof(old));
    void *larger = realloc(old, MAX(2 * count, 1) * size);
    if (larger == NULL)
        return false;
    memcpy(array, &larger, sizeof(larger));
    return true;
}

void config_scan_begin_line(struct config_scan *scan, struct config_source_line place)
{
    struct config_source *source = scan->source;
    if (make_room(&source->lines, source->line_count, sizeof(*source->lines)))
        source->lines[source->line_count++] = place;
    else
        scan->no_memory = true;
}

/* Takes the name over. */
static bool add_file(struct config_scan *scan, char *name)
{
    struct config_source *source = scan->source;
    if (name == NULL || !make_room(&source->files, source->file_count, sizeof(*source->files))) {
        free(name);
        scan->no_memory = true;
        return false;
    }
    source->files[source->file_count++] = name;
    return true;
}

/* A line past the end happens: libconfig tells of an unexpected end there. */
struct config_source_line config_source_line(const struct config_source *source, int line)
{
    if (source->line_count == 0)
        return (struct config_source_line){.file = 0, .line = line};
    size_t index = line < 1 ? 0 : (size_t)line - 1;
    return source->lines[MIN(index, source->line_count - 1)];
}

const char *config_source_file(const struct config_source *source, int line)
{
    return source->files[config_source_line(source, line).file];
}

void config_scan_error(struct config_scan *scan, struct config_source_line place,
                       const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    config_errors_add(scan->errors, scan->source->files[place.file], place.line, "%s", text);
    scan->failed = true;
}

/* ---- Include ---- */

/* A relative name counts from the directory of the file that includes it. */
static char *resolve(const char *from, const char *name)
{
    const char *slash = strrchr(from, '/');
    char *path = NULL;
    if (name[0] == '/' || slash == NULL)
        return strdup(name);
    return asprintf(&path, "%.*s/%s", (int)(slash - from), from, name) < 0 ? NULL : path;
}

static void scan_path(struct config_scan *scan, const struct config_source_line *includer,
                      const char *path)
{
    size_t file = scan->source->file_count - 1;
    char *data = NULL;
    size_t size = 0;
    int rc = read_file(path, &data, &size);
    if (rc < 0) {
        struct config_source_line whole = {.file = file, .line = 0};
        config_scan_error(scan, includer != NULL ? *includer : whole, "cannot read \"%s\": %s",
                          path, reason(rc));
        return;
    }
    config_scan_file(scan, file, data, size);
    free(data);
}

/* True when the file is one of those that led to this include. */
static bool includes_itself(const struct config_scan *scan, const char *path)
{
    for (size_t i = 0; i <= scan->depth; i++)
        if (strcmp(scan->source->files[scan->chain[i]], path) == 0)
            return true;
    return false;
}

static bool may_include(struct config_scan *scan, struct config_source_line place, const char *path)
{
    if (includes_itself(scan, path))
        config_scan_error(scan, place, "\"%s\" includes itself", path);
    else if (scan->depth == CONFIG_INCLUDE_DEPTH)
        config_scan_error(scan, place, "includes are nested deeper than %d", CONFIG_INCLUDE_DEPTH);
    else if (scan->source->file_count == CONFIG_FILES_MAX)
        config_scan_error(scan, place, "more than %d files are included", CONFIG_FILES_MAX);
    else
        return true;
    scan->stopped = true;
    return false;
}

void config_scan_include(struct config_scan *scan, struct config_source_line place,
                         const char *name)
{
    char *path = resolve(scan->source->files[place.file], name);
    if (path == NULL) {
        scan->no_memory = true;
        return;
    }
    if (!may_include(scan, place, path)) {
        free(path);
        return;
    }
    if (!add_file(scan, path))
        return;
    scan->chain[++scan->depth] = scan->source->file_count - 1;
    config_buffer_add(&scan->out, "\n", 1);
    scan_path(scan, &place, path);
    scan->depth--;
}

/* ---- All of it ---- */

static int scan_all(struct config_scan *scan, const char *path)
{
    if (!add_file(scan, strdup(path)))
        return -ENOMEM;
    scan_path(scan, NULL, path);
    config_scan_end(scan);
    /* A line break, so that an error on the last line has its end, and the NUL that closes the
     * text. */
    config_buffer_add(&scan->out, "\n", 2);
    if (scan->no_memory || scan->out.failed)
        return -ENOMEM;
    return scan->failed ? -EINVAL : 0;
}

int config_source_read(struct config_source *source, const char *path, struct config_errors *errors)
{
    *source = (struct config_source){0};
    struct config_scan scan = {.source = source, .errors = errors};
    int rc = scan_all(&scan, path);
    source->text = scan.out.data;
    return rc;
}

void config_source_deinit(struct config_source *source)
{
    for (size_t i = 0; i < source->file_count; i++)
        free(source->files[i]);
    free(source->files);
    free(source->lines);
    free(source->text);
    *source = (struct config_source){0};
}
