/*
 * Purpose: goes through what libconfig has read, by the key table, into the structs.
 * Thread:  the helper process: libconfig may call exit().
 * Owns:    nothing that outlives the walk.
 * Fails:   see loader.h.
 *
 * The only file that includes libconfig.h. `defaults` is read first, wherever it stands, because
 * the objects begin with what it says. A value that cannot be used leaves the default in its place,
 * so that the checks that follow do not tell the same mistake again in other words.
 */
#include "config/buffer.h"
#include "config/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_TEXT_MAX 80

static void walk_group(struct config_loader *loader, const config_setting_t *group,
                       enum config_section_id id, void *object);

static int line_of(const config_setting_t *setting)
{
    return setting->line > INT_MAX ? INT_MAX : (int)setting->line;
}

/* ---- Defaults ---- */

/* Where the default of an inherited key is kept. */
static void *inherited_from(struct config_loader *loader, const struct config_key *key)
{
    return key->section == SECTION_POOL ? (void *)&loader->pool : &loader->listener;
}

static void set_text(struct config_loader *loader, const struct config_key *key, void *object,
                     const char *value)
{
    char phrase[128];
    struct text why;
    text_init(&why, phrase, sizeof(phrase));
    int rc = config_key_set(key, object, value, &why);
    BUG_ON(rc == -EINVAL);
    if (rc < 0)
        loader->no_memory = true;
}

static void set_defaults(struct config_loader *loader, enum config_section_id id, void *object)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        if (key->section != id || key->standard == NULL)
            continue;
        char scratch[CONFIG_KEY_SCRATCH];
        const char *value = key->standard;
        if (key->inherits)
            value = config_key_text(key, inherited_from(loader, key), scratch);
        set_text(loader, key, object, value);
    }
}

/* Keys of groups that the file leaves out have their defaults too. */
static void set_all_defaults(struct config_loader *loader, enum config_section_id id, void *object)
{
    set_defaults(loader, id, object);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent == id && !section->list)
            set_all_defaults(loader, config_section_id(section),
                             config_field(object, section->offset));
    }
}

/* What `defaults` itself begins with. */
static void set_inherited(struct config_loader *loader)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->inherits)
            set_text(loader, key, inherited_from(loader, key), key->standard);
}

/* ---- Values ---- */

static const char *describe_setting(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_GROUP:
        return "a group { }";
    case CONFIG_TYPE_LIST:
        return "a list ( )";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_BOOL:
        return "true or false";
    case CONFIG_TYPE_FLOAT:
        return "a number with a fraction";
    default:
        return "a number";
    }
}

static bool is_integer(const config_setting_t *setting)
{
    int type = config_setting_type(setting);
    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

/* Quotes or their absence say what a value is; a size, and only it, may be either. */
static bool fits_type(const config_setting_t *setting, const struct config_type *type)
{
    if (type == &config_type_size || type == &config_type_duration)
        return is_integer(setting) || config_setting_type(setting) == CONFIG_TYPE_STRING;
    if (type == &config_type_switch)
        return config_setting_type(setting) == CONFIG_TYPE_BOOL;
    if (type == &config_type_number)
        return is_integer(setting);
    if (type->element != NULL && config_setting_type(setting) == CONFIG_TYPE_ARRAY)
        return true;
    return config_setting_type(setting) == CONFIG_TYPE_STRING;
}

static const char *setting_text(const config_setting_t *setting, char *scratch)
{
    if (config_setting_type(setting) == CONFIG_TYPE_STRING)
        return config_setting_get_string(setting);
    if (config_setting_type(setting) == CONFIG_TYPE_BOOL)
        return config_setting_get_bool(setting) ? "true" : "false";
    snprintf(scratch, CONFIG_KEY_SCRATCH, "%lld", config_setting_get_int64(setting));
    return scratch;
}

static void refuse_type(struct config_loader *loader, const config_setting_t *setting,
                        const struct config_key *key)
{
    char phrase[256];
    struct text form;
    text_init(&form, phrase, sizeof(phrase));
    key->type->describe(key, &form);
    config_loader_error(loader, line_of(setting), "%s is %s, must be of type %s%s (%s)", key->name,
                        describe_setting(setting), key->type->name,
                        key->type->quoted ? " in quotes" : "", phrase);
}

/* ---- Arrays ---- */

static bool check_element(struct config_loader *loader, const config_setting_t *element,
                          const struct config_key *key)
{
    char phrase[256];
    struct text why;
    if (config_setting_type(element) != CONFIG_TYPE_STRING) {
        config_loader_error(loader, line_of(element),
                            "%s has %s where each element must be a string in quotes", key->name,
                            describe_setting(element));
        return false;
    }
    const char *value = config_setting_get_string(element);
    text_init(&why, phrase, sizeof(phrase));
    if (key->type->element(key, value, &why))
        return true;
    config_loader_error(loader, line_of(element), "\"%.*s\" in %s %s", VALUE_TEXT_MAX, value,
                        key->name, phrase);
    return false;
}

static bool check_elements(struct config_loader *loader, const config_setting_t *array,
                           const struct config_key *key)
{
    bool good = true;
    for (int i = 0; i < config_setting_length(array); i++)
        if (!check_element(loader, config_setting_get_elem(array, (unsigned)i), key))
            good = false;
    return good;
}

/* The elements as one text, see config_item_next; NULL without memory. The caller frees it. */
static char *join_elements(const config_setting_t *array)
{
    struct config_buffer joined = {0};
    for (int i = 0; i < config_setting_length(array); i++) {
        const char *value = config_setting_get_string_elem(array, i);
        if (i > 0)
            config_buffer_add(&joined, ", ", 2);
        config_buffer_add(&joined, value, strlen(value));
    }
    config_buffer_add(&joined, "", 1);
    if (!joined.failed)
        return joined.data;
    free(joined.data);
    return NULL;
}

static bool take_array(struct config_loader *loader, const config_setting_t *array,
                       const struct config_key *key, void *object)
{
    if (!check_elements(loader, array, key))
        return false;
    char phrase[256];
    struct text why;
    text_init(&why, phrase, sizeof(phrase));
    char *value = join_elements(array);
    int rc = value != NULL ? config_key_set(key, object, value, &why) : -ENOMEM;
    free(value);
    if (rc == -ENOMEM)
        loader->no_memory = true;
    else if (rc < 0) /* each element by itself is right */
        config_loader_error(loader, line_of(array), "%s %s", key->name, phrase);
    return rc == 0;
}

/* ---- All values ---- */

/* False when it cannot be used; that has been told then. */
static bool take_value(struct config_loader *loader, const config_setting_t *setting,
                       const struct config_key *key, void *object)
{
    char scratch[CONFIG_KEY_SCRATCH];
    char phrase[256];
    struct text why;
    if (!fits_type(setting, key->type)) {
        refuse_type(loader, setting, key);
        return false;
    }
    if (config_setting_type(setting) == CONFIG_TYPE_ARRAY)
        return take_array(loader, setting, key, object);
    const char *value = setting_text(setting, scratch);
    const char *quote = config_setting_type(setting) == CONFIG_TYPE_STRING ? "\"" : "";
    text_init(&why, phrase, sizeof(phrase));
    int rc = config_key_set(key, object, value, &why);
    if (rc == -ENOMEM)
        loader->no_memory = true;
    else if (rc < 0)
        config_loader_error(loader, line_of(setting), "%s = %s%.*s%s %s", key->name, quote,
                            VALUE_TEXT_MAX, value, quote, phrase);
    return rc == 0;
}

static void walk_value(struct config_loader *loader, const config_setting_t *setting,
                       const struct config_key *key, void *object)
{
    bool taken = take_value(loader, setting, key, object);
    config_loader_place(loader, (struct config_place){.object = config_field(object, key->offset),
                                                      .line = line_of(setting),
                                                      .wrong = !taken});
}

/* ---- Unknown keys ---- */

/* All that a group may hold, for a suggestion. */
static size_t names_within(enum config_section_id id, const char **names)
{
    const struct config_key *key;
    size_t count = 0;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (config_key_belongs(key, id))
            names[count++] = key->name;
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == id)
            names[count++] = config_sections[i].name;
    return count;
}

/* The path of another section that knows the name, or NULL. */
static const char *home_of(const char *name)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (strcmp(key->name, name) == 0)
            return config_sections[key->section].path;
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        if (strcmp(config_sections[i].name, name) == 0)
            return config_sections[i].path;
    return NULL;
}

static void refuse_unknown(struct config_loader *loader, const config_setting_t *setting,
                           enum config_section_id id)
{
    const char *name = config_setting_name(setting);
    const char *within = id == SECTION_ROOT ? "the file" : config_sections[id].path;
    const char *names[CONFIG_KEYS_MAX + SECTION_COUNT];
    size_t count = names_within(id, names);
    const char *nearest = text_nearest(name, names, count);
    const char *home = home_of(name);
    if (home != NULL)
        config_loader_error(loader, line_of(setting), "\"%s\" is not a key of %s but of %s", name,
                            within, home);
    else if (nearest != NULL)
        config_loader_error(loader, line_of(setting),
                            "\"%s\" is not a key of %s; did you mean \"%s\"?", name, within,
                            nearest);
    else
        config_loader_error(loader, line_of(setting),
                            "\"%s\" is not a key of %s; weir --help-config lists them", name,
                            within);
}

/* ---- Groups and lists ---- */

static bool has_shape(struct config_loader *loader, const config_setting_t *setting,
                      const struct config_section *section)
{
    int wanted = section->list ? CONFIG_TYPE_LIST : CONFIG_TYPE_GROUP;
    if (config_setting_type(setting) == wanted)
        return true;
    config_loader_error(
        loader, line_of(setting), "%s is %s, must be %s", section->name, describe_setting(setting),
        section->list ? "a list of groups ( { ... }, { ... } )" : "a group { ... }");
    return false;
}

static void walk_element(struct config_loader *loader, const config_setting_t *setting,
                         const struct config_section *list, void *element)
{
    enum config_section_id id = config_section_id(list);
    int line = line_of(setting);
    *config_list_line(list, element) = config_source_line(&loader->source, line).line;
    config_loader_place(loader, (struct config_place){.object = element, .line = line});
    set_all_defaults(loader, id, element);
    if (!config_setting_is_group(setting)) {
        config_loader_error(loader, line, "what stands in %s is %s, must be a group { ... }",
                            list->path, describe_setting(setting));
        return;
    }
    walk_group(loader, setting, id, element);
    if (id == SECTION_POOL && config_setting_get_member(setting, "health") == NULL)
        set_text(loader, config_key_find(SECTION_HEALTH, "type"),
                 &((struct config_pool *)element)->health, "none");
}

static void walk_list(struct config_loader *loader, const config_setting_t *setting,
                      const struct config_section *list, void *parent)
{
    size_t count = (size_t)config_setting_length(setting);
    if (count == 0 && list->required)
        config_loader_error(loader, line_of(setting), "%s is empty, must have at least one { ... }",
                            list->path);
    config_loader_place(loader, (struct config_place){.object = config_field(parent, list->offset),
                                                      .line = line_of(setting)});
    if (config_list_make(list, parent, count) < 0) {
        loader->no_memory = true;
        return;
    }
    char *array = config_list_array(list, parent);
    for (size_t i = 0; i < count; i++)
        walk_element(loader, config_setting_get_elem(setting, (unsigned)i), list,
                     array + i * list->size);
}

static void walk_section(struct config_loader *loader, const config_setting_t *setting,
                         const struct config_section *section, void *parent)
{
    if (!has_shape(loader, setting, section))
        return;
    if (section->list)
        walk_list(loader, setting, section, parent);
    else
        walk_group(loader, setting, config_section_id(section),
                   config_field(parent, section->offset));
}

static void walk_member(struct config_loader *loader, const config_setting_t *setting,
                        enum config_section_id id, void *object)
{
    const char *name = config_setting_name(setting);
    const struct config_section *section = config_section_find(id, name);
    const struct config_key *key = config_key_find(id, name);
    if (section != NULL)
        walk_section(loader, setting, section, object);
    else if (key == NULL)
        refuse_unknown(loader, setting, id);
    else
        walk_value(loader, setting, key,
                   id == SECTION_DEFAULTS ? inherited_from(loader, key) : object);
}

static void refuse_missing(struct config_loader *loader, const config_setting_t *group,
                           enum config_section_id id)
{
    int line = MAX(line_of(group), 1);
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        if (key->section == id && key->standard == NULL &&
            config_setting_get_member(group, key->name) == NULL)
            config_loader_error(loader, line, "%s is missing in %s: %s", key->name,
                                config_sections[id].path, key->help);
    }
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent == id && section->required &&
            config_setting_get_member(group, section->name) == NULL)
            config_loader_error(loader, line, "%s = ( { ... } ) is missing%s%s: %s", section->name,
                                id == SECTION_ROOT ? "" : " in ", config_sections[id].path,
                                section->help);
    }
}

static void walk_group(struct config_loader *loader, const config_setting_t *group,
                       enum config_section_id id, void *object)
{
    unsigned count = (unsigned)config_setting_length(group);
    for (unsigned i = 0; i < count; i++)
        walk_member(loader, config_setting_get_elem(group, i), id, object);
    refuse_missing(loader, group, id);
}

/* ---- The file ---- */

static void walk_root(struct config_loader *loader, const config_setting_t *root,
                      struct config *config)
{
    set_inherited(loader);
    set_all_defaults(loader, SECTION_ROOT, config);
    const config_setting_t *defaults = config_setting_get_member(root, "defaults");
    if (defaults != NULL)
        walk_member(loader, defaults, SECTION_ROOT, config);
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *setting = config_setting_get_elem(root, (unsigned)i);
        if (setting != defaults)
            walk_member(loader, setting, SECTION_ROOT, config);
    }
    refuse_missing(loader, root, SECTION_ROOT);
}

/* "syntax error" is all that libconfig knows to say; a duplicate it calls by its name. */
static void refuse_syntax(struct config_loader *loader, const config_t *tree)
{
    const char *text = config_error_text(tree);
    if (text == NULL)
        text = "syntax error";
    bool plain = strcmp(text, "syntax error") == 0;
    config_loader_error(loader, config_error_line(tree), "%s%s", text,
                        plain ? ": here or on the line before, something is missing or too much; a "
                                "setting is NAME = VALUE;"
                              : "");
}

bool config_walk(struct config_loader *loader, struct config *config)
{
    config_t tree;
    config_init(&tree);
    bool good = config_read_string(&tree, loader->source.text) == CONFIG_TRUE;
    if (good)
        walk_root(loader, config_root_setting(&tree), config);
    else
        refuse_syntax(loader, &tree);
    config_destroy(&tree);
    return good;
}
