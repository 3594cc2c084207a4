/*
 * Purpose: how a pool picks a server: arithmetic over an array; no pool, socket, loop or clock.
 * Thread:  sched_new, sched_renew: control. sched_pick: any worker, each with its own cursor.
 *          sched_free: whoever holds the last reference.
 * Owns:    a scheduler copies what it needs of the members; `live` is borrowed and must outlive
 *          it. A cursor belongs to one worker.
 * Fails:   sched_new, sched_renew and sched_cursor_new return NULL without memory. sched_pick
 *          returns SCHED_NONE when no member may be used.
 *
 * A kind is one row of the table in kind.h and one file. A pick allocates nothing and costs at
 * most log n of the members, unless nearly all of them are tried, suspect or full.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What workers change about a server while others schedule by it; lives on a cache line of the
 * server's own. Relaxed atomics: a pick is a guess about the present anyway.
 */
struct sched_live {
    _Atomic uint32_t load;    /* sessions and flows, those connecting included */
    _Atomic uint32_t limit;   /* max_connections; 0: none */
    _Atomic uint32_t suspect; /* not 0: a worker saw it fail and no probe has spoken since */
};

struct sched_member {
    uint32_t id;     /* the server's, unique for the process's life */
    uint32_t weight; /* 0: never picked */
    bool usable; /* false: configured, but down, draining, in maintenance, or backup not called */
    const char *name; /* hash schedulers key by it */
    struct sched_live *live;
};

/* The last servers that a session tried in vain: the oldest is forgotten first. */
#define SCHED_TRIED_MAX 8
struct sched_tried {
    uint32_t count;
    uint32_t id[SCHED_TRIED_MAX];
};

void sched_tried_add(struct sched_tried *tried, uint32_t id);

#define SCHED_NONE UINT32_MAX

struct sched;
struct sched_cursor;

/* The row of a kind; NULL when there is none of that name. */
struct sched_kind;
const struct sched_kind *sched_kind_find(const char *name);
const char *sched_kind_name(const struct sched_kind *kind);
const char *sched_kind_help(const struct sched_kind *kind);
/* All names, in the table's order. */
const char *const *sched_kind_names(size_t *out_count);

struct sched *sched_new(const struct sched_kind *kind, const struct sched_member *members,
                        uint32_t count);
/*
 * The same for a pool's next view: `before` (or NULL), its scheduler up to now, lends what is still
 * true, such as maglev's table, and may be freed afterwards.
 */
struct sched *sched_renew(const struct sched *before, const struct sched_kind *kind,
                          const struct sched_member *members, uint32_t count);
void sched_free(struct sched **sched);

/*
 * A worker's private place in a scheduler. `before` is the same worker's cursor into the pool's
 * previous scheduler, or NULL: rotation goes on from there instead of starting at the first server
 * with each new view. `seed` makes cursors of different workers start at different places.
 */
struct sched_cursor *sched_cursor_new(const struct sched *sched, const struct sched_cursor *before,
                                      uint64_t seed);
void sched_cursor_free(struct sched_cursor **cursor);

/*
 * The index of a member with weight that is usable, not in `tried`, not at its limit and not
 * suspect. When only suspect ones are left, one of those; never one tried, unusable or at its
 * limit. `key` is the hash of the client's address (hash schedulers; the others ignore it). The
 * caller then counts the session into live->load.
 */
uint32_t sched_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                    const struct sched_tried *tried);

/* Members that sched_pick would consider if nothing were tried, suspect or full. */
uint32_t sched_usable(const struct sched *sched);
