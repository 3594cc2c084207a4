/*
 * Purpose: control's insides, for the files of lb/control.
 * Thread:  control.
 * Owns:    see control.h.
 * Fails:   see control.h.
 */
#pragma once

#include "common/mailbox.h"
#include "common/port_range.h"
#include "common/sock_diag.h"
#include "lb/control/control.h"
#include "lb/health/health.h"

/* What looks after the ports of our addresses. Idle where no pool has a list of them. */
struct control_ports {
    uv_timer_t timer;
    struct port_files files;
    struct sock_diag diag;
    size_t kind;  /* of the next count */
    size_t count; /* tallies of the present one */
    struct ports_tally *tally[SOCK_DIAG_PAIRS];
    struct sock_diag_pair pair[SOCK_DIAG_PAIRS];
    bool blind; /* the log has told that the kernel does not count */
};

/* ---- access.c: rules of operators ---- */
struct control_access {
    uv_timer_t timer;  /* the next end of a rule */
    uint64_t ended_ms; /* the last one's */
    bool is_round;     /* `pass` is under way */
    size_t worker;     /* with this one */
    struct worker_pass pass;
};

struct control {
    const struct config *config;
    struct limits limits;
    struct listener *listeners;
    struct pools *pools;
    struct health *health;
    struct worker **worker;
    size_t worker_count; /* that run */
    size_t idle_workers; /* of a draining weir */
    _Atomic uint32_t sessions;
    struct rate_meter session_rate;
    struct rate_meter refusal_lines;
    struct udp_shared udp; /* of all workers */
    uv_loop_t loop;
    struct mailbox mailbox;
    uv_timer_t publish_timer;
    uv_timer_t health_timer;
    uv_timer_t ready_timer;
    uv_timer_t shutdown_timer;
    struct control_ports ports;
    struct control_access access;
    uv_prepare_t prepare;
    uv_signal_t signal[4];
    enum control_state state;
    bool open; /* the handles are on the loop */
    bool stopping;
    bool serving;   /* every server is watched: the first view is a whole one */
    bool announced; /* the service manager knows that weir serves */
    uint64_t started_ms;
    uint64_t published_ms;
    uint64_t turn_began_us, turn_idle_us; /* of the present turn of the loop */
    uint64_t longest_turn_us;
    void (*on_stop)(void *arg);
    void *on_stop_arg;
};

/* ---- descriptors.c ---- */
/* Before the others and after them; without /proc they count 0. One process, one table: no struct.
 */
void control_open_descriptors(void);
void control_close_descriptors(void);
uint64_t control_count_descriptors(void);
/* The same on kernels before 6.2. */
uint64_t control_poll_descriptors(void);

/* ---- ports.c: the ports that are left to us ---- */
/* Before the sandbox closes, and after it all. */
void control_ports_open(struct control *control);
void control_ports_close(struct control *control);
/* Begins to look; its timer is on the loop by then. */
void control_ports_start(struct control *control);

/* ---- watch.c: health ---- */
must_check int control_watch_start(struct control *control);
/* Starts or ends the probing of one server, as its admin state wants. */
must_check int control_watch(struct control *control, struct pool_member *member);
void control_unwatch_all(struct control *control);
/* A worker's mail: a connect to the server failed. Takes over the reference. */
void control_suspected(void *owner, struct server *server);

/* ---- control.c ---- */
/* The pools have changed: a new view for all workers, now or as soon as the pace allows. */
void control_publish(struct control *control, bool now);
/* Says READY once each server has had a verdict. */
void control_announce(struct control *control);
