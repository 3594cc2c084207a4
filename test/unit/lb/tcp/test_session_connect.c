/* Connects that fail, servers that go away at once, and the next server. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"
#include "test/unit/sources.h"

static struct ports_book book;

/* ---- from where ---- */

static void assert_peer(int fd, const char *text)
{
    union inet_address peer = {0}, wanted = host_of(text);
    socklen_t length = sizeof(peer);

    assert_int_equal(getpeername(fd, &peer.any, &length), 0);
    assert_true(inet_address_same_host(&peer, &wanted));
}

static void a_server_is_connected_to_from_the_source(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    ports_book_init(&book);
    sources_give(&book, w.server[0], PORTS_TCP, (const char *const[]){"::1", "127.0.0.5"}, 2);
    chain = world_chain(&w, 0);
    assert_peer(chain.server, "127.0.0.5");
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    ports_book_deinit(&book);
    world_close(&w);
}

/* The address is not on this machine: that says nothing of the servers. */
static void a_source_that_is_not_there_is_our_own_fault(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    ports_book_init(&book);
    for (size_t i = 0; i < 2; i++)
        sources_give(&book, w.server[i], PORTS_TCP, (const char *const[]){"192.0.2.5"}, 1);
    chain = world_client(&w);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_NO_RESOURCES);
    assert_int_equal(w.suspected[0] + w.suspected[1], 0);
    assert_int_equal(w.starved, 0);
    assert_int_equal(world_load(&w, 0) + world_load(&w, 1), 0);
    chain_hang_up(&chain);
    ports_book_deinit(&book);
    world_close(&w);
}

/* Needs a capability, as ip(7) says of IP_TRANSPARENT. */
static void a_server_is_connected_to_from_the_client(void **state)
{
    struct world w;
    struct chain chain;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool may = setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &(int){1}, sizeof(int)) == 0;

    (void)state;
    close(fd);
    if (!may)
        skip();
    world_open(&w);
    w.pool.source_client = true;
    union inet_address client = host_of("127.0.0.77");
    chain.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(chain.client, &client.any, sizeof(client.v4)), 0);
    assert_int_equal(
        connect(chain.client, (struct sockaddr *)&w.entry_address, sizeof(w.entry_address)), 0);
    assert_int_equal(ioctl(chain.client, FIONBIO, &(int){1}), 0);
    world_take_in(&w);
    chain.session = world_newest(&w);
    chain.server = world_served(&w, 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    assert_peer(chain.server, "127.0.0.77");
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Of the other family, as a PROXY header may tell it: no server will do, and none is to blame. */
static void a_client_that_cannot_be_the_source_is_refused(void **state)
{
    struct world w;
    struct chain chain = {.server = -1};
    union inet_address told = host_of("2001:db8::1");

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    w.pool.source_client = true;
    chain.client = world_dial(&w, 0);
    pair_wait(w.entry, POLLIN);
    int fd = accept4(w.entry, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    tcp_accept(w.tcp, &w.policy, fd, &told);
    chain.session = world_newest(&w);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_NO_SOURCE);
    assert_int_equal(w.suspected[0] + w.suspected[1], 0);
    assert_int_equal(world_metric(&w, METRIC_CONNECT_FAILURES), 0);
    assert_int_equal(world_load(&w, 0), 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* ---- another server ---- */

static void a_refused_connect_goes_to_another_server(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    world_refuse(&w, 0);
    chain = world_chain(&w, 1);
    assert_int_equal(chain.session->tries, 2);
    assert_int_equal(w.suspected[0], 1);
    assert_int_equal(w.suspected[1], 0);
    assert_int_equal(world_load(&w, 0), 0);
    assert_int_equal(world_cell(&w.server[0]->cell[0].connect_failures), 1);
    assert_int_equal(world_cell(&w.server[0]->cell[0].sessions), 0);
    assert_int_equal(world_metric(&w, METRIC_CONNECT_FAILURES), 1);
    assert_int_equal(world_metric(&w, METRIC_RETRIES), 1);
    chain_finish(&w, &chain);
    world_close(&w);
}

static void tries_are_used_up(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < WORLD_SERVERS; i++) {
        w.usable[i] = true;
        world_refuse(&w, i);
    }
    chain = world_client(&w);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_CONNECT_FAILED);
    assert_int_equal(chain.session->tries, 3);
    chain_hang_up(&chain);
    world_close(&w);
}

static void without_retries_one_refusal_is_the_end(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.pool.retries = 0;
    w.usable[1] = true;
    world_refuse(&w, 0);
    chain = world_client(&w);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_CONNECT_FAILED);
    chain_hang_up(&chain);
    world_close(&w);
}

static void a_connect_that_takes_too_long_goes_to_another_server(void **state)
{
    struct world w;
    struct chain chain;
    int filler[2];

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    world_settle(&w);
    world_pass(&w, 999);
    assert_int_equal(chain.session->state, SESSION_CONNECTING);
    assert_int_equal(chain.session->tries, 1);
    world_pass(&w, 1);
    assert_int_equal(chain.session->tries, 2);
    assert_int_equal(w.suspected[0], 1);
    chain.server = world_served(&w, 1);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_answer_syns(filler);
    world_close(&w);
}

static void the_last_try_may_take_too_long(void **state)
{
    struct world w;
    struct chain chain;
    int filler[2];

    (void)state;
    world_open(&w);
    w.pool.retries = 0;
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    world_pass(&w, 1000);
    assert_ended(chain.session, SESSION_END_CONNECT_TIMEOUT);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    chain_hang_up(&chain);
    world_answer_syns(filler);
    world_close(&w);
}

/* No other server is there to try: what the one that was tried did is the reason. */
static void the_only_server_may_take_too_long(void **state)
{
    struct world w;
    struct chain chain;
    int filler[2];

    (void)state;
    world_open(&w);
    w.pool.when_empty = CONFIG_EMPTY_RESET;
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    world_pass(&w, 1000);
    assert_ended(chain.session, SESSION_END_CONNECT_TIMEOUT);
    chain_hang_up(&chain);
    world_answer_syns(filler);
    world_close(&w);
}

/* It accepted and went away again before a byte passed: the client need not know. */
static void a_server_that_resets_at_once_is_left(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    chain = world_chain(&w, 0);
    chain_reset(&chain.server);
    WORLD_UNTIL(&w, chain.session->tries == 2);
    chain.server = world_served(&w, 1);
    chain_greet(&w, &chain);
    assert_int_equal(w.suspected[0], 1);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Nobody else is there to ask: the reset is passed on, and the client does not wait for a server.
 */
static void a_reset_at_once_passes_where_no_other_serves(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.pool.when_empty = CONFIG_EMPTY_HOLD;
    chain = world_chain(&w, 0);
    chain_reset(&chain.server);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_SERVER_RESET);
    assert_int_equal(chain.session->tries, 1);
    assert_int_equal(w.suspected[0], 1);
    chain_hang_up(&chain);
    world_close(&w);
}

/* The server has had time to look at its client: its reset is an answer. */
static void a_reset_some_time_after_the_connect_passes(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    chain = world_chain(&w, 0);
    world_pass(&w, 200);
    chain_reset(&chain.server);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_SERVER_RESET);
    assert_int_equal(chain.session->tries, 1);
    assert_int_equal(world_load(&w, 1), 0);
    chain_hang_up(&chain);
    world_close(&w);
}

static void nothing_is_tried_again_after_a_byte(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    w.usable[1] = true;
    chain = world_chain(&w, 0);
    assert_int_equal(send(chain.client, "?", 1, 0), 1);
    pair_wait(chain.server, POLLRDNORM | POLLOUT);
    WORLD_UNTIL(&w, chain.session->direction[CLIENT].bytes == 1);
    chain_reset(&chain.server);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_SERVER_RESET);
    assert_int_equal(w.suspected[0], 1);
    assert_int_equal(world_cell(&w.server[0]->cell[0].resets), 1);
    assert_int_equal(world_load(&w, 1), 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* ---- Unix servers ---- */

static int unix_server(struct world *w, size_t i, int backlog)
{
    struct address address = {.length = sizeof(sa_family_t)};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    address.any.sa_family = AF_UNIX;
    assert_int_equal(bind(fd, &address.any, address.length), 0); /* unix(7): autobind */
    address.length = sizeof(address.un);
    assert_int_equal(getsockname(fd, &address.any, &address.length), 0);
    assert_int_equal(listen(fd, backlog), 0);
    server_put(&w->server[i]);
    w->server[i] = world_server("a", &address);
    world_hang_up(&w->listener[i]);
    w->listener[i] = fd;
    return fd;
}

static void a_unix_server_relays(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    unix_server(&w, 0, 4);
    assert_int_equal(ioctl(w.listener[0], FIONBIO, &(int){1}), 0);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Its close is told as EPOLLHUP in the same event that tells of the connection. */
static void a_unix_server_may_answer_and_close_at_once(void **state)
{
    struct world w;
    struct chain chain;
    char text[6] = "";

    (void)state;
    world_open(&w);
    unix_server(&w, 0, 4);
    chain = world_client(&w);
    chain.server = pair_accept(w.listener[0]);
    assert_int_equal(send(chain.server, "hello", 5, 0), 5);
    world_hang_up(&chain.server);
    WORLD_UNTIL(&w, recv(chain.client, text, 5, MSG_DONTWAIT) == 5);
    assert_string_equal(text, "hello");
    assert_int_equal(world_sees(&w, chain.client), 0);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_DONE);
    assert_int_equal(w.suspected[0], 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* EAGAIN from connect(2), and no event would ever follow. */
static void a_unix_server_with_a_full_backlog_is_left(void **state)
{
    struct world w;
    struct chain chain;
    int filler;

    (void)state;
    world_open(&w);
    unix_server(&w, 0, 0);
    filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(filler, &w.server[0]->address.any, w.server[0]->address.length), 0);
    w.usable[1] = true;
    chain = world_chain(&w, 1);
    assert_int_equal(w.suspected[0], 1);
    assert_int_equal(world_load(&w, 0), 0);
    chain_finish(&w, &chain);
    close(filler);
    world_close(&w);
}

static void a_client_may_reset_during_the_connect(void **state)
{
    struct world w;
    struct chain chain;
    int filler[2];

    (void)state;
    world_open(&w);
    world_swallow_syns(&w, 0, filler);
    chain = world_client(&w);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_CLIENT_GONE);
    assert_int_equal(world_load(&w, 0), 0);
    assert_int_equal(w.suspected[0], 0);
    world_answer_syns(filler);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_connected_to_from_the_source),
        cmocka_unit_test(a_source_that_is_not_there_is_our_own_fault),
        cmocka_unit_test(a_server_is_connected_to_from_the_client),
        cmocka_unit_test(a_client_that_cannot_be_the_source_is_refused),
        cmocka_unit_test(a_refused_connect_goes_to_another_server),
        cmocka_unit_test(tries_are_used_up),
        cmocka_unit_test(without_retries_one_refusal_is_the_end),
        cmocka_unit_test(a_connect_that_takes_too_long_goes_to_another_server),
        cmocka_unit_test(the_last_try_may_take_too_long),
        cmocka_unit_test(the_only_server_may_take_too_long),
        cmocka_unit_test(a_server_that_resets_at_once_is_left),
        cmocka_unit_test(a_reset_at_once_passes_where_no_other_serves),
        cmocka_unit_test(a_reset_some_time_after_the_connect_passes),
        cmocka_unit_test(nothing_is_tried_again_after_a_byte),
        cmocka_unit_test(a_unix_server_relays),
        cmocka_unit_test(a_unix_server_may_answer_and_close_at_once),
        cmocka_unit_test(a_unix_server_with_a_full_backlog_is_left),
        cmocka_unit_test(a_client_may_reset_during_the_connect),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
