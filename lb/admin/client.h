/*
 * Purpose: one client of the admin socket: lines in, lines out, one at a time.
 * Thread:  control.
 * Owns:    itself, from client_open to its close callback; then client_env.closed is told.
 * Fails:   client_open with a negative errno; the descriptor stays the
 *          caller's then. After it a client answers, closes itself, or both.
 *
 * Private to lb/admin.
 *
 *     reading ─→ a whole line ─→ answering ─→ last line written ─→ the next line, or reading
 *        │                           │
 *        └─→ too long, cut off       └─→ not written: closed
 *            ─→ told so, closed
 *
 * What a client may hold: CLIENT_LINE_MAX bytes that it sent (the kernel holds back the rest,
 * because nothing is read while a request is answered) and one line of an answer.
 */
#pragma once

#include "common/base.h"
#include "common/list.h"
#include "lb/control/control.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_LINE_MAX 4096 /* with its newline */

struct client;

struct client_env {
    struct control *control;
    struct list *clients; /* the one that was silent for longest comes first */
    void *owner;
    void (*closed)(void *owner);
};

/* Takes over an accepted, non-blocking socket. With a refusal it is told that, and closed. */
must_check int client_open(const struct client_env *env, int fd, const char *refusal);

/* Cancels what it asked for and closes it. */
void client_close(struct client *client);

struct client *client_of(struct list *node);

/* When a byte last went either way, in milliseconds of clock_now_ms. */
uint64_t client_active_at(const struct client *client);
