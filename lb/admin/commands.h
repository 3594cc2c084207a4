/*
 * Purpose: the table of commands, and how a request finds its row.
 * Thread:  any: all of it is const.
 * Owns:    nothing.
 * Fails:   find and check say what is wrong, and what would be right, in `error`.
 *
 * Private to lb/admin.
 */
#pragma once

#include "common/base.h"
#include "common/text.h"
#include "lb/admin/request.h"

enum command_access { COMMAND_READ, COMMAND_WRITE };

struct command {
    const char *words;
    /*
     * "POOL/SERVER [deadline=DURATION]": what must be given, then, in brackets, what may be; with
     * '=' by key, else by place. What is given is held against it before the handler runs.
     */
    const char *arguments;
    enum command_access access;
    request_step_fn *run;
    const char *help;
};

const struct command *commands_table(size_t *out_count);

const char *command_access_name(enum command_access access);

/* The row of the request's first words, which are taken off; NULL when there is none. */
const struct command *commands_find(struct words *words, struct text *error);

/* -EINVAL when the arguments are not those of the command. */
must_check int command_check(const struct command *command, const struct words *arguments,
                             struct text *error);

/* "drain POOL/SERVER [deadline=DURATION]" */
void command_usage(const struct command *command, struct text *to);
