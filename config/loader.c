/*
 * Purpose: from a file to a checked configuration: the order of the steps.
 * Thread:  the helper process.
 * Owns:    see loader.h.
 * Fails:   see config.h; -ENOMEM when memory ran out.
 */
#include "config/loader.h"

#include "config/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void config_loader_error(struct config_loader *loader, int line, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    config_errors_add(loader->errors, config_source_file(&loader->source, line),
                      config_source_line(&loader->source, line).line, "%s", text);
    loader->failed = true;
}

void config_loader_place(struct config_loader *loader, struct config_place place)
{
    if (!config_make_room(&loader->places, loader->place_count, sizeof(*loader->places))) {
        loader->no_memory = true;
        return;
    }
    loader->places[loader->place_count++] = place;
}

bool config_loader_is_wrong(const struct config_loader *loader, const void *field)
{
    for (size_t i = 0; i < loader->place_count; i++)
        if (loader->places[i].object == field)
            return loader->places[i].wrong;
    return false;
}

int config_loader_line(const struct config_loader *loader, const void *field, const void *around)
{
    int line = 1;
    for (size_t i = 0; i < loader->place_count; i++) {
        if (loader->places[i].object == field)
            return loader->places[i].line;
        if (loader->places[i].object == around)
            line = loader->places[i].line;
    }
    return line;
}

void config_loader_deinit(struct config_loader *loader)
{
    config_source_deinit(&loader->source);
    free(loader->places);
}

static int load(struct config_loader *loader, const char *path, struct config *config)
{
    int rc = config_source_read(&loader->source, path, loader->errors);
    if (rc < 0)
        return rc;
    config->path = strdup(path);
    if (config->path == NULL)
        return -ENOMEM;
    if (config_walk(loader, config) && !loader->no_memory) {
        config_read_lists(loader, config);
        config_check(loader, config);
        config_check_listeners(loader, config);
        config_check_addresses(loader, config);
        config_complete(config);
    }
    if (loader->no_memory)
        return -ENOMEM;
    return loader->failed ? -EINVAL : 0;
}

int config_parse(const char *path, const struct config_names *names, struct config **out,
                 struct config_errors *errors)
{
    struct config_loader loader = {.errors = errors, .names = names};
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return -ENOMEM;
    int rc = load(&loader, path, config);
    config_loader_deinit(&loader);
    if (rc == 0) {
        *out = config;
        return 0;
    }
    config_free(&config);
    config_errors_sort(errors);
    return rc;
}
