/*
 * Purpose: the table of all keys: what the file may say, and where each value goes.
 * Thread:  any: all of it is const.
 * Owns:    a key's field is part of its object; config_key_clear frees what the field holds.
 * Fails:   config_key_set says why in one phrase and leaves the field untouched.
 *
 * Private to config/. A key is one row in the keys_*.c of its section (see rows.h); a type of value
 * is one row in types.c.
 */
#pragma once

#include "common/text.h"
#include "config/config.h"

enum config_section_id {
    SECTION_ROOT,
    SECTION_WEIR,
    SECTION_ADMIN,
    SECTION_LOG,
    SECTION_DEFAULTS,
    SECTION_POOL,
    SECTION_SERVER,
    SECTION_HEALTH,
    SECTION_LISTENER,
    SECTION_ROUTE,
    SECTION_COUNT
};

/*
 * A group of keys, or a list of such groups. `offset` leads from the parent's struct to the group's
 * own, or to the pointer to the array of a list. SECTION_DEFAULTS has no struct: it sets the
 * defaults of the keys that are marked `inherits`.
 */
struct config_section {
    const char *name; /* in the file */
    const char *path; /* for people: "pools.servers" */
    const char *help;
    enum config_section_id parent;
    bool list;
    bool required;
    const char *protocol; /* not NULL: only listeners of that protocol know it */
    size_t offset;
    /* of a list */
    size_t count_offset; /* in the parent's struct */
    size_t size;         /* of an element */
    size_t line_offset;  /* in an element */
};

extern const struct config_section config_sections[SECTION_COUNT];

enum config_reload {
    RELOAD_LIVE,         /* takes effect at once */
    RELOAD_NEW_SESSIONS, /* sessions that run keep what they began with */
    RELOAD_RESTART
};
const char *config_reload_name(enum config_reload reload);

struct config_key;
struct config_type {
    const char *name;                                     /* for people */
    bool quoted;                                          /* stands in quotes in the file */
    const char *(*format)(int64_t number, char *scratch); /* of an integer; else NULL */
    /* Of a value that is an array in the file: is `text` a good element? Else NULL. */
    bool (*element)(const struct config_key *key, const char *text, struct text *why);
    int (*set)(const struct config_key *key, void *field, const char *text, struct text *why);
    /* The text that `set` reads; either the field's own or written to `scratch`. */
    const char *(*text)(const struct config_key *key, const void *field, char *scratch);
    void (*clear)(void *field);
    /* Of a value that names a file: what that holds, which goes into the image too. Else NULL. */
    const char *(*held)(const void *field);
    int (*set_held)(void *field, const char *text);
    /* What may be written, for people: "250ms to 1h". */
    void (*describe)(const struct config_key *key, struct text *to);
};

extern const struct config_type config_type_string;   /* char * */
extern const struct config_type config_type_number;   /* int64_t */
extern const struct config_type config_type_duration; /* int64_t, milliseconds */
extern const struct config_type config_type_size;     /* int64_t, bytes */
extern const struct config_type config_type_choice;   /* int64_t, index of `choices` */
extern const struct config_type config_type_mode;     /* int64_t, written in octal */
extern const struct config_type config_type_switch;   /* bool */
extern const struct config_type config_type_address;  /* struct config_address */
extern const struct config_type config_type_networks; /* struct config_networks */
extern const struct config_type config_type_sources;  /* struct config_sources */
extern const struct config_type config_type_list;     /* struct config_list */
extern const struct config_type config_type_words;    /* int64_t, bits by index of `choices` */

struct config_key {
    enum config_section_id section;
    const char *name;
    const struct config_type *type;
    size_t offset;        /* in the section's struct */
    int64_t least, most;  /* bounds of a number; of a string's length */
    bool zero;            /* 0 is allowed beside them */
    int64_t step;         /* not 0: a multiple of it */
    const char *standard; /* the default as `set` reads it; NULL: must be given */
    bool inherits;        /* its default may be set in `defaults` */
    enum config_reload reload;
    const char *const *choices; /* ends with NULL */
    const char *probe;          /* not NULL: only that kind of probe knows it */
    bool needed;                /* and cannot do with its default */
    const char *protocol;       /* not NULL: only listeners of that protocol know it */
    bool lower;                 /* a string is kept in lower case */
    /* The form of a string; *why says what is wrong with it. */
    bool (*check)(const char *text, const char **why);
    const char *help;
};

/* All rows in one order, that of the sections; NULL past the last. */
const struct config_key *config_key_at(size_t index);
#define CONFIG_KEYS_MAX 192

/* True when a group `section` of the file may hold the key. */
bool config_key_belongs(const struct config_key *key, enum config_section_id section);

/* False for a key of listeners of another protocol than the object's. */
bool config_key_applies(const struct config_key *key, const void *object);

/* The same for a section of listeners. */
bool config_section_applies(const struct config_section *section, const void *parent);

/* NULL when the section has no key, or no section within it, of that name. */
const struct config_key *config_key_find(enum config_section_id section, const char *name);
const struct config_section *config_section_find(enum config_section_id parent, const char *name);
enum config_section_id config_section_id(const struct config_section *section);

/* 0 or -EINVAL with a phrase added to `why`, or -ENOMEM. The old value is freed. */
must_check int config_key_set(const struct config_key *key, void *object, const char *text,
                              struct text *why);

#define CONFIG_KEY_SCRATCH 64
const char *config_key_text(const struct config_key *key, const void *object,
                            char scratch[CONFIG_KEY_SCRATCH]);
void config_key_clear(const struct config_key *key, void *object);

/*
 * The elements in the text of a value that is an array in the file. `*rest` begins as that text and
 * goes past each; NULL when there is no more. An element is no string of its own: it has `*length`.
 */
const char *config_item_next(const char **rest, size_t *length);
size_t config_item_count(const char *text);

/* The next one as a string; what is too long comes cut, and is wrong then too. */
#define CONFIG_ITEM_MAX 128 /* more than any that is right has */
bool config_item_take(const char **rest, char item[CONFIG_ITEM_MAX]);

/* The field of a key, or the struct of a section that is no list, in an object. */
static inline void *config_field(const void *object, size_t offset)
{
    return (char *)object + offset;
}

/* ---- Lists ---- */

char *config_list_array(const struct config_section *list, const void *parent);
size_t config_list_count(const struct config_section *list, const void *parent);
int *config_list_line(const struct config_section *list, const void *element);

/* Makes `count` elements, zeroed, where there are none yet. -ENOMEM. */
must_check int config_list_make(const struct config_section *list, void *parent, size_t count);
