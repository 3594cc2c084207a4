/*
 * The ports of our addresses, once every fifth of a second: whether the kernel is to count some,
 * and what there is to tell of its figures.
 *
 * A count of 28,000 sockets takes it 10 ms and more, so it is taken in slices, one a turn of the
 * loop. Everything it is asked by was opened before the sandbox closed: its settings are those of
 * the moment, not those of the start.
 *
 * Where the kernel has no sock_diag(7) our own count must do. It tells of ports as taken for a
 * minute after they were given back, and knows of no other program's.
 */
#include "lb/control/private.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define LOOK_MS 200
#define SLICE_US 2000

/* What one count can be of. */
static const struct {
    enum ports_protocol protocol;
    int number;
    sa_family_t family;
} kinds[] = {
    {PORTS_TCP, IPPROTO_TCP, AF_INET},
    {PORTS_TCP, IPPROTO_TCP, AF_INET6},
    {PORTS_UDP, IPPROTO_UDP, AF_INET},
    {PORTS_UDP, IPPROTO_UDP, AF_INET6},
};

/* ---- telling ---- */

static const struct {
    enum log_level level;
    const char *event;
} told[] = {
    [PORTS_WELL] = {LOG_LEVEL_INFO, "source ports suffice again"},
    [PORTS_80_PERCENT] = {LOG_LEVEL_WARN, "source ports run short"},
    [PORTS_90_PERCENT] = {LOG_LEVEL_WARN, "source ports run short"},
    [PORTS_95_PERCENT] = {LOG_LEVEL_WARN, "source ports run short"},
    [PORTS_EXHAUSTED] = {LOG_LEVEL_WARN, "source ports are used up"},
    [PORTS_UNFIT] = {LOG_LEVEL_WARN, "servers cannot be connected to from a source"},
};

/* Those that wait for a minute could be had again, where they are most of it. */
static const char *cure_of(const struct ports_book *book, const struct ports_tally *tally)
{
    if (tally->level == PORTS_WELL)
        return NULL;
    if (tally->level == PORTS_UNFIT)
        return "see that it is an address of this machine and that a way leads from it to them";
    if (tally->time_wait > tally->used / 2 && !ports_reuses(book, tally))
        return PORTS_CURE ", or net.ipv4.tcp_tw_reuse = 1";
    return PORTS_CURE;
}

static void tell(const struct ports_book *book, const struct ports_tally *tally)
{
    bool is_tcp = tally->protocol == PORTS_TCP; /* ports of UDP are whoever's */
    uint32_t range = atomic_load_explicit(&tally->range, memory_order_relaxed);
    char server[ADDRESS_TEXT_MAX];

    if (is_tcp)
        inet_address_format(&tally->server, server);
    log_line(told[tally->level].level, told[tally->level].event,
             LOG_FIELDS(LOG_S("pool", tally->pool), LOG_S("server", is_tcp ? tally->name : NULL),
                        LOG_S("address", is_tcp ? server : NULL),
                        LOG_S("source", tally->source_text),
                        LOG_S("protocol", ports_protocol_name(tally->protocol)),
                        LOG_U("used", tally->used), LOG_U("time_wait", tally->time_wait),
                        LOG_U("range", range),
                        LOG_U("percent", (uint64_t)tally->used * 100 / MAX(range, 1u)),
                        LOG_S("cure", cure_of(book, tally))));
}

static void tell_blind(struct control_ports *ports, int error)
{
    if (ports->blind)
        return;
    ports->blind = true;
    log_warn("the kernel does not count source ports: weir's own count must do",
             LOG_S("why", strerrordesc_np(error)));
}

/* ---- counting ---- */

static void end_count(struct control *control, int failed)
{
    struct control_ports *ports = &control->ports;
    struct ports_book *book = &control->pools->ports;
    uint64_t now = clock_now_ms();

    if (failed < 0)
        tell_blind(ports, -failed);
    for (size_t i = 0; i < ports->count; i++) {
        struct ports_tally *tally = ports->tally[i];
        const struct sock_diag_pair *pair = &ports->pair[i];
        uint32_t used = failed < 0 ? ports_held(tally) : pair->used;
        if (ports_counted(book, tally, used, failed < 0 ? 0 : pair->time_wait, now))
            tell(book, tally);
        if (failed < 0)
            tally->counted = false;
    }
    ports->count = 0;
}

static void on_look(uv_timer_t *timer);

static void read_on(struct control *control)
{
    struct control_ports *ports = &control->ports;
    int ended = sock_diag_read(&ports->diag, clock_now_us() + SLICE_US);

    if (ended != 0)
        end_count(control, ended);
    uv_timer_start(&ports->timer, on_look, ended == 0 ? 0 : LOOK_MS, 0);
}

/* A socket with a port that no other is given (a listener's) is none of the range's. */
static int ask(struct control_ports *ports, const struct port_range *range, int number)
{
    for (size_t i = 0; i < ports->count; i++)
        ports->pair[i] = (struct sock_diag_pair){.local = ports->tally[i]->source,
                                                 .first = (uint16_t)range->first,
                                                 .last = (uint16_t)range->last,
                                                 .remote = ports->tally[i]->server};
    if (ports->diag.fd < 0)
        return -ENOENT;
    return sock_diag_ask(&ports->diag, number, ports->pair, ports->count);
}

/* Of one protocol and family at a time; the next look goes on with the next. */
static int begin_count(struct control *control)
{
    struct control_ports *ports = &control->ports;
    size_t kind = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds) && ports->count == 0; i++) {
        kind = ports->kind;
        ports->count =
            ports_book_due(&control->pools->ports, kinds[kind].protocol, kinds[kind].family,
                           clock_now_ms(), ports->tally, ARRAY_LEN(ports->tally));
        ports->kind = (kind + 1) % ARRAY_LEN(kinds);
    }
    return ports->count > 0 ? ask(ports, &control->pools->ports.range, kinds[kind].number) : 0;
}

static void look(struct control *control)
{
    struct control_ports *ports = &control->ports;
    struct port_range range;
    int failed;

    port_range_read(&ports->files, &range);
    ports_book_advance(&control->pools->ports, &range, clock_now_ms());
    failed = begin_count(control);
    if (failed < 0)
        end_count(control, failed);
}

static void on_look(uv_timer_t *timer)
{
    struct control *control = timer->data;

    if (control->ports.count == 0)
        look(control);
    if (control->ports.count > 0)
        read_on(control);
    else
        uv_timer_start(timer, on_look, LOOK_MS, 0);
}

/* ---- life ---- */

static bool has_work(const struct control *control)
{
    return control->pools->ports.tally_count > 0;
}

void control_ports_open(struct control *control)
{
    struct control_ports *ports = &control->ports;

    ports->diag.fd = -1;
    ports->files = (struct port_files){-1, -1, -1};
    if (!has_work(control))
        return;
    port_files_open(&ports->files);
    if (sock_diag_open(&ports->diag) < 0)
        ports->diag.fd = -1; /* told of when it is missed */
}

void control_ports_start(struct control *control)
{
    if (has_work(control))
        uv_timer_start(&control->ports.timer, on_look, 0, 0);
}

void control_ports_close(struct control *control)
{
    port_files_close(&control->ports.files);
    sock_diag_close(&control->ports.diag);
}
