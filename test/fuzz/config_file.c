/*
 * Fuzzes the reading of configuration files: any bytes as a file. It is either refused with an
 * error for a line that it has, or becomes a model that survives its image and its own dump.
 */
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libconfig 1.5 forgets a string that stands where the syntax is wrong; its process ends soon. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

static const char *const schedulers[] = {"round-robin", "p2c", "maglev"};
static const char *const probes[] = {"tcp", "http", "udp", "dns"};

static bool probe_is_inet(const char *name)
{
    return strcmp(name, "udp") == 0 || strcmp(name, "dns") == 0;
}

static const struct config_names names = {.schedulers = schedulers,
                                          .scheduler_count = ARRAY_LEN(schedulers),
                                          .probes = probes,
                                          .probe_count = ARRAY_LEN(probes),
                                          .probe_is_inet = probe_is_inet};

/* Parses bytes by way of a file that has no name but its descriptor's. */
static int parse_bytes(const void *data, size_t size, struct config **out,
                       struct config_errors *errors)
{
    char path[64];
    int fd = memfd_create("weir.cfg", MFD_CLOEXEC);
    BUG_ON(fd < 0 || write(fd, data, size) != (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int rc = config_parse(path, &names, out, errors);
    close(fd);
    return rc;
}

static char *dump(const struct config *config, size_t *size)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, size);
    BUG_ON(stream == NULL);
    config_print(config, stream);
    fclose(stream);
    return text;
}

static void check_model(const struct config *config)
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
    BUG_ON(parse_bytes(text, size, &again, &errors) < 0);
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
        bool included = strncmp(error->file, "/proc/self/fd/", 14) != 0;
        BUG_ON(error->line < 0 || (!included && error->line > lines));
        BUG_ON(error->text[0] == '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    int rc = parse_bytes(data, size, &config, &errors);
    BUG_ON(rc != 0 && rc != -EINVAL);
    BUG_ON((rc == 0) != (config != NULL) || (rc == 0) != (errors.count == 0));
    if (rc == 0)
        check_model(config);
    else
        check_errors(&errors, data, size);
    config_free(&config);
    config_errors_clear(&errors);
    return 0;
}
