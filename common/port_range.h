/*
 * Purpose: how many local ports the kernel has for outgoing connections, and whether it takes those
 *          in TIME_WAIT again, as its settings say at the moment.
 * Thread:  one thread, which may be another than the one that opened it.
 * Owns:    three descriptors in /proc/sys/net/ipv4: the settings of the network namespace in which
 *          they were opened. They stay readable when nothing can be opened any more.
 * Fails:   never: what cannot be read has the kernel's default.
 */
#pragma once

#include "common/base.h"

#include <stdbool.h>
#include <stdint.h>

struct port_files {
    int range, reserved, reuse; /* -1: not there */
};

/* ip_local_port_range less ip_local_reserved_ports; IPv6 has the same. */
struct port_range {
    uint32_t first, last;
    uint32_t tcp; /* ports; those of one address towards one server */
    uint32_t udp; /* ports; those of one address */
    /* Ports in TIME_WAIT may be taken again after a second (tcp_tw_reuse): */
    bool reuse;
    bool reuse_loopback;
};

void port_files_open(struct port_files *files);
void port_files_close(struct port_files *files);

void port_range_read(const struct port_files *files, struct port_range *out);

/* Of the three texts, as the kernel writes them; NULL: not known. */
void port_range_parse(const char *range, const char *reserved, const char *reuse,
                      struct port_range *out);
