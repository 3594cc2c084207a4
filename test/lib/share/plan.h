/*
 * Purpose: what udp_load is told to do.
 * Thread:  any; no state.
 * Owns:    nothing.
 * Fails:   wrong usage exits 2.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "test/lib/share/udp.h"

struct plan {
    const char *mode;
    union inet to;
    struct in_addr from; /* the first of `sources` */
    bool bound;          /* each flow has its address of those */
    bool roving;         /* each datagram has */
    bool gro;
    uint64_t flows;
    uint64_t outstanding; /* datagrams of a flow that wait for a reply */
    uint64_t size;
    uint64_t rate;  /* datagrams a second and flow; 0: a reply brings forth the next */
    uint64_t train; /* so many are sent as one */
    uint64_t sources;
    uint64_t seconds; /* 0: no end */
    uint64_t count;   /* 0: no end */
    uint64_t timeout_ms;
    uint64_t answer; /* bytes of a reply; 0: the request's, and a name */
};

/* --help prints what there is, and exits. */
struct plan plan_parse(int argc, char **argv);
