/*
 * Purpose: see render.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see render.h.
 *
 * By the form of the data, not by the command, so that a command this weirctl never heard of is
 * shown as well:
 *   an array of objects     a table; an object for which columns are known is one of one row
 *   counters                their names, values, and what they count
 *   another object          its fields, one a line, those of an object within it as outer.inner
 *   anything else           itself; of an array one element a line
 */
#include "lb/ctl/render.h"

#include "lb/ctl/columns.h"
#include "lb/ctl/table.h"
#include "lb/ctl/value.h"

#include <errno.h>
#include <string.h>

/* ---- tables ---- */

/* The columns that are shown. */
struct shown {
    struct column column[TABLE_COLUMNS_MAX];
    size_t count;
};

static bool is_zero(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) == 0;
}

static bool any_has(const json_t *rows, const struct column *column)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *value = json_object_get(json_array_get(rows, i), column->key);
        if (value != NULL && !(column->may_hide && is_zero(value)))
            return true;
    }
    return false;
}

/* Without the columns that say nothing of any row: a server that does not drain has no drain. */
static void choose_known(struct shown *shown, const struct columns *known, const json_t *rows)
{
    for (size_t i = 0; i < known->count; i++) {
        if (json_array_size(rows) == 0 || any_has(rows, &known->column[i]))
            shown->column[shown->count++] = known->column[i];
    }
}

static void choose_all(struct shown *shown, json_t *row)
{
    void *at = json_object_iter(row);
    for (; at != NULL && shown->count < TABLE_COLUMNS_MAX; at = json_object_iter_next(row, at))
        shown->column[shown->count++] = (struct column){.key = json_object_iter_key(at)};
}

static void add_titles(struct table *table, const struct shown *shown)
{
    for (size_t i = 0; i < shown->count; i++) {
        FILE *cell = table_cell(table);
        if (shown->column[i].title != NULL)
            fputs(shown->column[i].title, cell);
        else
            value_print_name(cell, shown->column[i].key);
    }
}

static void add_row(struct table *table, const struct shown *shown, const json_t *row)
{
    for (size_t i = 0; i < shown->count; i++) {
        const struct column *column = &shown->column[i];
        const json_t *value = json_object_get(row, column->key);
        table->right[i] |= json_is_integer(value);
        if (column->print != NULL)
            column->print(table_cell(table), value);
        else
            value_print(table_cell(table), column->key, value);
    }
}

static int render_rows(FILE *to, const struct columns *known, const json_t *rows)
{
    for (size_t i = 0; i < json_array_size(rows); i++)
        known->print_row(to, json_array_get(rows, i));
    return 0;
}

static int render_table(FILE *to, const struct columns *known, const json_t *rows)
{
    struct shown shown = {.count = 0};
    struct table table;
    if (known != NULL && known->print_row != NULL)
        return render_rows(to, known, rows);
    if (known != NULL)
        choose_known(&shown, known, rows);
    else
        choose_all(&shown, json_array_get(rows, 0));
    if (shown.count == 0)
        return 0;
    int rc = table_open(&table, shown.count);
    if (rc < 0)
        return rc;
    add_titles(&table, &shown);
    for (size_t i = 0; i < json_array_size(rows); i++)
        add_row(&table, &shown, json_array_get(rows, i));
    return table_print(&table, to);
}

static int render_one_row(FILE *to, const struct columns *known, json_t *row)
{
    json_t *rows = json_array();
    if (json_array_append(rows, row) < 0) {
        json_decref(rows);
        return -ENOMEM;
    }
    int rc = render_table(to, known, rows);
    json_decref(rows);
    return rc;
}

/* ---- fields ---- */

static void add_field(struct table *table, const char *outer, const char *key, const json_t *value)
{
    FILE *cell = table_cell(table);
    if (outer != NULL) {
        value_print_name(cell, outer);
        fputc('.', cell);
    }
    value_print_name(cell, key);
    value_print(table_cell(table), key, value);
}

static void add_fields(struct table *table, const char *outer, json_t *object)
{
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        if (outer == NULL && json_is_object(value))
            add_fields(table, key, value);
        else
            add_field(table, outer, key, value);
    }
}

static int render_fields(FILE *to, json_t *object)
{
    struct table table;
    int rc = table_open(&table, 2);
    if (rc < 0)
        return rc;
    add_fields(&table, NULL, object);
    return table_print(&table, to);
}

/* One is told of in a file or a log by its name: here too. */
static void add_explained(struct table *table, const struct columns *known, const char *key,
                          const json_t *value)
{
    value_print_text(table_cell(table), key);
    value_print(table_cell(table), key, value);
    fputs(known->explain(key), table_cell(table));
}

static int render_explained(FILE *to, const struct columns *known, json_t *object)
{
    struct table table;
    int rc = table_open(&table, 3);
    if (rc < 0)
        return rc;
    table.right[1] = true;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at))
        add_explained(&table, known, json_object_iter_key(at), json_object_iter_value(at));
    return table_print(&table, to);
}

/* ---- the rest ---- */

static int render_text(FILE *to, const char *text)
{
    size_t length = strlen(text);
    value_print_lines(to, text);
    if (length > 0 && text[length - 1] != '\n')
        fputc('\n', to);
    return 0;
}

static int render_elements(FILE *to, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        value_print(to, "", json_array_get(array, i));
        fputc('\n', to);
    }
    return 0;
}

int render(FILE *to, const char *line, json_t *data)
{
    const struct columns *known = columns_find(line);
    if (json_is_array(data) && (known != NULL || json_is_object(json_array_get(data, 0))))
        return render_table(to, known, data);
    if (json_is_array(data))
        return render_elements(to, data);
    if (json_is_object(data) && known != NULL && known->explain != NULL)
        return render_explained(to, known, data);
    if (json_is_object(data))
        return known != NULL ? render_one_row(to, known, data) : render_fields(to, data);
    if (json_is_string(data))
        return render_text(to, json_string_value(data));
    value_print(to, "", data);
    fputc('\n', to);
    return 0;
}
