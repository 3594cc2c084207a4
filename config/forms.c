/*
 * Purpose: see forms.h.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   false.
 */
#include "config/forms.h"

#include "common/payload.h"
#include "config/config.h"

#include <arpa/inet.h>
#include <errno.h>
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

bool config_form_payload(const char *text, const char **why)
{
    uint8_t bytes[CONFIG_PAYLOAD_MAX];
    size_t size;
    int rc = payload_parse(text, bytes, sizeof(bytes), &size);
    *why = rc == -E2BIG
               ? "must not come to more than 1472 bytes"
               : "must have pairs of hexadecimal digits behind hex:, as in \"hex:ffff 01\"";
    return rc == 0;
}

#define DOMAIN_MAX 253 /* without the last dot: the name is 255 bytes in a message then */
#define LABEL_MAX 63

/* NULL when there is none, else what follows it and its dot. */
static const char *skip_label(const char *text)
{
    size_t length = strspn(text, LETTERS DIGITS "-_");
    if (length == 0 || length > LABEL_MAX || (text[length] != '.' && text[length] != '\0'))
        return NULL;
    return text + length + (text[length] == '.');
}

bool config_form_domain(const char *text, const char **why)
{
    size_t length = strlen(text);
    *why = "must be a domain name: labels of letters, digits, '-' and '_', 1 to 63 each and 253 in "
           "all, with dots between them";
    if (length == 0 || strcmp(text, ".") == 0)
        return true;
    if (length > DOMAIN_MAX + (text[length - 1] == '.'))
        return false;
    while (text != NULL && *text != '\0')
        text = skip_label(text);
    return text != NULL;
}

/* Without a dot at the end, as TLS has it, and no address. */
static bool is_host_name(const char *text)
{
    struct in_addr scratch;
    size_t length = strlen(text);
    if (length == 0 || length > DOMAIN_MAX || text[length - 1] == '.' ||
        inet_pton(AF_INET, text, &scratch) == 1)
        return false;
    while (text != NULL && *text != '\0')
        text = skip_label(text);
    return text != NULL;
}

bool config_form_sni(const char *text, const char **why)
{
    *why = "must be a host name, as in \"www.example.com\", or \"*.\" and one of two labels at "
           "least, as in \"*.example.com\"";
    if (strncmp(text, "*.", 2) == 0)
        return is_host_name(text + 2) && strchr(text + 2, '.') != NULL;
    return text[0] == '\0' || is_host_name(text);
}

bool config_form_ip(const char *text, const char **why)
{
    struct in6_addr scratch;
    *why = "must be an IPv4 or IPv6 address without a port";
    return text[0] == '\0' || inet_pton(AF_INET, text, &scratch) == 1 ||
           inet_pton(AF_INET6, text, &scratch) == 1;
}
