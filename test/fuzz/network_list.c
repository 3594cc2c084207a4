/*
 * Fuzzes config/lists: any bytes as the files of networks that a listener names, allow_file before
 * the first NUL and deny_file behind it. Each line is a network of the model, or refused with the
 * name of its file and the number of its line.
 *
 * Covers: config/lists.c
 * No input reaches what a machine without memory, a file that cannot be read, or more than 100,000
 * networks do.
 */
#include "test/fuzz/config_bytes.h"

#include <errno.h>
#include <stdlib.h>

/* Twenty and a last word for each file, twenty that both have, and the network of deny's own. */
#define ERRORS_MOST (21 + 21 + 20 + 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One of the two files. */
struct half {
    const uint8_t *bytes;
    size_t size;
    int fd;
    char path[64];
};

static int count_lines(const struct half *half)
{
    int lines = 1;
    for (size_t i = 0; i < half->size; i++)
        lines += half->bytes[i] == '\n';
    return lines;
}

static struct half put_half(const uint8_t *bytes, size_t size)
{
    struct half half = {.bytes = bytes, .size = size};
    half.fd = config_bytes_file(bytes, size, half.path);
    return half;
}

static int parse(const struct half *allow, const struct half *deny, struct config **out,
                 struct config_errors *errors)
{
    char text[512];
    int length = snprintf(text, sizeof(text),
                          "pools = ( { name = \"p\"; servers = ( { name = \"s\"; address = "
                          "\"127.0.0.1:1\"; } ); } );\n"
                          "listeners = ( { name = \"l\"; bind = \"127.0.0.1:2\"; pool = \"p\";"
                          " allow = [ \"198.51.100.0/24\" ]; deny = [ \"192.0.2.0/24\" ];"
                          " allow_file = \"%s\"; deny_file = \"%s\"; "
                          "} );\n",
                          allow->path, deny->path);
    return config_bytes_parse(text, (size_t)length, out, errors);
}

static void check_list(const struct config_list *list, const struct half *half)
{
    BUG_ON(strcmp(list->file, half->path) != 0);
    for (size_t i = 0; i < list->networks.count; i++) {
        BUG_ON(list->line[i] < 1 || list->line[i] > count_lines(half));
        BUG_ON(i > 0 && list->line[i] <= list->line[i - 1]);
    }
}

static void check_same(const struct config_networks *one, const struct config_networks *other)
{
    char text[NETWORK_TEXT_MAX], other_text[NETWORK_TEXT_MAX];
    BUG_ON(one->count != other->count);
    for (size_t i = 0; i < one->count; i++)
        BUG_ON(strcmp(network_format(&one->network[i], text),
                      network_format(&other->network[i], other_text)) != 0);
}

/* Between processes it goes as an image. */
static void check_image(const struct config *config)
{
    uint8_t *image;
    size_t size;
    struct config *copy;
    BUG_ON(config_encode(config, &image, &size) < 0);
    BUG_ON(config_decode(image, size, &copy) < 0);
    check_same(&config->listeners->allow_file.networks, &copy->listeners->allow_file.networks);
    check_same(&config->listeners->deny_file.networks, &copy->listeners->deny_file.networks);
    config_free(&copy);
    free(image);
}

static void check_error(const struct config_error *error, const struct half *allow,
                        const struct half *deny)
{
    BUG_ON(error->line < 1 || error->text[0] == '\0');
    if (strcmp(error->file, allow->path) == 0)
        BUG_ON(error->line > count_lines(allow));
    else if (strcmp(error->file, deny->path) == 0)
        BUG_ON(error->line > count_lines(deny));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t first = nul != NULL ? (size_t)(nul - data) : size;
    struct half allow = put_half(data, first);
    struct half deny = put_half(data + first + (nul != NULL), size - first - (nul != NULL));
    struct config *config = NULL;
    struct config_errors errors = {0};
    int rc = parse(&allow, &deny, &config, &errors);
    BUG_ON(rc != 0 && rc != -EINVAL);
    BUG_ON((rc == 0) != (config != NULL) || (rc == 0) != (errors.count == 0));
    BUG_ON(errors.count > ERRORS_MOST);
    if (rc == 0) {
        check_list(&config->listeners->allow_file, &allow);
        check_list(&config->listeners->deny_file, &deny);
        check_image(config);
    }
    for (size_t i = 0; i < errors.count; i++)
        check_error(&errors.error[i], &allow, &deny);
    config_free(&config);
    config_errors_clear(&errors);
    close(allow.fd);
    close(deny.fd);
    return 0;
}
