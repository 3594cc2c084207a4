/*
 * Purpose: reads a file that an operator named, whole, and finds it from where it was named.
 * Thread:  the helper process.
 * Owns:    what is read, and a resolved name, are the caller's to free.
 * Fails:   config_file_read with a negative errno, which config_file_reason puts into words;
 *          config_file_resolve with NULL when memory ran out.
 *
 * Private to config/.
 */
#pragma once

#include "common/base.h"

#include <stddef.h>

#define CONFIG_FILE_SIZE_MAX (16 << 20)

/*
 * Regular files only: a fifo or a device may never end, and to open one may wait for ever. -EINVAL
 * for those, -EISDIR, -EFBIG above CONFIG_FILE_SIZE_MAX or of one that grows, -ENOMEM, or what
 * open(2) and read(2) say. There is no NUL behind the data.
 */
must_check int config_file_read(const char *path, char **out, size_t *out_size);
const char *config_file_reason(int rc);

/* A relative name counts from the directory of the file that says it. */
must_check char *config_file_resolve(const char *said_by, const char *name);
