/*
 * Purpose: the checks on what a listener's keys say together.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 */
#include "config/loader.h"

#include <inttypes.h>

/* ---- Keys of the other protocol ---- */

static const struct config_listener *listener_around(const struct config *config, const void *field)
{
    uintptr_t first = (uintptr_t)config->listeners;
    uintptr_t at = (uintptr_t)field;
    size_t size = config->listener_count * sizeof(*config->listeners);
    if (at < first || at - first >= size)
        return NULL;
    return &config->listeners[(at - first) / sizeof(*config->listeners)];
}

static const struct config_key *key_of(const struct config_listener *listener, const void *field)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->section == SECTION_LISTENER && config_field(listener, key->offset) == field)
            break;
    return key;
}

static const char *protocol_of(const struct config_listener *listener,
                               char scratch[CONFIG_KEY_SCRATCH])
{
    return config_key_text(config_key_find(SECTION_LISTENER, "protocol"), listener, scratch);
}

/* `defaults` may say anything: it speaks to the listeners of both. */
static void check_protocol_keys(struct config_loader *loader, const struct config *config)
{
    for (size_t i = 0; i < loader->place_count; i++) {
        char scratch[CONFIG_KEY_SCRATCH];
        const void *field = loader->places[i].object;
        const struct config_listener *listener = listener_around(config, field);
        const struct config_key *key = listener != NULL ? key_of(listener, field) : NULL;
        if (key == NULL || config_key_applies(key, listener) ||
            config_loader_is_wrong(loader, &listener->protocol))
            continue;
        config_loader_error(loader, loader->places[i].line,
                            "%s means nothing to a listener with protocol = \"%s\"; it is for "
                            "protocol = \"%s\"",
                            key->name, protocol_of(listener, scratch), key->protocol);
    }
}

/* ---- Values that exclude each other ---- */

static void check_replies(struct config_loader *loader, const struct config_listener *listener)
{
    if (listener->max_replies == 0 || listener->responses <= listener->max_replies)
        return;
    config_loader_error(loader, config_loader_line(loader, &listener->responses, listener),
                        "responses = %" PRId64 " is above max_replies = %" PRId64
                        ", so clients would never get all of them; max_replies must be 0, or "
                        "%" PRId64 " at least",
                        listener->responses, listener->max_replies, listener->responses);
}

static void check_requests(struct config_loader *loader, const struct config_listener *listener)
{
    if (listener->requests == 0 || !listener->per_packet)
        return;
    config_loader_error(loader, config_loader_line(loader, &listener->requests, listener),
                        "requests means nothing with per_packet = true, by which each datagram "
                        "picks a server; give one of them");
}

void config_check_listeners(struct config_loader *loader, const struct config *config)
{
    check_protocol_keys(loader, config);
    for (size_t i = 0; i < config->listener_count; i++) {
        if (config->listeners[i].protocol != CONFIG_PROTOCOL_UDP)
            continue;
        check_replies(loader, &config->listeners[i]);
        check_requests(loader, &config->listeners[i]);
    }
}
