/*
 * Purpose: a worker with its thread, and control's part played on the test's own loop.
 * Thread:  the test's.
 * Owns:    all of it, from bench_open to bench_close.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "lb/worker/worker.h"
#include "test/unit/lb/worker/site.h"

/* Control's part, on the test's own loop. */
struct bench {
    struct site site;
    uv_loop_t loop;
    struct mailbox mailbox;
    struct pools *pools;
    struct worker *worker;
    _Atomic uint32_t total;
    struct rate_meter rate;
    struct rate_meter refusal_lines;
    unsigned suspects, idle, answers;
    struct worker_query query;
    struct udp_shared udp;
    struct config_listener udp_config;
    struct listener listeners[2]; /* TCP, and UDP if the test wants it */
    size_t listener_count;
};

static inline void bench_on_suspect(void *owner, struct server *server)
{
    struct bench *bench = owner;

    bench->suspects++;
    assert_string_equal(server->name, "a");
    atomic_store(&server->live.suspect, 0);
    server_put(&server);
}

static inline void bench_on_idle(void *owner, struct worker *worker)
{
    struct bench *bench = owner;

    assert_ptr_equal(worker, bench->worker);
    bench->idle++;
}

static inline void bench_on_answer(struct worker_query *query)
{
    container_of(query, struct bench, query)->answers++;
}

static inline void bench_start(struct bench *bench)
{
    char error[256] = "";
    struct worker_options options = {
        .session_limit = 1000,
        .sessions_total = &bench->total,
        .session_rate = &bench->rate,
        .refusal_lines = &bench->refusal_lines,
        .pipe_limit = 16,
        .rest_limit = 16,
        .udp = &bench->udp,
        .listeners = bench->listener_count > 1 ? bench->listeners : bench->site.listeners,
        .listener_count = MAX(bench->listener_count, 1u),
        .pool_count = 1,
        .control = &bench->mailbox,
        .suspect = bench_on_suspect,
        .idle = bench_on_idle,
    };

    refusals_meter_init(&bench->refusal_lines);
    if (worker_start(&bench->worker, &options, error, sizeof(error)) != 0)
        fail_msg("%s", error);
}

static inline void give_view(struct bench *bench)
{
    struct view *view = pools_view(bench->pools);

    assert_int_equal(worker_set_view(bench->worker, view), 0);
    view_put(&view);
}

static inline void bench_open(struct bench *bench)
{
    memset(bench, 0, sizeof(*bench));
    site_open(&bench->site, 1);
    bench->site.pool.health.start_up = true;
    site_listen(&bench->site);
    assert_int_equal(uv_loop_init(&bench->loop), 0);
    assert_int_equal(mailbox_open(&bench->mailbox, &bench->loop, bench), 0);
    assert_int_equal(pools_new(&bench->pools, &bench->site.config, 1), 0);
    bench_start(bench);
}

static inline void bench_close(struct bench *bench)
{
    struct server *server = bench->pools->pool[0].member[0].server;

    if (bench->worker != NULL)
        worker_stop(&bench->worker);
    assert_null(bench->worker);
    mailbox_close(&bench->mailbox);
    loop_close(&bench->loop);
    assert_int_equal(atomic_load(&bench->total), 0);
    assert_int_equal(atomic_load(&server->live.load), 0);
    assert_int_equal(atomic_load(&bench->pools->current->references), 1);
    pools_free(&bench->pools);
    site_close(&bench->site);
}

static inline void ask_about(struct bench *bench, enum traffic_kind kind, bool kill)
{
    unsigned before = bench->answers;

    bench->query = (struct worker_query){.done = bench_on_answer, .kind = kind, .kill = kill};
    worker_ask(bench->worker, &bench->query);
    SITE_UNTIL(&bench->loop, bench->answers > before);
    assert_int_equal(bench->query.cursor, UINT32_MAX);
}

static inline void ask(struct bench *bench, bool kill)
{
    ask_about(bench, TRAFFIC_SESSIONS, kill);
}
