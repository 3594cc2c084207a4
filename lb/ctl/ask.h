/*
 * Purpose: one command to weir's admin socket, and its whole answer.
 * Thread:  any; waits.
 * Owns:    the answer is the caller's.
 * Fails:   see enum ask_result; `why` is then one sentence.
 */
#pragma once

#include "common/base.h"
#include "common/text.h"

#include <jansson.h>

/* weir is given so long to take the connection, and then for each line. */
#define ASK_SECONDS 10

enum ask_result {
    ASK_ANSWERED,
    ASK_REFUSED, /* by weir, with a reason */
    ASK_ABSENT,  /* there is no weir, or none that answers */
};

/* `line` has no newline. Lists and texts that come in several lines are joined. */
must_check enum ask_result ask(const char *socket_path, const char *line, json_t **out,
                               struct text *why);
