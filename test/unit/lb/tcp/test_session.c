/* A session from its beginning to its usual end, its limits, and how long it may be silent. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "test/unit/lb/tcp/world.h"

#define LINE_MAX_BYTES 2048

/* ---- the plain way ---- */

static void relays_and_ends_when_both_are_done(void **state)
{
    struct world w;
    struct chain chain;
    struct server_cell *counters;

    (void)state;
    world_open(&w);
    chain = world_client(&w);
    assert_int_equal(chain.session->state, SESSION_CONNECTING);
    assert_int_equal(world_load(&w, 0), 1);
    chain.server = world_served(&w, 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RELAYING);
    chain_greet(&w, &chain);
    counters = &w.server[0]->cell[0];
    assert_int_equal(world_cell(&counters->sessions), 1);
    assert_int_equal(world_cell(&counters->bytes_in), 1);
    assert_int_equal(world_cell(&counters->bytes_out), 1);
    assert_int_equal(world_metric(&w, METRIC_SESSIONS), 1);
    assert_int_equal(chain.session->tries, 1);
    chain_finish(&w, &chain);
    assert_ended(chain.session, SESSION_END_DONE);
    assert_int_equal(w.ended, 1);
    assert_int_equal(chain.session->lost, 0);
    assert_int_equal(world_load(&w, 0), 0);
    world_close(&w);
}

static void a_server_may_speak_first(void **state)
{
    struct world w;
    struct chain chain;
    char text[6] = "";

    (void)state;
    world_open(&w);
    chain = world_client(&w);
    chain.server = world_served(&w, 0);
    assert_int_equal(send(chain.server, "hello", 5, 0), 5);
    WORLD_UNTIL(&w, recv(chain.client, text, 5, MSG_DONTWAIT) == 5);
    assert_string_equal(text, "hello");
    chain_finish(&w, &chain);
    world_close(&w);
}

/* Request and FIN are there before there is a server: both reach it. */
static void a_client_may_be_early(void **state)
{
    struct world w;
    struct chain chain;
    char text[6] = "";

    (void)state;
    world_open(&w);
    chain = (struct chain){.client = world_dial(&w, 0)};
    assert_int_equal(send(chain.client, "hello", 5, 0), 5);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    world_take_in(&w);
    chain.session = world_newest(&w);
    chain.server = world_served(&w, 0);
    WORLD_UNTIL(&w, recv(chain.server, text, 5, MSG_DONTWAIT) == 5);
    assert_string_equal(text, "hello");
    assert_int_equal(world_sees(&w, chain.server), 0);
    assert_int_equal(chain.session->state, SESSION_HALF_CLOSED);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* The end of a session, with what it wrote to stderr; "" when nothing. */
static void finish_and_listen(struct world *w, struct chain *chain, char line[LINE_MAX_BYTES])
{
    int saved = dup(STDERR_FILENO);
    int pipe[2];
    ssize_t got;

    pair_unix(pipe);
    assert_int_equal(dup2(pipe[1], STDERR_FILENO), STDERR_FILENO);
    chain_finish(w, chain);
    dup2(saved, STDERR_FILENO);
    got = recv(pipe[0], line, LINE_MAX_BYTES - 1, MSG_DONTWAIT);
    line[MAX(got, 0)] = '\0';
    close(saved);
    close(pipe[0]);
    close(pipe[1]);
}

static void the_access_line_tells_all(void **state)
{
    struct world w;
    struct chain chain;
    char line[LINE_MAX_BYTES];

    (void)state;
    world_init(&w);
    w.policy.log_access = true;
    world_open_with(&w, WORLD_START_MS, 100);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    finish_and_listen(&w, &chain, line);
    assert_non_null(strstr(line, "listener=front pool=web server=a"));
    assert_non_null(strstr(line, "tries=1"));
    assert_non_null(strstr(line, "bytes_in=1 bytes_out=1 engine=copy end=done by=both"));
    assert_non_null(strstr(line, "bytes_lost=0"));
    world_close(&w);
}

static void one_session_in_so_many_has_an_access_line(void **state)
{
    struct world w;
    unsigned lines = 0;

    (void)state;
    world_init(&w);
    w.policy.log_access = true;
    w.policy.log_sample = 3;
    world_open_with(&w, WORLD_START_MS, 100);
    for (unsigned i = 1; i <= 9; i++) {
        struct chain chain = world_chain(&w, 0);
        char line[LINE_MAX_BYTES];
        chain_greet(&w, &chain);
        finish_and_listen(&w, &chain, line);
        lines += line[0] != '\0';
        assert_int_equal(lines, i / 3);
    }
    world_close(&w);
}

static void states_have_names(void **state)
{
    (void)state;
    for (enum session_state s = 0; s < SESSION_STATES; s++)
        assert_non_null(session_state_name(s));
    assert_string_equal(session_state_name(SESSION_HALF_CLOSED), "half-closed");
}

/* ---- limits ---- */

/* A place is free as soon as its session has ended, not only when its memory has gone. */
static void the_limit_counts_live_sessions(void **state)
{
    struct world w;
    struct chain first, second;
    int refused;

    (void)state;
    world_init(&w);
    world_open_with(&w, WORLD_START_MS, 1);
    first = world_chain(&w, 0);
    refused = world_dial(&w, 0);
    world_take_in(&w);
    assert_int_equal(world_sees(&w, refused), ECONNRESET);
    assert_int_equal(w.ended, 1);
    assert_int_equal(world_metric(&w, METRIC_ACCEPT_ERRORS), 1);
    chain_finish(&w, &first);
    second = world_chain(&w, 0);
    assert_int_equal(tcp_sessions(w.tcp), 1);
    chain_finish(&w, &second);
    assert_int_equal(w.ended, 3);
    close(refused);
    world_close(&w);
}

static void this_machine_may_lack_descriptors(void **state)
{
    struct world w;
    struct chain chain = {.server = -1};
    struct rlimit before, none;

    (void)state;
    world_open(&w);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    w.usable[1] = true;
    chain.client = world_dial(&w, 0);
    int last = dup(STDERR_FILENO); /* the lowest that is free: the accepted one */
    close(last);
    none.rlim_cur = (rlim_t)last + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    world_take_in(&w);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    chain.session = world_newest(&w);
    assert_ended(chain.session, SESSION_END_NO_RESOURCES);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_int_equal(w.starved, 1);
    /* No server's fault. */
    assert_int_equal(w.suspected[0], 0);
    assert_int_equal(world_metric(&w, METRIC_CONNECT_FAILURES), 0);
    chain_hang_up(&chain);
    world_close(&w);
}

/* ---- silence ---- */

static void a_byte_puts_the_idle_timeout_off(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    world_pass(&w, 30000);
    chain_greet(&w, &chain);
    world_pass(&w, 59999);
    assert_int_equal(chain.session->state, SESSION_RELAYING);
    world_pass(&w, 1);
    assert_ended(chain.session, SESSION_END_IDLE_TIMEOUT);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_int_equal(world_sees(&w, chain.server), ECONNRESET);
    chain_hang_up(&chain);
    world_close(&w);
}

/* Longer silence than half_close_timeout came before: only that after the FIN counts. */
static void the_half_close_timeout_begins_with_the_fin(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    world_pass(&w, 30000);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    assert_int_equal(world_sees(&w, chain.server), 0);
    world_pass(&w, 4999);
    assert_int_equal(chain.session->state, SESSION_HALF_CLOSED);
    world_pass(&w, 1);
    assert_ended(chain.session, SESSION_END_HALF_CLOSE_TIMEOUT);
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    chain_hang_up(&chain);
    world_close(&w);
}

static void a_trickle_outlives_the_half_close_timeout(void **state)
{
    struct world w;
    struct chain chain;
    char byte;

    (void)state;
    world_open(&w);
    chain = world_chain(&w, 0);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    assert_int_equal(world_sees(&w, chain.server), 0);
    for (int i = 0; i < 6; i++) {
        world_pass(&w, 4000);
        assert_int_equal(send(chain.server, ".", 1, 0), 1);
        WORLD_UNTIL(&w, recv(chain.client, &byte, 1, MSG_DONTWAIT) == 1);
    }
    chain_finish(&w, &chain);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relays_and_ends_when_both_are_done),
        cmocka_unit_test(a_server_may_speak_first),
        cmocka_unit_test(a_client_may_be_early),
        cmocka_unit_test(the_access_line_tells_all),
        cmocka_unit_test(one_session_in_so_many_has_an_access_line),
        cmocka_unit_test(states_have_names),
        cmocka_unit_test(the_limit_counts_live_sessions),
        cmocka_unit_test(this_machine_may_lack_descriptors),
        cmocka_unit_test(a_byte_puts_the_idle_timeout_off),
        cmocka_unit_test(the_half_close_timeout_begins_with_the_fin),
        cmocka_unit_test(a_trickle_outlives_the_half_close_timeout),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
