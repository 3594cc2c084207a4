/*
 * Purpose: bytes and arrays that grow at their end, for texts and images of unknown length.
 * Thread:  the owner's.
 * Owns:    `data`, which whoever made the buffer frees or hands on.
 * Fails:   `failed` stays set once memory ran out, so that one look at the end is enough. (A memory
 *          stream of stdio does not tell: a write that cannot grow it sets no error.)
 *
 * Private to config/. All zero is an empty buffer.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stddef.h>

struct config_buffer {
    char *data;
    size_t size;
    size_t room;
    bool failed;
};

void config_buffer_add(struct config_buffer *buffer, const char *bytes, size_t size);

/* Room for one more in the array whose address is given: it doubles whenever its count is a power
 * of two. False: no memory, and the array is as it was. */
must_check bool config_make_room(void *array, size_t count, size_t size);
