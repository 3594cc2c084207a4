/*
 * Purpose: see table.h.
 * Thread:  see table.h.
 * Owns:    see table.h.
 * Fails:   see table.h.
 */
#include "lb/ctl/table.h"

#include "lb/ctl/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2 /* spaces between columns */

int table_open(struct table *table, size_t columns)
{
    BUG_ON(columns == 0 || columns > TABLE_COLUMNS_MAX);
    *table = (struct table){.columns = columns};
    table->stream = open_memstream(&table->text, &table->size);
    return table->stream != NULL ? 0 : -ENOMEM;
}

FILE *table_cell(struct table *table)
{
    if (table->cells++ > 0)
        fputc('\0', table->stream);
    return table->stream;
}

/* Cell by cell: `text` moves to the next. */
static const char *after(const char *text)
{
    return text + strlen(text) + 1;
}

static void measure(const struct table *table, size_t width[TABLE_COLUMNS_MAX])
{
    const char *text = table->text;
    memset(width, 0, TABLE_COLUMNS_MAX * sizeof(*width));
    for (size_t i = 0; i < table->cells; i++, text = after(text)) {
        size_t *widest = &width[i % table->columns];
        *widest = MAX(*widest, value_width(text));
    }
}

static void print_cell(const char *text, size_t width, bool right, bool last, FILE *to)
{
    int blanks = (int)(width - value_width(text));
    if (right)
        fprintf(to, "%*s%s", blanks, "", text);
    else
        fprintf(to, "%s%*s", text, last ? 0 : blanks, "");
    if (last)
        fputc('\n', to);
    else
        fprintf(to, "%*s", GAP, "");
}

static void print_cells(const struct table *table, FILE *to)
{
    size_t width[TABLE_COLUMNS_MAX];
    const char *text = table->text;
    measure(table, width);
    for (size_t i = 0; i < table->cells; i++, text = after(text)) {
        size_t column = i % table->columns;
        print_cell(text, width[column], table->right[column], column + 1 == table->columns, to);
    }
}

int table_print(struct table *table, FILE *to)
{
    bool whole = ferror(table->stream) == 0;
    BUG_ON(table->cells % table->columns != 0);
    if (fclose(table->stream) != 0 || !whole) {
        free(table->text);
        return -ENOMEM;
    }
    print_cells(table, to);
    free(table->text);
    return 0;
}
