/*
 * Purpose: the admin socket: a line of words in, a line of JSON out.
 * Thread:  control.
 * Owns:    the socket's file (unlinked at the end) and its clients.
 * Fails:   admin_open with one sentence: a live socket is never taken over, a dead one is.
 *
 * A command is one row of the table in commands.c: words, arguments, help, read or write, handler.
 * Reply: {"ok":true,"data":…} or {"ok":false,"error":"…"}. A line with "more":true is followed by
 * another, whose data goes on where this one's ended: elements of an array, or text.
 */
#pragma once

#include "common/base.h"
#include "lb/control/control.h"

struct admin;

/*
 * Binds and listens: before privileges are dropped. The file is 0600 from the first instant, then
 * as the configuration says and owned by `user`; a missing directory is made 0750.
 */
must_check int admin_open(struct admin **out, struct control *control, uid_t uid, gid_t gid,
                          char *error, size_t error_size);

/* Accepts clients on control's loop. The process must ignore SIGPIPE: clients leave. */
must_check int admin_start(struct admin *admin, char *error, size_t error_size);

/* Closes all and unlinks the socket; the memory goes when the loop has run the close callbacks. */
void admin_close(struct admin **admin);

/* The table of commands as the manual prints it. */
void admin_print_help(FILE *to);
