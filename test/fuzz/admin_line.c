/*
 * Fuzzes what reads a request of the admin socket: any bytes as a line. Words are taken apart, the
 * command's row is found, its arguments are held against the row; nothing is run. What the log
 * would say of them, and what they are as numbers, is looked at as well.
 *
 * Covers: lb/admin/words.c lb/admin/commands.c
 * No line reaches what prints the help.
 */
#include "lb/admin/commands.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const char *text, const char *line, size_t size)
{
    BUG_ON(text < line || text > line + size);
    BUG_ON(strlen(text) > (size_t)(line + size - text));
}

static void check_words(const struct words *words, const char *line, size_t size)
{
    BUG_ON(words->count > WORDS_MAX);
    for (size_t i = 0; i < words->count; i++) {
        check_inside(words->word[i].text, line, size);
        if (words->word[i].key != NULL)
            check_inside(words->word[i].key, line, size);
    }
}

static void check_command(const struct command *command)
{
    size_t count;
    const struct command *table = commands_table(&count);
    BUG_ON(command < table || command >= table + count);
    BUG_ON(command_access_name(command->access) == NULL);
}

static void check_numbers(const struct words *words)
{
    for (size_t i = 0; i < words->count; i++) {
        const char *text = words->word[i].text;
        uint64_t number = 0, least = 0;
        if (!words_number(text, UINT64_MAX, &number))
            continue;
        BUG_ON(strspn(text, "0123456789") != strlen(text));
        BUG_ON(number != strtoull(text, NULL, 10));
        BUG_ON(!words_number(text, number, &least) || least != number);
        BUG_ON(number > 0 && words_number(text, number - 1, &least));
    }
}

static void check_printed(const struct words *words, size_t size)
{
    char *line = malloc(size + WORDS_MAX + 1);
    struct text text;
    BUG_ON(line == NULL);
    text_init(&text, line, size + WORDS_MAX + 1);
    words_print(words, &text);
    /* Each word and key is a part of the line, and so is a space or '=' for each. */
    BUG_ON(text.length > size);
    free(line);
}

static void find_and_check(struct words *words)
{
    char error[1024];
    struct text text;
    text_init(&text, error, sizeof(error));
    const struct command *command = commands_find(words, &text);
    if (command == NULL) {
        BUG_ON(text.length == 0);
        return;
    }
    check_command(command);
    BUG_ON((command_check(command, words, &text) == 0) != (text.length == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of just that size, so that a byte too many is seen. */
    char *line = malloc(size + 1);
    struct words words;
    const char *why = NULL;
    BUG_ON(line == NULL);
    memcpy(line, data, size);
    line[size] = '\0';
    if (words_parse(&words, line, size, &why) == 0) {
        check_words(&words, line, size);
        check_numbers(&words);
        check_printed(&words, size);
        find_and_check(&words);
    } else {
        BUG_ON(why == NULL);
    }
    free(line);
    return 0;
}
