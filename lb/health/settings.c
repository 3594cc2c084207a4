/*
 * Purpose: copies of health settings, see settings.h.
 * Thread:  any.
 * Owns:    the strings and addresses of a copy.
 * Fails:   settings_copy without memory.
 */
#include "lb/health/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRINGS 9

static void list_strings(struct config_health *settings, char **out[STRINGS])
{
    out[0] = &settings->type;
    out[1] = &settings->path;
    out[2] = &settings->host;
    out[3] = &settings->status;
    out[4] = &settings->body;
    out[5] = &settings->send;
    out[6] = &settings->expect;
    out[7] = &settings->dns_name;
    out[8] = &settings->dns_address;
}

void settings_deinit(struct config_health *settings)
{
    char **string[STRINGS];
    list_strings(settings, string);
    for (size_t i = 0; i < STRINGS; i++) {
        free(*string[i]);
        *string[i] = NULL;
    }
    free((void *)settings->source);
    settings->source = NULL;
    settings->source_count = 0;
}

static const union inet_address *copy_sources(const struct config_health *from)
{
    union inet_address *copy = calloc(MAX(from->source_count, 1), sizeof(*copy));
    for (size_t i = 0; copy != NULL && i < from->source_count; i++)
        copy[i] = from->source[i];
    return copy;
}

int settings_copy(struct config_health *out, const struct config_health *from)
{
    struct config_health copy = *from;
    char **string[STRINGS];
    list_strings(&copy, string);
    bool whole = true;
    /* All of them in any case: settings_deinit must meet no string of `from`. */
    for (size_t i = 0; i < STRINGS; i++) {
        *string[i] = strdup(*string[i] != NULL ? *string[i] : "");
        whole &= *string[i] != NULL;
    }
    copy.source = copy_sources(from);
    if (!whole || copy.source == NULL) {
        settings_deinit(&copy);
        return -ENOMEM;
    }
    *out = copy;
    return 0;
}
