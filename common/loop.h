/*
 * Purpose: the end of a libuv loop: everything closed, or the leaked handle named.
 * Thread:  the loop's own.
 * Owns:    nothing.
 * Fails:   a handle that was never closed is a bug: it is named on stderr and the process aborts.
 */
#pragma once

#include <uv.h>

/* Runs the close callbacks that are outstanding and closes the loop. */
void loop_close(uv_loop_t *loop);
