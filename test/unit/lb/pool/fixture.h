/*
 * Purpose: a small configuration for the tests of lb/pool: pool "web" with two servers and a
 *          backup, pool "db" with one server.
 * Thread:  the test's.
 * Owns:    nothing: all of it is static memory; fixture_reset before each test.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "lb/pool/pool.h"

#define FIXTURE_WORKERS 2
#define FIXTURE_DEADLINE_MS 1000

static struct config_server fixture_web[3];
static struct config_server fixture_db[1];
static struct config_pool fixture_pool[2];
static struct config_listener fixture_listener[2];
static union inet_address fixture_source[3];
static struct config fixture_config;

static inline struct config_server fixture_server(char *name, const char *address)
{
    struct config_server server = {.name = name, .weight = 100};
    const char *why = "";
    if (address_parse(&server.address.address, address, &why) != 0)
        fail_msg("%s: %s", address, why);
    return server;
}

static inline struct config_pool fixture_pool_of(char *name, struct config_server *servers,
                                                 size_t count)
{
    return (struct config_pool){
        .name = name,
        .scheduler = "round-robin",
        .connect_timeout = 3000,
        .retries = 2,
        .on_down = CONFIG_DOWN_DRAIN,
        .drain_deadline = FIXTURE_DEADLINE_MS,
        .servers = servers,
        .server_count = count,
    };
}

static inline void fixture_reset(void)
{
    fixture_web[0] = fixture_server("a", "127.0.0.1:8001");
    fixture_web[1] = fixture_server("b", "[2001:db8::1]:8002");
    fixture_web[2] = fixture_server("spare", "unix:/run/spare.sock");
    fixture_web[2].backup = true;
    fixture_db[0] = fixture_server("a", "127.0.0.1:9001");
    fixture_pool[0] = fixture_pool_of("web", fixture_web, ARRAY_LEN(fixture_web));
    fixture_pool[1] = fixture_pool_of("db", fixture_db, ARRAY_LEN(fixture_db));
    fixture_config = (struct config){.pools = fixture_pool, .pool_count = ARRAY_LEN(fixture_pool)};
}

/* Datagrams and connections come to pool "web", connections alone to "db"; "web" connects from two
 * addresses of IPv4 and one of IPv6. */
static inline void fixture_sources(void)
{
    static const char *const texts[] = {"127.0.0.5", "127.0.0.6", "2001:db8::5"};
    static struct config_route route = {.pool_index = 0};
    const char *why;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (inet_address_parse(&fixture_source[i], texts[i], &why) != 0)
            fail_msg("%s: %s", texts[i], why);
    }
    fixture_pool[0].source =
        (struct config_sources){.address = fixture_source, .count = ARRAY_LEN(texts)};
    fixture_listener[0] = (struct config_listener){
        .protocol = CONFIG_PROTOCOL_TCP, .pool_index = 1, .routes = &route, .route_count = 1};
    fixture_listener[1] =
        (struct config_listener){.protocol = CONFIG_PROTOCOL_UDP, .pool_index = 0};
    fixture_config.listeners = fixture_listener;
    fixture_config.listener_count = ARRAY_LEN(fixture_listener);
}

static inline struct pools *fixture_pools(void)
{
    struct pools *pools = NULL;
    assert_int_equal(pools_new(&pools, &fixture_config, FIXTURE_WORKERS), 0);
    return pools;
}

static inline struct pool_member *fixture_member(struct pools *pools, const char *pool,
                                                 const char *server)
{
    struct pool *found = pools_find(pools, pool);
    assert_non_null(found);
    struct pool_member *member = pool_find_member(found, server);
    assert_non_null(member);
    return member;
}
