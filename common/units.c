/*
 * Purpose: the units of durations and sizes.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   see units.h.
 */
#include "common/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first: the first that divides a value makes the shortest text. */
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

static const struct unit size_units[] = {
    {"g", 1 << 30},
    {"m", 1 << 20},
    {"k", 1 << 10},
    {"", 1},
};

/* Digits only; *end is the first character behind them. */
static int parse_number(const char *text, int64_t *out, const char **end)
{
    int64_t number = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, *c - '0', &number))
            return -ERANGE;
    }
    if (c == text)
        return -EINVAL;
    *out = number;
    *end = c;
    return 0;
}

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, name) == 0)
            return &units[i];
    }
    return NULL;
}

static int parse(const char *text, const struct unit *units, size_t count, int64_t *out)
{
    int64_t number;
    const char *name;
    int rc = parse_number(text, &number, &name);
    if (rc < 0)
        return rc;
    if (number == 0 && *name == '\0') {
        *out = 0;
        return 0;
    }
    const struct unit *unit = find_unit(units, count, name);
    if (unit == NULL)
        return -EINVAL;
    int64_t result;
    if (__builtin_mul_overflow(number, unit->factor, &result))
        return -ERANGE;
    *out = result;
    return 0;
}

static char *format(int64_t value, const struct unit *units, size_t count,
                    char text[UNITS_TEXT_MAX])
{
    size_t i = 0;
    while (i + 1 < count && value % units[i].factor != 0)
        i++;
    snprintf(text, UNITS_TEXT_MAX, "%" PRId64 "%s", value / units[i].factor,
             value == 0 ? "" : units[i].name);
    return text;
}

int units_parse_duration(const char *text, int64_t *out_ms)
{
    return parse(text, duration_units, ARRAY_LEN(duration_units), out_ms);
}

int units_parse_size(const char *text, int64_t *out_bytes)
{
    return parse(text, size_units, ARRAY_LEN(size_units), out_bytes);
}

char *units_format_duration(int64_t ms, char text[UNITS_TEXT_MAX])
{
    return format(ms, duration_units, ARRAY_LEN(duration_units), text);
}

char *units_format_size(int64_t bytes, char text[UNITS_TEXT_MAX])
{
    return format(bytes, size_units, ARRAY_LEN(size_units), text);
}
