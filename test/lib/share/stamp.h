/*
 * Purpose: what stands in a datagram of udp_load and udp_flood, so that whoever gets it back knows
 *          which one it is, and whether it is whole.
 * Thread:  any, once stamp_body has been called.
 * Owns:    nothing.
 * Fails:   never.
 *
 * A datagram is a stamp and a body that its number tells. A server may put its name and a space
 * before it, cut it, or add zeroes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAMP_MAGIC UINT32_C(0x77654972)

struct stamp {
    uint32_t magic;
    uint32_t run; /* another one for each process */
    uint32_t flow;
    uint32_t slot;
    uint64_t seq; /* of this flow, from 0 */
};

/* The body of datagram number `seq`, as long as any can be. Not to be written to. */
char *stamp_body(uint64_t seq);

/* *name is the length of a name that stands before the stamp; 0: none. False: there is no stamp. */
bool stamp_read(struct stamp *out, const char *data, size_t size, size_t *name);

/*
 * Is a reply, whose stamp was read, what became of a datagram of `sent` bytes? It has `answer`
 * bytes in all; 0: a name, and the whole datagram.
 */
bool stamp_whole(const struct stamp *stamp, const char *data, size_t size, size_t sent,
                 size_t answer);
