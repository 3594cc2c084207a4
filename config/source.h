/*
 * Purpose: the text of a configuration with all it includes, fit for libconfig, and where each of
 *          its lines comes from.
 * Thread:  the helper process.
 * Owns:    the text and the names; config_source_deinit frees them.
 * Fails:   what is wrong is added to the errors, with file and line.
 *
 * Private to config/. Three traps of libconfig 1.5 end here:
 *  - `@include` never reaches it. It resolves includes by the working directory, and calls exit()
 * when one names a directory.
 *  - It reads integers with atoi(3), which wraps in silence. Every integer gets the suffix L, with
 *    which all of its 64 bits are read, and more than that is refused here.
 *  - It knows only "syntax error". The mistakes that people make (no quotes, no comma, brackets
 * that do not match, a string left open) are told here by their names.
 */
#pragma once

#include "config/config.h"

#define CONFIG_INCLUDE_DEPTH 10
#define CONFIG_FILES_MAX 1000

struct config_source_line {
    size_t file;
    int line;
};

struct config_source {
    char *text;
    struct config_source_line *lines; /* one for each line of the text */
    size_t line_count;
    char **files; /* names for people, in the order of reading */
    size_t file_count;
};

/* 0, -EINVAL with errors added, or -ENOMEM. Deinit in any case. */
must_check int config_source_read(struct config_source *source, const char *path,
                                  struct config_errors *errors);
void config_source_deinit(struct config_source *source);

/* Where a line of the text, counted from 1, stands in which file. */
struct config_source_line config_source_line(const struct config_source *source, int line);
const char *config_source_file(const struct config_source *source, int line);
