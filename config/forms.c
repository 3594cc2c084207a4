/*
 * Purpose: see forms.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   false.
 */
#include "config/forms.h"

#include <stddef.h>
#include <string.h>

#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static bool consists_of(const char *text, const char *characters)
{
    return text[strspn(text, characters)] == '\0';
}

/* No control bytes get here: the type refuses them in every string. */
static bool has_space(const char *text)
{
    return strchr(text, ' ') != NULL;
}

bool config_form_name(const char *text, const char **why)
{
    *why = "must consist of letters, digits, '-', '_' and '.'";
    return consists_of(text, LETTERS DIGITS "-_.");
}

bool config_form_account(const char *text, const char **why)
{
    *why = "must be a name of letters, digits, '-', '_', '.' and '$'";
    return consists_of(text, LETTERS DIGITS "-_.$");
}

bool config_form_path(const char *text, const char **why)
{
    *why = "must begin with / and hold no space";
    return text[0] == '/' && !has_space(text);
}

bool config_form_host(const char *text, const char **why)
{
    *why = "must be a host name, with a port if need be, and hold no space or slash";
    return !has_space(text) && strchr(text, '/') == NULL;
}

/* Three digits from 100 to 599; NULL when there are none, else what follows them. */
static const char *skip_status(const char *text, int *out)
{
    if (strspn(text, DIGITS) != 3)
        return NULL;
    *out = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
    return *out >= 100 && *out <= 599 ? text + 3 : NULL;
}

/* "204" or "200-299". */
static const char *skip_status_range(const char *text)
{
    int first;
    int last;
    text = skip_status(text, &first);
    if (text == NULL || *text != '-')
        return text;
    text = skip_status(text + 1, &last);
    return text != NULL && first <= last ? text : NULL;
}

bool config_form_status(const char *text, const char **why)
{
    *why = "must be codes from 100 to 599 or ranges of them, as in \"200-299,304\"";
    for (;;) {
        text = skip_status_range(text);
        if (text == NULL || *text == '\0')
            return text != NULL;
        if (*text++ != ',')
            return false;
    }
}
