/*
 * Purpose: a control without workers, signals and probes: real pools and a real loop, and sessions
 *          and flows that are made up. Whoever links it needs no other control.
 * Thread:  the test's.
 * Owns:    see fake_open and fake_close.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>. The clock is the test's as well: fake_now_ms.
 */
#pragma once

#include "common/clock.h"
#include "common/loop.h"
#include "lb/control/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t fake_now_ms = 1000000;

uint64_t clock_now_ms(void)
{
    return fake_now_ms;
}

uint64_t clock_now_us(void)
{
    return fake_now_ms * 1000;
}

uint64_t clock_wall_us(void)
{
    return fake_now_ms * 1000;
}

char *clock_format(uint64_t wall_us, char text[CLOCK_TEXT_MAX])
{
    snprintf(text, CLOCK_TEXT_MAX, "1970-01-01T%012uZ", (unsigned)wall_us);
    return text;
}

#define FAKE_SERVERS_MAX 300

struct control {
    uv_loop_t loop;
    struct config config;
    struct config_pool pool[2];
    struct config_server server[2][FAKE_SERVERS_MAX];
    char name[FAKE_SERVERS_MAX][24];
    struct config_listener listen;
    struct listener listener;
    struct pools *pools;
    enum control_state state;
    char who[64]; /* of the last change */
    uint64_t session_count, flow_count;
    struct control_query *query;
    struct traffic_filter asked; /* of the last query */
    enum traffic_kind kind;      /* likewise */
    bool kill;
    unsigned slices, cancels;
};

/* ---- making and freeing ---- */

#define FAKE_NONE ((char *)"") /* a text that is not set */

static inline void fake_pool(struct control *control, size_t index, const char *name,
                             size_t servers)
{
    struct config_pool *pool = &control->pool[index];
    *pool = (struct config_pool){.name = (char *)name,
                                 .scheduler = (char *)"round-robin",
                                 .drain_deadline = 300000,
                                 .health = {.type = (char *)"none",
                                            .path = FAKE_NONE,
                                            .host = FAKE_NONE,
                                            .status = FAKE_NONE,
                                            .body = FAKE_NONE,
                                            .send = FAKE_NONE,
                                            .expect = FAKE_NONE,
                                            .dns_name = FAKE_NONE,
                                            .dns_address = FAKE_NONE},
                                 .servers = control->server[index],
                                 .server_count = servers};
    for (size_t i = 0; i < servers; i++) {
        const char *why;
        struct config_server *server = &pool->servers[i];
        snprintf(control->name[i], sizeof(control->name[i]), "s%zu", i);
        *server = (struct config_server){.name = control->name[i], .weight = 100};
        server->address.text = (char *)"192.0.2.1:80";
        assert_int_equal(address_parse(&server->address.address, server->address.text, &why), 0);
    }
}

/* Pools "web" of two servers and "big" of 300, named s0, s1 and so on; a listener that feeds web.
 */
static inline struct control *fake_open(const char *socket_path)
{
    struct control *control = calloc(1, sizeof(*control));
    assert_non_null(control);
    assert_int_equal(uv_loop_init(&control->loop), 0);
    fake_pool(control, 0, "web", 2);
    fake_pool(control, 1, "big", FAKE_SERVERS_MAX);
    control->listen = (struct config_listener){.name = (char *)"front", .pool = (char *)"web"};
    control->listen.bind.text = (char *)"192.0.2.9:80";
    control->listener = (struct listener){
        .config = &control->listen, .limit = UINT32_MAX, .flow_limit = UINT32_MAX};
    assert_int_equal(gate_new(&control->listener.gate, &(struct gate_options){0}), 0);
    control->config = (struct config){
        .weir = {.admin_socket = (char *)socket_path,
                 .admin_mode = 0600,
                 .user = FAKE_NONE,
                 .group = FAKE_NONE,
                 .log_target = (char *)"stderr"},
        .pools = control->pool,
        .pool_count = 2,
        .listeners = &control->listen,
        .listener_count = 1,
    };
    control->state = CONTROL_RUNNING;
    assert_int_equal(pools_new(&control->pools, &control->config, 1), 0);
    return control;
}

static inline void fake_close(struct control *control)
{
    assert_null(control->query);
    loop_close(&control->loop);
    pools_free(&control->pools);
    gate_free(&control->listener.gate);
    free(control);
}

/* ---- what control.h promises ---- */

const char *control_state_name(enum control_state state)
{
    static const char *const names[] = {"starting", "running", "draining"};
    return names[state];
}

uv_loop_t *control_loop(struct control *control)
{
    return &control->loop;
}

const struct config *control_config(const struct control *control)
{
    return &control->config;
}

struct pools *control_pools(struct control *control)
{
    return control->pools;
}

size_t control_listeners(const struct control *control, const struct listener **out)
{
    *out = &control->listener;
    return 1;
}

enum control_state control_state(const struct control *control)
{
    return control->state;
}

void control_status(struct control *control, struct control_status *out)
{
    *out = (struct control_status){
        .state = control->state,
        .uptime_ms = 61999,
        .workers = 1,
        .sessions = control->session_count,
        .flows = control->flow_count,
        .descriptors_open = 17,
        .limits = {.descriptors = 1024,
                   .reserved = 100,
                   .sessions = 400,
                   .pipes = 20,
                   .flows = 60,
                   .resting = 24},
    };
    for (uint64_t i = 0; i < METRIC_COUNT; i++)
        out->counter[i] = i;
}

static inline void fake_by(struct control *control, const char *who)
{
    snprintf(control->who, sizeof(control->who), "%s", who);
}

void control_set_admin(struct control *control, struct pool_member *member, enum server_admin admin,
                       uint64_t deadline_ms, const char *who)
{
    fake_by(control, who);
    pool_member_set_admin(member, admin, deadline_ms, clock_now_ms());
}

void control_set_weight(struct control *control, struct pool_member *member, uint32_t weight,
                        const char *who)
{
    fake_by(control, who);
    pool_member_set_weight(member, weight);
}

int control_rule_put(struct control *control, const struct listener *listener,
                     const struct gate_rule *rule, const char *who)
{
    fake_by(control, who);
    return gate_rule_put(listener->gate, rule);
}

int control_rule_drop(struct control *control, const struct listener *listener,
                      const struct network *network, const char *who)
{
    fake_by(control, who);
    return gate_rule_drop(listener->gate, network);
}

/* ---- sessions and flows ---- */

struct control_query {
    struct control *control;
    struct control_query_callbacks callbacks;
    bool out; /* with the workers: fake_step has it come back */
    uint64_t at;
};

int control_query_start(struct control *control, enum traffic_kind kind,
                        const struct traffic_filter *filter, bool kill,
                        const struct control_query_callbacks *callbacks, struct control_query **out)
{
    if (control->session_count == UINT64_MAX)
        return -ENOMEM;
    assert_null(control->query);
    control->kind = kind;
    control->asked = *filter;
    control->kill = kill;
    control->query = calloc(1, sizeof(*control->query));
    *control->query =
        (struct control_query){.control = control, .callbacks = *callbacks, .out = true};
    *out = control->query;
    return 0;
}

void control_query_next(struct control_query *query)
{
    assert_false(query->out);
    query->out = true;
}

void control_query_cancel(struct control_query **query)
{
    (*query)->control->cancels++;
    (*query)->control->query = NULL;
    free(*query);
    *query = NULL;
}

static inline union inet_address fake_client(void)
{
    return (union inet_address){.v4 = {.sin_family = AF_INET,
                                       .sin_port = htons(4711),
                                       .sin_addr.s_addr = htonl(0xc0000201)}};
}

static inline struct session_info fake_session(uint64_t id)
{
    return (struct session_info){.id = id,
                                 .listener = "front",
                                 .client = fake_client(),
                                 .pool = "web",
                                 .server = "s1",
                                 .state = SESSION_RELAYING,
                                 .engine = "copy",
                                 .age_ms = 1500,
                                 .idle_ms = 3,
                                 .bytes_in = 70,
                                 .bytes_out = 9000};
}

static inline struct flow_info fake_flow(uint64_t id)
{
    return (struct flow_info){.id = id,
                              .listener = "front",
                              .client = fake_client(),
                              .pool = "web",
                              .server = "s0",
                              .state = FLOW_SPENT,
                              .age_ms = 700,
                              .idle_ms = 20,
                              .datagrams_in = 1,
                              .datagrams_out = 2,
                              .bytes_in = 40,
                              .bytes_out = 900};
}

static inline uint64_t fake_count(const struct control *control)
{
    return control->kind == TRAFFIC_FLOWS ? control->flow_count : control->session_count;
}

static inline void fake_row(const struct control *control, union traffic_rows *rows, uint32_t at,
                            uint64_t id)
{
    if (control->kind == TRAFFIC_FLOWS)
        rows->flow[at] = fake_flow(id);
    else
        rows->session[at] = fake_session(id);
}

static inline void fake_finish(struct control_query *query, uint32_t total)
{
    struct control_query_callbacks callbacks = query->callbacks;
    query->control->query = NULL;
    free(query);
    callbacks.done(callbacks.arg, total);
}

/* What the workers owe comes back: one slice, or the end. */
static inline void fake_step(struct control *control)
{
    union traffic_rows row;
    struct control_query *query = control->query;
    uint32_t count = 0;
    if (query == NULL || !query->out)
        return;
    if (control->kill) {
        fake_finish(query, control->asked.id <= fake_count(control));
        return;
    }
    while (count < WORKER_QUERY_ROWS && query->at < fake_count(control))
        fake_row(control, &row, count++, ++query->at);
    if (count == 0) {
        fake_finish(query, (uint32_t)query->at);
        return;
    }
    query->out = false;
    control->slices++;
    query->callbacks.rows(query->callbacks.arg, &row, count);
}
