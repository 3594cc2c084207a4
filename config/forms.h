/*
 * Purpose: the forms that strings of the configuration must have, beyond their length.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   false with *why set to a phrase that says what would be right.
 *
 * Private to config/; named by rows of the key table.
 */
#pragma once

#include <stdbool.h>

/* Of a pool, server or listener. */
bool config_form_name(const char *text, const char **why);
/* Of a user or group; "" is one. */
bool config_form_account(const char *text, const char **why);
/* Of a request line: origin-form, RFC 9112 §3.2.1. */
bool config_form_path(const char *text, const char **why);
/* Of a Host field; "" is one. */
bool config_form_host(const char *text, const char **why);
/* Of a list of status codes and ranges of them. */
bool config_form_status(const char *text, const char **why);
/* As payload_parse reads it, and at most CONFIG_PAYLOAD_MAX bytes. */
bool config_form_payload(const char *text, const char **why);
/* Of a domain in the DNS, RFC 1035 §2.3.4; "" is one. */
bool config_form_domain(const char *text, const char **why);
/* Of a name in a TLS client's hello, RFC 6066 §3, or "*." and such a name; "" is one. */
bool config_form_sni(const char *text, const char **why);
/* An IPv4 or IPv6 address by itself; "" is one. */
bool config_form_ip(const char *text, const char **why);
