/*
 * Purpose: the types of values that stand as an array in the file: networks, sources, sets of
 * words. Thread:  any. Owns:    a field of networks or sources owns its text and its array; `set`
 * frees the old ones. Fails:   `set` returns -EINVAL with a phrase added to `why`, or -ENOMEM.
 *
 * Their one text, as of every value, has the elements one after another with ", " between them. So
 * no element holds a comma.
 */
#include "config/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Longer than any element that is right. */
#define ITEM_MAX 128

const char *config_item_next(const char **rest, size_t *length)
{
    const char *item = *rest + strspn(*rest, " ");
    if (*item == '\0')
        return NULL;
    *length = strcspn(item, ",");
    *rest = item + *length + (item[*length] == ',');
    return item;
}

/* The next one by itself; what is too long comes cut, and is wrong then too. */
static bool next_item(const char **rest, char item[ITEM_MAX])
{
    size_t length;
    const char *at = config_item_next(rest, &length);
    if (at == NULL)
        return false;
    length = MIN(length, ITEM_MAX - 1);
    memcpy(item, at, length);
    item[length] = '\0';
    return true;
}

static size_t count_items(const char *text)
{
    size_t count = 0;
    size_t length;
    while (config_item_next(&text, &length) != NULL)
        count++;
    return count;
}

/* ---- Networks ---- */

static bool read_network(struct network *out, const char *text, struct text *why)
{
    const char *phrase;
    if (network_parse(out, text, &phrase) == 0)
        return true;
    text_addf(why, "is not a network such as \"10.0.0.0/8\" or \"2001:db8::/32\": %s", phrase);
    return false;
}

static bool element_network(const struct config_key *key, const char *text, struct text *why)
{
    (void)key;
    struct network scratch;
    return read_network(&scratch, text, why);
}

static int read_networks(struct config_networks *to, const char *text, struct text *why)
{
    char item[ITEM_MAX];
    while (next_item(&text, item))
        if (!read_network(&to->network[to->count++], item, why))
            return -EINVAL;
    return 0;
}

static void clear_networks(void *field)
{
    struct config_networks *networks = field;
    free(networks->text);
    free(networks->network);
    *networks = (struct config_networks){0};
}

static int replace_networks(struct config_networks *to, const char *text, struct text *why)
{
    /* One more: none at all is no allocation of nothing. */
    struct config_networks read = {
        .text = strdup(text),
        .network = calloc(count_items(text) + 1, sizeof(*read.network)),
    };
    int rc = -ENOMEM;
    if (read.text != NULL && read.network != NULL)
        rc = read_networks(&read, text, why);
    if (rc < 0) {
        clear_networks(&read);
        return rc;
    }
    clear_networks(to);
    *to = read;
    return 0;
}

static int set_networks(const struct config_key *key, void *field, const char *text,
                        struct text *why)
{
    (void)key;
    return replace_networks(field, text, why);
}

static const char *text_networks(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    const struct config_networks *networks = field;
    return networks->text != NULL ? networks->text : ""; /* of a struct made by hand */
}

static void describe_networks(const struct config_key *key, struct text *to)
{
    (void)key;
    text_add(to, "an array such as [ \"10.0.0.0/8\", \"2001:db8::1\" ]");
}

const struct config_type config_type_networks = {
    .name = "networks",
    .quoted = true,
    .element = element_network,
    .set = set_networks,
    .text = text_networks,
    .clear = clear_networks,
    .describe = describe_networks,
};

/* ---- Sources ---- */

#define CLIENT_WORD "client"

/* NULL for one that a socket may be bound to. */
static const char *unfit_source(const union inet_address *address)
{
    if (inet_address_is_wildcard(address))
        return "is the wildcard, not an address of this machine";
    if (inet_address_is_multicast(address))
        return "is a multicast address, which nothing connects from";
    if (address->any.sa_family == AF_INET && address->v4.sin_addr.s_addr == htonl(INADDR_BROADCAST))
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
    char item[ITEM_MAX];
    size_t count = count_items(text);
    if (count > CONFIG_SOURCES_MAX) {
        text_addf(why, "has %zu addresses, may have %d", count, CONFIG_SOURCES_MAX);
        return -EINVAL;
    }
    while (next_item(&text, item)) {
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
        .address = calloc(count_items(text) + 1, sizeof(*read.address)),
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

/* ---- A file of networks ---- */

static void clear_list(void *field)
{
    struct config_list *list = field;
    clear_networks(&list->networks);
    free(list->path);
    free(list->file);
    free(list->line);
    *list = (struct config_list){0};
}

/* The path alone; lists.c reads the file. */
static int set_list(const struct config_key *key, void *field, const char *text, struct text *why)
{
    struct config_list *list = field;
    return config_type_string.set(key, &list->path, text, why);
}

static const char *text_list(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    const struct config_list *list = field;
    return list->path != NULL ? list->path : ""; /* of a struct made by hand */
}

static const char *held_list(const void *field)
{
    const struct config_list *list = field;
    return text_networks(NULL, &list->networks, NULL);
}

static int set_held_list(void *field, const char *text)
{
    struct config_list *list = field;
    char phrase[128];
    struct text why;
    text_init(&why, phrase, sizeof(phrase));
    return replace_networks(&list->networks, text, &why);
}

static void describe_list(const struct config_key *key, struct text *to)
{
    config_type_string.describe(key, to);
}

const struct config_type config_type_list = {
    .name = "path",
    .quoted = true,
    .set = set_list,
    .text = text_list,
    .clear = clear_list,
    .held = held_list,
    .set_held = set_held_list,
    .describe = describe_list,
};

/* ---- A set of words ---- */

static size_t count_choices(const struct config_key *key)
{
    size_t count = 0;
    while (key->choices[count] != NULL)
        count++;
    return count;
}

static bool element_word(const struct config_key *key, const char *text, struct text *why)
{
    size_t count = count_choices(key);
    for (size_t i = 0; i < count; i++)
        if (strcmp(key->choices[i], text) == 0)
            return true;
    const char *nearest = text_nearest(text, key->choices, count);
    text_add(why, "must be ");
    config_type_choice.describe(key, why);
    if (nearest != NULL)
        text_addf(why, "; did you mean \"%s\"?", nearest);
    return false;
}

static int64_t bit_of(const struct config_key *key, const char *word)
{
    size_t i = 0;
    while (strcmp(key->choices[i], word) != 0)
        i++;
    return INT64_C(1) << i;
}

static int set_words(const struct config_key *key, void *field, const char *text, struct text *why)
{
    char item[ITEM_MAX];
    int64_t *to = field;
    int64_t bits = 0;
    while (next_item(&text, item)) {
        if (!element_word(key, item, why))
            return -EINVAL;
        bits |= bit_of(key, item);
    }
    *to = bits;
    return 0;
}

static const char *text_words(const struct config_key *key, const void *field, char *scratch)
{
    struct text to;
    const int64_t *bits = field;
    text_init(&to, scratch, CONFIG_KEY_SCRATCH);
    text_add(&to, "");
    for (size_t i = 0; key->choices[i] != NULL; i++)
        if ((*bits & INT64_C(1) << i) != 0)
            text_addf(&to, "%s%s", to.length > 0 ? ", " : "", key->choices[i]);
    BUG_ON(to.cut);
    return scratch;
}

static void clear_words(void *field)
{
    (void)field;
}

static void describe_words(const struct config_key *key, struct text *to)
{
    text_add(to, "an array of ");
    config_type_choice.describe(key, to);
}

const struct config_type config_type_words = {
    .name = "words",
    .quoted = true,
    .element = element_word,
    .set = set_words,
    .text = text_words,
    .clear = clear_words,
    .describe = describe_words,
};
