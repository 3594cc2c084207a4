/*
 * Purpose: the checks on what a listener's keys say together.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 */
#include "config/loader.h"

#include <inttypes.h>
#include <string.h>

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

static const struct config_section *section_of(const struct config_listener *listener,
                                               const void *field)
{
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == SECTION_LISTENER &&
            config_field(listener, config_sections[i].offset) == field)
            return &config_sections[i];
    return NULL;
}

static const char *protocol_of(const struct config_listener *listener,
                               char scratch[CONFIG_KEY_SCRATCH])
{
    return config_key_text(config_key_find(SECTION_LISTENER, "protocol"), listener, scratch);
}

static void refuse_protocol(struct config_loader *loader, const struct config_listener *listener,
                            int line, const char *name, const char *wanted)
{
    char scratch[CONFIG_KEY_SCRATCH];
    config_loader_error(loader, line,
                        "%s means nothing to a listener with protocol = \"%s\"; it is for "
                        "protocol = \"%s\"",
                        name, protocol_of(listener, scratch), wanted);
}

/* `defaults` may say anything: it speaks to the listeners of both. */
static void check_protocol_keys(struct config_loader *loader, const struct config *config)
{
    for (size_t i = 0; i < loader->place_count; i++) {
        const void *field = loader->places[i].object;
        int line = loader->places[i].line;
        const struct config_listener *listener = listener_around(config, field);
        if (listener == NULL || config_loader_is_wrong(loader, &listener->protocol))
            continue;
        const struct config_key *key = key_of(listener, field);
        const struct config_section *section = section_of(listener, field);
        if (key != NULL && !config_key_applies(key, listener))
            refuse_protocol(loader, listener, line, key->name, key->protocol);
        if (section != NULL && !config_section_applies(section, listener))
            refuse_protocol(loader, listener, line, section->name, section->protocol);
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

static void check_udp(struct config_loader *loader, const struct config_listener *listener)
{
    check_replies(loader, listener);
    check_requests(loader, listener);
}

void config_check_listeners(struct config_loader *loader, const struct config *config)
{
    check_protocol_keys(loader, config);
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        config_check_access(loader, listener);
        config_check_proxy_in(loader, listener);
        if (listener->protocol == CONFIG_PROTOCOL_UDP)
            check_udp(loader, listener);
        else
            config_check_routes(loader, listener);
    }
}
