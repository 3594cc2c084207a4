/*
 * Purpose: the type of the key `source`: addresses of this machine, or the word "client".
 * Thread:  any.
 * Owns:    a field owns its text and its array; `set` frees the old ones.
 * Fails:   `set` returns -EINVAL with a phrase added to `why`, or -ENOMEM.
 *
 * In the file the word may stand by itself, as any array of one element may. That each address
 * stands once, that there are not too many, and that the word stands alone, no element shows.
 */
#include "config/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CLIENT_WORD "client"

/* NULL for one that a socket may be bound to. */
static const char *unfit_source(const union inet_address *address)
{
    if (inet_address_is_wildcard(address))
        return "is the wildcard, not an address of this machine";
    if (inet_address_is_multicast(address))
        return "is a multicast address, which nothing connects from";
    if (inet_address_is_broadcast(address))
        return "is the broadcast address, which nothing connects from";
    if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr))
        return "is an IPv4 address within an IPv6 one; write the IPv4 address by itself";
    return NULL;
}

static bool read_source(union inet_address *out, const char *text, struct text *why)
{
    const char *phrase;
    bool is_scoped = strncasecmp(text, "fe80:", 5) == 0;
    if (inet_address_parse(out, text, &phrase) < 0)
        text_addf(why,
                  "is not an address of this machine without a port, such as \"10.0.0.5\" or "
                  "\"2001:db8::5\", or \"" CLIENT_WORD "\"%s%s",
                  is_scoped ? ": " : "", is_scoped ? phrase : "");
    else if ((phrase = unfit_source(out)) != NULL)
        text_add(why, phrase);
    else
        return true;
    return false;
}

static bool element_source(const struct config_key *key, const char *text, struct text *why)
{
    (void)key;
    union inet_address scratch;
    return strcmp(text, CLIENT_WORD) == 0 || read_source(&scratch, text, why);
}

static bool add_source(struct config_sources *to, const char *item, struct text *why)
{
    union inet_address *address = &to->address[to->count];
    if (!read_source(address, item, why))
        return false;
    for (size_t i = 0; i < to->count; i++) {
        if (inet_address_same_host(&to->address[i], address)) {
            text_addf(why, "has \"%s\" twice; each address stands once", item);
            return false;
        }
    }
    to->count++;
    return true;
}

static int read_sources(struct config_sources *to, const char *text, struct text *why)
{
    char item[CONFIG_ITEM_MAX];
    size_t count = config_item_count(text);
    if (count > CONFIG_SOURCES_MAX) {
        text_addf(why, "has %zu addresses, may have %d", count, CONFIG_SOURCES_MAX);
        return -EINVAL;
    }
    while (config_item_take(&text, item)) {
        bool is_client = strcmp(item, CLIENT_WORD) == 0;
        if (is_client && count > 1) {
            text_add(why, "has \"" CLIENT_WORD "\" beside addresses; it stands alone");
            return -EINVAL;
        }
        to->client = is_client;
        if (!is_client && !add_source(to, item, why))
            return -EINVAL;
    }
    return 0;
}

static void clear_sources(void *field)
{
    struct config_sources *sources = field;
    free(sources->text);
    free(sources->address);
    *sources = (struct config_sources){0};
}

static int set_sources(const struct config_key *key, void *field, const char *text,
                       struct text *why)
{
    (void)key;
    struct config_sources read = {
        .text = strdup(text),
        .address = calloc(config_item_count(text) + 1, sizeof(*read.address)),
    };
    int rc = -ENOMEM;
    if (read.text != NULL && read.address != NULL)
        rc = read_sources(&read, text, why);
    if (rc < 0) {
        clear_sources(&read);
        return rc;
    }
    struct config_sources *to = field;
    clear_sources(to);
    *to = read;
    return 0;
}

static const char *text_sources(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    const struct config_sources *sources = field;
    return sources->text != NULL ? sources->text : ""; /* of a struct made by hand */
}

static void describe_sources(const struct config_key *key, struct text *to)
{
    (void)key;
    text_add(to, "an array such as [ \"10.0.0.5\", \"2001:db8::5\" ], or \"" CLIENT_WORD "\"");
}

const struct config_type config_type_sources = {
    .name = "sources",
    .quoted = true,
    .element = element_source,
    .set = set_sources,
    .text = text_sources,
    .clear = clear_sources,
    .describe = describe_sources,
};
