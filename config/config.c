/*
 * Purpose: the end of a configuration.
 * Thread:  the owner's.
 * Owns:    see config.h.
 * Fails:   never.
 */
#include "config/config.h"

#include "config/keys.h"

#include <stdlib.h>

static void clear_section(enum config_section_id id, void *object);

static void clear_list(const struct config_section *list, void *parent)
{
    char *array = config_list_array(list, parent);
    size_t count = config_list_count(list, parent);
    for (size_t i = 0; i < count; i++)
        clear_section(config_section_id(list), array + i * list->size);
    free(array);
}

static void clear_section(enum config_section_id id, void *object)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->section == id)
            config_key_clear(key, object);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent != id)
            continue;
        if (section->list)
            clear_list(section, object);
        else
            clear_section(config_section_id(section), config_field(object, section->offset));
    }
}

void config_free(struct config **config)
{
    if (*config == NULL)
        return;
    clear_section(SECTION_ROOT, *config);
    free((*config)->path);
    free(*config);
    *config = NULL;
}

bool config_listener_feeds(const struct config_listener *listener, size_t pool)
{
    if (listener->pool_index == pool)
        return true;
    for (size_t i = 0; i < listener->route_count; i++) {
        if (listener->routes[i].pool_index == pool)
            return true;
    }
    return false;
}
