/*
 * Fuzzes what reads a request of the admin socket: any bytes as a line. Words are taken apart, the
 * command's row is found, its arguments are held against the row; nothing is run.
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

static void find_and_check(struct words *words)
{
    char error[1024];
    struct text text;
    text_init(&text, error, sizeof(error));
    const struct command *command = commands_find(words, &text);
    if (command == NULL)
        BUG_ON(text.length == 0);
    else
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
        find_and_check(&words);
    } else {
        BUG_ON(why == NULL);
    }
    free(line);
    return 0;
}
