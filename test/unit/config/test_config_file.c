/*
 * Replays the corpus of test/fuzz/config_file.c, each file cut short at many places, and mixtures
 * of two: the beginning of one and the end of another.
 */
#include "test/fuzz/config_file.c"

#include "common/random.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define CUTS 12
#define MIXTURES 2000
#define SEED 20250201

struct sample {
    uint8_t *data;
    size_t size;
};

struct corpus {
    struct sample *samples;
    size_t count;
};

static struct sample read_sample(const char *path)
{
    struct sample sample = {.data = malloc(65536)};
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    sample.size = fread(sample.data, 1, 65536, file);
    fclose(file);
    return sample;
}

static int read_corpus(void **state)
{
    glob_t found;
    struct corpus *corpus = calloc(1, sizeof(*corpus));
    if (glob("test/fuzz/corpus/config_file/*.cfg", 0, NULL, &found) != 0 ||
        glob("config/examples/*.cfg", GLOB_APPEND, NULL, &found) != 0)
        return -1;
    corpus->count = found.gl_pathc;
    corpus->samples = calloc(corpus->count, sizeof(*corpus->samples));
    for (size_t i = 0; i < corpus->count; i++)
        corpus->samples[i] = read_sample(found.gl_pathv[i]);
    globfree(&found);
    *state = corpus;
    return 0;
}

static int free_corpus(void **state)
{
    struct corpus *corpus = *state;
    for (size_t i = 0; i < corpus->count; i++)
        free(corpus->samples[i].data);
    free(corpus->samples);
    free(corpus);
    return 0;
}

static void replays_the_corpus(void **state)
{
    const struct corpus *corpus = *state;
    for (size_t i = 0; i < corpus->count; i++) {
        const struct sample *sample = &corpus->samples[i];
        for (size_t cut = 0; cut <= CUTS; cut++)
            LLVMFuzzerTestOneInput(sample->data, sample->size * cut / CUTS);
    }
}

static void reads_mixtures(void **state)
{
    const struct corpus *corpus = *state;
    struct random_state random;
    uint8_t *mixed = malloc(2 * 65536);
    random_init(&random, SEED);
    print_message("seed %d\n", SEED);
    for (int i = 0; i < MIXTURES; i++) {
        const struct sample *a = &corpus->samples[random_below(&random, (uint32_t)corpus->count)];
        const struct sample *b = &corpus->samples[random_below(&random, (uint32_t)corpus->count)];
        size_t head = random_below(&random, (uint32_t)a->size + 1);
        size_t tail = random_below(&random, (uint32_t)b->size + 1);
        memcpy(mixed, a->data, head);
        memcpy(mixed + head, b->data + b->size - tail, tail);
        if (head + tail > 0)
            mixed[random_below(&random, (uint32_t)(head + tail))] =
                (uint8_t)random_below(&random, 256);
        LLVMFuzzerTestOneInput(mixed, head + tail);
    }
    free(mixed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_the_corpus),
        cmocka_unit_test(reads_mixtures),
    };
    return cmocka_run_group_tests(tests, read_corpus, free_corpus);
}
