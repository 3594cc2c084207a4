#include "test/lib/share/stamp.h"

#include <string.h>

#include "test/lib/share/udp.h"

enum { BODIES = 256 };

char *stamp_body(uint64_t seq)
{
    /* A body is the pattern from its number on: nothing is copied to send it. */
    static char pattern[DATAGRAM_MAX + BODIES];
    static bool filled;
    uint32_t random = 1;

    for (size_t i = 0; !filled && i < sizeof(pattern); i++) {
        random = random * 1664525 + 1013904223;
        pattern[i] = (char)(random >> 24);
    }
    filled = true;
    return pattern + seq % BODIES;
}

/* The length of a name and its space. */
static size_t label_size(const char *data, size_t size)
{
    const uint32_t magic = STAMP_MAGIC;
    const char *space;

    if (size >= sizeof(magic) && memcmp(data, &magic, sizeof(magic)) == 0)
        return 0;
    space = memchr(data, ' ', size < NAME_LEN_MAX + 1 ? size : NAME_LEN_MAX + 1);
    return space != NULL ? (size_t)(space - data) + 1 : 0;
}

bool stamp_read(struct stamp *out, const char *data, size_t size, size_t *name)
{
    size_t label = label_size(data, size);

    if (size - label < sizeof(*out))
        return false;
    memcpy(out, data + label, sizeof(*out));
    *name = label > 0 ? label - 1 : 0;
    return out->magic == STAMP_MAGIC;
}

bool stamp_whole(const struct stamp *stamp, const char *data, size_t size, size_t sent,
                 size_t answer)
{
    size_t skip = label_size(data, size) + sizeof(*stamp);
    size_t left = size - skip;
    size_t body = sent - sizeof(*stamp);

    if (answer > 0 ? size != answer : left != body)
        return false;
    return memcmp(data + skip, stamp_body(stamp->seq), left < body ? left : body) == 0;
}
