/* Every state goes out into a record and comes back from it: no byte, count or error is missing. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/death.h"
#include "test/unit/lb/tcp/world.h"

#define POURED 120000
#define SMALL 4096

static bool is_watched(struct world *w, int fd)
{
    struct epoll_event event = {0};

    if (epoll_ctl(w->poller.fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return true;
    assert_int_equal(errno, ENOENT);
    return false;
}

static struct session_record take_out(struct world *w, struct session *session)
{
    struct session_record record;
    uint64_t ended = world_metric(w, METRIC_SESSIONS_ENDED);

    assert_int_equal(session_export(session, &record), 0);
    assert_int_equal(session->state, SESSION_ENDED);
    assert_int_equal(tcp_sessions(w->tcp), 0);
    assert_int_equal(world_load(w, 0), 0);
    assert_int_equal(w->pipes.taken, 0);
    assert_false(poller_has_tasks(&w->poller));
    assert_int_equal(w->wheel.count, 0);
    assert_int_equal(world_metric(w, METRIC_SESSIONS_ENDED), ended);
    assert_false(is_watched(w, record.client_fd));
    if (record.server_fd >= 0)
        assert_false(is_watched(w, record.server_fd));
    tcp_reap(w->tcp);
    return record;
}

static struct session *bring_in(struct world *w, struct session_record *record)
{
    struct server *server = NULL;
    struct session *session;

    if (record->server_fd >= 0) {
        assert_string_equal(record->server, "a");
        assert_string_equal(record->pool, "web");
        assert_true(server_enter(w->server[0]));
        server = server_take(w->server[0]);
    }
    assert_string_equal(record->listener, "front");
    assert_int_equal(session_import(w->tcp, &w->policy, server, record), 0);
    free(record->data);
    record->data = NULL;
    session = tcp_find(w->tcp, record->id);
    assert_non_null(session);
    return session;
}

/* Out and in again, a second later. */
static void hand_over(struct world *w, struct chain *chain)
{
    struct session_record record = take_out(w, chain->session);

    world_pass(w, 1000);
    chain->session = bring_in(w, &record);
}

/* ---- without a server ---- */

static void a_session_that_waits_passes_as_its_client(void **state)
{
    struct world w;
    struct chain chain;
    uint64_t id;

    (void)state;
    world_open(&w);
    w.usable[0] = false;
    chain = world_client(&w);
    id = chain.session->id;
    hand_over(&w, &chain);
    assert_int_equal(chain.session->id, id);
    assert_int_equal(chain.session->state, SESSION_QUEUED);
    w.usable[0] = true;
    tcp_wake_queued(w.tcp, 0);
    chain.server = world_served(&w, 0);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

static void a_session_that_connects_passes_as_its_client(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;
    int filler[2];

    (void)state;
    world_open(&w);
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    assert_int_equal(send(chain.client, "?", 1, 0), 1); /* early, and not read yet */
    world_settle(&w);
    record = take_out(&w, chain.session);
    assert_int_equal(record.state, SESSION_PICKING);
    assert_int_equal(record.server_fd, -1);
    assert_string_equal(record.server, "");
    w.usable[0] = false;
    w.usable[1] = true;
    chain.session = bring_in(&w, &record);
    chain.server = world_served(&w, 1);
    char byte = 0;
    WORLD_UNTIL(&w, recv(chain.server, &byte, 1, MSG_DONTWAIT) == 1);
    assert_int_equal(byte, '?');
    chain_finish(&w, &chain);
    world_answer_syns(filler);
    world_close(&w);
}

/* ---- with a server ---- */

static void counts_and_times_travel(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    chain.session->lost = 7;
    world_pass(&w, 30000);
    record = take_out(&w, chain.session);
    assert_int_equal(record.state, SESSION_RELAYING);
    assert_int_equal(record.bytes[CLIENT], 1);
    assert_int_equal(record.bytes[SERVER], 1);
    assert_int_equal(record.idle_ms, 30000);
    assert_int_equal(record.tries, 1);
    assert_null(record.data);
    record.age_us = 5000000;
    record.connect_us = 4321;
    chain.session = bring_in(&w, &record);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    assert_int_equal(chain.session->direction[CLIENT].bytes, 1);
    assert_int_equal(chain.session->lost, 7);
    assert_int_equal(chain.session->connect_us, 4321);
    assert_true(clock_now_us() - chain.session->accepted_us >= 5000000);
    /* The silence before the hand-over counts. */
    world_pass(&w, 29999);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    world_pass(&w, 1);
    assert_ended(chain.session, SESSION_END_IDLE_TIMEOUT);
    chain_hang_up(&chain);
    world_close(&w);
}

static void an_idle_session_goes_on(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    hand_over(&w, &chain);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* What came between export and import makes no new edge: the watch tells of it. */
static void what_comes_meanwhile_is_not_missed(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;
    struct pair_eaten eaten = {0};

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    record = take_out(&w, chain.session);
    assert_int_equal(pair_feed(chain.client, 0, 1000), 1000);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    chain.session = bring_in(&w, &record);
    WORLD_UNTIL(&w, (pair_eat(chain.server, &eaten, UINT64_MAX), eaten.end));
    assert_int_equal(eaten.place, 1000);
    chain_finish(&w, &chain);
    world_close(&w);
}

static struct chain open_narrow(struct world *w, enum config_splice splice)
{
    struct chain chain = {.server = -1};

    world_init(w);
    w->policy.splice = splice;
    w->policy.sndbuf = SMALL;
    world_open_with(w, WORLD_START_MS, 100);
    pair_option(w->listener[0], SOL_SOCKET, SO_RCVBUF, SMALL);
    chain.client = world_dial(w, SMALL);
    world_take_in(w);
    chain.session = world_newest(w);
    chain.server = world_served(w, 0);
    WORLD_UNTIL(w, chain.session->state == SESSION_RELAYING);
    return chain;
}

/* Both readers sleep while both ends send, until weir holds bytes in both directions. */
static void pour_both(struct world *w, const struct chain *chain)
{
    uint64_t in = 0, out = 0;

    WORLD_UNTIL(w, (in += pair_feed(chain->client, in, POURED - in),
                    out += pair_feed(chain->server, out, POURED - out),
                    in == POURED && out == POURED));
    WORLD_UNTIL(w, socket_unsent(chain->client) == 0 && socket_unsent(chain->server) == 0);
    assert_true(chain->session->direction[CLIENT].pending > 0);
    assert_true(chain->session->direction[SERVER].pending > 0);
}

static void bytes_held_both_ways_travel(void **state)
{
    static const enum config_splice choices[] = {CONFIG_SPLICE_OFF, CONFIG_SPLICE_ON};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        struct world w;
        struct pair_eaten in = {0}, out = {0};
        struct chain chain = open_narrow(&w, choices[i]);
        pour_both(&w, &chain);
        uint32_t held = chain.session->direction[CLIENT].pending;
        hand_over(&w, &chain);
        assert_int_equal(chain.session->direction[CLIENT].pending, held);
        WORLD_UNTIL(&w, (pair_eat(chain.server, &in, 5000), pair_eat(chain.client, &out, 5000),
                         in.place == POURED && out.place == POURED));
        assert_int_equal(chain.session->direction[CLIENT].bytes, POURED);
        assert_int_equal(chain.session->direction[SERVER].bytes, POURED);
        chain_finish(&w, &chain);
        world_close(&w);
    }
}

static void a_half_close_travels(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        struct pair_eaten eaten = {0};
        world_open(&w);
        struct chain chain = world_chain(&w, 0);
        int closer = side == CLIENT ? chain.client : chain.server;
        int other = side == CLIENT ? chain.server : chain.client;
        assert_int_equal(shutdown(closer, SHUT_WR), 0);
        assert_int_equal(world_sees(&w, other), 0);
        hand_over(&w, &chain);
        assert_int_equal(chain.session->state, SESSION_HALF_CLOSED);
        assert_true(chain.session->direction[side].finished);
        assert_int_equal(pair_feed(other, 0, 20000), 20000);
        assert_int_equal(shutdown(other, SHUT_WR), 0);
        WORLD_UNTIL(&w, (pair_eat(closer, &eaten, UINT64_MAX), eaten.end));
        assert_int_equal(eaten.place, 20000);
        WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
        assert_ended(chain.session, SESSION_END_DONE);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* The kernel told the error once, before the hand-over. */
static void a_reset_that_is_being_delivered_travels(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        struct pair_eaten eaten = {0};
        uint64_t fed = 0;
        struct chain chain = open_narrow(&w, CONFIG_SPLICE_ON);
        int *failing = side == CLIENT ? &chain.client : &chain.server;
        int reader = side == CLIENT ? chain.server : chain.client;
        WORLD_UNTIL(&w, (fed += pair_feed(*failing, fed, POURED - fed), fed == POURED));
        WORLD_UNTIL(&w, socket_unsent(*failing) == 0);
        chain_reset(failing);
        WORLD_UNTIL(&w, chain.session->state == SESSION_RESETTING);
        hand_over(&w, &chain);
        assert_int_equal(chain.session->state, SESSION_RESETTING);
        assert_int_equal(chain.session->side[side].error, ECONNRESET);
        assert_int_equal(chain.session->deadline_ms, w.now_ms + 2000); /* as much as was left */
        while (eaten.error == 0) {
            pair_eat(reader, &eaten, 10000);
            assert_false(eaten.end);
            w.now_ms++;
            world_turn(&w, 1);
        }
        assert_int_equal(eaten.error, ECONNRESET);
        assert_int_equal(eaten.place, POURED);
        assert_ended(chain.session,
                     side == CLIENT ? SESSION_END_CLIENT_RESET : SESSION_END_SERVER_RESET);
        assert_int_equal(chain.session->lost, 0);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* ---- what an import must not do ---- */

static void ids_are_not_given_out_twice(void **state)
{
    struct world w;
    struct chain first, second;
    struct session_record record;

    (void)state;
    world_open(&w);
    first = world_chain(&w, 0);
    record = take_out(&w, first.session);
    record.id += 100 << 8;
    first.session = bring_in(&w, &record);
    second = world_chain(&w, 0);
    assert_int_equal(second.session->id, record.id + (1 << 8));
    chain_finish(&w, &first);
    chain_finish(&w, &second);
    world_close(&w);
}

static void an_import_may_find_no_room(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    record = take_out(&w, chain.session);
    unsigned ended = w.ended;
    uint32_t limit = w.tcp->env.session_limit;
    w.tcp->env.session_limit = 0;
    assert_int_equal(session_import(w.tcp, &w.policy, w.server[0], &record), -ENOMEM);
    assert_int_equal(w.ended, ended);
    w.tcp->env.session_limit = limit;
    chain.session = bring_in(&w, &record);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* It counts where it comes to, is refused by nothing, and what fails leaves no count behind. */
static void what_a_source_has_travels(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;
    struct gate *gate;
    struct gate_options options = {
        .source_max = 1, .source_rate = 1, .prefix_v4 = 32, .prefix_v6 = 64};
    uint32_t ticket;

    (void)state;
    world_init(&w);
    assert_int_equal(gate_new(&gate, &options), 0);
    w.policy.gate = gate;
    world_open_with(&w, WORLD_START_MS, 100);
    chain = world_chain(&w, 0);
    union inet_address client = chain.session->client;
    record = take_out(&w, chain.session);
    assert_int_equal(record.admitted, 1);
    /* Another process: its gate has not seen it. */
    gate_free(&gate);
    assert_int_equal(gate_new(&gate, &options), 0);
    w.policy.gate = gate;
    assert_int_equal(poller_add(&w.poller, record.server_fd, 0, 0), 0);
    assert_int_equal(session_import(w.tcp, &w.policy, w.server[0], &record), -EEXIST);
    poller_del(&w.poller, record.server_fd);
    assert_int_equal(gate_enter(gate, &client, clock_now_us(), &ticket), GATE_ADMITTED);
    chain.session = bring_in(&w, &record); /* though its source has all it may have */
    gate_leave(gate, ticket);
    assert_int_equal(gate_enter(gate, &client, clock_now_us() + 5000000, &ticket), GATE_SESSIONS);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    assert_int_equal(gate_enter(gate, &client, clock_now_us() + 5000000, &ticket), GATE_ADMITTED);
    gate_leave(gate, ticket);
    assert_int_equal(world_metric(&w, METRIC_SESSIONS_REFUSED), 0);
    world_close(&w);
    gate_free(&gate);
}

/* Either of the two watches fails; the other is undone, and nothing has changed hands. */
static void an_import_that_fails_has_not_been(void **state)
{
    struct world w;
    struct chain chain;
    struct session_record record;

    (void)state;
    chain = open_narrow(&w, CONFIG_SPLICE_OFF);
    pour_both(&w, &chain);
    record = take_out(&w, chain.session);
    unsigned ended = w.ended;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        int fd = side == CLIENT ? record.client_fd : record.server_fd;
        int other = side == CLIENT ? record.server_fd : record.client_fd;
        assert_int_equal(poller_add(&w.poller, fd, 0, 0), 0);
        assert_int_equal(session_import(w.tcp, &w.policy, w.server[0], &record), -EEXIST);
        assert_false(is_watched(&w, other));
        assert_int_equal(tcp_sessions(w.tcp), 0);
        assert_int_equal(w.wheel.count, 0);
        assert_int_equal(w.ended, ended);
        poller_del(&w.poller, fd);
    }
    chain.session = bring_in(&w, &record);
    struct pair_eaten in = {0}, out = {0};
    WORLD_UNTIL(&w,
                (pair_eat(chain.server, &in, UINT64_MAX), pair_eat(chain.client, &out, UINT64_MAX),
                 in.place == POURED && out.place == POURED));
    chain_finish(&w, &chain);
    world_close(&w);
}

static void import_half(void *argument)
{
    struct world *w = argument;
    struct session_record record = {.client_fd = -1, .server_fd = STDIN_FILENO};

    assert_int_equal(session_import(w->tcp, &w->policy, NULL, &record), 0);
}

static void a_server_comes_with_its_descriptor(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    assert_bug(import_half, &w, "server_fd");
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_that_waits_passes_as_its_client),
        cmocka_unit_test(a_session_that_connects_passes_as_its_client),
        cmocka_unit_test(counts_and_times_travel),
        cmocka_unit_test(an_idle_session_goes_on),
        cmocka_unit_test(what_comes_meanwhile_is_not_missed),
        cmocka_unit_test(bytes_held_both_ways_travel),
        cmocka_unit_test(a_half_close_travels),
        cmocka_unit_test(a_reset_that_is_being_delivered_travels),
        cmocka_unit_test(ids_are_not_given_out_twice),
        cmocka_unit_test(an_import_may_find_no_room),
        cmocka_unit_test(what_a_source_has_travels),
        cmocka_unit_test(an_import_that_fails_has_not_been),
        cmocka_unit_test(a_server_comes_with_its_descriptor),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
