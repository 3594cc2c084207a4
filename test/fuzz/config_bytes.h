/*
 * Purpose: what the fuzz targets of the configuration share: bytes as a file, and who reads it.
 * Thread:  the target's.
 * Owns:    a file lives until its descriptor is closed by the caller.
 * Fails:   never: a kernel without room for the file ends the target.
 */
#pragma once

#include "config/config.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONFIG_BYTES_FOLDER "/proc/self/fd/"

/* libconfig 1.5 forgets a string that stands where the syntax is wrong; its process ends soon. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

static const char *const config_bytes_schedulers[] = {"round-robin", "p2c", "maglev"};
static const char *const config_bytes_probes[] = {"tcp", "http", "udp", "dns"};

static bool config_bytes_probe_is_inet(const char *name)
{
    return strcmp(name, "udp") == 0 || strcmp(name, "dns") == 0;
}

static const struct config_names config_bytes_names = {
    .schedulers = config_bytes_schedulers,
    .scheduler_count = ARRAY_LEN(config_bytes_schedulers),
    .probes = config_bytes_probes,
    .probe_count = ARRAY_LEN(config_bytes_probes),
    .probe_is_inet = config_bytes_probe_is_inet};

/* A file that has no name but its descriptor's, which is returned. */
static inline int config_bytes_file(const void *data, size_t size, char path[64])
{
    int fd = memfd_create("weir.cfg", MFD_CLOEXEC);
    BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
    snprintf(path, 64, CONFIG_BYTES_FOLDER "%d", fd);
    return fd;
}

static inline int config_bytes_parse(const void *data, size_t size, struct config **out,
                                     struct config_errors *errors)
{
    char path[64];
    int fd = config_bytes_file(data, size, path);
    int rc = config_parse(path, &config_bytes_names, out, errors);
    close(fd);
    return rc;
}
