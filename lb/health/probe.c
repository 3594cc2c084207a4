/*
 * Purpose: the table of probe kinds.
 * Thread:  any: it is constant.
 * Owns:    nothing.
 * Fails:   see probe.h.
 */
#include "lb/health/probe.h"

#include <string.h>

#define KIND(name, symbol) {name, &probe_##symbol},
static const struct {
    const char *name;
    const struct probe_kind *kind;
} kinds[] = {PROBE_KINDS(KIND)};

#define NAME(name, symbol) name,
static const char *const names[] = {PROBE_KINDS(NAME)};

const struct probe_kind *probe_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return kinds[i].kind;
    }
    return NULL;
}

const char *const *health_probe_names(size_t *out_count)
{
    *out_count = ARRAY_LEN(names);
    return names;
}

bool health_probe_is_inet(const char *name)
{
    const struct probe_kind *kind = probe_kind_find(name);
    return kind != NULL && kind->inet;
}
