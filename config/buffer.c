/*
 * Purpose: see buffer.h.
 * Thread:  the owner's.
 * Owns:    see buffer.h.
 * Fails:   see buffer.h.
 */
#include "config/buffer.h"

#include "common/base.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 1024

static bool make_room(struct config_buffer *buffer, size_t more)
{
    size_t room = MAX(buffer->room, ROOM_LEAST);
    while (room - buffer->size < more)
        if (__builtin_mul_overflow(room, 2, &room))
            return false;
    if (room == buffer->room)
        return true;
    char *data = realloc(buffer->data, room);
    if (data == NULL)
        return false;
    buffer->data = data;
    buffer->room = room;
    return true;
}

void config_buffer_add(struct config_buffer *buffer, const char *bytes, size_t size)
{
    if (buffer->failed || !make_room(buffer, size)) {
        buffer->failed = true;
        return;
    }
    memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
}

bool config_make_room(void *array, size_t count, size_t size)
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
