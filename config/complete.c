/*
 * Purpose: values that follow from the machine or from other values.
 * Thread:  the helper process.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "config/loader.h"

#include <sched.h>
#include <unistd.h>

#define WORKERS_MAX 256
#define INTERVAL_CHANGING_LEAST_MS 500

/* CPUs that this process may run on: what a container was given counts, not what the machine has.
 */
static int64_t cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
    return sysconf(_SC_NPROCESSORS_ONLN);
}

/*
 * Keeps what was checked: no interval is shorter than the timeout, and interval_changing is never
 * above interval, so that the bound on when a server is known to be down holds.
 */
static void complete_health(struct config_health *health)
{
    if (health->interval_changing == 0)
        health->interval_changing =
            MIN(MAX(health->timeout, INTERVAL_CHANGING_LEAST_MS), health->interval);
    if (health->interval_down == 0)
        health->interval_down = health->interval;
}

static bool is_fed_datagrams(const struct config *config, size_t pool)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->protocol == CONFIG_PROTOCOL_UDP && config_listener_feeds(listener, pool))
            return true;
    }
    return false;
}

/* A probe of another port meets another program, which expects no header. So does a datagram where
 * clients come over TCP alone. */
static void put_proxy_versions(const struct config *config, size_t index)
{
    struct config_pool *pool = &config->pools[index];
    struct config_health *health = &pool->health;
    bool has_header = health->send_proxy && health->port == 0;
    int64_t version = pool->send_proxy == CONFIG_SEND_PROXY_V1   ? 1
                      : pool->send_proxy == CONFIG_SEND_PROXY_V2 ? 2
                                                                 : 0;
    health->proxy_version = has_header ? version : 0;
    health->proxy_version_udp = is_fed_datagrams(config, index) ? health->proxy_version : 0;
}

/* A probe goes the way that sessions go. */
static void put_probe_sources(struct config_pool *pool)
{
    pool->health.source = pool->source.address;
    pool->health.source_count = pool->source.count;
}

void config_put_probe_values(struct config *config)
{
    for (size_t i = 0; i < config->pool_count; i++) {
        put_proxy_versions(config, i);
        put_probe_sources(&config->pools[i]);
    }
}

void config_complete(struct config *config)
{
    if (config->weir.workers == 0)
        config->weir.workers = MIN(MAX(cpu_count(), 1), WORKERS_MAX);
    for (size_t i = 0; i < config->pool_count; i++)
        complete_health(&config->pools[i].health);
    config_put_probe_values(config);
}
