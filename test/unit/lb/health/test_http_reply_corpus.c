/*
 * Replays the corpus of the fuzz target http_reply, and all the beginnings of its members.
 */
#include "test/fuzz/http_reply.c" /* NOLINT(bugprone-suspicious-include): the target itself */

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CORPUS "test/fuzz/corpus/http_reply"

static size_t load(const char *name, uint8_t *out, size_t size)
{
    char path[512];
    snprintf(path, sizeof(path), CORPUS "/%s", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t length = fread(out, 1, size, file);
    assert_true(length < size);
    fclose(file);
    return length;
}

static void replay(const char *name)
{
    static uint8_t buffer[16384];
    size_t length = load(name, buffer, sizeof(buffer));
    for (size_t size = 0; size <= length; size++) {
        uint8_t *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy, buffer, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
}

static void nothing_in_the_corpus_fails(void **state)
{
    (void)state;
    DIR *directory = opendir(CORPUS);
    assert_non_null(directory);
    size_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        replay(entry->d_name);
        count++;
    }
    closedir(directory);
    assert_true(count >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_in_the_corpus_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
