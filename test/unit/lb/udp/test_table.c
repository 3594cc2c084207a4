/* Who is who: clients, listeners, local addresses and servers apart; chains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#define FLOWS 5

/* Flows of the table alone: no slab, no socket. */
struct guest {
    union inet_address client;
    struct local local;
    struct server *server;
    struct flow flow;
};

static struct flow_key key_of(const struct guest *guest)
{
    return (struct flow_key){.sender = &guest->client,
                             .local = &guest->local,
                             .server_id = guest->server != NULL ? guest->server->id : 0};
}

static void enter(struct udp_port *port, struct guest *guest, const char *client)
{
    struct flow_key key = key_of(guest);

    guest->client = endpoint_of(client);
    guest->flow = (struct flow){.hash = table_hash(port, &key),
                                .port = port,
                                .server = guest->server,
                                .client = guest->client,
                                .local = guest->local};
    table_add(&guest->flow);
}

static struct flow *find(const struct udp_port *port, const struct guest *guest)
{
    struct flow_key key = key_of(guest);

    return table_find(port, &key, table_hash(port, &key));
}

static struct local mapped(uint32_t host)
{
    struct local local = {.interface = 0};

    local.address.s6_addr32[2] = htonl(0xffff);
    local.address.s6_addr32[3] = htonl(host);
    return local;
}

/* A world with two listeners, of which the first is bound to no address. */
static void open_two(struct world *w, struct udp_policy *other, _Atomic uint32_t *flows)
{
    world_init(w);
    world_prepare(w);
    *other = w->policy;
    (void)world_listen(w, &w->policy, "0.0.0.0:0", &w->flows, w->limit);
    (void)world_listen(w, other, "127.0.0.1:0", flows, w->limit);
}

static void clients_are_told_apart(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {0}, b = {0}, c = {0};

    (void)state;
    open_two(&w, &other, &flows);
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    enter(w.udp->port[0], &b, "10.0.0.1:5001");
    c.client = endpoint_of("10.0.0.2:5000");
    assert_ptr_equal(find(w.udp->port[0], &a), &a.flow);
    assert_ptr_equal(find(w.udp->port[0], &b), &b.flow);
    assert_null(find(w.udp->port[0], &c));
    table_remove(&a.flow);
    table_remove(&b.flow);
    world_close(&w);
}

static void one_client_on_two_listeners_is_two(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {0}, b = {0};

    (void)state;
    open_two(&w, &other, &flows);
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    assert_null(find(w.udp->port[1], &a));
    enter(w.udp->port[1], &b, "10.0.0.1:5000");
    assert_ptr_equal(find(w.udp->port[0], &a), &a.flow);
    assert_ptr_equal(find(w.udp->port[1], &a), &b.flow);
    assert_true(a.flow.hash != b.flow.hash);
    table_remove(&a.flow);
    table_remove(&b.flow);
    world_close(&w);
}

static void the_local_address_tells_apart_on_a_wildcard(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {.local = mapped(0x7f000001)}, b = {.local = mapped(0x7f000002)};

    (void)state;
    open_two(&w, &other, &flows);
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    b.client = a.client;
    assert_null(find(w.udp->port[0], &b));
    enter(w.udp->port[0], &b, "10.0.0.1:5000");
    assert_true(a.flow.hash != b.flow.hash);
    assert_ptr_equal(find(w.udp->port[0], &a), &a.flow);
    assert_ptr_equal(find(w.udp->port[0], &b), &b.flow);
    table_remove(&a.flow);
    table_remove(&b.flow);
    world_close(&w);
}

static void each_server_has_a_flow_of_its_own_per_packet(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {0}, b = {0};

    (void)state;
    open_two(&w, &other, &flows);
    a.server = w.server[0];
    b.server = w.server[1];
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    b.client = a.client;
    assert_null(find(w.udp->port[0], &b));
    enter(w.udp->port[0], &b, "10.0.0.1:5000");
    assert_ptr_equal(find(w.udp->port[0], &a), &a.flow);
    assert_ptr_equal(find(w.udp->port[0], &b), &b.flow);
    table_remove(&a.flow);
    table_remove(&b.flow);
    world_close(&w);
}

static void scopes_of_link_local_clients_are_told_apart(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {0}, b = {0};

    (void)state;
    open_two(&w, &other, &flows);
    enter(w.udp->port[0], &a, "[fe80::1%lo]:5000");
    b.client = a.client;
    b.client.v6.sin6_scope_id++;
    assert_null(find(w.udp->port[0], &b));
    table_remove(&a.flow);
    world_close(&w);
}

/* All in one bucket: found in the middle, taken out anywhere, and twice. */
static void chains_hold(void **state)
{
    static const size_t order[FLOWS] = {2, 4, 0, 1, 3};
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest guest[FLOWS] = {{.server = NULL}};
    char client[32];

    (void)state;
    open_two(&w, &other, &flows);
    w.udp->bucket_mask = 0;
    for (size_t i = 0; i < FLOWS; i++) {
        snprintf(client, sizeof(client), "10.0.0.1:%zu", 5000 + i);
        enter(w.udp->port[0], &guest[i], client);
    }
    for (size_t gone = 0; gone < FLOWS; gone++) {
        table_remove(&guest[order[gone]].flow);
        table_remove(&guest[order[gone]].flow);
        for (size_t i = 0; i < FLOWS; i++) {
            bool is_left = true;
            for (size_t n = 0; n <= gone; n++)
                is_left &= order[n] != i;
            assert_ptr_equal(find(w.udp->port[0], &guest[i]), is_left ? &guest[i].flow : NULL);
        }
    }
    assert_null(w.udp->bucket[0]);
    world_close(&w);
}

/* Nobody who knows the program knows where a flow falls. */
static void the_hash_has_a_secret(void **state)
{
    struct world w;
    struct udp_policy other;
    _Atomic uint32_t flows = 0;
    struct guest a = {0};
    uint64_t before;

    (void)state;
    open_two(&w, &other, &flows);
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    table_remove(&a.flow);
    before = a.flow.hash;
    w.udp->seed++;
    enter(w.udp->port[0], &a, "10.0.0.1:5000");
    assert_true(a.flow.hash != before);
    table_remove(&a.flow);
    world_close(&w);

    open_two(&w, &other, &flows);
    assert_true(w.udp->seed != 0);
    before = w.udp->seed;
    world_close(&w);
    open_two(&w, &other, &flows);
    assert_true(w.udp->seed != before);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_are_told_apart),
        cmocka_unit_test(one_client_on_two_listeners_is_two),
        cmocka_unit_test(the_local_address_tells_apart_on_a_wildcard),
        cmocka_unit_test(each_server_has_a_flow_of_its_own_per_packet),
        cmocka_unit_test(scopes_of_link_local_clients_are_told_apart),
        cmocka_unit_test(chains_hold),
        cmocka_unit_test(the_hash_has_a_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
