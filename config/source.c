/*
 * Purpose: reads the files of a configuration and keeps the map of their lines.
 * Thread:  the helper process.
 * Owns:    see source.h.
 * Fails:   see source.h.
 */
#include "config/source.h"

#include "config/file.h"
#include "config/scan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- The map of lines ---- */

void config_scan_begin_line(struct config_scan *scan, struct config_source_line place)
{
    struct config_source *source = scan->source;
    if (config_make_room(&source->lines, source->line_count, sizeof(*source->lines)))
        source->lines[source->line_count++] = place;
    else
        scan->no_memory = true;
}

/* Takes the name over. */
static bool add_file(struct config_scan *scan, char *name)
{
    struct config_source *source = scan->source;
    if (name == NULL ||
        !config_make_room(&source->files, source->file_count, sizeof(*source->files))) {
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

static void scan_path(struct config_scan *scan, const struct config_source_line *includer,
                      const char *path)
{
    size_t file = scan->source->file_count - 1;
    char *data = NULL;
    size_t size = 0;
    int rc = config_file_read(path, &data, &size);
    if (rc < 0) {
        struct config_source_line whole = {.file = file, .line = 0};
        config_scan_error(scan, includer != NULL ? *includer : whole, "cannot read \"%s\": %s",
                          path, config_file_reason(rc));
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
    char *path = config_file_resolve(scan->source->files[place.file], name);
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
