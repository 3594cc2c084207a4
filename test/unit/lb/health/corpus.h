/*
 * Purpose: replays the corpus of a fuzz target, and all the beginnings of its members.
 * Thread:  the test's.
 * Owns:    nothing.
 * Fails:   as a cmocka assertion, or as the target does.
 */
#pragma once

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CORPUS_LEAST 10

typedef int corpus_target_fn(const uint8_t *data, size_t size);

static inline size_t corpus_load(const char *folder, const char *name, uint8_t *out, size_t size)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t length = fread(out, 1, size, file);
    assert_true(length < size);
    fclose(file);
    return length;
}

static inline void corpus_replay_one(const char *folder, const char *name, corpus_target_fn *target)
{
    static uint8_t buffer[16384];
    size_t length = corpus_load(folder, name, buffer, sizeof(buffer));
    for (size_t size = 0; size <= length; size++) {
        uint8_t *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, buffer, size);
        target(copy, size);
        free(copy);
    }
}

static inline void corpus_replay(const char *folder, corpus_target_fn *target)
{
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    size_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        corpus_replay_one(folder, entry->d_name, target);
        count++;
    }
    closedir(directory);
    assert_true(count >= CORPUS_LEAST);
}
