/*
 * Purpose: the files of networks that listeners name, and what allow and deny say together.
 * Thread:  the helper process.
 * Owns:    what is read becomes the listener's.
 * Fails:   see loader.h. What is wrong with a line is told with the list's own name and line.
 *
 * Such files are made by programs, and a wrong one is wrong in each of its 100,000 lines: after
 * WRONG_MAX of them the rest of the file is left unread.
 */
#include "config/buffer.h"
#include "config/file.h"
#include "config/loader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WRONG_MAX 20

/* Longer than any network, and enough to know a line by. */
#define LINE_TEXT_MAX 80

#define BLANKS " \t\r\v\f"

/* ---- A line ---- */

struct reading {
    struct config_loader *loader;
    struct config_list *list;
    int line;
    unsigned wrong;
};

static void refuse_line(struct reading *reading, const char *format, ...) printf_like(2, 3);
static void refuse_line(struct reading *reading, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    config_errors_add(reading->loader->errors, reading->list->file, reading->line, "%s", text);
    reading->loader->failed = true;
    reading->wrong++;
}

static void keep(struct reading *reading, const struct network *network)
{
    struct config_list *list = reading->list;
    struct config_networks *networks = &list->networks;
    if (!config_make_room(&networks->network, networks->count, sizeof(*networks->network)) ||
        !config_make_room(&list->line, networks->count, sizeof(*list->line))) {
        reading->loader->no_memory = true;
        return;
    }
    list->line[networks->count] = reading->line;
    networks->network[networks->count++] = *network;
}

/* Without comment and blanks; false: nothing is left, or it is too long, which has been told. */
static bool trim(struct reading *reading, const char *from, size_t length, char text[LINE_TEXT_MAX])
{
    const char *comment = memchr(from, '#', length);
    if (comment != NULL)
        length = (size_t)(comment - from);
    while (length > 0 && memchr(BLANKS, *from, strlen(BLANKS)) != NULL)
        from++, length--;
    while (length > 0 && memchr(BLANKS, from[length - 1], strlen(BLANKS)) != NULL)
        length--;
    bool fits = length < LINE_TEXT_MAX && memchr(from, '\0', length) == NULL;
    if (!fits)
        refuse_line(reading, "this is not a network: one a line, such as 10.0.0.0/8 or "
                             "2001:db8::/32, and # before a comment");
    if (!fits || length == 0)
        return false;
    memcpy(text, from, length);
    text[length] = '\0';
    return true;
}

static void read_line(struct reading *reading, const char *from, size_t length)
{
    char text[LINE_TEXT_MAX];
    struct network network;
    const char *why;
    if (!trim(reading, from, length, text))
        return;
    if (network_parse(&network, text, &why) < 0)
        refuse_line(reading,
                    "\"%s\" is not a network such as 10.0.0.0/8 or 2001:db8::/32, one a line: %s",
                    text, why);
    else if (reading->list->networks.count == CONFIG_LIST_MAX)
        refuse_line(reading, "there are more than %d networks; this one and the rest must go",
                    CONFIG_LIST_MAX);
    else
        keep(reading, &network);
}

/* ---- A file ---- */

static bool is_over(const struct reading *reading)
{
    return reading->wrong == WRONG_MAX || reading->loader->no_memory ||
           (reading->wrong > 0 && reading->list->networks.count == CONFIG_LIST_MAX);
}

static void read_lines(struct reading *reading, const char *data, size_t size)
{
    while (size > 0 && !is_over(reading)) {
        const char *end = memchr(data, '\n', size);
        size_t length = end != NULL ? (size_t)(end - data) : size;
        reading->line++;
        read_line(reading, data, length);
        size -= length + (end != NULL);
        data += length + (end != NULL);
    }
    if (size > 0 && reading->wrong == WRONG_MAX)
        refuse_line(reading, "so many lines are wrong up to here that the rest was not read");
}

/* As the image has them. */
static void put_text(struct config_loader *loader, struct config_networks *networks)
{
    struct config_buffer joined = {0};
    char text[NETWORK_TEXT_MAX];
    for (size_t i = 0; i < networks->count; i++) {
        if (i > 0)
            config_buffer_add(&joined, ", ", 2);
        network_format(&networks->network[i], text);
        config_buffer_add(&joined, text, strlen(text));
    }
    config_buffer_add(&joined, "", 1);
    networks->text = joined.data;
    loader->no_memory |= joined.failed;
}

/* False: it could not be read, or part of it is wrong; that has been told. */
static bool read_file(struct config_loader *loader, const struct config_listener *listener,
                      struct config_list *list, const char *key)
{
    struct reading reading = {.loader = loader, .list = list};
    char *data;
    size_t size;
    int at = config_loader_line(loader, list, listener);
    list->file = config_file_resolve(config_source_file(&loader->source, at), list->path);
    int rc = list->file != NULL ? config_file_read(list->file, &data, &size) : -ENOMEM;
    if (rc == -ENOMEM) {
        loader->no_memory = true;
        return false;
    }
    if (rc < 0) {
        config_loader_error(loader, at, "%s: cannot read \"%s\": %s", key, list->file,
                            config_file_reason(rc));
        return false;
    }
    read_lines(&reading, data, size);
    free(data);
    put_text(loader, &list->networks);
    return reading.wrong == 0;
}

/* An empty list of who may come in would let everybody in. */
static void check_allows(struct config_loader *loader, const struct config_listener *listener)
{
    const struct config_list *list = &listener->allow_file;
    if (list->networks.count > 0)
        return;
    config_loader_error(loader, config_loader_line(loader, list, listener),
                        "allow_file: \"%s\" holds no network, so that nobody could be meant; put "
                        "one into it, such as 10.0.0.0/8, or drop the key",
                        list->file);
}

static bool is_named(const struct config_loader *loader, const struct config_list *list)
{
    return list->path != NULL && list->path[0] != '\0' && !config_loader_is_wrong(loader, list);
}

void config_read_lists(struct config_loader *loader, struct config *config)
{
    for (size_t i = 0; i < config->listener_count && !loader->no_memory; i++) {
        struct config_listener *listener = &config->listeners[i];
        if (is_named(loader, &listener->allow_file) &&
            read_file(loader, listener, &listener->allow_file, "allow_file"))
            check_allows(loader, listener);
        if (is_named(loader, &listener->deny_file))
            (void)read_file(loader, listener, &listener->deny_file, "deny_file");
    }
}

/* ---- What is both allowed and denied ---- */

static int compare(const void *left, const void *right)
{
    return network_compare(left, right);
}

/* All that the listener allows, in order. */
struct allowed {
    struct network *network;
    size_t count;
};

static bool collect(const struct config_listener *listener, struct allowed *out)
{
    const struct config_networks *said = &listener->allow;
    const struct config_networks *listed = &listener->allow_file.networks;
    *out = (struct allowed){.count = said->count + listed->count};
    out->network = calloc(out->count + 1, sizeof(*out->network));
    if (out->network == NULL)
        return false;
    if (said->count > 0)
        memcpy(out->network, said->network, said->count * sizeof(*out->network));
    if (listed->count > 0)
        memcpy(out->network + said->count, listed->network, listed->count * sizeof(*out->network));
    qsort(out->network, out->count, sizeof(*out->network), compare);
    return true;
}

static bool is_allowed(const struct allowed *allowed, const struct network *network)
{
    return bsearch(network, allowed->network, allowed->count, sizeof(*network), compare) != NULL;
}

#define IN_BOTH "the network %s is in allow and in deny; it must be in one of them"

static void check_said(struct config_loader *loader, const struct config_listener *listener,
                       const struct allowed *allowed)
{
    char text[NETWORK_TEXT_MAX];
    for (size_t i = 0; i < listener->deny.count; i++)
        if (is_allowed(allowed, &listener->deny.network[i]))
            config_loader_error(loader, config_loader_line(loader, &listener->deny, listener),
                                IN_BOTH, network_format(&listener->deny.network[i], text));
}

static void check_listed(struct config_loader *loader, struct config_list list,
                         const struct allowed *allowed)
{
    struct reading reading = {.loader = loader, .list = &list};
    char text[NETWORK_TEXT_MAX];
    for (size_t i = 0; i < list.networks.count; i++) {
        if (!is_allowed(allowed, &list.networks.network[i]))
            continue;
        if (reading.wrong == WRONG_MAX) {
            refuse_line(&reading, "so many networks are in both up to here that the rest is not "
                                  "told");
            return;
        }
        reading.line = list.line[i];
        refuse_line(&reading, IN_BOTH, network_format(&list.networks.network[i], text));
    }
}

/* The longest prefix decides who may come in: of two equal ones none is longer. */
void config_check_access(struct config_loader *loader, const struct config_listener *listener)
{
    struct allowed allowed;
    if (!collect(listener, &allowed)) {
        loader->no_memory = true;
        return;
    }
    check_said(loader, listener, &allowed);
    check_listed(loader, listener->deny_file, &allowed);
    free(allowed.network);
}
