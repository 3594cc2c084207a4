/*
 * Purpose: which columns the table of a command's answer has.
 * Thread:  any: all of it is const.
 * Owns:    nothing.
 * Fails:   a command without a row here is shown with all its fields.
 */
#pragma once

#include "common/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct column {
    const char *key;
    const char *title;
    /* NULL: as value_print does. */
    void (*print)(FILE *to, const json_t *value);
    bool may_hide; /* left out while it is 0 in all rows: most weirs carry one protocol alone */
};

struct columns {
    const char *command; /* its first words */
    const struct column *column;
    size_t count;
    /* Not NULL: each row is printed by it, and there is no table. */
    void (*print_row)(FILE *to, const json_t *row);
    /* Not NULL: the fields of an object, by their own names, each with what it says of it. */
    const char *(*explain)(const char *key);
};

/* `line` is the whole command. NULL when it has no row. */
const struct columns *columns_find(const char *line);
