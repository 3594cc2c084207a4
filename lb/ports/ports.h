/*
 * Purpose: which of our addresses a socket to a server is bound to, and how far the local ports of
 *          each of them are used up.
 * Thread:  what is below "workers": any that holds a reference to the struct ports; ports_held and
 *          ports_open: any. The book and all its verbs, ports_new included: control.
 * Owns:    the book, and each struct ports by reference, hold the tallies; the last one frees.
 * Fails:   ports_new without memory; ports_take when no address is left.
 *
 * The kernel tells TCP connections apart by both ends, so each address of ours has all ports of
 * ip_local_port_range towards each server. A UDP port is taken for an address whoever it is
 * connected to. Hence a tally: of (address, server) for TCP, of (address) for UDP, shared by all
 * pools that use the same.
 *
 * What workers count is what they opened and closed. A closed TCP socket may hold its port for
 * another minute (TIME_WAIT), and other programs take ports too, which only the kernel can tell of:
 * it is asked where our own count, a minute of closed ones included, says that it may matter. In
 * between, and where it was not asked, what was closed in the last minute counts as held.
 *
 *      held = taken − base        base, of TCP: what was closed more than a minute ago, or such
 * that `held` is the kernel's figure when that was asked for
 */
#pragma once

#include "common/address.h"
#include "common/list.h"
#include "common/port_range.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Index of no address. There are at most 64 addresses (CONFIG_SOURCES_MAX), one bit each. */
#define PORTS_NONE UINT8_MAX
#define PORTS_ADDRESSES 64

enum ports_protocol { PORTS_TCP, PORTS_UDP, PORTS_PROTOCOLS };
const char *ports_protocol_name(enum ports_protocol protocol);

/* A port that was closed so many steps ago is free again: TIME_WAIT is 60 s. */
#define PORTS_STEP_MS 5000
#define PORTS_STEPS 13

/* How the ports of an address stand, as last told in the log. */
enum ports_level {
    PORTS_WELL,
    PORTS_80_PERCENT,
    PORTS_90_PERCENT,
    PORTS_95_PERCENT,
    PORTS_EXHAUSTED,
    PORTS_UNFIT, /* the kernel gave none though there were some: not our address, or no way there */
};

/* For whoever reads of it, and knows neither weir nor the kernel well. */
#define PORTS_CURE                                                                                 \
    "another address of this machine in the pool's source, or a wider "                            \
    "net.ipv4.ip_local_port_range"

/* Ports of one address: towards one server, or of UDP towards all. */
struct ports_tally {
    _Atomic uint32_t references;
    enum ports_protocol protocol;
    union inet_address source; /* port 0 */
    union inet_address server; /* AF_UNSPEC for UDP */
    char source_text[ADDRESS_TEXT_MAX];
    /* Control's alone: */
    struct list link;               /* in the book */
    const char *pool, *name;        /* of the first server that came by it; the configuration's */
    uint32_t given_at[PORTS_STEPS]; /* by step, round the end */
    uint32_t refused_seen, unfit_seen;
    uint32_t taken_asked; /* when the kernel was asked last */
    uint32_t taken_unfit; /* when it became that */
    bool asked;           /* its figures are awaited */
    bool counted;         /* they are less than PORTS_FRESH_MS old */
    uint64_t counted_ms;
    uint32_t used, time_wait; /* they */
    enum ports_level level;
    /* The workers', by relaxed additions that wrap round: */
    _Alignas(CACHE_LINE) _Atomic uint32_t taken;
    _Atomic uint32_t given;
    _Atomic uint32_t refused;       /* the kernel had no port */
    _Atomic uint32_t unfit;         /* of these, while we held less than half of them */
    _Atomic uint32_t base;          /* see above: of TCP control's, of UDP the workers' */
    _Atomic uint32_t range;         /* control's: ports in all */
    _Atomic uint64_t refused_until; /* ms: not asked again until then, or until one is given back */
};

/* One server's: each of our addresses of its family. Immutable. */
struct ports {
    _Atomic uint32_t references;
    uint8_t count; /* at most PORTS_ADDRESSES */
    struct ports_tally *tally[];
};

/* ---- workers ---- */

/*
 * Takes a port of the address that has most left. Addresses whose bit is set in `tried`, and those
 * that had none a moment ago, are left out; PORTS_NONE when that is all of them.
 */
uint8_t ports_take(struct ports *ports, uint64_t tried, uint64_t now_ms);
/* Whether none was free is the kernel's to say, when the socket connects: then instead of
 * ports_give. */
void ports_refuse(struct ports *ports, uint8_t index, uint64_t now_ms);
/* Another socket of this address has given its port back. */
void ports_freed(struct ports *ports, uint8_t index);
/* The socket is closed. */
void ports_give(struct ports *ports, uint8_t index);

const union inet_address *ports_source(const struct ports *ports, uint8_t index);
/* PORTS_NONE: it is none of them. */
uint8_t ports_find(const struct ports *ports, const union inet_address *source);
/* A socket that is open already, and bound to this address, counts from now on. PORTS_NONE: it is
 * none of them. */
uint8_t ports_adopt(struct ports *ports, const union inet_address *source);

struct ports *ports_ref(struct ports *ports);
void ports_put(struct ports **ports); /* of nothing is nothing */

/* ---- control ---- */

#define PORTS_BUCKETS 1024

struct ports_book {
    struct list bucket[PORTS_BUCKETS]; /* tallies, by a hash of both addresses */
    struct port_range range;
    uint64_t step_ms; /* when the present step began */
    uint32_t step;
    size_t next; /* bucket to look at first for whom to ask of */
    size_t tally_count;
};

/* With the kernel's default range, until it is advanced. */
void ports_book_init(struct ports_book *book);
/* The tallies that nobody else holds go; the others stay with their holders. */
void ports_book_deinit(struct ports_book *book);

/* Whose ports are asked for: a server's in a pool. */
struct ports_user {
    const char *pool, *name; /* outlive the book */
    const union inet_address *server;
    const union inet_address *source;
    size_t source_count;
};
/* *out is NULL when no source is of the server's family. */
must_check int ports_new(struct ports_book *book, enum ports_protocol protocol,
                         const struct ports_user *user, struct ports **out);

/* Held now at most: by our own count, or the kernel's and what was taken since. */
uint32_t ports_held(const struct ports_tally *tally);
/* Sockets that weir has open. Workers may ask, too. */
uint32_t ports_open(const struct ports_tally *tally);

/* Time has passed, and the range may have changed. */
void ports_book_advance(struct ports_book *book, const struct port_range *range, uint64_t now_ms);

/* The kernel's figures are good for so long. */
#define PORTS_FRESH_MS 3000
/* And they are asked for no sooner than this after the last ones, unless a level may be passed. */
#define PORTS_ASK_MS 1000
/* Is it time to have the kernel count? */
bool ports_wants_count(const struct ports_book *book, const struct ports_tally *tally,
                       uint64_t now_ms);
/* It is asked. */
void ports_asked(struct ports_tally *tally);
/* Those of which it is time: asks for at most so many, in turn. Returns how many. */
size_t ports_book_due(struct ports_book *book, enum ports_protocol protocol, sa_family_t family,
                      uint64_t now_ms, struct ports_tally **out, size_t most);
/*
 * And has answered. Returns true when the level, `tally->level`, has changed: it rose, all is well
 * again, or the kernel gives ports of an address that was unfit.
 */
must_check bool ports_counted(const struct ports_book *book, struct ports_tally *tally,
                              uint32_t used, uint32_t time_wait, uint64_t now_ms);
/* May the ports that are in TIME_WAIT be taken again, as far as this machine is concerned? */
bool ports_reuses(const struct ports_book *book, const struct ports_tally *tally);
