/*
 * Purpose: the lines that a test has logged; the log goes to stderr where no writer was started.
 * Thread:  the test's.
 * Owns:    the place of stderr, from begin_record to end_record.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct record {
    int before;
    int file;
    char text[8192];
};

static inline void begin_record(struct record *record)
{
    record->file = memfd_create("log", MFD_CLOEXEC);
    record->before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    assert_true(record->file >= 0 && record->before >= 0);
    assert_true(dup2(record->file, STDERR_FILENO) >= 0);
}

static inline void end_record(struct record *record)
{
    ssize_t length = pread(record->file, record->text, sizeof(record->text) - 1, 0);

    assert_true(dup2(record->before, STDERR_FILENO) >= 0);
    close(record->before);
    close(record->file);
    assert_true(length >= 0);
    record->text[length] = '\0';
}

static inline unsigned lines_of(const struct record *record)
{
    unsigned count = 0;

    for (const char *at = record->text; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    return count;
}

static inline void assert_says(const struct record *record, const char *words)
{
    if (strstr(record->text, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, record->text);
}

static inline void assert_says_number(const struct record *record, const char *name, uint64_t value)
{
    char words[64];

    snprintf(words, sizeof(words), " %s=%llu", name, (unsigned long long)value);
    assert_says(record, words);
}
