/*
 * Purpose: the checks that need more than one value: names, pools, weights, health.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   see loader.h.
 *
 * A value that was missing or wrong has been told already; what it should have set may be NULL
 * here.
 */
#include "config/loader.h"

#include "common/units.h"

#include <stdlib.h>
#include <string.h>

/* ---- Names that must be unique ---- */

struct named {
    const char *name;
    const char *element;
};

/* Equal names in the order of the file, which is that of the elements' addresses. */
static int compare_named(const void *left, const void *right)
{
    const struct named *a = left;
    const struct named *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->element > b->element) - (a->element < b->element);
}

static size_t collect_names(const struct config_section *list, const void *parent,
                            struct named *names)
{
    const struct config_key *key = config_key_find(config_section_id(list), "name");
    const char *element = config_list_array(list, parent);
    size_t count = 0;
    for (size_t i = 0; i < config_list_count(list, parent); i++, element += list->size) {
        char *const *name = config_field(element, key->offset);
        if (*name != NULL)
            names[count++] = (struct named){.name = *name, .element = element};
    }
    return count;
}

static void refuse_twin(struct config_loader *loader, const struct config_section *list,
                        const struct named *first, const struct named *second)
{
    const struct config_key *key = config_key_find(config_section_id(list), "name");
    int before = config_loader_line(loader, config_field(first->element, key->offset), NULL);
    config_loader_error(
        loader, config_loader_line(loader, config_field(second->element, key->offset), NULL),
        "the name \"%s\" is taken in %s by %s:%d; each needs its own", second->name, list->path,
        config_source_file(&loader->source, before),
        config_source_line(&loader->source, before).line);
}

static void check_unique(struct config_loader *loader, enum config_section_id id,
                         const void *parent)
{
    const struct config_section *list = &config_sections[id];
    struct named *names = calloc(config_list_count(list, parent) + 1, sizeof(*names));
    if (names == NULL) {
        loader->no_memory = true;
        return;
    }
    size_t count = collect_names(list, parent, names);
    qsort(names, count, sizeof(*names), compare_named);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1].name, names[i].name) == 0)
            refuse_twin(loader, list, &names[i - 1], &names[i]);
    free(names);
}

/* ---- Names that must exist ---- */

/* Adds `did you mean "x"?`, or which there are; `also` is a last one of these, or NULL. */
static void suggest(struct text *to, const char *word, const char *const *names, size_t count,
                    const char *also)
{
    const char *nearest = text_nearest(word, names, count);
    if (nearest != NULL) {
        text_addf(to, "did you mean \"%s\"?", nearest);
        return;
    }
    text_add(to, "there is ");
    for (size_t i = 0; i < count; i++)
        text_addf(to, "%s\"%s\"", i == 0 ? "" : ", ", names[i]);
    if (also != NULL)
        text_addf(to, " and \"%s\"", also);
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void check_scheduler(struct config_loader *loader, const struct config_pool *pool)
{
    const struct config_names *names = loader->names;
    if (is_among(pool->scheduler, names->schedulers, names->scheduler_count))
        return;
    char phrase[256];
    struct text hint;
    text_init(&hint, phrase, sizeof(phrase));
    suggest(&hint, pool->scheduler, names->schedulers, names->scheduler_count, NULL);
    config_loader_error(loader, config_loader_line(loader, &pool->scheduler, pool),
                        "there is no scheduler \"%s\"; %s", pool->scheduler, phrase);
}

static const struct config_pool *find_pool(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->pool_count; i++)
        if (config->pools[i].name != NULL && strcmp(config->pools[i].name, name) == 0)
            return &config->pools[i];
    return NULL;
}

static bool link_name(const struct config *config, const char *name, size_t *index)
{
    const struct config_pool *pool = name != NULL ? find_pool(config, name) : NULL;
    if (pool == NULL)
        return false;
    *index = (size_t)(pool - config->pools);
    return true;
}

static bool link_listener(const struct config *config, struct config_listener *listener)
{
    for (size_t i = 0; i < listener->route_count; i++)
        if (!link_name(config, listener->routes[i].pool, &listener->routes[i].pool_index))
            return false;
    return link_name(config, listener->pool, &listener->pool_index);
}

bool config_link(struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++)
        if (!link_listener(config, &config->listeners[i]))
            return false;
    return true;
}

bool config_is_fed(const struct config_listener *listener, const char *pool)
{
    if (listener->pool != NULL && strcmp(listener->pool, pool) == 0)
        return true;
    for (size_t i = 0; i < listener->route_count; i++)
        if (listener->routes[i].pool != NULL && strcmp(listener->routes[i].pool, pool) == 0)
            return true;
    return false;
}

static void refuse_pool(struct config_loader *loader, const struct config *config,
                        char *const *pool, const void *around)
{
    const char **names = calloc(config->pool_count + 1, sizeof(*names));
    if (names == NULL) {
        loader->no_memory = true;
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < config->pool_count; i++)
        if (config->pools[i].name != NULL)
            names[count++] = config->pools[i].name;
    char phrase[256];
    struct text hint;
    text_init(&hint, phrase, sizeof(phrase));
    suggest(&hint, *pool, names, count, NULL);
    config_loader_error(loader, config_loader_line(loader, pool, around),
                        "there is no pool \"%s\"; %s", *pool,
                        count > 0 ? phrase : "no pool has a name that can be used");
    free(names);
}

/* `pool` is the field of a listener or route, which is `around` it. */
static void check_pool_exists(struct config_loader *loader, const struct config *config,
                              char *const *pool, const void *around)
{
    if (*pool != NULL && find_pool(config, *pool) == NULL)
        refuse_pool(loader, config, pool, around);
}

static void check_pools_exist(struct config_loader *loader, struct config *config)
{
    if (config_link(config))
        return;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        check_pool_exists(loader, config, &listener->pool, listener);
        for (size_t j = 0; j < listener->route_count; j++)
            check_pool_exists(loader, config, &listener->routes[j].pool, &listener->routes[j]);
    }
}

/* ---- Pools ---- */

static void check_weights(struct config_loader *loader, const struct config_pool *pool)
{
    for (size_t i = 0; i < pool->server_count; i++)
        if (pool->servers[i].weight > 0)
            return;
    if (pool->server_count > 0)
        config_loader_error(loader, config_loader_line(loader, pool, NULL),
                            "every server of this pool has weight 0, so none would ever serve; "
                            "give one a weight from 1 to 65535");
}

/* ---- Health ---- */

static void refuse_type(struct config_loader *loader, const struct config_pool *pool)
{
    const struct config_names *names = loader->names;
    char phrase[256];
    struct text hint;
    text_init(&hint, phrase, sizeof(phrase));
    suggest(&hint, pool->health.type, names->probes, names->probe_count, "none");
    config_loader_error(loader, config_loader_line(loader, &pool->health.type, pool),
                        "there is no probe of type \"%s\"; %s", pool->health.type, phrase);
}

/* A key that its probe would never look at was meant for another type. */
static void refuse_probe_key(struct config_loader *loader, const struct config_pool *pool,
                             const struct config_key *key)
{
    const void *field = config_field(&pool->health, key->offset);
    config_loader_error(loader, config_loader_line(loader, field, pool),
                        "%s means nothing to a probe of type \"%s\"; it is for type = \"%s\"",
                        key->name, pool->health.type, key->probe);
}

static bool is_given(const struct config_loader *loader, const void *field)
{
    for (size_t i = 0; i < loader->place_count; i++)
        if (loader->places[i].object == field)
            return true;
    return false;
}

/* A value that was refused has left the default in its place, and has been told. */
static void require_probe_key(struct config_loader *loader, const struct config_pool *pool,
                              const struct config_key *key)
{
    bool is_refused = loader->failed && is_given(loader, config_field(&pool->health, key->offset));
    if (!is_refused)
        config_loader_error(loader, config_loader_line(loader, &pool->health.type, pool),
                            "%s is missing for a probe of type \"%s\": %s", key->name, key->probe,
                            key->help);
}

static void check_probe_keys(struct config_loader *loader, const struct config_pool *pool)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        char scratch[CONFIG_KEY_SCRATCH];
        if (key->probe == NULL)
            continue;
        const char *value = config_key_text(key, &pool->health, scratch);
        bool is_default = strcmp(value, key->standard) == 0;
        bool is_known = strcmp(key->probe, pool->health.type) == 0;
        if (!is_known && !is_default)
            refuse_probe_key(loader, pool, key);
        else if (is_known && is_default && key->needed)
            require_probe_key(loader, pool, key);
    }
}

static void check_probe_servers(struct config_loader *loader, const struct config_pool *pool)
{
    if (!loader->names->probe_is_inet(pool->health.type))
        return;
    for (size_t i = 0; i < pool->server_count; i++) {
        const struct config_address *address = &pool->servers[i].address;
        if (address->text == NULL || address_is_inet(&address->address))
            continue;
        config_loader_error(loader, config_loader_line(loader, address, &pool->servers[i]),
                            "address = \"%s\": a probe of type \"%s\" needs an IP address and a "
                            "port",
                            address->text, pool->health.type);
    }
}

/* An address that no reply can hold would have every probe fail. */
static void check_dns_address(struct config_loader *loader, const struct config_pool *pool)
{
    const struct config_health *health = &pool->health;
    const char *wrong = NULL;
    bool six = strchr(health->dns_address, ':') != NULL;
    if (health->dns_address[0] == '\0')
        return;
    if (health->dns_type != (six ? CONFIG_DNS_AAAA : CONFIG_DNS_A))
        wrong = six ? "is an IPv6 address; dns_type must be \"AAAA\""
                    : "is an IPv4 address; dns_type must be \"A\"";
    else if (health->dns_rcode != CONFIG_DNS_NOERROR)
        wrong = "is looked for in a reply without an error; dns_rcode must be \"NOERROR\"";
    if (wrong != NULL)
        config_loader_error(loader, config_loader_line(loader, &health->dns_address, pool),
                            "dns_address = \"%s\" %s", health->dns_address, wrong);
}

/* The line of the first that the file gives: the other one is a default. */
static int line_of_either(const struct config_loader *loader, const int64_t *first,
                          const int64_t *second, const struct config_pool *pool)
{
    int around = config_loader_line(loader, pool, NULL);
    int line = config_loader_line(loader, first, pool);
    return line != around ? line : config_loader_line(loader, second, pool);
}

/* 0 stands for what config_complete works out, which is always in order. */
static void check_order(struct config_loader *loader, const struct config_pool *pool,
                        const int64_t *shorter, const char *shorter_name, const int64_t *longer,
                        const char *longer_name)
{
    char a[UNITS_TEXT_MAX];
    char b[UNITS_TEXT_MAX];
    if (*shorter <= *longer || *longer == 0)
        return;
    config_loader_error(loader, line_of_either(loader, shorter, longer, pool),
                        "%s (%s) is longer than %s (%s); it must not be", shorter_name,
                        units_format_duration(*shorter, a), longer_name,
                        units_format_duration(*longer, b));
}

static void check_health(struct config_loader *loader, const struct config_pool *pool)
{
    const struct config_health *health = &pool->health;
    if (strcmp(health->type, "none") == 0)
        return;
    if (!is_among(health->type, loader->names->probes, loader->names->probe_count)) {
        refuse_type(loader, pool);
        return;
    }
    check_probe_keys(loader, pool);
    check_probe_servers(loader, pool);
    if (strcmp(health->type, "dns") == 0)
        check_dns_address(loader, pool);
    check_order(loader, pool, &health->timeout, "timeout", &health->interval, "interval");
    check_order(loader, pool, &health->timeout, "timeout", &health->interval_down, "interval_down");
    check_order(loader, pool, &health->interval_changing, "interval_changing", &health->interval,
                "interval");
    check_order(loader, pool, &health->timeout, "timeout", &health->interval_changing,
                "interval_changing");
}

/* ---- All together ---- */

static void check_weir(struct config_loader *loader, const struct config_weir *weir)
{
    if (weir->group[0] != '\0' && weir->user[0] == '\0')
        config_loader_error(loader, config_loader_line(loader, &weir->group, NULL),
                            "group is set and user is not; weir changes both or neither");
}

void config_check(struct config_loader *loader, struct config *config)
{
    check_weir(loader, &config->weir);
    check_unique(loader, SECTION_POOL, config);
    check_unique(loader, SECTION_LISTENER, config);
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct config_pool *pool = &config->pools[i];
        check_unique(loader, SECTION_SERVER, pool);
        check_scheduler(loader, pool);
        check_weights(loader, pool);
        check_health(loader, pool);
        config_check_proxy_out(loader, config, pool);
        config_check_source(loader, config, pool);
    }
    check_pools_exist(loader, config);
}
