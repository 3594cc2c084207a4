/*
 * Purpose: the types of values that stand as an array in the file, or in a file of their own:
 *          networks, and a set of words.
 * Thread:  any.
 * Owns:    a field of networks owns its text and its array; `set` frees the old ones.
 * Fails:   `set` returns -EINVAL with a phrase added to `why`, or -ENOMEM.
 *
 * Their one text, as of every value, has the elements one after another with ", " between them. So
 * no element holds a comma.
 */
#include "config/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *config_item_next(const char **rest, size_t *length)
{
    const char *item = *rest + strspn(*rest, " ");
    if (*item == '\0')
        return NULL;
    *length = strcspn(item, ",");
    *rest = item + *length + (item[*length] == ',');
    return item;
}

bool config_item_take(const char **rest, char item[CONFIG_ITEM_MAX])
{
    size_t length;
    const char *at = config_item_next(rest, &length);
    if (at == NULL)
        return false;
    length = MIN(length, CONFIG_ITEM_MAX - 1);
    memcpy(item, at, length);
    item[length] = '\0';
    return true;
}

size_t config_item_count(const char *text)
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
    char item[CONFIG_ITEM_MAX];
    while (config_item_take(&text, item))
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
        .network = calloc(config_item_count(text) + 1, sizeof(*read.network)),
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
    char item[CONFIG_ITEM_MAX];
    int64_t *to = field;
    int64_t bits = 0;
    while (config_item_take(&text, item)) {
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
