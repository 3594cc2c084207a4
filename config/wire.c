/*
 * Purpose: the checked model, and errors, as bytes between the helper process and weir.
 * Thread:  any.
 * Owns:    an image is the caller's.
 * Fails:   -ENOMEM; decoding -EINVAL when the image is not whole.
 *
 * An image is a row of texts, each closed by a NUL: a mark, the path, and then by the tables of
 * keys and sections every value as the file would say it, a list with its length first and each
 * element with its line; behind the path of a file of networks these. So there is one reader of
 * values, with its bounds, for file and image alike.
 */
#include "config/buffer.h"
#include "config/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_MARK "weir configuration 1"
#define ERRORS_MARK "weir errors 1"

static void put(struct config_buffer *to, const char *text)
{
    config_buffer_add(to, text, strlen(text) + 1);
}

static void put_number(struct config_buffer *to, size_t number)
{
    char text[32];
    snprintf(text, sizeof(text), "%zu", number);
    put(to, text);
}

struct cursor {
    const char *at;
    size_t left;
};

/* The next text, or NULL when none is closed by a NUL within the image. */
static const char *take(struct cursor *cursor)
{
    const char *text = cursor->at;
    const char *end = cursor->left > 0 ? memchr(text, '\0', cursor->left) : NULL;
    if (end == NULL)
        return NULL;
    cursor->left -= (size_t)(end - text) + 1;
    cursor->at = end + 1;
    return text;
}

static int take_number(struct cursor *cursor, size_t most, size_t *out)
{
    const char *text = take(cursor);
    if (text == NULL || text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
        return -EINVAL;
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (errno != 0 || number > most)
        return -EINVAL;
    *out = (size_t)number;
    return 0;
}

static int take_mark(struct cursor *cursor, const char *mark)
{
    const char *text = take(cursor);
    return text != NULL && strcmp(text, mark) == 0 ? 0 : -EINVAL;
}

static int take_copy(struct cursor *cursor, char **out)
{
    const char *text = take(cursor);
    if (text == NULL)
        return -EINVAL;
    *out = strdup(text);
    return *out != NULL ? 0 : -ENOMEM;
}

/* ---- Encoding ---- */

static void encode_section(enum config_section_id id, const void *object, struct config_buffer *to);

static void encode_list(const struct config_section *list, const void *parent,
                        struct config_buffer *to)
{
    size_t count = config_list_count(list, parent);
    const char *element = config_list_array(list, parent);
    put_number(to, count);
    for (size_t i = 0; i < count; i++, element += list->size) {
        put_number(to, (size_t)*config_list_line(list, element));
        encode_section(config_section_id(list), element, to);
    }
}

static void encode_key(const struct config_key *key, const void *object, struct config_buffer *to)
{
    char scratch[CONFIG_KEY_SCRATCH];
    put(to, config_key_text(key, object, scratch));
    if (key->type->held != NULL)
        put(to, key->type->held(config_field(object, key->offset)));
}

static void encode_section(enum config_section_id id, const void *object, struct config_buffer *to)
{
    const struct config_key *key;
    for (size_t i = 0; (key = config_key_at(i)) != NULL; i++)
        if (key->section == id)
            encode_key(key, object, to);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent != id)
            continue;
        if (section->list)
            encode_list(section, object, to);
        else
            encode_section(config_section_id(section), config_field(object, section->offset), to);
    }
}

/* Hands what was gathered over to the caller. */
static int finish(struct config_buffer *image, uint8_t **out, size_t *out_size)
{
    if (image->failed) {
        free(image->data);
        return -ENOMEM;
    }
    *out = (uint8_t *)image->data;
    *out_size = image->size;
    return 0;
}

int config_encode(const struct config *config, uint8_t **out, size_t *out_size)
{
    struct config_buffer image = {0};
    put(&image, MODEL_MARK);
    put(&image, config->path);
    encode_section(SECTION_ROOT, config, &image);
    return finish(&image, out, out_size);
}

/* ---- Decoding ---- */

static int decode_section(struct cursor *cursor, enum config_section_id id, void *object);

static int decode_list(struct cursor *cursor, const struct config_section *list, void *parent)
{
    size_t count;
    /* Every element has a line and other texts, so a count beyond the bytes that are left is a lie.
     */
    int rc = take_number(cursor, cursor->left, &count);
    if (rc == 0)
        rc = config_list_make(list, parent, count);
    if (rc < 0)
        return rc;
    char *element = config_list_array(list, parent);
    for (size_t i = 0; i < count && rc == 0; i++, element += list->size) {
        size_t line;
        rc = take_number(cursor, INT_MAX, &line);
        if (rc < 0)
            break;
        *config_list_line(list, element) = (int)line;
        rc = decode_section(cursor, config_section_id(list), element);
    }
    return rc;
}

static int decode_key(struct cursor *cursor, const struct config_key *key, void *object)
{
    char phrase[128];
    struct text why;
    const char *value = take(cursor);
    if (value == NULL)
        return -EINVAL;
    text_init(&why, phrase, sizeof(phrase));
    int rc = config_key_set(key, object, value, &why);
    if (rc < 0 || key->type->held == NULL)
        return rc;
    const char *held = take(cursor);
    return held != NULL ? key->type->set_held(config_field(object, key->offset), held) : -EINVAL;
}

static int decode_section(struct cursor *cursor, enum config_section_id id, void *object)
{
    const struct config_key *key;
    int rc = 0;
    for (size_t i = 0; (key = config_key_at(i)) != NULL && rc == 0; i++)
        if (key->section == id)
            rc = decode_key(cursor, key, object);
    for (size_t i = SECTION_ROOT + 1; i < SECTION_COUNT && rc == 0; i++) {
        const struct config_section *section = &config_sections[i];
        if (section->parent != id)
            continue;
        if (section->list)
            rc = decode_list(cursor, section, object);
        else
            rc = decode_section(cursor, config_section_id(section),
                                config_field(object, section->offset));
    }
    return rc;
}

static int decode_model(struct cursor *cursor, struct config *config)
{
    int rc = take_mark(cursor, MODEL_MARK);
    if (rc == 0)
        rc = take_copy(cursor, &config->path);
    if (rc == 0)
        rc = decode_section(cursor, SECTION_ROOT, config);
    if (rc == 0 && (cursor->left > 0 || !config_link(config)))
        rc = -EINVAL;
    if (rc == 0)
        config_put_probe_values(config);
    return rc;
}

int config_decode(const uint8_t *image, size_t size, struct config **out)
{
    struct cursor cursor = {.at = (const char *)image, .left = size};
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return -ENOMEM;
    int rc = decode_model(&cursor, config);
    if (rc < 0)
        config_free(&config);
    else
        *out = config;
    return rc;
}

/* ---- Errors ---- */

int config_errors_encode(const struct config_errors *errors, uint8_t **out, size_t *out_size)
{
    struct config_buffer image = {0};
    put(&image, ERRORS_MARK);
    put_number(&image, errors->count);
    for (size_t i = 0; i < errors->count; i++) {
        put(&image, errors->error[i].file);
        put_number(&image, (size_t)errors->error[i].line);
        put(&image, errors->error[i].text);
    }
    return finish(&image, out, out_size);
}

int config_errors_decode(const uint8_t *image, size_t size, struct config_errors *errors)
{
    struct cursor cursor = {.at = (const char *)image, .left = size};
    size_t count;
    int rc = take_mark(&cursor, ERRORS_MARK);
    if (rc == 0)
        rc = take_number(&cursor, size, &count);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        size_t line = 0;
        const char *file = take(&cursor);
        rc = take_number(&cursor, INT_MAX, &line);
        const char *text = take(&cursor);
        if (file == NULL || text == NULL)
            rc = -EINVAL;
        if (rc == 0)
            config_errors_add(errors, file, (int)line, "%s", text);
    }
    return rc == 0 && cursor.left > 0 ? -EINVAL : rc;
}
