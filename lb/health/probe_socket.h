/*
 * Purpose: what the sockets of all probes have to tell apart, whatever they carry.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   probe_socket_open where this machine lacks something.
 *
 * Private to lb/health.
 */
#pragma once

#include "common/address.h"
#include "config/config.h"
#include "lb/health/probe.h"

/*
 * Does the error say something of this machine and nothing of the server? Of connect(2), and of the
 * send(2) that follows at once.
 */
bool probe_socket_is_own_error(int error, const struct address *address);

/*
 * A socket that connects to the probe's address, from the first source of its family that the
 * kernel takes: a descriptor, and in *out_error 0 or an errno of connect(2) that tells of the
 * server. A negative errno when this machine lacks something.
 */
must_check int probe_socket_open(const struct probe *probe, int type, int *out_error);

/* Of a connected socket: are both ends this one socket? Such a peer is no server. */
bool probe_socket_meets_itself(int fd);

/*
 * What a probe begins with: nothing (version 0), or the PROXY header of a connection that speaks
 * for itself (LOCAL, and UNKNOWN of version 1; proxy-protocol.txt §2). Returns its length.
 */
#define PROBE_GREETING_MAX 16
size_t probe_socket_greeting(int64_t version, uint8_t out[PROBE_GREETING_MAX]);
