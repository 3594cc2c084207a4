/*
 * Purpose: the schedulers of sched.h: the table of kinds, and what is the same for all of them.
 * Thread:  see sched.h.
 * Owns:    schedulers, their candidates, and cursors.
 * Fails:   see sched.h.
 */
#include "lb/sched/sched.h"

#include "lb/sched/kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sched_kind {
    const char *name;
    const char *help;
    const struct sched_ops *ops;
};

#define KIND(name, symbol, help) {name, help, &sched_##symbol},
static const struct sched_kind kinds[] = {SCHED_KINDS(KIND)};

#define NAME(name, symbol, help) name,
static const char *const names[] = {SCHED_KINDS(NAME)};

const struct sched_kind *sched_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}

const char *sched_kind_name(const struct sched_kind *kind)
{
    return kind->name;
}

const char *sched_kind_help(const struct sched_kind *kind)
{
    return kind->help;
}

const char *const *sched_kind_names(size_t *out_count)
{
    *out_count = ARRAY_LEN(names);
    return names;
}

void sched_tried_add(struct sched_tried *tried, uint32_t id)
{
    if (tried->count == SCHED_TRIED_MAX) {
        memmove(&tried->id[0], &tried->id[1], sizeof(tried->id) - sizeof(tried->id[0]));
        tried->count--;
    }
    tried->id[tried->count++] = id;
}

/* ---- schedulers ---- */

static int collect_candidates(struct sched *sched, const struct sched_member *members,
                              uint32_t count)
{
    sched->candidate = calloc(MAX(count, 1u), sizeof(*sched->candidate));
    if (sched->candidate == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        const struct sched_member *member = &members[i];
        if (!member->usable || member->weight == 0)
            continue;
        sched->candidate[sched->count++] = (struct sched_candidate){
            .live = member->live,
            .id = member->id,
            .weight = member->weight,
            .member = i,
        };
    }
    return 0;
}

struct sched *sched_new(const struct sched_kind *kind, const struct sched_member *members,
                        uint32_t count)
{
    return sched_renew(NULL, kind, members, count);
}

struct sched *sched_renew(const struct sched *before, const struct sched_kind *kind,
                          const struct sched_member *members, uint32_t count)
{
    struct sched *sched = calloc(1, kind->ops->size);
    if (sched == NULL)
        return NULL;
    sched->kind = kind;
    if (before != NULL && before->kind != kind)
        before = NULL;

    int error = collect_candidates(sched, members, count);
    if (error == 0 && kind->ops->build != NULL)
        error = kind->ops->build(sched, members, count, before);
    if (error != 0)
        sched_free(&sched);
    return sched;
}

void sched_free(struct sched **sched)
{
    struct sched *old = *sched;
    if (old == NULL)
        return;
    if (old->kind->ops->destroy != NULL)
        old->kind->ops->destroy(old);
    free(old->candidate);
    free(old);
    *sched = NULL;
}

uint32_t sched_usable(const struct sched *sched)
{
    return sched->count;
}

/* ---- cursors ---- */

struct sched_cursor *sched_cursor_new(const struct sched *sched, const struct sched_cursor *before,
                                      uint64_t seed)
{
    const struct sched_ops *ops = sched->kind->ops;
    struct sched_cursor *cursor = calloc(1, ops->cursor_size);
    if (cursor == NULL)
        return NULL;
    cursor->ops = ops;
    cursor->sched = sched;
    /* The numbers go on too: begun anew with each view, the first few would be all that is used. */
    if (before != NULL)
        cursor->random = before->random;
    else
        random_init(&cursor->random, seed);

    if (before != NULL && before->ops != ops)
        before = NULL;
    if (ops->begin != NULL && ops->begin(cursor, before) != 0)
        sched_cursor_free(&cursor);
    return cursor;
}

void sched_cursor_free(struct sched_cursor **cursor)
{
    struct sched_cursor *old = *cursor;
    if (old == NULL)
        return;
    if (old->ops->end != NULL)
        old->ops->end(old);
    free(old);
    *cursor = NULL;
}

/* ---- picks ---- */

uint32_t sched_pick(const struct sched *sched, struct sched_cursor *cursor, uint64_t key,
                    const struct sched_tried *tried)
{
    BUG_ON(cursor->sched != sched);
    if (sched->count == 0)
        return SCHED_NONE;
    uint32_t position = cursor->ops->pick(sched, cursor, key, tried);
    return position == SCHED_NONE ? SCHED_NONE : sched->candidate[position].member;
}

uint32_t sched_scan(const struct sched *sched, uint32_t start, const struct sched_tried *tried)
{
    uint32_t doubtful = SCHED_NONE;
    uint32_t position = start;
    for (uint32_t i = 0; i < sched->count; i++) {
        enum sched_verdict verdict = sched_judge(&sched->candidate[position], tried);
        if (verdict == SCHED_YES)
            return position;
        if (verdict == SCHED_DOUBT && doubtful == SCHED_NONE)
            doubtful = position;
        position = position + 1 == sched->count ? 0 : position + 1;
    }
    return doubtful;
}
