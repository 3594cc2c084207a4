/*
 * Replays the corpus of test/fuzz/admin_line.c, and each of its lines cut short at every byte.
 */
#include "test/fuzz/admin_line.c"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void replay(const char *path)
{
    uint8_t data[8192];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    for (size_t cut = 0; cut <= size; cut++)
        assert_int_equal(LLVMFuzzerTestOneInput(data, cut), 0);
}

static void replays_the_corpus(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob("test/fuzz/corpus/admin_line/*", 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 20);
    for (size_t i = 0; i < found.gl_pathc; i++)
        replay(found.gl_pathv[i]);
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(replays_the_corpus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
