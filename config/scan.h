/*
 * Purpose: goes through the tokens of a file, copies them for libconfig, and tells what is wrong.
 * Thread:  the helper process.
 * Owns:    nothing: a scan lives as long as config_source_read runs.
 * Fails:   `failed` is set, and errors are added.
 *
 * Private to config/.
 */
#pragma once

#include "config/buffer.h"
#include "config/source.h"

/* Deeper than the configuration goes, and harmless to the recursion in libconfig. */
#define CONFIG_BRACKETS_MAX 32

/* What one file after another is appended to. */
struct config_scan {
    struct config_source *source;
    struct config_errors *errors;
    struct config_buffer out;
    bool failed;
    bool stopped; /* more would only be noise */
    bool no_memory;
    /* brackets that are open, over all files */
    struct {
        char bracket;
        struct config_source_line place;
    } open[CONFIG_BRACKETS_MAX];
    size_t open_count;
    char before; /* the last character that is neither space nor comment; 0 at first */
    /* the files that include each other, down to the one being read */
    size_t chain[CONFIG_INCLUDE_DEPTH + 1];
    size_t depth; /* of includes: the last one's index */
};

/* Appends a file whose name is the source's `file`. */
void config_scan_file(struct config_scan *scan, size_t file, const char *data, size_t size);

/* Tells of brackets that are still open. */
void config_scan_end(struct config_scan *scan);

/* Reads the file that an @include at `place` names and scans it. In source.c. */
void config_scan_include(struct config_scan *scan, struct config_source_line place,
                         const char *name);

/* Begins a line of the text that comes from `place`. In source.c. */
void config_scan_begin_line(struct config_scan *scan, struct config_source_line place);

void config_scan_error(struct config_scan *scan, struct config_source_line place,
                       const char *format, ...) printf_like(3, 4);
