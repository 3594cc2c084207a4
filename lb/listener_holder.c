/*
 * Purpose: which process holds an address, for the message that refuses to start.
 * Thread:  control.
 * Owns:    nothing.
 * Fails:   says less: an unprivileged user may not look into the processes of others, and learns
 *          only whose user it is.
 *
 * /proc/net/tcp, tcp6, udp and udp6 name the socket by its inode; /proc/PID/fd has a link to that
 * inode in each process that holds it. Processes come in the order of their ids, so of a server
 * that forked the parent is named. proc(5).
 */
#include "lb/listener.h"

#include "common/text.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_LISTEN 0x0a /* include/net/tcp_states.h */

/* A socket that is in the way; nearness 2: of the very address, 1: one covers the other, 0: none
 * yet. */
struct holder {
    unsigned nearness;
    unsigned user;
    uint64_t inode;
};

/* ---- the socket ---- */

static unsigned nearness(const struct address *wanted, const struct address *listens)
{
    if (address_port(wanted) != address_port(listens))
        return 0;
    if (address_equal(wanted, listens))
        return 2;
    if (wanted->any.sa_family == listens->any.sa_family)
        return address_is_wildcard(wanted) || address_is_wildcard(listens);
    const struct address *v6 = wanted->any.sa_family == AF_INET6 ? wanted : listens;
    return address_is_wildcard(v6);
}

/* "0100007F" or four such words: each 32 bits of the address as this machine reads them. */
static bool read_address(const char *host, unsigned port, const struct address *wanted,
                         struct address *out)
{
    uint32_t word[4];
    int words = sscanf(host, "%8" SCNx32 "%8" SCNx32 "%8" SCNx32 "%8" SCNx32, &word[0], &word[1],
                       &word[2], &word[3]);
    if (words == 1) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        memcpy(&v4.sin_addr, word, sizeof(v4.sin_addr));
        *out = (struct address){.v4 = v4, .length = sizeof(v4)};
        return true;
    }
    if (words != 4)
        return false;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    memcpy(&v6.sin6_addr, word, sizeof(v6.sin6_addr));
    /* The table does not tell the interface of a link-local address: it is taken to be ours. */
    if (wanted->any.sa_family == AF_INET6)
        v6.sin6_scope_id = wanted->v6.sin6_scope_id;
    *out = (struct address){.v6 = v6, .length = sizeof(v6)};
    inet_address_fold(&out->inet);
    return true;
}

/* Of TCP's only those that listen are in the way, of UDP's all. */
static void consider(const char *line, const struct address *wanted, enum config_protocol protocol,
                     struct holder *best)
{
    char host[33];
    unsigned port, state, user;
    uint64_t inode;
    struct address listens;
    int fields = sscanf(line, " %*d: %32[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %u %*s %" SCNu64, host,
                        &port, &state, &user, &inode);
    if (fields != 5 || (protocol == CONFIG_PROTOCOL_TCP && state != STATE_LISTEN) ||
        !read_address(host, port, wanted, &listens))
        return;
    unsigned near = nearness(wanted, &listens);
    if (near > best->nearness)
        *best = (struct holder){.nearness = near, .user = user, .inode = inode};
}

static void search_table(const char *path, const struct address *wanted,
                         enum config_protocol protocol, struct holder *best)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0)
        consider(line, wanted, protocol, best);
    free(line);
    fclose(file);
}

/* ---- the process ---- */

static bool is_number(const char *name)
{
    return isdigit((unsigned char)name[0]) != 0;
}

/* Does a link in this directory of descriptors lead to `target`? Takes over the descriptor. */
static bool directory_links_to(int directory, const char *target)
{
    DIR *dir = fdopendir(directory);
    if (dir == NULL) {
        close(directory);
        return false;
    }
    bool found = false;
    const struct dirent *entry;
    while (!found && (entry = readdir(dir)) != NULL) {
        char link[64];
        ssize_t length = readlinkat(directory, entry->d_name, link, sizeof(link) - 1);
        if (length <= 0)
            continue;
        link[length] = '\0';
        found = strcmp(link, target) == 0;
    }
    closedir(dir);
    return found;
}

static bool process_holds(int proc, const char *pid, const char *target)
{
    char path[64];
    snprintf(path, sizeof(path), "%.20s/fd", pid);
    int directory = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return directory >= 0 && directory_links_to(directory, target);
}

/* The process's name, made harmless: whoever runs it may choose any bytes. */
static void read_name(int proc, const char *pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "%.20s/comm", pid);
    ssize_t length = -1;
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        length = read(fd, out, size - 1);
        close(fd);
    }
    out[MAX(length, 0)] = '\0';
    out[strcspn(out, "\n")] = '\0';
    for (char *c = out; *c != '\0'; c++) {
        if (!isprint((unsigned char)*c))
            *c = '?';
    }
}

/* "nginx (pid 4711)"; nothing when no process that we may look at holds the socket. */
static void name_process(uint64_t inode, struct text *out)
{
    char target[64];
    snprintf(target, sizeof(target), "socket:[%" PRIu64 "]", inode);
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return;
    const struct dirent *entry;
    while (out->length == 0 && (entry = readdir(proc)) != NULL) {
        char name[32];
        if (!is_number(entry->d_name) || !process_holds(dirfd(proc), entry->d_name, target))
            continue;
        read_name(dirfd(proc), entry->d_name, name, sizeof(name));
        text_addf(out, "%s (pid %s)", name, entry->d_name);
    }
    closedir(proc);
}

void listener_holder(const struct address *address, enum config_protocol protocol, char *out,
                     size_t size)
{
    bool is_udp = protocol == CONFIG_PROTOCOL_UDP;
    struct text text;
    text_init(&text, out, size);
    struct holder holder = {0};
    search_table(is_udp ? "/proc/net/udp" : "/proc/net/tcp", address, protocol, &holder);
    search_table(is_udp ? "/proc/net/udp6" : "/proc/net/tcp6", address, protocol, &holder);
    if (holder.nearness == 0)
        return;
    name_process(holder.inode, &text);
    if (text.length == 0)
        text_addf(&text, "a process of user id %u", holder.user);
}
