/*
 * weirctl: one command to a running weir. Arguments, one question, the answer, the exit code.
 */
#include "lb/ctl/ask.h"
#include "lb/ctl/line.h"
#include "lb/ctl/render.h"
#include "lb/ctl/value.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/weir/admin.sock"

/* What scripts rely on: weirctl(1). */
enum exit_code { CODE_DONE, CODE_REFUSED, CODE_USAGE, CODE_ABSENT };

static const char usage[] =
    "usage: weirctl [--socket PATH] [--json] COMMAND [ARGUMENT...]\n"
    "       weirctl --help | --version\n"
    "\n"
    "  --socket PATH   weir's admin socket; else WEIR_SOCKET, else " DEFAULT_SOCKET "\n"
    "  --json          the answer as one JSON document\n"
    "\n"
    "weirctl help      the commands that the running weir knows; weirctl(1) tells them too\n"
    "weirctl status    what weir is doing\n"
    "weirctl ready     exit code 0 only when traffic can be served\n"
    "\n"
    "Exit code: 0 done, 1 refused, 2 wrong usage, 3 weir is not there.\n";

enum action { ACTION_ASK, ACTION_HELP, ACTION_VERSION, ACTION_USAGE };

struct arguments {
    const char *socket;
    bool json;
    char **words;
    size_t word_count;
};

static const char *default_socket(void)
{
    const char *path = getenv("WEIR_SOCKET");
    return path != NULL && *path != '\0' ? path : DEFAULT_SOCKET;
}

static enum action read_arguments(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *out = (struct arguments){.socket = default_socket()};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            out->socket = optarg;
            break;
        case 'j':
            out->json = true;
            break;
        case 'h':
            return ACTION_HELP;
        case 'v':
            return ACTION_VERSION;
        default:
            return ACTION_USAGE;
        }
    }
    out->words = argv + optind;
    out->word_count = (size_t)(argc - optind);
    return out->word_count > 0 ? ACTION_ASK : ACTION_USAGE;
}

/* What weir says may quote what somebody sent it: no control character of it gets through. */
static int complain(const char *why, enum exit_code code)
{
    fputs("weirctl: ", stderr);
    value_print_text(stderr, why);
    fputc('\n', stderr);
    return (int)code;
}

/* NULL without memory; the caller frees it. */
static char *print(const struct arguments *arguments, const char *line, json_t *data,
                   size_t *out_size)
{
    char *text = NULL;
    FILE *memory = open_memstream(&text, out_size);
    int rc = 0;
    if (memory == NULL)
        return NULL;
    if (!arguments->json)
        rc = render(memory, line, data);
    else if (json_dumpf(data, memory, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
        rc = -ENOMEM;
    else
        fputc('\n', memory);
    bool whole = rc == 0 && ferror(memory) == 0;
    if (fclose(memory) == 0 && whole)
        return text;
    free(text);
    return NULL;
}

/* A reader that has seen enough (`| head`) is no failure. */
static int write_out(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EPIPE)
            return CODE_DONE;
        if (written < 0)
            return complain(strerrordesc_np(errno), CODE_REFUSED);
        text += written;
        size -= (size_t)written;
    }
    return CODE_DONE;
}

static int show(const struct arguments *arguments, const char *line, json_t *data)
{
    size_t size;
    char *text = print(arguments, line, data, &size);
    if (text == NULL)
        return complain("there is no memory to show the answer", CODE_REFUSED);
    int code = write_out(text, size);
    free(text);
    return code;
}

static int ask_and_show(const struct arguments *arguments)
{
    char line[LINE_MAX_BYTES + 2], said[1024];
    struct text text, why;
    const char *phrase;
    json_t *data = NULL;
    text_init(&text, line, sizeof(line));
    if (line_make(&text, arguments->words, arguments->word_count, &phrase) < 0)
        return complain(phrase, CODE_USAGE);
    text_init(&why, said, sizeof(said));
    switch (ask(arguments->socket, line, &data, &why)) {
    case ASK_REFUSED:
        return complain(said, CODE_REFUSED);
    case ASK_ABSENT:
        return complain(said, CODE_ABSENT);
    case ASK_ANSWERED:
        break;
    }
    int code = show(arguments, line, data);
    json_decref(data);
    return code;
}

int main(int argc, char **argv)
{
    static const char version[] = "weirctl " WEIR_VERSION "\n";
    struct arguments arguments;
    signal(SIGPIPE, SIG_IGN);
    switch (read_arguments(argc, argv, &arguments)) {
    case ACTION_HELP:
        return write_out(usage, strlen(usage));
    case ACTION_VERSION:
        return write_out(version, strlen(version));
    case ACTION_USAGE:
        fputs(usage, stderr);
        return CODE_USAGE;
    case ACTION_ASK:
        break;
    }
    return ask_and_show(&arguments);
}
