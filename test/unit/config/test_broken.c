/*
 * Every file of test/fuzz/corpus/config_file is refused with exactly the errors that it announces,
 * in lines such as
 *     #! 4: weight = -1 must be
 *     #! included/error.inc:3: workers = 1000
 * that is, the place and the beginning or a part of what is said about it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/config/support.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

/* libconfig 1.5 forgets a string that stands where the syntax is wrong; its process ends soon. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

#define FOLDER "test/fuzz/corpus/config_file"
#define LEAST_FILES 200
#define EXPECTED_MAX 16

struct expected {
    char *file;
    int line;
    char *phrase;
};

/* "4: phrase" or "included/error.inc:3: phrase". */
static void read_expected(struct expected *to, const char *path, const char *line)
{
    const char *end = strstr(line, ": ");
    assert_non_null(end);
    const char *colon = memchr(line, ':', (size_t)(end - line));
    const char *number = line;
    to->file = strdup(path);
    if (colon != NULL) {
        free(to->file);
        assert_true(asprintf(&to->file, FOLDER "/%.*s", (int)(colon - line), line) > 0);
        number = colon + 1;
    }
    to->line = atoi(number);
    to->phrase = strndup(end + 2, strcspn(end + 2, "\n"));
}

static size_t read_expectations(const char *path, struct expected *to)
{
    FILE *from = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    size_t count = 0;
    assert_non_null(from);
    while (getline(&line, &size, from) > 0) {
        if (strncmp(line, "#! ", 3) != 0)
            continue;
        assert_true(count < EXPECTED_MAX);
        read_expected(&to[count++], path, line + 3);
    }
    free(line);
    fclose(from);
    return count;
}

static bool is_told(const struct config_errors *errors, const struct expected *expected)
{
    for (size_t i = 0; i < errors->count; i++)
        if (errors->error[i].line == expected->line &&
            strcmp(errors->error[i].file, expected->file) == 0 &&
            strstr(errors->error[i].text, expected->phrase) != NULL)
            return true;
    return false;
}

static bool refuses_as_expected(const char *path)
{
    struct expected expected[EXPECTED_MAX];
    struct config_errors errors = {0};
    struct config *config = NULL;
    size_t count = read_expectations(path, expected);
    int rc = config_parse(path, &test_names, &config, &errors);
    bool good = rc == -EINVAL && config == NULL && count > 0 && errors.count == count;
    for (size_t i = 0; i < count; i++) {
        if (!is_told(&errors, &expected[i])) {
            print_error("not told: %s:%d: %s\n", expected[i].file, expected[i].line,
                        expected[i].phrase);
            good = false;
        }
        free(expected[i].file);
        free(expected[i].phrase);
    }
    if (!good) {
        print_error("%s: %d, %zu errors where %zu are expected:\n", path, rc, errors.count, count);
        config_errors_print(&errors, stderr);
    }
    config_errors_clear(&errors);
    config_free(&config);
    return good;
}

static void each_is_refused_with_its_lines(void **state)
{
    (void)state;
    glob_t files;
    size_t wrong = 0;
    assert_int_equal(glob(FOLDER "/*.cfg", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= LEAST_FILES);
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (!refuses_as_expected(files.gl_pathv[i]))
            wrong++;
    print_message("%zu broken configurations\n", files.gl_pathc);
    globfree(&files);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_refused_with_its_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
