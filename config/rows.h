/*
 * Purpose: how a row of the key table is written, and the parts that the table has.
 * Thread:  any: all of it is const.
 * Owns:    nothing.
 * Fails:   a row whose type does not fit its field does not compile.
 *
 * Private to config/keys*.c. Adding a key is one row in the part of its section and one field in
 * config.h: parser, encoder, help, reference and dump follow.
 */
#pragma once

#include "config/forms.h"
#include "config/keys.h"

/* The rows of one file. */
struct config_rows {
    const struct config_key *row;
    size_t count;
};

extern const struct config_rows config_rows_weir;
extern const struct config_rows config_rows_pool;
extern const struct config_rows config_rows_listener;
extern const struct config_rows config_rows_route;

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)

/* More sockets than a kernel holds, and a sum of a few still fits 32 bits. */
#define CONNECTIONS_MAX 100000000
#define RATE_MAX 1000000 /* a second */

#define FIELD(object, member, field_type)                                                          \
    .offset = _Generic(((struct object *)NULL)->member, field_type                                 \
                       : offsetof(struct object, member))

#define STRING(object, member) .type = &config_type_string, FIELD(object, member, char *)
#define NUMBER(object, member) .type = &config_type_number, FIELD(object, member, int64_t)
#define DURATION(object, member) .type = &config_type_duration, FIELD(object, member, int64_t)
#define SIZE(object, member) .type = &config_type_size, FIELD(object, member, int64_t)
#define MODE(object, member) .type = &config_type_mode, FIELD(object, member, int64_t)
#define SWITCH(object, member) .type = &config_type_switch, FIELD(object, member, bool)
#define CHOICE(object, member, names)                                                              \
    .type = &config_type_choice, .choices = (names), FIELD(object, member, int64_t)
#define ADDRESS(object, member)                                                                    \
    .type = &config_type_address, FIELD(object, member, struct config_address)
#define NETWORKS(object, member)                                                                   \
    .type = &config_type_networks, FIELD(object, member, struct config_networks)
#define SOURCES(object, member)                                                                    \
    .type = &config_type_sources, FIELD(object, member, struct config_sources)
#define LIST(object, member) .type = &config_type_list, FIELD(object, member, struct config_list)
#define WORDS(object, member, names)                                                               \
    .type = &config_type_words, .choices = (names), FIELD(object, member, int64_t)

#define NAME .least = 1, .most = CONFIG_NAME_MAX, .check = config_form_name
