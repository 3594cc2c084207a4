/* Bytes through whole sessions, and the truth about how each side ended. */
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

#define STREAM (4u << 20)
#define SMALL 4096
/* More than one send to a sleeping reader takes, and less than weir and its kernel hold. */
#define POURED 120000

static const enum config_splice choices[] = {CONFIG_SPLICE_AUTO, CONFIG_SPLICE_OFF,
                                             CONFIG_SPLICE_ON};

static void open_with(struct world *w, enum config_splice splice)
{
    world_init(w);
    w->policy.splice = splice;
    world_open_with(w, WORLD_START_MS, 100);
}

/* Both ends receive into little memory and weir's kernel holds little: most bytes stay with weir.
 */
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
    chain_greet(w, &chain);
    return chain;
}

static int end_of(const struct chain *chain, unsigned side)
{
    return side == CLIENT ? chain->client : chain->server;
}

static void reset_end(struct chain *chain, unsigned side)
{
    chain_reset(side == CLIENT ? &chain->client : &chain->server);
}

static enum session_end_reason reset_by(unsigned side)
{
    return side == CLIENT ? SESSION_END_CLIENT_RESET : SESSION_END_SERVER_RESET;
}

/* ---- whole streams ---- */

struct stream {
    int from, to;
    uint64_t fed;
    struct pair_eaten eaten;
};

static void advance(struct stream *stream)
{
    if (stream->fed < STREAM) {
        stream->fed += pair_feed(stream->from, stream->fed, STREAM - stream->fed);
        if (stream->fed == STREAM)
            assert_int_equal(shutdown(stream->from, SHUT_WR), 0);
    }
    pair_eat(stream->to, &stream->eaten, UINT64_MAX);
    assert_int_equal(stream->eaten.error, 0);
}

static void carry_both_ways(enum config_splice splice, uint32_t pipes)
{
    struct world w;
    struct chain chain;

    open_with(&w, splice);
    w.pipes.limit = pipes;
    chain = world_chain(&w, 0);
    struct stream in = {.from = chain.client, .to = chain.server};
    struct stream out = {.from = chain.server, .to = chain.client};
    WORLD_UNTIL(&w, (advance(&in), advance(&out), in.eaten.end && out.eaten.end));
    assert_int_equal(in.eaten.place, STREAM);
    assert_int_equal(out.eaten.place, STREAM);
    WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
    assert_ended(chain.session, SESSION_END_DONE);
    assert_int_equal(chain.session->lost, 0);
    assert_int_equal(world_metric(&w, METRIC_BYTES_IN), STREAM);
    assert_int_equal(world_metric(&w, METRIC_BYTES_OUT), STREAM);
    assert_int_equal(world_cell(&w.server[0]->cell[0].bytes_in), STREAM);
    assert_int_equal(world_metric(&w, METRIC_SPLICE_STARTS) > 0, splice != CONFIG_SPLICE_OFF);
    assert_int_equal(world_metric(&w, METRIC_SPLICE_REFUSED) > 0,
                     splice != CONFIG_SPLICE_OFF && pipes == 0);
    chain_hang_up(&chain);
    world_close(&w);
}

static void carries_streams_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(choices); i++)
        carry_both_ways(choices[i], 8);
}

static void copies_when_there_is_no_pipe(void **state)
{
    (void)state;
    carry_both_ways(CONFIG_SPLICE_AUTO, 0);
    carry_both_ways(CONFIG_SPLICE_ON, 0);
}

static void small_exchanges_stay_with_copy(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    open_with(&w, CONFIG_SPLICE_AUTO);
    chain = world_chain(&w, 0);
    for (int i = 0; i < 20; i++)
        chain_greet(&w, &chain);
    assert_int_equal(world_metric(&w, METRIC_SPLICE_STARTS), 0);
    assert_string_equal(session_engine_name(chain.session), "copy");
    chain_finish(&w, &chain);
    world_close(&w);
}

static void a_stream_that_ebbs_goes_back_to_copy(void **state)
{
    struct world w;
    struct chain chain;

    (void)state;
    open_with(&w, CONFIG_SPLICE_AUTO);
    chain = world_chain(&w, 0);
    chain.session->direction[CLIENT].engine = &engine_splice;
    for (int i = 0; i < 10; i++)
        chain_greet(&w, &chain);
    assert_ptr_equal(chain.session->direction[CLIENT].engine, &engine_copy);
    chain_finish(&w, &chain);
    world_close(&w);
}

static void an_idle_session_holds_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        struct world w;
        open_with(&w, choices[i]);
        struct chain chain = world_chain(&w, 0);
        chain_greet(&w, &chain);
        world_settle(&w);
        for (unsigned from = CLIENT; from <= SERVER; from++)
            assert_null(chain.session->direction[from].buffer);
        assert_int_equal(w.pipes.taken, 0);
        chain_finish(&w, &chain);
        world_close(&w);
    }
}

/* One session at full speed stops at its budget, and goes on from the run queue. */
static void a_pump_that_spent_its_budget_takes_turns(void **state)
{
    struct world w;
    struct chain chain;
    struct stream in;
    bool waited = false;

    (void)state;
    world_init(&w);
    w.policy.splice = CONFIG_SPLICE_OFF;
    w.policy.rcvbuf = STREAM; /* as much as the system allows, so that more than a budget waits */
    world_open_with(&w, WORLD_START_MS, 100);
    chain = world_chain(&w, 0);
    pair_option(chain.client, SOL_SOCKET, SO_SNDBUF, STREAM);
    in = (struct stream){.from = chain.client, .to = chain.server};
    WORLD_UNTIL(&w, (advance(&in), poller_wait(&w.poller, 1), waited |= poller_has_tasks(&w.poller),
                     in.eaten.end));
    assert_true(waited);
    assert_int_equal(in.eaten.place, STREAM);
    chain_finish(&w, &chain);
    world_close(&w);
}

/* ---- half-close ---- */

static void the_other_direction_stays_open(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        struct pair_eaten eaten = {0};
        open_with(&w, CONFIG_SPLICE_AUTO);
        struct chain chain = world_chain(&w, 0);
        int closer = end_of(&chain, side), other = end_of(&chain, !side);
        assert_int_equal(shutdown(closer, SHUT_WR), 0);
        assert_int_equal(world_sees(&w, other), 0);
        assert_int_equal(chain.session->state, SESSION_HALF_CLOSED);
        assert_int_equal(pair_feed(other, 0, 20000), 20000);
        assert_int_equal(shutdown(other, SHUT_WR), 0);
        WORLD_UNTIL(&w, (pair_eat(closer, &eaten, UINT64_MAX), eaten.end));
        assert_int_equal(eaten.place, 20000);
        WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
        assert_ended(chain.session, SESSION_END_DONE);
        /* Neither end has seen anything but a FIN. */
        int error = -1;
        socklen_t length = sizeof(error);
        for (unsigned end = CLIENT; end <= SERVER; end++) {
            assert_int_equal(getsockopt(end_of(&chain, end), SOL_SOCKET, SO_ERROR, &error, &length),
                             0);
            assert_int_equal(error, 0);
        }
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* ---- a reset is a reset ---- */

static void a_reset_passes_an_idle_session(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        open_with(&w, CONFIG_SPLICE_AUTO);
        struct chain chain = world_chain(&w, 0);
        chain_greet(&w, &chain);
        reset_end(&chain, side);
        assert_int_equal(world_sees(&w, end_of(&chain, !side)), ECONNRESET);
        assert_ended(chain.session, reset_by(side));
        assert_int_equal(chain.session->lost, 0);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* Where the bytes of a direction are: each counted once, as soon as the reader's kernel has told.
 */
static uint64_t on_the_way(const struct chain *chain, unsigned from)
{
    const struct session *session = chain->session;

    return socket_unread(session->side[from].fd) + session->direction[from].pending +
           session_unsent(session, !from) + socket_unread(end_of(chain, !from));
}

/* Feeds until weir and its kernel have all of it; the reader sleeps. */
static uint64_t pour(struct world *w, const struct chain *chain, unsigned from)
{
    int feeder = end_of(chain, from);
    uint64_t fed = 0;

    WORLD_UNTIL(w, (fed += pair_feed(feeder, fed, POURED - fed), fed == POURED));
    WORLD_UNTIL(w, socket_unsent(feeder) == 0 && on_the_way(chain, from) == fed);
    assert_true(chain->session->direction[from].pending > 0);
    return fed;
}

static void bytes_in_flight_come_before_the_reset(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * ARRAY_LEN(choices); i++) {
        struct world w;
        struct pair_eaten eaten = {0};
        unsigned side = i % 2;
        struct chain chain = open_narrow(&w, choices[i / 2]);
        uint64_t fed = pour(&w, &chain, side);
        reset_end(&chain, side);
        WORLD_UNTIL(&w, chain.session->state == SESSION_RESETTING);
        while (eaten.error == 0) {
            /* The session looks every 10 ms whether all is delivered. */
            world_pass(&w, 1);
            world_turn(&w, 1);
            pair_eat(end_of(&chain, !side), &eaten, 3000);
            assert_false(eaten.end);
        }
        assert_int_equal(eaten.error, ECONNRESET);
        assert_int_equal(eaten.place, fed);
        assert_ended(chain.session, reset_by(side));
        assert_int_equal(chain.session->lost, 0);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

static void a_reset_after_a_half_close_passes(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        open_with(&w, CONFIG_SPLICE_AUTO);
        struct chain chain = world_chain(&w, 0);
        chain_greet(&w, &chain);
        int other = end_of(&chain, !side);
        assert_int_equal(shutdown(end_of(&chain, side), SHUT_WR), 0);
        assert_int_equal(world_sees(&w, other), 0);
        reset_end(&chain, side);
        WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
        assert_ended(chain.session, reset_by(side));
        /* After the FIN the kernel tells a reset as a broken pipe. */
        pair_wait(other, POLLERR);
        assert_int_equal(send(other, "x", 1, MSG_NOSIGNAL), -1);
        assert_int_equal(errno, EPIPE);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* The side that is reset afterwards has finished: it gets the reset behind its FIN. */
static void a_reset_by_the_other_side_after_a_half_close_passes(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        open_with(&w, CONFIG_SPLICE_AUTO);
        struct chain chain = world_chain(&w, 0);
        chain_greet(&w, &chain);
        assert_int_equal(shutdown(end_of(&chain, side), SHUT_WR), 0);
        assert_int_equal(world_sees(&w, end_of(&chain, !side)), 0);
        reset_end(&chain, !side);
        assert_int_equal(world_sees(&w, end_of(&chain, side)), ECONNRESET);
        assert_ended(chain.session, reset_by(!side));
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* What has arrived and is not acknowledged yet counts as lost: nobody here knows better. */
static void assert_accounted(const struct chain *chain, const struct pair_eaten *eaten,
                             uint64_t fed)
{
    assert_in_range(eaten->place + chain->session->lost, fed, fed + 2 * SMALL);
}

/* Its receiver reads nothing: past the deadline it is reset all the same, and all is accounted for.
 */
static void a_reset_waits_no_longer_than_it_may(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * ARRAY_LEN(choices); i++) {
        struct world w;
        struct pair_eaten eaten = {0};
        unsigned side = i % 2;
        struct chain chain = open_narrow(&w, choices[i / 2]);
        uint64_t fed = pour(&w, &chain, side);
        reset_end(&chain, side);
        WORLD_UNTIL(&w, chain.session->state == SESSION_RESETTING);
        world_pass(&w, 1999);
        assert_int_equal(chain.session->state, SESSION_RESETTING);
        world_pass(&w, 1);
        assert_ended(chain.session, reset_by(side));
        assert_true(chain.session->lost > 0);
        assert_int_equal(world_metric(&w, METRIC_BYTES_LOST), chain.session->lost);
        pair_wait(end_of(&chain, !side), POLLERR);
        pair_eat(end_of(&chain, !side), &eaten, UINT64_MAX);
        assert_accounted(&chain, &eaten, fed);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* The FIN stands unacknowledged behind the bytes, has a number of its own, and is no byte. */
static void a_fin_is_not_counted_as_lost(void **state)
{
    struct world w;
    struct chain chain = {.server = -1};
    struct pair_eaten eaten = {0};

    (void)state;
    open_with(&w, CONFIG_SPLICE_OFF);
    pair_option(w.listener[0], SOL_SOCKET, SO_RCVBUF, SMALL);
    chain = world_chain(&w, 0);
    assert_int_equal(pair_feed(chain.client, 0, 20000), 20000);
    assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
    WORLD_UNTIL(&w, chain.session->state == SESSION_HALF_CLOSED);
    WORLD_UNTIL(&w, on_the_way(&chain, CLIENT) == 20000);
    chain_reset(&chain.client);
    WORLD_UNTIL(&w, chain.session->state == SESSION_RESETTING);
    world_pass(&w, 2000);
    assert_ended(chain.session, SESSION_END_CLIENT_RESET);
    assert_true(chain.session->lost > 0);
    pair_wait(chain.server, POLLERR);
    pair_eat(chain.server, &eaten, UINT64_MAX);
    assert_int_equal(eaten.place + chain.session->lost, 20000);
    chain_hang_up(&chain);
    world_close(&w);
}

/* The first to fail is the reason, and a server is not suspect for what came of it. */
static void of_two_resets_the_first_is_the_reason(void **state)
{
    (void)state;
    for (unsigned side = CLIENT; side <= SERVER; side++) {
        struct world w;
        struct chain chain = open_narrow(&w, CONFIG_SPLICE_OFF);
        pour(&w, &chain, side);
        reset_end(&chain, side);
        WORLD_UNTIL(&w, chain.session->state == SESSION_RESETTING);
        reset_end(&chain, !side);
        WORLD_UNTIL(&w, chain.session->state == SESSION_ENDED);
        assert_ended(chain.session, reset_by(side));
        assert_true(chain.session->lost > 0);
        assert_int_equal(w.suspected[0], 0);
        chain_hang_up(&chain);
        world_close(&w);
    }
}

/* What the server said last comes before the reset, though a send to it was what failed. */
static void an_answer_survives_a_failed_request(void **state)
{
    struct world w;
    struct chain chain;
    char text[6] = "";

    (void)state;
    open_with(&w, CONFIG_SPLICE_OFF);
    chain = world_chain(&w, 0);
    chain_greet(&w, &chain);
    assert_int_equal(send(chain.server, "sorry", 5, 0), 5);
    reset_end(&chain, SERVER);
    assert_int_equal(send(chain.client, "more?", 5, 0), 5);
    WORLD_UNTIL(&w, recv(chain.client, text, 5, MSG_DONTWAIT) == 5);
    assert_string_equal(text, "sorry");
    /* It looks again and again whether the answer is acknowledged. */
    WORLD_UNTIL(&w, (world_pass(&w, 1), chain.session->state == SESSION_ENDED));
    assert_int_equal(world_sees(&w, chain.client), ECONNRESET);
    assert_ended(chain.session, SESSION_END_SERVER_RESET);
    chain_hang_up(&chain);
    world_close(&w);
}

static void a_killed_session_tells_what_is_lost(void **state)
{
    static const struct traffic_filter all;
    struct world w;
    struct chain chain;
    struct pair_eaten eaten = {0};
    uint32_t cursor = 0;
    uint64_t fed;

    (void)state;
    chain = open_narrow(&w, CONFIG_SPLICE_ON);
    fed = pour(&w, &chain, CLIENT);
    assert_int_equal(tcp_kill(w.tcp, &all, SESSION_END_KILLED, &cursor, UINT64_MAX), 1);
    pair_wait(chain.server, POLLERR);
    pair_eat(chain.server, &eaten, UINT64_MAX);
    assert_accounted(&chain, &eaten, fed);
    chain_hang_up(&chain);
    world_close(&w);
}

/* ---- an urgent byte ---- */

/* It stays in the stream, in its place, whichever engine meets it. */
static void urgent_bytes_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        struct world w;
        struct pair_eaten eaten = {0};
        open_with(&w, choices[i]);
        struct chain chain = world_chain(&w, 0);
        uint8_t urgent = pair_byte(100);
        assert_int_equal(pair_feed(chain.client, 0, 100), 100);
        assert_int_equal(send(chain.client, &urgent, 1, MSG_OOB), 1);
        assert_int_equal(pair_feed(chain.client, 101, 100), 100);
        WORLD_UNTIL(&w, (pair_eat(chain.server, &eaten, UINT64_MAX), eaten.place == 201));
        chain_finish(&w, &chain);
        world_close(&w);
    }
}

/* The mark comes while the pipe holds bytes, so that splice cannot be left at once. */
static void an_urgent_byte_behind_a_full_pipe_passes(void **state)
{
    struct world w;
    struct chain chain;
    struct pair_eaten eaten = {0};
    uint64_t place;
    uint8_t urgent;

    (void)state;
    chain = open_narrow(&w, CONFIG_SPLICE_ON);
    place = pour(&w, &chain, CLIENT);
    urgent = pair_byte(place++);
    assert_int_equal(send(chain.client, &urgent, 1, MSG_OOB), 1);
    place += pair_feed(chain.client, place, 100);
    world_settle(&w);
    WORLD_UNTIL(&w, (pair_eat(chain.server, &eaten, UINT64_MAX), eaten.place == place));
    chain_finish(&w, &chain);
    world_close(&w);
}

static void an_urgent_byte_before_the_end_passes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
        struct world w;
        struct pair_eaten eaten = {0};
        open_with(&w, choices[i]);
        struct chain chain = world_chain(&w, 0);
        uint8_t urgent = pair_byte(100);
        assert_int_equal(pair_feed(chain.client, 0, 100), 100);
        assert_int_equal(send(chain.client, &urgent, 1, MSG_OOB), 1);
        assert_int_equal(shutdown(chain.client, SHUT_WR), 0);
        WORLD_UNTIL(&w, (pair_eat(chain.server, &eaten, UINT64_MAX), eaten.end));
        assert_int_equal(eaten.place, 101);
        chain_finish(&w, &chain);
        world_close(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_streams_both_ways),
        cmocka_unit_test(copies_when_there_is_no_pipe),
        cmocka_unit_test(small_exchanges_stay_with_copy),
        cmocka_unit_test(a_stream_that_ebbs_goes_back_to_copy),
        cmocka_unit_test(an_idle_session_holds_nothing),
        cmocka_unit_test(a_pump_that_spent_its_budget_takes_turns),
        cmocka_unit_test(the_other_direction_stays_open),
        cmocka_unit_test(a_reset_passes_an_idle_session),
        cmocka_unit_test(bytes_in_flight_come_before_the_reset),
        cmocka_unit_test(a_reset_after_a_half_close_passes),
        cmocka_unit_test(a_reset_by_the_other_side_after_a_half_close_passes),
        cmocka_unit_test(a_reset_waits_no_longer_than_it_may),
        cmocka_unit_test(a_fin_is_not_counted_as_lost),
        cmocka_unit_test(of_two_resets_the_first_is_the_reason),
        cmocka_unit_test(an_answer_survives_a_failed_request),
        cmocka_unit_test(a_killed_session_tells_what_is_lost),
        cmocka_unit_test(urgent_bytes_pass),
        cmocka_unit_test(an_urgent_byte_behind_a_full_pipe_passes),
        cmocka_unit_test(an_urgent_byte_before_the_end_passes),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
