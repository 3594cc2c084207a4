/*
 * Purpose: what the sockets of all probes have to tell apart, whatever they carry.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   never.
 *
 * Private to lb/health.
 */
#pragma once

#include "common/address.h"
#include "config/config.h"

/*
 * Does the error say something of this machine and nothing of the server? Of connect(2), and of the
 * send(2) that follows at once.
 */
bool probe_socket_is_own_error(int error, const struct address *address);

/* What the settings have it connect from; AF_UNSPEC: whatever fits. */
union inet_address probe_socket_source(const struct config_health *settings,
                                       const struct address *address);

/* connect(2) from the source that the settings have for the address's family: 0 or an errno. */
int probe_socket_connect(int fd, const struct config_health *settings,
                         const struct address *address);

/* Of a connected socket: are both ends this one socket? Such a peer is no server. */
bool probe_socket_meets_itself(int fd);

/*
 * What a probe begins with: nothing (version 0), or the PROXY header of a connection that speaks
 * for itself (LOCAL, and UNKNOWN of version 1; proxy-protocol.txt §2). Returns its length.
 */
#define PROBE_GREETING_MAX 16
size_t probe_socket_greeting(int64_t version, uint8_t out[PROBE_GREETING_MAX]);
