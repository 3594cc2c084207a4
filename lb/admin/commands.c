/*
 * Purpose: see commands.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see commands.h.
 *
 * A new command is one row here and one handler. `help`, the usage in errors and the check of
 * arguments follow; docs/weirctl.1 is held against the table by a test.
 */
#include "lb/admin/commands.h"

#include "lb/admin/admin.h"
#include "lb/admin/handlers.h"

#include <errno.h>
#include <string.h>

static const struct command commands[] = {
    {"status", "", COMMAND_READ, run_status,
     "what weir is doing: state, sessions, flows, descriptors"},
    {"ready", "[POOL]", COMMAND_READ, run_ready,
     "succeeds only when each pool that has a listener, or this one, can serve"},
    {"show listeners", "", COMMAND_READ, run_show_listeners, "the addresses that clients reach"},
    {"show pools", "", COMMAND_READ, run_show_pools, "the pools, and how many servers are usable"},
    {"show servers", "[POOL]", COMMAND_READ, run_show_servers,
     "the servers: weight, state, health and why, traffic, how far a drain is"},
    {"show sessions", "[listener=NAME] [pool=NAME] [server=NAME] [client=ADDRESS|NETWORK]",
     COMMAND_READ, run_show_sessions, "the TCP sessions under way; all that is given must match"},
    {"show flows", "[listener=NAME] [pool=NAME] [server=NAME] [client=ADDRESS|NETWORK]",
     COMMAND_READ, run_show_flows, "the UDP flows under way; all that is given must match"},
    {"show access", "LISTENER", COMMAND_READ, run_show_access,
     "who may come in: how many networks are configured, and what operators said since"},
    {"show counters", "", COMMAND_READ, run_show_counters, "what has been counted since the start"},
    {"show config", "", COMMAND_READ, run_show_config,
     "the configuration that weir runs by, every key written out"},
    {"show version", "", COMMAND_READ, run_show_version, "the versions of weir and its libraries"},
    {"drain", "POOL/SERVER [deadline=DURATION]", COMMAND_WRITE, run_drain,
     "no new sessions or flows; those it has end by themselves, or at the deadline"},
    {"enable", "POOL/SERVER", COMMAND_WRITE, run_enable,
     "new sessions and flows again, once the server is healthy"},
    {"disable", "POOL/SERVER", COMMAND_WRITE, run_disable,
     "maintenance: nothing new and no probes; on_down says what its sessions and flows do"},
    {"weight", "POOL/SERVER WEIGHT", COMMAND_WRITE, run_weight,
     "another share of new sessions and flows, until weir ends"},
    {"allow", "LISTENER NETWORK [for=DURATION]", COMMAND_WRITE, run_allow,
     "lets a network in that is denied, or in none of the listener's allow"},
    {"deny", "LISTENER NETWORK [for=DURATION] [kill=yes]", COMMAND_WRITE, run_deny,
     "refuses new sessions and flows of a network; kill=yes ends those it has too"},
    {"forget", "LISTENER NETWORK", COMMAND_WRITE, run_forget,
     "takes back what allow or deny said of a network"},
    {"kill session", "ID", COMMAND_WRITE, run_kill_session, "resets both sides of one session"},
    {"kill flow", "ID", COMMAND_WRITE, run_kill_flow,
     "ends one flow; the client's next datagram begins another"},
    {"help", "", COMMAND_READ, run_help, "these commands"},
};

const struct command *commands_table(size_t *out_count)
{
    *out_count = ARRAY_LEN(commands);
    return commands;
}

const char *command_access_name(enum command_access access)
{
    static const char *const names[] = {[COMMAND_READ] = "read", [COMMAND_WRITE] = "write"};
    return names[access];
}

void command_usage(const struct command *command, struct text *to)
{
    text_addf(to, "%s%s%s", command->words, command->arguments[0] != '\0' ? " " : "",
              command->arguments);
}

void admin_print_help(FILE *to)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const struct command *command = &commands[i];
        fprintf(to, "%s%s%s (%s)\n    %s\n", command->words,
                command->arguments[0] != '\0' ? " " : "", command->arguments,
                command_access_name(command->access), command->help);
    }
}

/* ---- Finding the row ---- */

/* The longest name of a command, and room for whatever somebody may have typed for one. */
#define NAME_MAX_SIZE 64

/* The first `count` words with a space between; false when they do not fit. */
static bool join(const struct words *words, size_t count, char name[NAME_MAX_SIZE])
{
    struct text text;
    text_init(&text, name, NAME_MAX_SIZE);
    for (size_t i = 0; i < count; i++) {
        if (words->word[i].key != NULL)
            return false;
        text_addf(&text, "%s%s", i > 0 ? " " : "", words->word[i].text);
    }
    return !text.cut;
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].words, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static void drop_words(struct words *words, size_t count)
{
    words->count -= count;
    memmove(&words->word[0], &words->word[count], words->count * sizeof(words->word[0]));
}

/* Names of two words first: "show" alone is none, but might be one day. */
static size_t most_words(const struct words *words)
{
    return MIN(words->count, (size_t)2);
}

/* What the second word may be, when the first is one that has a second. */
static bool suggest_second(const char *first, struct text *error)
{
    size_t length = strlen(first);
    const char *before = " ";
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strncmp(commands[i].words, first, length) != 0 || commands[i].words[length] != ' ')
            continue;
        text_addf(error, "%s%s", before[0] == ' ' ? "; it is one of: " : before, commands[i].words);
        before = ", ";
    }
    return before[0] == ',';
}

static const char *nearest(const struct words *words)
{
    const char *names[ARRAY_LEN(commands)];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i].words;
    char name[NAME_MAX_SIZE];
    for (size_t count = most_words(words); count > 0; count--) {
        const char *found =
            join(words, count, name) ? text_nearest(name, names, ARRAY_LEN(names)) : NULL;
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void tell_unknown(const struct words *words, struct text *error)
{
    char name[NAME_MAX_SIZE];
    if (words->count == 0) {
        text_add(error, "the request is empty; \"help\" tells the commands");
        return;
    }
    (void)join(words, most_words(words), name); /* cut is good enough to quote */
    text_addf(error, "there is no command \"%s\"", name);
    const char *meant = nearest(words);
    if (meant != NULL)
        text_addf(error, "; did you mean \"%s\"?", meant);
    else if (!suggest_second(words->word[0].text, error))
        text_add(error, "; \"help\" tells the commands");
}

const struct command *commands_find(struct words *words, struct text *error)
{
    char name[NAME_MAX_SIZE];
    for (size_t count = most_words(words); count > 0; count--) {
        const struct command *command = join(words, count, name) ? find(name) : NULL;
        if (command != NULL) {
            drop_words(words, count);
            return command;
        }
    }
    tell_unknown(words, error);
    return NULL;
}

/* ---- Checking arguments ---- */

/* One argument as the row describes it. */
struct parameter {
    const char *name;
    size_t length;
    bool optional;
    bool keyed; /* the name is the key */
};

/* Takes the next one off `*at`; false at the end. */
static bool next_parameter(const char **at, struct parameter *out)
{
    const char *from = *at + strspn(*at, " ");
    size_t length = strcspn(from, " ");
    *at = from + length;
    if (length == 0)
        return false;
    out->optional = from[0] == '[';
    out->name = from + out->optional;
    out->length = strcspn(out->name, "=] ");
    out->keyed = out->name[out->length] == '=';
    return true;
}

static bool knows_key(const struct command *command, const char *key)
{
    const char *at = command->arguments;
    struct parameter parameter;
    while (next_parameter(&at, &parameter)) {
        if (parameter.keyed && strlen(key) == parameter.length &&
            memcmp(parameter.name, key, parameter.length) == 0)
            return true;
    }
    return false;
}

static bool seen_before(const struct words *arguments, size_t position)
{
    for (size_t i = 0; i < position; i++) {
        const char *key = arguments->word[i].key;
        if (key != NULL && strcmp(key, arguments->word[position].key) == 0)
            return true;
    }
    return false;
}

static int check_keys(const struct command *command, const struct words *arguments,
                      struct text *error)
{
    for (size_t i = 0; i < arguments->count; i++) {
        const char *key = arguments->word[i].key;
        if (key == NULL)
            continue;
        if (!knows_key(command, key)) {
            text_addf(error, "\"%s\" takes no \"%s=\"", command->words, key);
            return -EINVAL;
        }
        if (seen_before(arguments, i)) {
            text_addf(error, "\"%s=\" is given twice", key);
            return -EINVAL;
        }
    }
    return 0;
}

static int check_count(const struct command *command, const struct words *arguments,
                       struct text *error)
{
    size_t least = 0, most = 0, given = 0;
    const char *at = command->arguments;
    struct parameter parameter;
    while (next_parameter(&at, &parameter)) {
        most += !parameter.keyed;
        least += !parameter.keyed && !parameter.optional;
    }
    for (size_t i = 0; i < arguments->count; i++)
        given += arguments->word[i].key == NULL;
    if (given >= least && given <= most)
        return 0;
    text_add(error, given < least ? "an argument is missing" : "there are too many arguments");
    return -EINVAL;
}

int command_check(const struct command *command, const struct words *arguments, struct text *error)
{
    int rc = check_keys(command, arguments, error);
    if (rc == 0)
        rc = check_count(command, arguments, error);
    if (rc < 0) {
        text_add(error, "; usage: ");
        command_usage(command, error);
    }
    return rc;
}
