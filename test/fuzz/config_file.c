/*
 * Fuzzes the reading of configuration files: any bytes as a file. It is either refused with an
 * error for a line that it has, or becomes a model that survives its image and its own dump. An
 * image that is cut short or damaged, of the model or of the errors, is refused or becomes another
 * one.
 *
 * Seeds: config/examples
 * Covers: config
 * Except: config/(print|lists).c
 * One of those writes, the other has a target of its own. No file reaches what a machine without
 * memory or a file that cannot be read does.
 */
#include "test/fuzz/config_bytes.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *dump(const struct config *config, size_t *size)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, size);
    BUG_ON(stream == NULL);
    config_print(config, stream);
    fclose(stream);
    return text;
}

/* Where an image is cut and damaged: it depends on nothing but the file. */
static size_t choose(const uint8_t *bytes, size_t size, size_t below)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash % below;
}

/* In a copy of its own, so that AddressSanitizer sees where it ends. */
static uint8_t *copy_of(const uint8_t *image, size_t size)
{
    uint8_t *copy = malloc(size + (size == 0));
    BUG_ON(copy == NULL);
    memcpy(copy, image, size);
    return copy;
}

static int decode_model(const uint8_t *image, size_t size)
{
    struct config *config = NULL;
    int rc = config_decode(image, size, &config);
    BUG_ON((rc == 0) != (config != NULL));
    config_free(&config);
    return rc;
}

static int decode_errors(const uint8_t *image, size_t size)
{
    struct config_errors errors = {0};
    int rc = config_errors_decode(image, size, &errors);
    config_errors_clear(&errors);
    return rc;
}

static void check_damaged(const uint8_t *image, size_t size, size_t at,
                          int decode(const uint8_t *image, size_t size))
{
    uint8_t *cut = copy_of(image, at);
    BUG_ON(decode(cut, at) != -EINVAL);
    free(cut);
    uint8_t *damaged = copy_of(image, size);
    damaged[at] = (uint8_t)(damaged[at] + 1 + at % 255);
    int rc = decode(damaged, size);
    BUG_ON(rc != 0 && rc != -EINVAL);
    free(damaged);
}

static void check_model(const struct config *config, const uint8_t *data, size_t data_size)
{
    uint8_t *image;
    size_t image_size;
    struct config *copy = NULL;
    struct config *again = NULL;
    struct config_errors errors = {0};
    size_t size;
    char *text = dump(config, &size);

    BUG_ON(config_encode(config, &image, &image_size) < 0);
    BUG_ON(config_decode(image, image_size, &copy) < 0);
    check_damaged(image, image_size, choose(data, data_size, image_size), decode_model);
    BUG_ON(config_bytes_parse(text, size, &again, &errors) < 0);
    char *text_copy = dump(copy, &size);
    char *text_again = dump(again, &size);
    BUG_ON(strcmp(text, text_copy) != 0 || strcmp(text, text_again) != 0);
    config_free(&copy);
    config_free(&again);
    free(image);
    free(text);
    free(text_copy);
    free(text_again);
}

static void check_errors(const struct config_errors *errors, const uint8_t *data, size_t size)
{
    int lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    BUG_ON(errors->count == 0);
    for (size_t i = 0; i < errors->count; i++) {
        const struct config_error *error = &errors->error[i];
        bool included = strncmp(error->file, CONFIG_BYTES_FOLDER, strlen(CONFIG_BYTES_FOLDER)) != 0;
        BUG_ON(error->line < 0 || (!included && error->line > lines));
        BUG_ON(error->text[0] == '\0');
    }
}

static char *print_errors(const struct config_errors *errors)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    BUG_ON(stream == NULL);
    config_errors_print(errors, stream);
    fclose(stream);
    return text;
}

static void check_errors_image(const struct config_errors *errors, const uint8_t *data, size_t size)
{
    uint8_t *image;
    size_t image_size;
    struct config_errors copy = {0};
    BUG_ON(config_errors_encode(errors, &image, &image_size) < 0);
    BUG_ON(config_errors_decode(image, image_size, &copy) < 0);
    char *text = print_errors(errors);
    char *text_copy = print_errors(&copy);
    BUG_ON(copy.count != errors->count || strcmp(text, text_copy) != 0);
    check_damaged(image, image_size, choose(data, size, image_size), decode_errors);
    config_errors_clear(&copy);
    free(image);
    free(text);
    free(text_copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    int rc = config_bytes_parse(data, size, &config, &errors);
    BUG_ON(rc != 0 && rc != -EINVAL);
    BUG_ON((rc == 0) != (config != NULL) || (rc == 0) != (errors.count == 0));
    if (rc == 0) {
        check_model(config, data, size);
    } else {
        check_errors(&errors, data, size);
        check_errors_image(&errors, data, size);
    }
    config_free(&config);
    config_errors_clear(&errors);
    return 0;
}
