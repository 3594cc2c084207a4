/*
 * Purpose: what is wrong with a configuration, collected.
 * Thread:  the owner's.
 * Owns:    every error its texts.
 * Fails:   without memory an error is lost, so whoever adds one also returns failure by itself.
 */
#include "config/loader.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Texts quote what the file says; none of it may steer the terminal or break the line. */
static void blank_control(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

/* Room for one more; the array doubles whenever its count is a power of two. */
static bool make_room(struct config_errors *errors)
{
    size_t count = errors->count;
    if ((count & (count - 1)) != 0)
        return true;
    size_t size = MAX(2 * count, 1) * sizeof(*errors->error);
    struct config_error *larger = realloc(errors->error, size);
    if (larger == NULL)
        return false;
    errors->error = larger;
    return true;
}

void config_errors_add(struct config_errors *errors, const char *file, int line, const char *format,
                       ...)
{
    if (!make_room(errors))
        return;
    va_list arguments;
    va_start(arguments, format);
    char *text;
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    char *name = strdup(file);
    if (name == NULL) {
        free(text);
        return;
    }
    blank_control(name);
    blank_control(text);
    errors->error[errors->count++] =
        (struct config_error){.file = name, .line = line, .text = text};
}

/* ---- Order ---- */

struct ranked {
    struct config_error error;
    size_t file; /* the first error of the same file */
    size_t place;
};

static int compare_numbers(size_t a, size_t b)
{
    return (a > b) - (a < b);
}

static int compare_ranked(const void *left, const void *right)
{
    const struct ranked *a = left;
    const struct ranked *b = right;
    int order = compare_numbers(a->file, b->file);
    if (order == 0)
        order = compare_numbers((size_t)a->error.line, (size_t)b->error.line);
    return order != 0 ? order : compare_numbers(a->place, b->place);
}

static size_t first_of_file(const struct config_errors *errors, size_t index)
{
    size_t first = 0;
    while (strcmp(errors->error[first].file, errors->error[index].file) != 0)
        first++;
    return first;
}

static bool same_line(const struct config_error *a, const struct config_error *b)
{
    return a->line == b->line && strcmp(a->file, b->file) == 0;
}

static bool is_told(const struct config_errors *errors, size_t kept,
                    const struct config_error *error)
{
    for (; kept > 0 && same_line(&errors->error[kept - 1], error); kept--)
        if (strcmp(errors->error[kept - 1].text, error->text) == 0)
            return true;
    return false;
}

/* A file that is included twice has its errors twice. */
static void drop_repeated(struct config_errors *errors)
{
    size_t kept = 0;
    for (size_t i = 0; i < errors->count; i++) {
        if (is_told(errors, kept, &errors->error[i])) {
            free(errors->error[i].file);
            free(errors->error[i].text);
        } else {
            errors->error[kept++] = errors->error[i];
        }
    }
    errors->count = kept;
}

/* Without memory the order stays as it is: better than no errors. */
void config_errors_sort(struct config_errors *errors)
{
    struct ranked *ranked = calloc(MAX(errors->count, 1), sizeof(*ranked));
    if (ranked == NULL)
        return;
    for (size_t i = 0; i < errors->count; i++)
        ranked[i] = (struct ranked){
            .error = errors->error[i], .file = first_of_file(errors, i), .place = i};
    qsort(ranked, errors->count, sizeof(*ranked), compare_ranked);
    for (size_t i = 0; i < errors->count; i++)
        errors->error[i] = ranked[i].error;
    free(ranked);
    drop_repeated(errors);
}

/* ---- For people ---- */

void config_errors_print(const struct config_errors *errors, FILE *to)
{
    for (size_t i = 0; i < errors->count; i++) {
        const struct config_error *error = &errors->error[i];
        if (error->line > 0)
            fprintf(to, "%s:%d: %s\n", error->file, error->line, error->text);
        else
            fprintf(to, "%s: %s\n", error->file, error->text);
    }
}

void config_errors_clear(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        free(errors->error[i].file);
        free(errors->error[i].text);
    }
    free(errors->error);
    *errors = (struct config_errors){0};
}
