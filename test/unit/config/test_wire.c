/* The model and the errors as bytes: round trips, and images that are not whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include "common/random.h"

#include <errno.h>

static struct config *load_example(const char *path)
{
    struct config *config = NULL;
    struct config_errors errors = {0};
    assert_int_equal(config_parse(path, &test_names, &config, &errors), 0);
    return config;
}

/* What a configuration says, for comparing. */
static char *print_of(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_print(config, stream);
    fclose(stream);
    return text;
}

static void assert_same(const struct config *a, const struct config *b)
{
    char *text_a = print_of(a);
    char *text_b = print_of(b);
    assert_string_equal(text_a, text_b);
    assert_string_equal(a->path, b->path);
    for (size_t i = 0; i < a->listener_count; i++)
        assert_int_equal(a->listeners[i].pool_index, b->listeners[i].pool_index);
    for (size_t i = 0; i < a->pool_count; i++)
        assert_int_equal(a->pools[i].line, b->pools[i].line);
    free(text_a);
    free(text_b);
}

static void a_model_survives(void **state)
{
    (void)state;
    static const char *const paths[] = {"config/examples/minimal.cfg", "config/examples/demo.cfg",
                                        "config/examples/all.cfg", "config/examples/dns.cfg"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct config *config = load_example(paths[i]);
        struct config *copy = copy_of(config);
        assert_same(config, copy);
        config_free(&copy);
        config_free(&config);
    }
}

/* In memory of its exact size, so that a sanitizer sees a read beyond. */
static int decode_exactly(const uint8_t *image, size_t size, struct config **out)
{
    uint8_t *exact = malloc(MAX(size, 1));
    memcpy(exact, image, size);
    int rc = config_decode(exact, size, out);
    free(exact);
    return rc;
}

static void every_shorter_image_is_refused(void **state)
{
    (void)state;
    struct config *config = load_example("config/examples/demo.cfg");
    uint8_t *image;
    size_t size;
    assert_int_equal(config_encode(config, &image, &size), 0);
    for (size_t cut = 0; cut < size; cut++) {
        struct config *copy = NULL;
        assert_int_equal(decode_exactly(image, cut, &copy), -EINVAL);
        assert_null(copy);
    }
    config_free(&config);
    free(image);
}

static void a_longer_image_is_refused(void **state)
{
    (void)state;
    struct config *config = load_example("config/examples/demo.cfg");
    struct config *copy = NULL;
    uint8_t *image;
    size_t size;
    assert_int_equal(config_encode(config, &image, &size), 0);
    uint8_t *longer = malloc(size + 1);
    memcpy(longer, image, size);
    longer[size] = 0;
    assert_int_equal(config_decode(longer, size + 1, &copy), -EINVAL);
    config_free(&config);
    free(image);
    free(longer);
}

/* Flipped bytes make either a refusal or a model that is whole. */
static void a_damaged_image_does_no_harm(void **state)
{
    (void)state;
    struct config *config = load_example("config/examples/demo.cfg");
    struct random_state random;
    uint8_t *image;
    size_t size;
    random_init(&random, 20250131);
    assert_int_equal(config_encode(config, &image, &size), 0);
    for (int i = 0; i < 5000; i++) {
        uint8_t *damaged = malloc(size);
        struct config *copy = NULL;
        memcpy(damaged, image, size);
        for (uint32_t flips = 1 + random_below(&random, 3); flips > 0; flips--)
            damaged[random_below(&random, (uint32_t)size)] = (uint8_t)random_below(&random, 256);
        if (config_decode(damaged, size, &copy) == 0) {
            char *text = print_of(copy);
            free(text);
        }
        config_free(&copy);
        free(damaged);
    }
    config_free(&config);
    free(image);
}

static void errors_survive(void **state)
{
    (void)state;
    struct config_errors errors = {0};
    struct config_errors copy = {0};
    uint8_t *image;
    size_t size;
    config_errors_add(&errors, "a.cfg", 3, "weight = %d must be 0 to 65535", -1);
    config_errors_add(&errors, "b.cfg", 0, "cannot be read");
    assert_int_equal(config_errors_encode(&errors, &image, &size), 0);
    assert_int_equal(config_errors_decode(image, size, &copy), 0);
    assert_int_equal(copy.count, 2);
    assert_string_equal(copy.error[0].file, "a.cfg");
    assert_int_equal(copy.error[0].line, 3);
    assert_string_equal(copy.error[0].text, "weight = -1 must be 0 to 65535");
    assert_string_equal(copy.error[1].text, "cannot be read");
    config_errors_clear(&copy);
    for (size_t cut = 0; cut < size; cut++) {
        assert_int_equal(config_errors_decode(image, cut, &copy), -EINVAL);
        config_errors_clear(&copy);
    }
    config_errors_clear(&errors);
    free(image);
}

/* Neither is taken for the other. */
static void kinds_of_images_differ(void **state)
{
    (void)state;
    struct config *config = load_example("config/examples/demo.cfg");
    struct config *copy = NULL;
    struct config_errors errors = {0};
    uint8_t *image;
    size_t size;
    assert_int_equal(config_encode(config, &image, &size), 0);
    assert_int_equal(config_errors_decode(image, size, &errors), -EINVAL);
    free(image);
    config_errors_add(&errors, "a.cfg", 3, "wrong");
    assert_int_equal(config_errors_encode(&errors, &image, &size), 0);
    assert_int_equal(config_decode(image, size, &copy), -EINVAL);
    free(image);
    config_errors_clear(&errors);
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_survives),
        cmocka_unit_test(every_shorter_image_is_refused),
        cmocka_unit_test(a_longer_image_is_refused),
        cmocka_unit_test(a_damaged_image_does_no_harm),
        cmocka_unit_test(errors_survive),
        cmocka_unit_test(kinds_of_images_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
