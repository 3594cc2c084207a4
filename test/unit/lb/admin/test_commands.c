/*
 * The table of commands: how a request finds its row, what is wrong with its arguments, and that
 * the manual tells the same.
 */
#include "lb/admin/commands.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lb/admin/admin.h"

#define MANUAL "docs/weirctl.1"

/* What is said of a line by find and check; "" when nothing is wrong. */
static const char *judge(const char *line, const struct command **out)
{
    static char copy[256], error[512];
    struct words words;
    struct text text;
    const char *why;
    snprintf(copy, sizeof(copy), "%s", line);
    assert_int_equal(words_parse(&words, copy, strlen(copy), &why), 0);
    text_init(&text, error, sizeof(error));
    *out = commands_find(&words, &text);
    if (*out != NULL) {
        int rc = command_check(*out, &words, &text);
        assert_int_equal(rc, text.length == 0 ? 0 : -EINVAL);
    }
    return error;
}

static void finds_each_row(void **state)
{
    (void)state;
    size_t count;
    const struct command *commands = commands_table(&count);
    assert_true(count >= 17);
    for (size_t i = 0; i < count; i++) {
        const struct command *found;
        (void)judge(commands[i].words, &found);
        assert_ptr_equal(found, &commands[i]);
    }
}

static void accepts(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "status",
        "show servers",
        "show servers web",
        "show sessions",
        "show sessions server=a pool=web",
        "show flows",
        "show flows client=192.0.2.1 listener=dns",
        "drain web/a",
        "drain web/a deadline=5m",
        "drain deadline=5m web/a",
        "weight web/a 5",
        "kill session 5",
        "kill flow 5",
        "ready",
        "\"show servers\" web", /* a shell's user quotes more than need be */
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        const struct command *command;
        assert_string_equal(judge(lines[i], &command), "");
        assert_non_null(command);
    }
}

static void refuses_arguments(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"status now", "there are too many arguments; usage: status"},
        {"drain", "an argument is missing; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"drain deadline=5m",
         "an argument is missing; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"drain web/a 5m",
         "there are too many arguments; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"drain web/a dedline=5m",
         "\"drain\" takes no \"dedline=\"; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"drain web/a dead=5m",
         "\"drain\" takes no \"dead=\"; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"drain web/a deadline=5m deadline=6m",
         "\"deadline=\" is given twice; usage: drain POOL/SERVER [deadline=DURATION]"},
        {"weight web/a", "an argument is missing; usage: weight POOL/SERVER WEIGHT"},
        {"ready pool=web", "\"ready\" takes no \"pool=\"; usage: ready [POOL]"},
        {"ready web mail", "there are too many arguments; usage: ready [POOL]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct command *command;
        assert_string_equal(judge(cases[i][0], &command), cases[i][1]);
    }
}

static void suggests_what_was_meant(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", "the request is empty; \"help\" tells the commands"},
        {"statsu", "there is no command \"statsu\"; did you mean \"status\"?"},
        {"shwo servers", "there is no command \"shwo servers\"; did you mean \"show servers\"?"},
        {"show severs web", "there is no command \"show severs\"; did you mean \"show servers\"?"},
        {"show flow", "there is no command \"show flow\"; did you mean \"show flows\"?"},
        {"kill sesion 5", "there is no command \"kill sesion\"; did you mean \"kill session\"?"},
        {"enabel web/a", "there is no command \"enabel web/a\"; did you mean \"enable\"?"},
        {"kill 5", "there is no command \"kill 5\"; it is one of: kill session, kill flow"},
        {"xyzzy", "there is no command \"xyzzy\"; \"help\" tells the commands"},
        {"show=servers", "there is no command \"\"; \"help\" tells the commands"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct command *command;
        assert_string_equal(judge(cases[i][0], &command), cases[i][1]);
        assert_null(command);
    }
    const struct command *command;
    const char *said = judge("show", &command);
    assert_non_null(strstr(said, "it is one of: show listeners, show pools, show servers"));
}

static char *printed_help(void)
{
    char *text = NULL;
    size_t size;
    FILE *memory = open_memstream(&text, &size);
    admin_print_help(memory);
    fclose(memory);
    return text;
}

static void prints_each_row(void **state)
{
    (void)state;
    char *help = printed_help();
    assert_non_null(strstr(help, "drain POOL/SERVER [deadline=DURATION] (write)\n"));
    assert_non_null(strstr(help, "status (read)\n"));
    free(help);
}

/* ---- the manual ---- */

/* An argument in mdoc(7): names slanted, keys as they are typed, what is optional in brackets. */
static void add_argument(struct text *to, const char *argument, size_t length)
{
    bool optional = argument[0] == '[';
    const char *name = argument + optional;
    size_t rest = length - 2 * optional;
    const char *equals = memchr(name, '=', rest);
    text_add(to, optional ? " Oo" : "");
    if (equals != NULL)
        text_addf(to, " Cm %.*s Ns = Ns Ar %.*s", (int)(equals - name), name,
                  (int)(rest - (size_t)(equals - name) - 1), equals + 1);
    else
        text_addf(to, " Ar %.*s", (int)rest, name);
    text_add(to, optional ? " Oc" : "");
}

static void item_of(const struct command *command, struct text *to)
{
    text_addf(to, ".It Cm %s", command->words);
    for (const char *at = command->arguments; *at != '\0';) {
        size_t length = strcspn(at, " ");
        add_argument(to, at, length);
        at += length + strspn(at + length, " ");
    }
}

/* The next item of the list of commands; false behind its end. */
static bool next_item(FILE *manual, char *line, size_t size)
{
    while (fgets(line, (int)size, manual) != NULL && strcmp(line, ".Sh OUTPUT\n") != 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, ".It Cm ", 7) == 0)
            return true;
    }
    return false;
}

static void is_what_the_manual_says(void **state)
{
    (void)state;
    char found[256] = "", expected[256];
    size_t count;
    const struct command *commands = commands_table(&count);
    FILE *manual = fopen(MANUAL, "r");
    assert_non_null(manual);
    while (strcmp(found, ".Sh COMMANDS\n") != 0)
        assert_non_null(fgets(found, sizeof(found), manual));
    for (size_t i = 0; i < count; i++) {
        struct text text;
        text_init(&text, expected, sizeof(expected));
        item_of(&commands[i], &text);
        assert_true(next_item(manual, found, sizeof(found)));
        assert_string_equal(found, expected);
    }
    assert_false(next_item(manual, found, sizeof(found)));
    fclose(manual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_each_row),    cmocka_unit_test(accepts),
        cmocka_unit_test(refuses_arguments), cmocka_unit_test(suggests_what_was_meant),
        cmocka_unit_test(prints_each_row),   cmocka_unit_test(is_what_the_manual_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
