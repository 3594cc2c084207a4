/*
 * Purpose: the keys of a listener's routes.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "config/rows.h"

/* The order is that of the enum which the field holds. */
static const char *const protocols[] = {"any", "tls", "not-tls", NULL};

#define SNI_MAX 255  /* "*." and a name of 253 bytes */
#define ALPN_MAX 255 /* RFC 7301 §3.1: the length is one byte */

static const struct config_key rows[] = {
    {.section = SECTION_ROUTE,
     .name = "sni",
     STRING(config_route, sni),
     .most = SNI_MAX,
     .standard = "",
     .lower = true,
     .check = config_form_sni,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "The host name that a TLS client asks for, in any case: \"www.example.com\", or "
             "\"*.example.com\" for every name below. \"\": any, or none."},
    {.section = SECTION_ROUTE,
     .name = "alpn",
     STRING(config_route, alpn),
     .most = ALPN_MAX,
     .standard = "",
     .reload = RELOAD_NEW_SESSIONS,
     .help = "A protocol that a TLS client offers, such as \"h2\". \"\": any, or none."},
    {.section = SECTION_ROUTE,
     .name = "protocol",
     CHOICE(config_route, protocol, protocols),
     .standard = "any",
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Whether the client begins with a TLS handshake."},
    {.section = SECTION_ROUTE,
     .name = "from",
     NETWORKS(config_route, from),
     .standard = "",
     .reload = RELOAD_NEW_SESSIONS,
     .help = "Networks that the client comes from. None: any."},
    {.section = SECTION_ROUTE,
     .name = "pool",
     STRING(config_route, pool),
     .least = 1,
     .most = CONFIG_NAME_MAX,
     .reload = RELOAD_NEW_SESSIONS,
     .help = "The name of the pool that such clients go to."},
};

const struct config_rows config_rows_route = {rows, ARRAY_LEN(rows)};
