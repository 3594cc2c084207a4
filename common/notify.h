/*
 * Purpose: tells the service manager how far weir has come (sd_notify(3)'s datagram, by hand).
 * Thread:  control.
 * Owns:    nothing: the socket is opened and closed in the call.
 * Fails:   0 when sent or when $NOTIFY_SOCKET is not set, else a negative errno.
 */
#pragma once

/* `state` is lines as in sd_notify(3): "READY=1\nSTATUS=serving". */
int notify_send(const char *state);
