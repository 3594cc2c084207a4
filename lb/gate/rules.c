/*
 * Purpose: see rules.h.
 * Thread:  see rules.h.
 * Owns:    see rules.h.
 * Fails:   see rules.h.
 */
#include "lb/gate/rules.h"

#include "common/networks.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct rule_table {
    struct rule_table *next; /* once replaced */
    struct networks *networks;
};

static void free_tables(struct rule_table **list)
{
    while (*list != NULL) {
        struct rule_table *table = *list;
        *list = table->next;
        networks_free(&table->networks);
        free(table);
    }
}

/* ---- A new table ---- */

static int fill_table(struct rule_table *table, const struct gate_rule *rule, size_t count)
{
    struct network *network = calloc(count, sizeof(*network));
    uint32_t *value = calloc(count, sizeof(*value));
    int rc = -ENOMEM;
    if (network != NULL && value != NULL) {
        for (size_t i = 0; i < count; i++) {
            network[i] = rule[i].network;
            value[i] = rules_value(&rule[i].network, rule[i].denies);
        }
        rc = networks_new(&table->networks, network, value, count);
    }
    free(network);
    free(value);
    return rc;
}

/* None for no rules: then it is as if nothing had been said. */
static int make_table(struct rule_table **out, const struct gate_rule *rule, size_t count)
{
    *out = NULL;
    if (count == 0)
        return 0;
    struct rule_table *table = calloc(1, sizeof(*table));
    int rc = table != NULL ? fill_table(table, rule, count) : -ENOMEM;
    if (rc < 0) {
        free(table);
        return rc;
    }
    *out = table;
    return 0;
}

static int publish(struct rules *rules, const struct gate_rule *rule, size_t count)
{
    struct rule_table *table;
    int rc = make_table(&table, rule, count);
    if (rc < 0)
        return rc;
    /* Release: who finds the table finds what it is made of. */
    struct rule_table *old = atomic_exchange_explicit(&rules->table, table, memory_order_acq_rel);
    if (old == NULL)
        return 0;
    old->next = rules->replaced;
    rules->replaced = old;
    return 0;
}

/* ---- Changes ---- */

/* `count` when there is none. */
static size_t index_of(const struct rules *rules, const struct network *network)
{
    size_t i = 0;
    while (i < rules->count && network_compare(&rules->rule[i].network, network) != 0)
        i++;
    return i;
}

static int make_room(struct rules *rules)
{
    if (rules->count < rules->room)
        return 0;
    size_t room = MAX(2 * rules->room, (size_t)16);
    struct gate_rule *rule = reallocarray(rules->rule, room, sizeof(*rule));
    if (rule == NULL)
        return -ENOMEM;
    rules->rule = rule;
    rules->room = room;
    return 0;
}

int rules_put(struct rules *rules, const struct gate_rule *rule)
{
    size_t i = index_of(rules, &rule->network);
    bool is_new = i == rules->count;
    if (is_new && rules->count == GATE_RULES_MAX)
        return -ENOSPC;
    int rc = make_room(rules);
    if (rc < 0)
        return rc;
    struct gate_rule before = rules->rule[i];
    rules->rule[i] = *rule;
    rc = publish(rules, rules->rule, rules->count + is_new);
    if (rc < 0)
        rules->rule[i] = before;
    else
        rules->count += is_new;
    return rc;
}

/* Those for which `stays` holds, in a table of their own first. */
static int keep(struct rules *rules, bool (*stays)(const struct gate_rule *, const void *),
                const void *arg)
{
    struct gate_rule *kept = calloc(rules->count + 1, sizeof(*kept));
    size_t count = 0;
    if (kept == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < rules->count; i++)
        if (stays(&rules->rule[i], arg))
            kept[count++] = rules->rule[i];
    int rc = publish(rules, kept, count);
    if (rc == 0) {
        memcpy(rules->rule, kept, count * sizeof(*kept));
        rules->count = count;
    }
    free(kept);
    return rc;
}

static bool is_another(const struct gate_rule *rule, const void *network)
{
    return network_compare(&rule->network, network) != 0;
}

int rules_drop(struct rules *rules, const struct network *network)
{
    if (index_of(rules, network) == rules->count)
        return -ENOENT;
    return keep(rules, is_another, network);
}

static bool is_in_time(const struct gate_rule *rule, const void *now_ms)
{
    return rule->until_ms > *(const uint64_t *)now_ms;
}

int rules_expire(struct rules *rules, uint64_t now_ms)
{
    return rules_next_ms(rules) <= now_ms ? keep(rules, is_in_time, &now_ms) : 0;
}

uint64_t rules_next_ms(const struct rules *rules)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < rules->count; i++)
        next = MIN(next, rules->rule[i].until_ms);
    return next;
}

/* ---- Old tables ---- */

void rules_retire(struct rules *rules)
{
    BUG_ON(rules->leaving != NULL);
    rules->leaving = rules->replaced;
    rules->replaced = NULL;
}

void rules_reclaim(struct rules *rules)
{
    free_tables(&rules->leaving);
}

void rules_deinit(struct rules *rules)
{
    struct rule_table *table = atomic_exchange_explicit(&rules->table, NULL, memory_order_acquire);
    free_tables(&table);
    free_tables(&rules->replaced);
    free_tables(&rules->leaving);
    free(rules->rule);
    *rules = (struct rules){.table = NULL};
}

/* ---- Looking ---- */

bool rules_find(const struct rules *rules, const union inet_address *address, uint32_t *out_value)
{
    const struct rule_table *table = atomic_load_explicit(&rules->table, memory_order_acquire);
    return table != NULL && networks_find(table->networks, address, out_value);
}
