/* From clients to servers: batches, trains, a server for each datagram, loops, and what is dropped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

#include <netinet/udp.h>

static uint8_t text[65536];

/* ---- batches ---- */

/* More than a batch, and more than a turn's budget of them. */
static void the_order_of_a_client_is_kept(void **state)
{
    struct world w;
    char number[16];
    int client;

    (void)state;
    world_init(&w);
    w.policy.rcvbuf = 1 << 20;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    for (unsigned i = 0; i < 300; i++) {
        snprintf(number, sizeof(number), "%u", i);
        world_say(&w, client, number);
    }
    for (unsigned i = 0; i < 300; i++) {
        snprintf(number, sizeof(number), "%u", i);
        (void)world_hear(&w, w.socket[0], number);
    }
    assert_int_equal(udp_flows(w.udp), 1);
    assert_int_equal(world_newest(&w)->datagrams_in, 300);
    assert_true(world_metric(&w, METRIC_UDP_RECEIVES) <= 300 / BATCH + 2);
    close(client);
    world_close(&w);
}

/* Of many clients in turns: each flow's go together. */
static void a_batch_is_sent_flow_by_flow(void **state)
{
    struct world w;
    int client[4];

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < ARRAY_LEN(client); i++)
        client[i] = world_client();
    for (size_t n = 0; n < 5; n++) {
        for (size_t i = 0; i < ARRAY_LEN(client); i++)
            peer_send(client[i], text + 10 * n, 10, &w.entry);
    }
    world_fence(&w);
    world_turn(&w, 0);
    assert_int_equal(world_metric(&w, METRIC_UDP_SENDS), ARRAY_LEN(client));
    assert_int_equal(world_metric(&w, METRIC_GSO_SENT), ARRAY_LEN(client));
    assert_int_equal(world_metric(&w, METRIC_GSO_DATAGRAMS), 5 * ARRAY_LEN(client));
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 5 * ARRAY_LEN(client));
    for (size_t i = 0; i < ARRAY_LEN(client); i++) {
        (void)world_hear_train(&w, w.socket[0], text, 50, 10);
        close(client[i]);
    }
    world_close(&w);
}

static void all_sizes_pass_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 1472, 65507, 0, 65507};
    static uint8_t heard[65536];
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        peer_send(client, text + i, sizes[i], &w.entry);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_int_equal(world_read(&w, w.socket[0], heard, sizeof(heard), NULL), sizes[i]);
        assert_true(memcmp(heard, text + i, sizes[i]) == 0);
    }
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), ARRAY_LEN(sizes));
    close(client);
    world_close(&w);
}

/* ---- trains ---- */

static void a_train_goes_on_as_one(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    client = world_client();
    peer_send_train(client, text, 44 * 1472 + 9, 1472, &w.entry);
    world_fence(&w);
    world_turn(&w, 0);
    assert_int_equal(world_metric(&w, METRIC_GRO_RECEIVED), 1);
    assert_int_equal(world_metric(&w, METRIC_GRO_DATAGRAMS), 45);
    assert_int_equal(world_metric(&w, METRIC_UDP_SENDS), 1);
    assert_int_equal(world_metric(&w, METRIC_GSO_SENT), 1);
    assert_int_equal(world_metric(&w, METRIC_GSO_DATAGRAMS), 45);
    assert_int_equal(world_newest(&w)->datagrams_in, 45);
    assert_true(world_newest(&w)->settled);
    (void)world_hear_train(&w, w.socket[0], text, 44 * 1472 + 9, 1472);
    close(client);
    world_close(&w);
}

/* Each piece to the flow that takes it: 3, 3 and 2 with the short one. */
static void a_train_is_cut_where_a_flow_is_spent(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.requests = 3;
    w.rotates = true;
    w.usable[1] = w.usable[2] = true;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    peer_send_train(client, text, 750, 100, &w.entry);
    (void)world_hear_train(&w, w.socket[1], text, 300, 100);
    (void)world_hear_train(&w, w.socket[2], text + 300, 300, 100);
    (void)world_hear_train(&w, w.socket[0], text + 600, 150, 100);
    assert_int_equal(udp_flows(w.udp), 3);
    assert_int_equal(world_newest(&w)->state, FLOW_ACTIVE);
    assert_int_equal(world_newest(&w)->datagrams_in, 2);
    close(client);
    world_close(&w);
}

/* The last datagram that a flow takes ends a train: no flow is begun for what is not there. */
static void a_train_that_just_fits_begins_no_flow(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.requests = 3;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    peer_send_train(client, text, 250, 100, &w.entry);
    (void)world_hear_train(&w, w.socket[0], text, 250, 100);
    assert_int_equal(udp_flows(w.udp), 1);
    assert_int_equal(world_newest(&w)->state, FLOW_SPENT);
    close(client);
    world_close(&w);
}

/* ---- a server for each datagram ---- */

static void open_per_packet(struct world *w)
{
    world_init(w);
    w->policy.per_packet = true;
    w->rotates = true;
    w->usable[1] = w->usable[2] = true;
    world_open_at(w, "127.0.0.1:0");
}

static void each_datagram_chooses(void **state)
{
    struct world w;
    union inet_address asker[WORLD_SERVERS], again;
    int client;

    (void)state;
    open_per_packet(&w);
    client = world_client();
    for (size_t n = 1; n <= WORLD_SERVERS; n++)
        asker[n % WORLD_SERVERS] = world_ask(&w, client, n % WORLD_SERVERS, "?");
    assert_int_equal(udp_flows(w.udp), WORLD_SERVERS);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        assert_int_equal(world_load(&w, i), 1);
    /* The second time to the flows that are there. */
    for (size_t n = 1; n <= WORLD_SERVERS; n++) {
        again = world_ask(&w, client, n % WORLD_SERVERS, "?");
        assert_true(inet_address_equal(&again, &asker[n % WORLD_SERVERS]));
    }
    assert_int_equal(udp_flows(w.udp), WORLD_SERVERS);
    for (size_t i = 0; i < WORLD_SERVERS; i++) {
        assert_int_equal(world_load(&w, i), 1);
        world_answer(&w, i, &asker[i], client, "!");
    }
    close(client);
    world_close(&w);
}

static void each_of_a_train_too(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_per_packet(&w);
    client = world_client();
    peer_send_train(client, text, 550, 100, &w.entry);
    for (size_t n = 0; n < 6; n++)
        (void)world_hear_train(&w, w.socket[(n + 1) % WORLD_SERVERS], text + 100 * n,
                               n < 5 ? 100 : 50, 100);
    assert_int_equal(udp_flows(w.udp), WORLD_SERVERS);
    close(client);
    world_close(&w);
}

/* More pieces than a batch has place for: they are sent on the way, in order. */
static void a_batch_of_many_pieces_keeps_its_order(void **state)
{
    enum { TRAINS = 9, EACH = 64 };
    struct world w;
    int client;

    (void)state;
    open_per_packet(&w);
    client = world_client();
    for (size_t i = 0; i < TRAINS; i++)
        peer_send_train(client, text + i * EACH * 4, EACH * 4, 4, &w.entry);
    for (size_t n = 0; n < TRAINS * EACH; n++)
        (void)world_hear_train(&w, w.socket[(n + 1) % WORLD_SERVERS], text + 4 * n, 4, 4);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), TRAINS * EACH);
    close(client);
    world_close(&w);
}

/* The slot that a choice takes is given back when the flow is there. */
static void choices_leave_no_load_behind(void **state)
{
    struct world w;
    int client;

    (void)state;
    open_per_packet(&w);
    w.usable[0] = w.usable[2] = false;
    atomic_store(&w.server[1]->live.limit, 2);
    client = world_client();
    for (int i = 0; i < 5; i++) {
        (void)world_ask(&w, client, 1, "?");
        assert_int_equal(world_load(&w, 1), 1);
        assert_int_equal(atomic_load(&w.server[1]->references), 2);
    }
    w.usable[1] = false;
    world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_NO_SERVER), 1);
    close(client);
    world_close(&w);
}

/* ---- loops ---- */

/* The server's address is our listener's own: what we send there comes back from a socket of ours.
 */
static void what_comes_from_ourselves_is_dropped(void **state)
{
    struct world w;
    int client;

    (void)state;
    world_open(&w);
    w.server[0]->address.inet = w.entry;
    client = world_client();
    world_say(&w, client, "round and round");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DATAGRAMS_IN), 1);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 1);
    assert_int_equal(udp_flows(w.udp), 1);
    world_silence(&w, client);
    close(client);
    world_close(&w);
}

static void what_comes_from_the_server_itself_is_dropped(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    world_say(&w, w.socket[0], "me");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 1);
    assert_int_equal(udp_flows(w.udp), 0);
    assert_int_equal(world_load(&w, 0), 0);
    /* Another server's datagrams are a client's like any other. */
    (void)world_ask(&w, w.socket[1], 0, "you?");
    world_close(&w);
}

static void so_it_is_per_packet(void **state)
{
    struct world w;

    (void)state;
    open_per_packet(&w);
    world_say(&w, w.socket[1], "me");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_LOOP), 1);
    for (size_t i = 0; i < WORLD_SERVERS; i++)
        assert_int_equal(world_load(&w, i), 0);
    world_close(&w);
}

/* ---- whom nobody can answer ---- */

static void port_0_is_dropped(void **state)
{
    struct world w;
    struct {
        struct udphdr header;
        char text[2];
    } raw = {.text = "hi"};
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);

    (void)state;
    if (fd < 0)
        skip(); /* needs CAP_NET_RAW */
    close(fd);
    world_open(&w);
    fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);
    raw.header.dest = w.entry.v4.sin_port;
    raw.header.len = htons(sizeof(raw));
    peer_send(fd, &raw, sizeof(raw), &w.entry);
    close(fd);
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_SOURCE), 1);
    assert_int_equal(udp_flows(w.udp), 0);
    world_close(&w);
}

/* ---- the receive queue ---- */

static void what_the_queue_had_to_drop_is_counted(void **state)
{
    enum { SENT = 1000 };
    struct world w;
    int client;

    (void)state;
    world_init(&w);
    w.policy.rcvbuf = 20000;
    world_open_at(&w, "127.0.0.1:0");
    client = world_client();
    for (unsigned i = 0; i < SENT; i++)
        world_say(&w, client, "?");
    world_settle(&w);
    assert_int_equal(world_metric(&w, METRIC_DROP_RECEIVE_QUEUE), 0);
    world_pass(&w, 999);
    assert_int_equal(world_metric(&w, METRIC_DROP_RECEIVE_QUEUE), 0);
    world_pass(&w, 1);
    assert_true(world_metric(&w, METRIC_DROP_RECEIVE_QUEUE) > 0);
    assert_int_equal(
        world_metric(&w, METRIC_DROP_RECEIVE_QUEUE) + world_metric(&w, METRIC_DATAGRAMS_IN), SENT);
    /* Once: the next look finds no more. */
    world_say(&w, client, "?");
    world_settle(&w);
    world_pass(&w, 1000);
    assert_int_equal(world_metric(&w, METRIC_DROP_RECEIVE_QUEUE) +
                         world_metric(&w, METRIC_DATAGRAMS_IN),
                     SENT + 1);
    close(client);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_a_client_is_kept),
        cmocka_unit_test(a_batch_is_sent_flow_by_flow),
        cmocka_unit_test(all_sizes_pass_whole),
        cmocka_unit_test(a_train_goes_on_as_one),
        cmocka_unit_test(a_train_is_cut_where_a_flow_is_spent),
        cmocka_unit_test(a_train_that_just_fits_begins_no_flow),
        cmocka_unit_test(each_datagram_chooses),
        cmocka_unit_test(each_of_a_train_too),
        cmocka_unit_test(a_batch_of_many_pieces_keeps_its_order),
        cmocka_unit_test(choices_leave_no_load_behind),
        cmocka_unit_test(what_comes_from_ourselves_is_dropped),
        cmocka_unit_test(what_comes_from_the_server_itself_is_dropped),
        cmocka_unit_test(so_it_is_per_packet),
        cmocka_unit_test(port_0_is_dropped),
        cmocka_unit_test(what_the_queue_had_to_drop_is_counted),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
