/*
 * Purpose: the key table and configurations for people: help, reference, example, dump.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   as the stream does.
 */
#include "config/keys.h"

#include <string.h>

#define INDENT 4
#define WIDTH 96

static const char *bounds_of(const struct config_key *key, struct text *to, char *data, size_t size)
{
    text_init(to, data, size);
    key->type->describe(key, to);
    return data;
}

/* ---- A configuration as a file ---- */

static void print_indent(int depth, FILE *to)
{
    fprintf(to, "%*s", depth * INDENT, "");
}

/* Values hold no control characters: their type refuses them. */
static void print_quoted(const char *value, FILE *to)
{
    fputc('"', to);
    for (; *value != '\0'; value++) {
        if (*value == '"' || *value == '\\')
            fputc('\\', to);
        fputc(*value, to);
    }
    fputc('"', to);
}

/* Elements hold neither quotes nor what would need a backslash. */
static void print_array(const char *value, FILE *to)
{
    const char *item;
    size_t length;
    fputc('[', to);
    for (const char *comma = ""; (item = config_item_next(&value, &length)) != NULL; comma = ",")
        fprintf(to, "%s \"%.*s\"", comma, (int)length, item);
    fputs(" ]", to);
}

static void print_value(const struct config_key *key, const char *value, FILE *to)
{
    if (key->type->element != NULL)
        print_array(value, to);
    else if (key->type->quoted)
        print_quoted(value, to);
    else
        fputs(value, to);
}

static void print_setting(const struct config_key *key, const char *value, int depth, FILE *to)
{
    print_indent(depth, to);
    fprintf(to, "%s = ", key->name);
    print_value(key, value, to);
    fputs(";\n", to);
}

static void print_section(enum config_section_id id, const void *object, int depth, FILE *to);

static void print_list(const struct config_section *list, const void *parent, int depth, FILE *to)
{
    size_t count = config_list_count(list, parent);
    const char *element = config_list_array(list, parent);
    print_indent(depth, to);
    fprintf(to, "%s = (\n", list->name);
    for (size_t i = 0; i < count; i++, element += list->size) {
        print_indent(depth + 1, to);
        fputs("{\n", to);
        print_section(config_section_id(list), element, depth + 2, to);
        print_indent(depth + 1, to);
        fputs(i + 1 < count ? "},\n" : "}\n", to);
    }
    print_indent(depth, to);
    fputs(");\n", to);
}

static void print_group(const struct config_section *group, const void *parent, int depth, FILE *to)
{
    print_indent(depth, to);
    fprintf(to, "%s = {\n", group->name);
    print_section(config_section_id(group), config_field(parent, group->offset), depth + 1, to);
    print_indent(depth, to);
    fputs("};\n", to);
}

static void print_section(enum config_section_id id, const void *object, int depth, FILE *to)
{
    char scratch[CONFIG_KEY_SCRATCH];
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->section == id && config_key_applies(key, object))
            print_setting(key, config_key_text(key, object, scratch), depth, to);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent != id || i == SECTION_DEFAULTS ||
            !config_section_applies(section, object))
            continue;
        if (section->list)
            print_list(section, object, depth, to);
        else
            print_group(section, object, depth, to);
    }
}

/* `defaults` is left out: every pool and listener says what it took from there. */
void config_print(const struct config *config, FILE *to)
{
    print_section(SECTION_ROOT, config, 0, to);
}

/* ---- The example of every key ---- */

/* What an example says where there is no default, or the default alone would be an error. */
static const char *example_of(const struct config_key *key)
{
    static const struct {
        enum config_section_id section;
        const char *name;
        const char *value;
    } examples[] = {
        {SECTION_POOL, "name", "web"},
        {SECTION_SERVER, "name", "a"},
        {SECTION_SERVER, "address", "10.0.0.11:8080"},
        {SECTION_LISTENER, "name", "web"},
        {SECTION_LISTENER, "bind", "0.0.0.0:80"},
        {SECTION_LISTENER, "pool", "web"},
        {SECTION_ROUTE, "sni", "www.example.com"},
        {SECTION_ROUTE, "pool", "web"},
    };
    for (size_t i = 0; i < ARRAY_LEN(examples); i++)
        if (examples[i].section == key->section && strcmp(examples[i].name, key->name) == 0)
            return examples[i].value;
    return key->standard != NULL ? key->standard : "";
}

/* Breaks a text at spaces, each line after a prefix. */
static void print_wrapped(const char *text, int depth, const char *prefix, FILE *to)
{
    size_t room = WIDTH - (size_t)(depth * INDENT) - strlen(prefix);
    while (*text != '\0') {
        size_t length = strlen(text);
        if (length > room)
            for (length = room; length > 0 && text[length] != ' '; length--)
                ;
        print_indent(depth, to);
        fprintf(to, "%s%.*s\n", prefix, (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static void print_example(enum config_section_id id, int depth, FILE *to);

static void print_example_key(const struct config_key *key, int depth, FILE *to)
{
    char data[256];
    struct text bounds;
    print_wrapped(key->help, depth, "# ", to);
    print_indent(depth, to);
    fprintf(to, "# %s, %s; reload: %s\n", key->type->name,
            bounds_of(key, &bounds, data, sizeof(data)), config_reload_name(key->reload));
    print_setting(key, example_of(key), depth, to);
}

static bool is_of_udp_alone(const struct config_key *key)
{
    return key->protocol != NULL && strcmp(key->protocol, "udp") == 0;
}

/* A second listener, with what the first cannot have. */
static void print_example_udp(int depth, FILE *to)
{
    const struct config_key *key;
    print_indent(depth - 1, to);
    fputs("}, {\n", to);
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        if (key->section != SECTION_LISTENER)
            continue;
        if (is_of_udp_alone(key))
            print_example_key(key, depth, to);
        else if (strcmp(key->name, "name") == 0)
            print_setting(key, "web-udp", depth, to);
        else if (strcmp(key->name, "protocol") == 0)
            print_setting(key, "udp", depth, to);
        else if (key->standard == NULL)
            print_setting(key, example_of(key), depth, to);
    }
}

static void print_example_section(const struct config_section *section, int depth, FILE *to)
{
    enum config_section_id id = config_section_id(section);
    fputc('\n', to);
    print_wrapped(section->help, depth, "# ", to);
    print_indent(depth, to);
    fputs(section->name, to);
    fputs(section->list ? " = ( {\n" : " = {\n", to);
    print_example(id, depth + 1, to);
    if (id == SECTION_LISTENER)
        print_example_udp(depth + 1, to);
    print_indent(depth, to);
    fputs(section->list ? "} );\n" : "};\n", to);
}

static void print_example(enum config_section_id id, int depth, FILE *to)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (config_key_belongs(key, id) && (id == SECTION_DEFAULTS || !is_of_udp_alone(key)))
            print_example_key(key, depth, to);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == id)
            print_example_section(&config_sections[i], depth, to);
}

void config_print_example(FILE *to)
{
    fputs("# Every key of weir with its default; made from the key table (config/keys_*.c).\n"
          "# What is left out of a file has the value that it has here, but for the health group:\n"
          "# without it a pool is not probed; and for the routes: without them there are none.\n",
          to);
    print_example(SECTION_ROOT, 0, to);
}

/* ---- Help ---- */

static void print_help_key(const struct config_key *key, FILE *to)
{
    char data[256];
    struct text bounds;
    fprintf(to, "  %-21s %s, %s\n", key->name, key->type->name,
            bounds_of(key, &bounds, data, sizeof(data)));
    print_wrapped(key->help, 6, "", to);
    print_indent(6, to);
    if (key->standard == NULL)
        fputs("Must be given.", to);
    else {
        fputs("Default ", to);
        print_value(key, key->standard, to);
        fputc('.', to);
    }
    fprintf(to, " Reload: %s.", config_reload_name(key->reload));
    if (key->protocol != NULL)
        fprintf(to, " Only with protocol = \"%s\".", key->protocol);
    fputc('\n', to);
}

static void print_help_section(enum config_section_id id, FILE *to)
{
    const struct config_section *section = &config_sections[id];
    const struct config_key *key;
    fprintf(to, "\n%s = %s\n", section->path, section->list ? "( { ... }, ... )" : "{ ... }");
    print_wrapped(section->help, 0, "  ", to);
    fputc('\n', to);
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++) {
        if (key->section == id)
            print_help_key(key, to);
        else if (config_key_belongs(key, id))
            fprintf(to, "  %-21s as in %s\n", key->name, config_sections[key->section].path);
    }
}

void config_print_help(FILE *to)
{
    fputs("The keys of the configuration file, by their groups. Durations have a unit (\"250ms\", "
          "\"10s\",\n\"5m\"), sizes may (\"64k\"). Another file is taken in by a line @include "
          "\"FILE\".\n",
          to);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        print_help_section((enum config_section_id)i, to);
}

/* ---- The reference page ---- */

static void print_row(const struct config_key *key, FILE *to)
{
    char data[256];
    struct text bounds;
    fprintf(to, "| `%s` | %s, %s | ", key->name, key->type->name,
            bounds_of(key, &bounds, data, sizeof(data)));
    if (key->standard == NULL)
        fputs("must be given", to);
    else {
        fputc('`', to);
        print_value(key, key->standard, to);
        fputc('`', to);
    }
    fprintf(to, " | %s | %s", config_reload_name(key->reload), key->help);
    if (key->protocol != NULL)
        fprintf(to, " Only with `protocol = \"%s\"`.", key->protocol);
    fputs(" |\n", to);
}

static void print_inherited(FILE *to)
{
    const struct config_key *key;
    fputs("\nIt may hold these keys, which pools and listeners explain:\n\n", to);
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->inherits)
            fprintf(to, "- `%s` (%s)\n", key->name, config_sections[key->section].path);
}

static void print_reference_section(enum config_section_id id, FILE *to)
{
    const struct config_section *section = &config_sections[id];
    const struct config_key *key;
    fprintf(to, "\n## `%s`\n\n%s", section->path, section->help);
    fprintf(to, " %s%s\n",
            section->list ? "A list of groups: `( { ... }, { ... } )`" : "A group: `{ ... }`",
            section->required ? ", which must be given." : ".");
    if (id == SECTION_DEFAULTS) {
        print_inherited(to);
        return;
    }
    fputs("\n| key | value | default | reload | meaning |\n|---|---|---|---|---|\n", to);
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->section == id)
            print_row(key, to);
}

void config_print_reference(FILE *to)
{
    fputs("<!-- Made from config/keys_*.c; a test compares. -->\n"
          "# The configuration file\n"
          "\n"
          "`weir --check FILE` tells every error of a file with its line and opens no socket.\n"
          "The file is in the syntax of libconfig: `name = value;`, groups `{ }`, lists `( )`, "
          "arrays\n"
          "`[ \"a\", \"b\" ]`, where one element may stand by itself, comments `#`, `//` and "
          "`/* */`. Text,\n"
          "durations and sizes stand in quotes, numbers, `true` and `false` do not. Durations have "
          "a unit, ms, s, m, h or d (`\"250ms\"`, `\"10s\"`, `\"5m\"`); sizes "
          "are bytes, or\n"
          "have k, m or g (`\"64k\"`).\n"
          "\n"
          "A line `@include \"FILE\"` takes in another file. A relative name counts from the "
          "directory of the\n"
          "file that includes it.\n"
          "\n"
          "There is no reload yet: a changed file counts from the next start. What a reload is to "
          "do with\n"
          "a changed value: *live*, it takes effect at once; *new "
          "sessions*, sessions\n"
          "and flows that run keep what they began with; *restart*, it is refused until weir is "
          "started anew.\n",
          to);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++)
        print_reference_section((enum config_section_id)i, to);
}
