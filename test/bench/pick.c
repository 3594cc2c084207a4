/*
 * Purpose: what a pick costs with each scheduler and 10, 1,000 and 10,000 servers, what a new view
 *          costs, and how far least-connections is from the true least load.
 * Thread:  one.
 * Owns:    all of it.
 * Fails:   exits with 1 without memory.
 *
 * Sessions come and go: each pick puts a session on the server and takes another, chosen at random,
 * off its own; ten sessions for each server are there at any time. Servers stand on cache lines of
 * their own, as in weir. The row "(none)" is the loop without a scheduler: subtract it.
 */
#include "common/base.h"
#include "common/random.h"
#include "lb/sched/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SESSIONS_PER_SERVER 10u
#define PICKS 1000000u
#define WORKERS_MAX 8u

struct server {
    _Alignas(CACHE_LINE) struct sched_live live;
    char name[32];
};

struct pool {
    uint32_t count;
    struct server *server;
    struct sched_member *member;
    uint32_t session_count;
    uint32_t *session; /* on which server each is */
    struct random_state random;
};

static const struct sched_tried nothing;

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void change_load(struct pool *pool, uint32_t server, uint32_t by)
{
    atomic_fetch_add_explicit(&pool->server[server].live.load, by, memory_order_relaxed);
}

/* Weights are 1 to 4, or all 1. */
static void pool_init(struct pool *pool, uint32_t count, bool weights)
{
    *pool = (struct pool){
        .count = count,
        .server = need(aligned_alloc(CACHE_LINE, count * sizeof(struct server))),
        .member = need(calloc(count, sizeof(struct sched_member))),
        .session_count = count * SESSIONS_PER_SERVER,
        .session = need(calloc(count * SESSIONS_PER_SERVER, sizeof(uint32_t))),
    };
    random_init(&pool->random, count);
    for (uint32_t i = 0; i < count; i++) {
        struct server *server = &pool->server[i];
        *server = (struct server){.live = {0}};
        snprintf(server->name, sizeof(server->name), "server-%u", i);
        pool->member[i] = (struct sched_member){
            .id = i + 1,
            .weight = weights ? 1 + i % 4 : 1,
            .usable = true,
            .name = server->name,
            .live = &server->live,
        };
    }
    for (uint32_t i = 0; i < pool->session_count; i++) {
        pool->session[i] = i % count;
        change_load(pool, pool->session[i], 1);
    }
}

static void pool_deinit(struct pool *pool)
{
    free(pool->server);
    free(pool->member);
    free(pool->session);
}

/* One session ends, a new one takes its place on `server`. */
static void turn_over(struct pool *pool, uint32_t server)
{
    uint32_t *session = &pool->session[random_below(&pool->random, pool->session_count)];
    change_load(pool, *session, UINT32_MAX);
    change_load(pool, server, 1);
    *session = server;
}

/* ---- what picks cost ---- */

static double ns_without_pick(struct pool *pool)
{
    double begin = now_s();
    for (uint32_t i = 0; i < PICKS; i++)
        turn_over(pool, (uint32_t)(random_next(&pool->random) >> 32) % pool->count);
    return (now_s() - begin) * 1e9 / PICKS;
}

static double ns_per_pick(struct pool *pool, const struct sched_kind *kind, uint32_t picks)
{
    struct sched *sched = need(sched_new(kind, pool->member, pool->count));
    struct sched_cursor *cursor = need(sched_cursor_new(sched, NULL, 1));
    double begin = now_s();
    for (uint32_t i = 0; i < picks; i++)
        turn_over(pool, sched_pick(sched, cursor, random_next(&pool->random), &nothing));
    double ns = (now_s() - begin) * 1e9 / picks;
    sched_cursor_free(&cursor);
    sched_free(&sched);
    return ns;
}

/* ---- what picks cost when many servers are suspect ---- */

/* One of `every` is not. */
static void suspect_all_but(struct pool *pool, uint32_t every)
{
    for (uint32_t i = 0; i < pool->count; i++)
        atomic_store_explicit(&pool->server[i].live.suspect, i % every != 0, memory_order_relaxed);
}

static void measure_suspects(uint32_t count)
{
    struct pool pool;
    pool_init(&pool, count, true);
    size_t kinds;
    const char *const *names = sched_kind_names(&kinds);
    for (size_t i = 0; i < kinds; i++) {
        const struct sched_kind *kind = sched_kind_find(names[i]);
        printf("%-18s %7u", names[i], count);
        static const uint32_t every[] = {2, 10, 100};
        for (size_t k = 0; k < ARRAY_LEN(every); k++) {
            suspect_all_but(&pool, every[k]);
            printf(" %9.0f", ns_per_pick(&pool, kind, PICKS / 10));
        }
        suspect_all_but(&pool, count);
        printf(" %9.0f\n", ns_per_pick(&pool, kind, PICKS / 200));
    }
    pool_deinit(&pool);
}

/* ---- what a view costs ---- */

struct view_cost {
    double first_us; /* a scheduler from nothing */
    double renew_us; /* the next one */
    double cursor_us;
};

static struct view_cost view_cost(struct pool *pool, const struct sched_kind *kind)
{
    double t0 = now_s();
    struct sched *first = need(sched_new(kind, pool->member, pool->count));
    double t1 = now_s();
    struct sched *next = need(sched_renew(first, kind, pool->member, pool->count));
    double t2 = now_s();
    struct sched_cursor *before = need(sched_cursor_new(first, NULL, 1));
    double t3 = now_s();
    struct sched_cursor *after = need(sched_cursor_new(next, before, 1));
    double t4 = now_s();
    sched_cursor_free(&before);
    sched_cursor_free(&after);
    sched_free(&first);
    sched_free(&next);
    return (struct view_cost){(t1 - t0) * 1e6, (t2 - t1) * 1e6, (t4 - t3) * 1e6};
}

static void print_costs(const char *name, uint32_t count, double ns, struct view_cost view)
{
    printf("%-18s %7u %9.0f %11.0f %11.0f %11.0f\n", name, count, ns, view.first_us, view.renew_us,
           view.cursor_us);
}

static void measure_costs(uint32_t count)
{
    struct pool pool;
    pool_init(&pool, count, true);
    print_costs("(none)", count, ns_without_pick(&pool), (struct view_cost){0});
    size_t kinds;
    const char *const *names = sched_kind_names(&kinds);
    for (size_t i = 0; i < kinds; i++) {
        const struct sched_kind *kind = sched_kind_find(names[i]);
        print_costs(names[i], count, ns_per_pick(&pool, kind, PICKS), view_cost(&pool, kind));
    }
    pool_deinit(&pool);
}

/* ---- how far least-connections is from the least ---- */

static uint32_t load_of(const struct pool *pool, uint32_t server)
{
    return atomic_load_explicit(&pool->server[server].live.load, memory_order_relaxed);
}

static uint32_t least_load(const struct pool *pool)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < pool->count; i++)
        least = MIN(least, load_of(pool, i));
    return least;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Workers take turns, so each knows what the others did only from the counters. */
static void measure_excess(uint32_t count, uint32_t workers)
{
    enum { SAMPLES = 5000, EVERY = 37 };
    static uint32_t excess[SAMPLES];
    struct pool pool;
    pool_init(&pool, count, false);
    struct sched *sched = need(sched_new(sched_kind_find("least-connections"), pool.member, count));
    struct sched_cursor *cursor[WORKERS_MAX];
    for (uint32_t i = 0; i < workers; i++)
        cursor[i] = need(sched_cursor_new(sched, NULL, i));

    uint32_t warm_up = 4 * pool.session_count;
    for (uint32_t i = 0; i < warm_up + SAMPLES * EVERY; i++) {
        uint32_t choice = sched_pick(sched, cursor[i % workers], 0, &nothing);
        if (i >= warm_up && (i - warm_up) % EVERY == 0)
            excess[(i - warm_up) / EVERY] = load_of(&pool, choice) - least_load(&pool);
        turn_over(&pool, choice);
    }
    qsort(excess, SAMPLES, sizeof(excess[0]), compare);
    printf("%7u %8u %6u %6u %6u\n", count, workers, excess[SAMPLES / 2], excess[SAMPLES * 99 / 100],
           excess[SAMPLES - 1]);

    for (uint32_t i = 0; i < workers; i++)
        sched_cursor_free(&cursor[i]);
    sched_free(&sched);
    pool_deinit(&pool);
}

int main(void)
{
    static const uint32_t counts[] = {10, 1000, 10000};
    printf("%-18s %7s %9s %11s %11s %11s\n", "scheduler", "servers", "ns/pick", "us/first",
           "us/renewed", "us/cursor");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        measure_costs(counts[i]);

    printf("\nns/pick with so many of the servers suspect\n");
    printf("%-18s %7s %9s %9s %9s %9s\n", "scheduler", "servers", "half", "90 %", "99 %",
           "all but 1");
    for (size_t i = 1; i < ARRAY_LEN(counts); i++)
        measure_suspects(counts[i]);

    printf("\nleast-connections: sessions above the true least, of the server picked\n");
    printf("%7s %8s %6s %6s %6s\n", "servers", "workers", "p50", "p99", "max");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        measure_excess(counts[i], 1);
        measure_excess(counts[i], 4);
    }
    return 0;
}
