/*
 * Purpose: see notify.h.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   see notify.h. Never waits: a manager that does not read gives -EAGAIN.
 */
#include "common/notify.h"

#include "common/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* "/path", or "@name" in the abstract namespace, whose names begin with a NUL and do not end in
 * one. */
static int manager_address(const char *text, struct sockaddr_un *out, socklen_t *length)
{
    size_t size = strlen(text);
    if (text[0] != '/' && text[0] != '@')
        return -EAFNOSUPPORT;
    if (size >= sizeof(out->sun_path))
        return -ENAMETOOLONG;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(out->sun_path, text, size);
    if (text[0] == '@')
        out->sun_path[0] = '\0';
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (text[0] == '/'));
    return 0;
}

int notify_send(const char *state)
{
    const char *manager = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    socklen_t length;

    if (!manager || !*manager)
        return 0;
    int error = manager_address(manager, &address, &length);
    if (error)
        return error;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
               (const struct sockaddr *)&address, length) < 0)
        error = -errno;
    close(fd);
    return error;
}
