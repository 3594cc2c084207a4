/*
 * Purpose: the key table as one, and how its rows are found.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "config/keys.h"

#include "config/rows.h"

#include <string.h>

/* In the order of help and reference. */
static const struct config_rows *const parts[] = {
    &config_rows_weir,
    &config_rows_pool,
    &config_rows_listener,
    &config_rows_route,
};

/* ---- Finding ---- */

const struct config_key *config_key_at(size_t index)
{
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (index < parts[i]->count)
            return &parts[i]->row[index];
        index -= parts[i]->count;
    }
    return NULL;
}

const char *config_reload_name(enum config_reload reload)
{
    static const char *const names[] = {"live", "new sessions", "restart"};
    return names[reload];
}

bool config_key_belongs(const struct config_key *key, enum config_section_id section)
{
    return key->section == section || (section == SECTION_DEFAULTS && key->inherits);
}

/* `wanted` is NULL where the listener may have any. */
static bool has_protocol(const struct config_listener *listener, const char *wanted)
{
    char scratch[CONFIG_KEY_SCRATCH];
    if (wanted == NULL)
        return true;
    const struct config_key *protocol = config_key_find(SECTION_LISTENER, "protocol");
    return strcmp(wanted, config_key_text(protocol, listener, scratch)) == 0;
}

bool config_key_applies(const struct config_key *key, const void *object)
{
    return has_protocol(object, key->protocol);
}

bool config_section_applies(const struct config_section *section, const void *parent)
{
    return has_protocol(parent, section->protocol);
}

const struct config_key *config_key_find(enum config_section_id section, const char *name)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (config_key_belongs(key, section) && strcmp(key->name, name) == 0)
            break;
    return key;
}

/* ---- Fields ---- */

int config_key_set(const struct config_key *key, void *object, const char *text, struct text *why)
{
    return key->type->set(key, config_field(object, key->offset), text, why);
}

const char *config_key_text(const struct config_key *key, const void *object,
                            char scratch[CONFIG_KEY_SCRATCH])
{
    return key->type->text(key, config_field(object, key->offset), scratch);
}

void config_key_clear(const struct config_key *key, void *object)
{
    key->type->clear(config_field(object, key->offset));
}
