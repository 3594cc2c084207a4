/*
 * Purpose: see limits.h.
 * Thread:  control, at start.
 * Owns:    nothing.
 * Fails:   see limits.h.
 */
#include "lb/limits.h"

#include "common/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#define OWN 64           /* helper, log, signals, loops of control, what libraries open */
#define ADMIN_CLIENTS 64 /* lb/admin takes no more */
#define PER_WORKER 8     /* epoll sets, eventfds, and what it holds for a moment */
#define PROBES_MAX 1024  /* at once */

#define PER_SESSION 2
#define PER_PIPE 2
#define PIPE_SHARE 16   /* one descriptor in so many is a pipe's: streams are few among sessions */
#define PIPE_PAGES 16   /* of a whole one: pipe(7) */
#define RESTING_SHARE 4 /* at most one in so many is a socket at rest */

#define SESSIONS_LEAST 16
#define FLOWS_LEAST 16

/* Far above any limit that a kernel grants (fs.nr_open); sums stay far from 64 bits. */
#define DESCRIPTORS_MAX INT32_MAX

/* From a multiple of it on, more descriptors never carry less: pipes take theirs by the pair. */
#define STEP (PIPE_SHARE * PER_PIPE)

/* What the configuration asks of them. */
struct demand {
    uint64_t reserved;
    uint64_t pipe_pages;
    bool tcp, udp;     /* there is such a listener */
    uint64_t sessions; /* weir.max_connections; 0: as many as there can be */
    uint64_t flows;    /* the sum of max_flows */
    bool flows_bound;  /* every UDP listener has one */
};

/* How they are shared out. */
struct shares {
    uint64_t pipes;
    uint64_t sessions;
    uint64_t flows;
    uint64_t resting;
};

/* ---- what is asked for ---- */

static uint64_t reserved_by(const struct config *config)
{
    uint64_t workers = (uint64_t)config->weir.workers;
    uint64_t servers = 0;
    for (size_t i = 0; i < config->pool_count; i++)
        servers += config->pools[i].server_count;
    return OWN + ADMIN_CLIENTS + workers * PER_WORKER + workers * config->listener_count +
           MIN(servers, (uint64_t)PROBES_MAX);
}

static void add_listener(struct demand *demand, const struct config_listener *listener)
{
    if (listener->protocol != CONFIG_PROTOCOL_UDP) {
        demand->tcp = true;
        return;
    }
    demand->udp = true;
    demand->flows += (uint64_t)listener->max_flows;
    demand->flows_bound &= listener->max_flows > 0;
}

static struct demand demand_of(const struct config *config, uint64_t pipe_pages)
{
    struct demand demand = {
        .reserved = reserved_by(config),
        .pipe_pages = pipe_pages,
        .sessions = (uint64_t)config->weir.max_connections,
        .flows_bound = true,
    };
    for (size_t i = 0; i < config->listener_count; i++)
        add_listener(&demand, &config->listeners[i]);
    return demand;
}

/* ---- sharing out ---- */

static uint64_t pipes_of(const struct demand *demand, uint64_t descriptors)
{
    uint64_t pipes = descriptors / PIPE_SHARE / PER_PIPE;
    if (!demand->tcp)
        return 0;
    return demand->pipe_pages == 0 ? pipes : MIN(pipes, demand->pipe_pages / PIPE_PAGES);
}

/* A half for each protocol, and more where the other one asks for less. */
static uint64_t tcp_share(const struct demand *demand, uint64_t descriptors, uint64_t left)
{
    uint64_t half = left / 2;
    uint64_t sessions = MAX(demand->sessions, (uint64_t)SESSIONS_LEAST);
    uint64_t flows = MAX(demand->flows, (uint64_t)FLOWS_LEAST);
    uint64_t udp = flows + MIN(flows, descriptors / RESTING_SHARE);
    if (!demand->tcp || !demand->udp)
        return demand->tcp ? left : 0;
    if (demand->flows_bound && udp < half)
        return left - udp;
    return demand->sessions > 0 ? MIN(sessions * PER_SESSION, left - half) : left - half;
}

static struct shares share_out(const struct demand *demand, uint64_t descriptors)
{
    struct shares shares = {.pipes = pipes_of(demand, descriptors)};
    uint64_t taken = demand->reserved + shares.pipes * PER_PIPE;
    uint64_t left = descriptors > taken ? descriptors - taken : 0;
    uint64_t tcp = tcp_share(demand, descriptors, left);
    uint64_t udp = demand->udp ? left - tcp : 0;
    shares.sessions = tcp / PER_SESSION;
    shares.resting = MIN(udp / 2, descriptors / RESTING_SHARE);
    shares.flows = udp - shares.resting;
    return shares;
}

/* The least limit, in steps, that carries so many. */
static uint64_t needed_for(const struct demand *demand, uint64_t sessions, uint64_t flows)
{
    uint64_t low = 0, high = DESCRIPTORS_MAX; /* in steps */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct shares shares = share_out(demand, middle * STEP);
        if (shares.sessions >= sessions && shares.flows >= flows)
            high = middle;
        else
            low = middle + 1;
    }
    return low * STEP;
}

/* ---- in words ---- */

struct part {
    uint64_t descriptors;
    const char *what;
};

/* "140 for itself, 1250 for pipes and 4652 for sessions"; what is 0 is left out. */
static void say_parts(struct text *text, const struct part *part, size_t count)
{
    while (count > 0 && part[count - 1].descriptors == 0)
        count--;
    for (size_t i = 0; i < count; i++) {
        if (part[i].descriptors == 0)
            continue;
        const char *glue = i == 0 ? "" : i + 1 < count ? ", " : " and ";
        text_addf(text, "%s%" PRIu64 " for %s", glue, part[i].descriptors, part[i].what);
    }
}

static void say_sessions(const struct demand *demand, const struct limits *limits,
                         struct text *text)
{
    const struct part parts[] = {
        {limits->reserved, "itself"},
        {(uint64_t)limits->pipes * PER_PIPE, "pipes"},
        {(uint64_t)limits->flows + limits->resting, "flows"},
    };
    text_addf(text,
              "max_connections is lowered from %" PRIu64 " to %" PRIu32 ": of %" PRIu64
              " descriptors weir keeps ",
              demand->sessions, limits->sessions, limits->descriptors);
    say_parts(text, parts, ARRAY_LEN(parts));
    text_addf(text, ", and a session takes 2; RLIMIT_NOFILE = %" PRIu64 " would do",
              needed_for(demand, demand->sessions, 0));
}

static void say_flows(const struct demand *demand, const struct limits *limits, struct text *text)
{
    const struct part parts[] = {
        {limits->reserved, "itself"},
        {(uint64_t)limits->pipes * PER_PIPE, "pipes"},
        {(uint64_t)limits->sessions * PER_SESSION, "sessions"},
        {limits->resting, "sockets between flows"},
    };
    text_addf(text,
              "the sum of max_flows is lowered from %" PRIu64 " to %" PRIu32 ": of %" PRIu64
              " descriptors weir keeps ",
              demand->flows, limits->flows, limits->descriptors);
    say_parts(text, parts, ARRAY_LEN(parts));
    text_addf(text, ", and a flow takes 1; RLIMIT_NOFILE = %" PRIu64 " would do",
              needed_for(demand, 0, demand->flows));
}

static int refuse(const struct demand *demand, uint64_t descriptors, struct text *text)
{
    text_addf(text,
              "%" PRIu64 " descriptors are too few: weir needs %" PRIu64
              " for itself%s%s; set RLIMIT_NOFILE to %" PRIu64 " at least",
              descriptors, demand->reserved,
              !demand->tcp  ? ""
              : demand->udp ? ", 2 for each session"
                            : " and 2 for each session",
              demand->udp ? " and 1 for each flow" : "",
              needed_for(demand, demand->tcp ? SESSIONS_LEAST : 0, demand->udp ? FLOWS_LEAST : 0));
    return -EMFILE;
}

/* ---- all together ---- */

static bool carries_least(const struct demand *demand, const struct shares *shares)
{
    return (!demand->tcp || shares->sessions >= SESSIONS_LEAST) &&
           (!demand->udp || shares->flows >= FLOWS_LEAST);
}

static uint32_t at_most(uint64_t asked, uint64_t share)
{
    return (uint32_t)(asked == 0 ? share : MIN(asked, share));
}

static struct limits limits_of(const struct demand *demand, const struct shares *shares,
                               uint64_t descriptors)
{
    return (struct limits){
        .descriptors = descriptors,
        .reserved = demand->reserved,
        .pipes = (uint32_t)shares->pipes,
        .sessions = at_most(demand->sessions, shares->sessions),
        .flows = at_most(demand->flows_bound ? demand->flows : 0, shares->flows),
        .resting = (uint32_t)shares->resting,
        .lowered = demand->tcp && demand->sessions > shares->sessions,
        .flows_lowered = demand->flows > shares->flows,
    };
}

int limits_compute(const struct config *config, uint64_t descriptors, uint64_t pipe_pages,
                   struct limits *out, char *text, size_t text_size)
{
    struct demand demand = demand_of(config, pipe_pages);
    uint64_t granted = MIN(descriptors, (uint64_t)DESCRIPTORS_MAX);
    struct shares shares = share_out(&demand, granted);
    struct text said;
    text_init(&said, text, text_size);
    if (!carries_least(&demand, &shares))
        return refuse(&demand, descriptors, &said);

    struct limits limits = limits_of(&demand, &shares, granted);
    if (limits.lowered)
        say_sessions(&demand, &limits, &said);
    if (limits.lowered && limits.flows_lowered)
        text_add(&said, "\n");
    if (limits.flows_lowered)
        say_flows(&demand, &limits, &said);
    *out = limits;
    return 0;
}

static uint64_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FOPEN_MAX;
    if (limit.rlim_cur >= limit.rlim_max)
        return limit.rlim_cur;
    const struct rlimit raised = {limit.rlim_max, limit.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

static uint64_t read_pipe_pages(void)
{
    uint64_t pages = 0;
    FILE *file = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
    return pages;
}

void limits_read(uint64_t *out_descriptors, uint64_t *out_pipe_pages)
{
    *out_descriptors = raise_descriptors();
    *out_pipe_pages = read_pipe_pages();
}
