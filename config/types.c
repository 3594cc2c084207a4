/*
 * Purpose: the types of values: how each is read from text, written as text, and described.
 * Thread:  any.
 * Owns:    a field owns its text; `set` frees the old one.
 * Fails:   `set` returns -EINVAL with a phrase added to `why`, or -ENOMEM.
 *
 * Text is the one form that all values share: the file, the default in the table, the image between
 * processes and the dump all go through `set` and `text`, so a bound is checked in one place.
 */
#include "config/keys.h"

#include "common/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"

static void clear_nothing(void *field)
{
    (void)field;
}

/* ---- Numbers of every kind ---- */

static const char *text_integer(const struct config_key *key, const void *field, char *scratch)
{
    return key->type->format(*(const int64_t *)field, scratch);
}

static void describe_bounds(const struct config_key *key, struct text *to)
{
    char scratch[CONFIG_KEY_SCRATCH];
    if (key->zero)
        text_add(to, "0, or ");
    text_addf(to, "%s to ", key->type->format(key->least, scratch));
    text_add(to, key->type->format(key->most, scratch));
    if (key->step != 0)
        text_addf(to, " in steps of %s", key->type->format(key->step, scratch));
}

static int refuse_bounds(const struct config_key *key, struct text *why)
{
    text_add(why, "must be ");
    describe_bounds(key, why);
    return -EINVAL;
}

static bool is_within_bounds(const struct config_key *key, int64_t number)
{
    if (number == 0 && key->zero)
        return true;
    if (key->step != 0 && number % key->step != 0)
        return false;
    return number >= key->least && number <= key->most;
}

static int set_integer(const struct config_key *key, int64_t *field, int64_t number,
                       struct text *why)
{
    if (!is_within_bounds(key, number))
        return refuse_bounds(key, why);
    *field = number;
    return 0;
}

/* ---- A plain number ---- */

static int set_number(const struct config_key *key, void *field, const char *text, struct text *why)
{
    char *end;
    errno = 0;
    int64_t number = strtoll(text, &end, 10);
    if (end == text || *end != '\0') {
        text_add(why, "must be a number");
        return -EINVAL;
    }
    if (errno == ERANGE)
        return refuse_bounds(key, why);
    return set_integer(key, field, number, why);
}

static const char *format_number(int64_t number, char *scratch)
{
    snprintf(scratch, CONFIG_KEY_SCRATCH, "%" PRId64, number);
    return scratch;
}

const struct config_type config_type_number = {
    .name = "number",
    .set = set_number,
    .format = format_number,
    .text = text_integer,
    .clear = clear_nothing,
    .describe = describe_bounds,
};

/* ---- A duration ---- */

static bool is_bare_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, DIGITS)] == '\0';
}

static int set_duration(const struct config_key *key, void *field, const char *text,
                        struct text *why)
{
    int64_t ms;
    int rc = units_parse_duration(text, &ms);
    if (rc == -ERANGE)
        return refuse_bounds(key, why);
    if (rc < 0 && is_bare_number(text))
        text_addf(why, "lacks its unit: \"%.20sms\", \"%.20ss\" or \"%.20sm\"", text, text, text);
    else if (rc < 0)
        text_add(why, "must be a whole number and a unit: ms, s, m, h or d, as in \"10s\"");
    if (rc < 0)
        return -EINVAL;
    return set_integer(key, field, ms, why);
}

static const char *format_duration(int64_t ms, char *scratch)
{
    return units_format_duration(ms, scratch);
}

const struct config_type config_type_duration = {
    .name = "duration",
    .quoted = true,
    .set = set_duration,
    .format = format_duration,
    .text = text_integer,
    .clear = clear_nothing,
    .describe = describe_bounds,
};

/* ---- A size ---- */

static int set_size(const struct config_key *key, void *field, const char *text, struct text *why)
{
    int64_t bytes;
    int rc = units_parse_size(text, &bytes);
    if (rc == -ERANGE)
        return refuse_bounds(key, why);
    if (rc < 0) {
        text_add(why, "must be a whole number of bytes, or one with k, m or g, as in \"64k\"");
        return -EINVAL;
    }
    return set_integer(key, field, bytes, why);
}

static const char *format_size(int64_t bytes, char *scratch)
{
    return units_format_size(bytes, scratch);
}

const struct config_type config_type_size = {
    .name = "size",
    .quoted = true,
    .set = set_size,
    .format = format_size,
    .text = text_integer,
    .clear = clear_nothing,
    .describe = describe_bounds,
};

/* ---- Permissions ---- */

static int set_mode(const struct config_key *key, void *field, const char *text, struct text *why)
{
    size_t length = strlen(text);
    if (length < 3 || length > 4 || text[strspn(text, "01234567")] != '\0') {
        text_add(why, "must be three or four octal digits, as in \"0660\"");
        return -EINVAL;
    }
    return set_integer(key, field, strtol(text, NULL, 8), why);
}

static const char *format_mode(int64_t mode, char *scratch)
{
    snprintf(scratch, CONFIG_KEY_SCRATCH, "0%03" PRIo64, (uint64_t)mode);
    return scratch;
}

const struct config_type config_type_mode = {
    .name = "mode",
    .quoted = true,
    .set = set_mode,
    .format = format_mode,
    .text = text_integer,
    .clear = clear_nothing,
    .describe = describe_bounds,
};

/* ---- One of a few words ---- */

static void describe_choice(const struct config_key *key, struct text *to)
{
    for (size_t i = 0; key->choices[i] != NULL; i++)
        text_addf(to, "%s\"%s\"",
                  i == 0                        ? ""
                  : key->choices[i + 1] == NULL ? " or "
                                                : ", ",
                  key->choices[i]);
}

static int set_choice(const struct config_key *key, void *field, const char *text, struct text *why)
{
    int64_t *number = field;
    for (size_t i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(key->choices[i], text) == 0) {
            *number = (int64_t)i;
            return 0;
        }
    }
    text_add(why, "must be ");
    describe_choice(key, why);
    return -EINVAL;
}

static const char *text_choice(const struct config_key *key, const void *field, char *scratch)
{
    (void)scratch;
    return key->choices[*(const int64_t *)field];
}

const struct config_type config_type_choice = {
    .name = "choice",
    .quoted = true,
    .set = set_choice,
    .text = text_choice,
    .clear = clear_nothing,
    .describe = describe_choice,
};

/* ---- Yes or no ---- */

static int set_switch(const struct config_key *key, void *field, const char *text, struct text *why)
{
    (void)key;
    bool *on = field;
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
        text_add(why, "must be true or false");
        return -EINVAL;
    }
    *on = text[0] == 't';
    return 0;
}

static const char *text_switch(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    return *(const bool *)field ? "true" : "false";
}

static void describe_switch(const struct config_key *key, struct text *to)
{
    (void)key;
    text_add(to, "true or false");
}

const struct config_type config_type_switch = {
    .name = "boolean",
    .set = set_switch,
    .text = text_switch,
    .clear = clear_nothing,
    .describe = describe_switch,
};

/* ---- A string ---- */

/* Such a byte has no meaning in any string here, and would go on into logs and requests. */
static bool has_control(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
        if (*c < ' ' || *c == 0x7f)
            return true;
    return false;
}

static bool string_is_good(const struct config_key *key, const char *text, struct text *why)
{
    int64_t length = (int64_t)strlen(text);
    const char *phrase;
    if (length == 0 && key->least > 0)
        text_add(why, "must not be empty");
    else if (length > key->most)
        text_addf(why, "must not be longer than %" PRId64 " bytes", key->most);
    else if (has_control(text))
        text_add(why, "must not hold line breaks or other control characters");
    else if (key->check != NULL && !key->check(text, &phrase))
        text_add(why, phrase);
    else
        return true;
    return false;
}

static void make_lower(char *text)
{
    for (; *text != '\0'; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

static int set_string(const struct config_key *key, void *field, const char *text, struct text *why)
{
    char **string = field;
    if (!string_is_good(key, text, why))
        return -EINVAL;
    char *copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    if (key->lower)
        make_lower(copy);
    free(*string);
    *string = copy;
    return 0;
}

static const char *text_string(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    return *(char *const *)field;
}

static void clear_string(void *field)
{
    char **string = field;
    free(*string);
    *string = NULL;
}

static void describe_string(const struct config_key *key, struct text *to)
{
    if (key->least > 0)
        text_addf(to, "%" PRId64 " to %" PRId64 " bytes", key->least, key->most);
    else
        text_addf(to, "up to %" PRId64 " bytes", key->most);
}

const struct config_type config_type_string = {
    .name = "string",
    .quoted = true,
    .set = set_string,
    .text = text_string,
    .clear = clear_string,
    .describe = describe_string,
};

/* ---- An address ---- */

static int set_address(const struct config_key *key, void *field, const char *text,
                       struct text *why)
{
    (void)key;
    struct config_address *to = field;
    struct address address;
    const char *phrase;
    if (address_parse(&address, text, &phrase) < 0) {
        text_addf(why, "is not an address such as \"10.0.0.1:80\" or \"[2001:db8::1]:80\": %s",
                  phrase);
        return -EINVAL;
    }
    char *copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    free(to->text);
    *to = (struct config_address){.text = copy, .address = address};
    return 0;
}

static const char *text_address(const struct config_key *key, const void *field, char *scratch)
{
    (void)key;
    (void)scratch;
    const struct config_address *address = field;
    return address->text;
}

static void clear_address(void *field)
{
    struct config_address *address = field;
    clear_string(&address->text);
}

static void describe_address(const struct config_key *key, struct text *to)
{
    (void)key;
    text_add(to, "an IP address and a port");
}

const struct config_type config_type_address = {
    .name = "address",
    .quoted = true,
    .set = set_address,
    .text = text_address,
    .clear = clear_address,
    .describe = describe_address,
};
