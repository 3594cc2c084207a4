/*
 * Purpose: what the steps of loading share: where each value stands in the file, and the errors.
 * Thread:  the helper process.
 * Owns:    the source and the places; config_loader_deinit frees them. The errors are the caller's.
 * Fails:   `failed` is set by the first error, `no_memory` when that ran out.
 *
 * Private to config/. Lines are those of the source's text until an error is told.
 */
#pragma once

#include "config/keys.h"
#include "config/source.h"

/* A field, or an element of a list, and the line that gave it. */
struct config_place {
    const void *object;
    int line;
    bool wrong; /* what stands there cannot be used, which has been told */
};

struct config_loader {
    struct config_source source;
    struct config_errors *errors;
    const struct config_names *names;
    struct config_place *places;
    size_t place_count;
    bool failed;
    bool no_memory;
    /* What `defaults` says; only the keys that are inherited are set. */
    struct config_pool pool;
    struct config_listener listener;
};

void config_loader_deinit(struct config_loader *loader);

void config_loader_error(struct config_loader *loader, int line, const char *format, ...)
    printf_like(3, 4);

/* Remembers where a field or element stands; it must not move afterwards. */
void config_loader_place(struct config_loader *loader, struct config_place place);

/* True when the file gives the field a value that cannot be used. */
bool config_loader_is_wrong(const struct config_loader *loader, const void *field);

/* The line that gave the field, or that of `around` when the file does not say it. */
int config_loader_line(const struct config_loader *loader, const void *field, const void *around);

/* Has errors of one file stand together, in the order of their lines. */
void config_errors_sort(struct config_errors *errors);

/*
 * The steps, in order. Each goes on after an error, so that all are told at once; only when the
 * syntax is wrong is there nothing to go on with, and config_walk returns false.
 */
must_check bool config_walk(struct config_loader *loader, struct config *config);
void config_read_lists(struct config_loader *loader, struct config *config);
void config_check(struct config_loader *loader, struct config *config);
void config_check_listeners(struct config_loader *loader, const struct config *config);
void config_check_access(struct config_loader *loader, const struct config_listener *listener);
void config_check_routes(struct config_loader *loader, const struct config_listener *listener);
void config_check_proxy_in(struct config_loader *loader, const struct config_listener *listener);
void config_check_proxy_out(struct config_loader *loader, const struct config *config,
                            const struct config_pool *pool);
void config_check_source(struct config_loader *loader, const struct config *config,
                         const struct config_pool *pool);
void config_check_addresses(struct config_loader *loader, const struct config *config);
void config_complete(struct config *config);

/*
 * Puts what no key says, in the file's model and a decoded one alike. config_link puts the
 * pool_index of every listener and route; false when one names a pool that does not exist.
 */
must_check bool config_link(struct config *config);
/* Of a linked one. */
void config_put_probe_values(struct config *config);

/* Does the listener, or a route of it, lead to the pool of that name? */
bool config_is_fed(const struct config_listener *listener, const char *pool);
