/*
 * Purpose: an answer for people: a table, a list of fields, or a text as it is.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   -ENOMEM; a stream that fails remembers it (ferror(3)).
 */
#pragma once

#include "common/base.h"

#include <jansson.h>
#include <stdio.h>

/* `line` is the command that was answered: it decides on the columns. `data` stays as it is. */
must_check int render(FILE *to, const char *line, json_t *data);
