/*
 * Purpose: the admin socket's file: claimed from a dead process and never from a live one, and
 *          never open to others, not for an instant.
 * Thread:  control. Opening sets the process's umask for a moment: before there are threads that
 *          make files.
 * Owns:    the listening descriptor and the file, until admin_socket_unlink.
 * Fails:   a negative errno with one sentence in `error`; nothing is left behind then.
 *
 * Private to lb/admin. No loop: plain system calls.
 */
#pragma once

#include "common/base.h"

#include <sys/types.h>

struct admin_socket {
    int fd; /* listens, does not block */
    char *path;
    dev_t device; /* which file is ours: a path may come to mean another */
    ino_t inode;
};

struct admin_socket_options {
    const char *path;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int backlog;
};

must_check int admin_socket_open(struct admin_socket *out,
                                 const struct admin_socket_options *options, char *error,
                                 size_t error_size);

/* Removes the file if it is still ours; the descriptor stays open. Twice is harmless. */
void admin_socket_unlink(struct admin_socket *socket);
