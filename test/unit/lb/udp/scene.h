/*
 * Purpose: a listener that believes a front's PROXY headers.
 * Thread:  the test's.
 * Owns:    all of it, from init or scene_open to scene_close.
 * Fails:   as a cmocka assertion.
 *
 * Include after <cmocka.h>.
 */
#pragma once

#include "test/unit/lb/udp/headed.h"

#define ALICE "198.51.100.1:1001"
#define BOB "[2001:db8::2]:1002"

struct scene {
    struct world w;
    struct network from;
    struct config_networks networks;
    struct gate *gate;
    int front;
};

static inline void scene_init(struct scene *s, enum config_proxy_in in)
{
    const char *why;

    memset(s, 0, sizeof(*s));
    world_init(&s->w);
    assert_int_equal(network_parse(&s->from, "127.0.0.1", &why), 0);
    s->networks = (struct config_networks){.network = &s->from, .count = 1};
    s->w.policy.proxy_in = in;
    s->w.policy.proxy_from = &s->networks;
}

static inline void scene_start_at(struct scene *s, const char *bind)
{
    world_open_at(&s->w, bind);
    s->front = world_client();
}

static inline void scene_start(struct scene *s)
{
    scene_start_at(s, "127.0.0.1:0");
}

static inline void scene_open(struct scene *s, enum config_proxy_in in)
{
    scene_init(s, in);
    scene_start(s);
}

static inline void scene_close(struct scene *s)
{
    close(s->front);
    world_close(&s->w);
    gate_free(&s->gate);
}

/* Server `i` hears what the front has said for the client, without the header. */
static inline union inet_address scene_ask(struct scene *s, const char *client, size_t i,
                                           const char *text)
{
    headed_say(&s->w, s->front, client, text);
    return world_hear(&s->w, s->w.socket[i], text);
}

static inline void assert_client(const struct flow *flow, const char *client)
{
    union inet_address is = flow_client(flow), expected = endpoint_of(client);

    assert_true(inet_address_equal(&is, &expected));
}

static inline void scene_assert_dropped(struct scene *s, enum metric why, uint64_t datagrams)
{
    world_settle(&s->w);
    assert_int_equal(world_metric(&s->w, why), datagrams);
    world_silence(&s->w, s->w.socket[0]);
}
