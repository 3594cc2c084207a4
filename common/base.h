/*
 * Purpose: the few macros that every file of weir may use.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   BUG_ON ends the process, in every build: a broken invariant is never carried on with.
 */
#pragma once

#include <stddef.h>
#include <sys/param.h> /* MIN and MAX: uv.h includes it too, so a second pair would collide */

#define must_check __attribute__((warn_unused_result))
#define printf_like(string, first) __attribute__((format(printf, string, first)))

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* The struct that holds `member`, which `pointer` points at. */
#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Bytes that two threads write never share a line of this size. */
#define CACHE_LINE 64

_Noreturn void bug(const char *file, int line, const char *condition);

#define BUG_ON(condition)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!!(condition), 0))                                                    \
            bug(__FILE__, __LINE__, #condition);                                                   \
    } while (0)
