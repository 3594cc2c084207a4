/*
 * Purpose: the groups and lists that a configuration is made of.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   config_list_make without memory.
 */
#include "config/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct config_section config_sections[SECTION_COUNT] = {
    [SECTION_ROOT] = {.name = "", .path = "", .help = "", .parent = SECTION_ROOT},
    [SECTION_WEIR] = {.name = "weir",
                      .path = "weir",
                      .help = "The process as a whole.",
                      .parent = SECTION_ROOT,
                      .offset = offsetof(struct config, weir)},
    [SECTION_ADMIN] = {.name = "admin",
                       .path = "weir.admin",
                       .help = "The Unix socket that weirctl talks to.",
                       .parent = SECTION_WEIR},
    [SECTION_LOG] = {.name = "log",
                     .path = "weir.log",
                     .help = "Where and how much is logged.",
                     .parent = SECTION_WEIR},
    [SECTION_DEFAULTS] = {.name = "defaults",
                          .path = "defaults",
                          .help = "What pools and listeners use where they say nothing themselves.",
                          .parent = SECTION_ROOT},
    [SECTION_POOL] = {.name = "pools",
                      .path = "pools",
                      .help = "Sets of servers, each with a scheduler and a health policy.",
                      .parent = SECTION_ROOT,
                      .list = true,
                      .required = true,
                      .offset = offsetof(struct config, pools),
                      .count_offset = offsetof(struct config, pool_count),
                      .size = sizeof(struct config_pool),
                      .line_offset = offsetof(struct config_pool, line)},
    [SECTION_SERVER] = {.name = "servers",
                        .path = "pools.servers",
                        .help = "The servers of a pool.",
                        .parent = SECTION_POOL,
                        .list = true,
                        .required = true,
                        .offset = offsetof(struct config_pool, servers),
                        .count_offset = offsetof(struct config_pool, server_count),
                        .size = sizeof(struct config_server),
                        .line_offset = offsetof(struct config_server, line)},
    [SECTION_HEALTH] = {.name = "health",
                        .path = "pools.health",
                        .help = "How the servers of a pool are probed. Without this group they are "
                                "not, and count as up.",
                        .parent = SECTION_POOL,
                        .offset = offsetof(struct config_pool, health)},
    [SECTION_LISTENER] = {.name = "listeners",
                          .path = "listeners",
                          .help = "Addresses that clients reach, each with the pool it feeds.",
                          .parent = SECTION_ROOT,
                          .list = true,
                          .required = true,
                          .offset = offsetof(struct config, listeners),
                          .count_offset = offsetof(struct config, listener_count),
                          .size = sizeof(struct config_listener),
                          .line_offset = offsetof(struct config_listener, line)},
    [SECTION_ROUTE] = {.name = "routes",
                       .path = "listeners.routes",
                       .help = "Pools for some of a listener's clients. Of the routes whose every "
                               "condition fits, one with the whole sni comes before the longest "
                               "wildcard, that before none, and then the first in the file.",
                       .parent = SECTION_LISTENER,
                       .list = true,
                       .protocol = "tcp",
                       .offset = offsetof(struct config_listener, routes),
                       .count_offset = offsetof(struct config_listener, route_count),
                       .size = sizeof(struct config_route),
                       .line_offset = offsetof(struct config_route, line)},
};

const struct config_section *config_section_find(enum config_section_id parent, const char *name)
{
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == parent && strcmp(config_sections[i].name, name) == 0)
            return &config_sections[i];
    return NULL;
}

enum config_section_id config_section_id(const struct config_section *section)
{
    return (enum config_section_id)(section - config_sections);
}

/* The field's type is a pointer to some struct: read and written as bytes, so that none is assumed.
 */
char *config_list_array(const struct config_section *list, const void *parent)
{
    char *array;
    memcpy(&array, config_field(parent, list->offset), sizeof(array));
    return array;
}

size_t config_list_count(const struct config_section *list, const void *parent)
{
    const size_t *count = config_field(parent, list->count_offset);
    return *count;
}

int *config_list_line(const struct config_section *list, const void *element)
{
    return config_field(element, list->line_offset);
}

int config_list_make(const struct config_section *list, void *parent, size_t count)
{
    char *array = calloc(MAX(count, 1), list->size);
    if (array == NULL)
        return -ENOMEM;
    memcpy(config_field(parent, list->offset), &array, sizeof(array));
    size_t *field = config_field(parent, list->count_offset);
    *field = count;
    return 0;
}
