/*
 * Purpose: cells laid out in columns.
 * Thread:  the owner's.
 * Owns:    the texts of its cells, from table_open to table_print.
 * Fails:   table_open and table_print: -ENOMEM.
 *
 * Cells are written one after the other, row by row, each into the stream that table_cell returns.
 * A last row that is not whole is a bug.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 32

struct table {
    size_t columns;
    bool right[TABLE_COLUMNS_MAX]; /* aligned to the right, as numbers are */
    size_t cells;
    FILE *stream; /* the texts, each ended by a NUL */
    char *text;
    size_t size;
};

must_check int table_open(struct table *table, size_t columns);

/* Begins the next cell. */
FILE *table_cell(struct table *table);

/* Prints all and frees them. */
must_check int table_print(struct table *table, FILE *to);
