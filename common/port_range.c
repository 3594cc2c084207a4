#include "common/port_range.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FOLDER "/proc/sys/net/ipv4/"

#define FIRST 32768
#define LAST 60999
#define PORT_MAX 65535

/* Longer lists of reserved ports are cut: their end is not taken off. */
#define RESERVED_MAX 16384

void port_files_open(struct port_files *files)
{
    files->range = open(FOLDER "ip_local_port_range", O_RDONLY | O_CLOEXEC);
    files->reserved = open(FOLDER "ip_local_reserved_ports", O_RDONLY | O_CLOEXEC);
    files->reuse = open(FOLDER "tcp_tw_reuse", O_RDONLY | O_CLOEXEC);
}

static void put(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void port_files_close(struct port_files *files)
{
    put(&files->range);
    put(&files->reserved);
    put(&files->reuse);
}

/* The kernel answers anew to each read from the beginning. NULL: it did not. */
static const char *read_text(int fd, char *text, size_t size)
{
    ssize_t length = fd >= 0 ? pread(fd, text, size - 1, 0) : -1;

    if (length < 0)
        return NULL;
    text[length] = '\0';
    return text;
}

void port_range_read(const struct port_files *files, struct port_range *out)
{
    char range[64], reuse[16], reserved[RESERVED_MAX];

    port_range_parse(read_text(files->range, range, sizeof(range)),
                     read_text(files->reserved, reserved, sizeof(reserved)),
                     read_text(files->reuse, reuse, sizeof(reuse)), out);
}

/* ---- what the texts mean ---- */

static uint32_t overlap(uint32_t from, uint32_t to, const struct port_range *range)
{
    uint32_t first = MAX(from, range->first);
    uint32_t last = MIN(to, range->last);

    return first <= last ? last - first + 1 : 0;
}

/* "8080,40000-40010": of these, how many are in the range. The kernel writes none twice. */
static uint32_t count_reserved(const char *text, const struct port_range *range)
{
    uint32_t count = 0;
    char *end;

    while (text != NULL && *text >= '0' && *text <= '9') {
        unsigned long from = strtoul(text, &end, 10);
        unsigned long to = from;
        if (*end == '-')
            to = strtoul(end + 1, &end, 10);
        count += overlap((uint32_t)MIN(from, PORT_MAX), (uint32_t)MIN(to, PORT_MAX), range);
        text = *end == ',' ? end + 1 : NULL;
    }
    return count;
}

/*
 * connect(2) looks at an even number of ports: of an odd range one is left out, another one each
 * time (__inet_hash_connect in net/ipv4/inet_hashtables.c; measured: of 11 ports, 10 or 11).
 */
void port_range_parse(const char *range, const char *reserved, const char *reuse,
                      struct port_range *out)
{
    unsigned first, last;
    uint32_t ports, taken;

    *out = (struct port_range){.first = FIRST, .last = LAST};
    if (range != NULL && sscanf(range, "%u %u", &first, &last) == 2 && first <= last &&
        last <= PORT_MAX) {
        out->first = first;
        out->last = last;
    }
    ports = out->last - out->first + 1;
    taken = count_reserved(reserved, out);
    out->udp = ports - taken;
    ports -= ports > 1 ? ports % 2 : 0;
    out->tcp = ports > taken ? ports - taken : 0;
    out->reuse = reuse != NULL && reuse[0] == '1';
    out->reuse_loopback = out->reuse || reuse == NULL || reuse[0] == '2';
}
