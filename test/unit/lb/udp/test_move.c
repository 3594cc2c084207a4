/* Moves of flows beyond the plain ones of test_flow_move.c: the books of both servers, a burst, and
 * refusals with nowhere to go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/world.h"

/* A flow on server a, with one datagram so far; b is usable from then on, and a is not. */
struct mover {
    struct world w;
    int client;
    struct flow *flow;
    union inet_address asker;
};

static void begin(struct mover *m)
{
    struct world *w = &m->w;

    world_open_at(w, "127.0.0.1:0");
    m->client = world_client();
    m->asker = world_ask(w, m->client, 0, "first");
    m->flow = world_newest(w);
    w->usable[0] = false;
    w->usable[1] = true;
}

static void open_mover(struct mover *m)
{
    world_init(&m->w);
    begin(m);
}

static void close_mover(struct mover *m)
{
    close(m->client);
    world_close(&m->w);
}

static void make_suspect(struct world *w, size_t i)
{
    atomic_store(&w->server[i]->live.suspect, 1);
}

static void desert(struct world *w, size_t i)
{
    atomic_store(&w->server[i]->deserted, true);
}

static uint64_t entered(struct world *w, size_t i)
{
    return world_cell(&w->server[i]->cell[0].flows);
}

static uint64_t left(struct world *w, size_t i)
{
    return world_cell(&w->server[i]->cell[0].flows_left);
}

static void assert_is_on(struct mover *m, size_t i, unsigned moves)
{
    struct world *w = &m->w;

    assert_int_equal(m->flow->state, FLOW_ACTIVE);
    assert_ptr_equal(m->flow->server, w->server[i]);
    assert_int_equal(m->flow->moves, moves);
    assert_int_equal(world_metric(w, METRIC_FLOWS_MOVED), moves);
    assert_int_equal(world_load(w, i), 1);
    assert_int_equal(entered(w, i) - left(w, i), 1);
    for (size_t other = 0; other < WORLD_SERVERS; other++) {
        if (other == i)
            continue;
        assert_int_equal(world_load(w, other), 0);
        assert_int_equal(entered(w, other), left(w, other));
    }
    assert_int_equal(udp_flows(w->udp), 1);
    assert_int_equal(world_metric(w, METRIC_FLOWS), 1);
}

/* ---- when ---- */

static void a_flow_must_move_from_the_suspect_and_the_deserted(void **state)
{
    struct mover m;
    bool is_deserted = true;

    (void)state;
    open_mover(&m);
    assert_false(flow_must_move(m.flow, &is_deserted));
    assert_false(is_deserted);
    make_suspect(&m.w, 0);
    assert_true(flow_must_move(m.flow, &is_deserted));
    assert_false(is_deserted);
    desert(&m.w, 0);
    assert_true(flow_must_move(m.flow, &is_deserted));
    assert_true(is_deserted);
    atomic_store(&m.w.server[0]->live.suspect, 0);
    assert_true(flow_must_move(m.flow, &is_deserted));
    assert_true(is_deserted);
    close_mover(&m);
}

/* As one that drains: it takes no new flows, and those that it has stay. */
static void a_closed_server_keeps_its_flows(void **state)
{
    struct mover m;

    (void)state;
    open_mover(&m);
    atomic_store(&m.w.server[0]->closed, true);
    (void)world_ask(&m.w, m.client, 0, "next");
    assert_is_on(&m, 0, 0);
    close_mover(&m);
}

/* ---- where ---- */

static void check_move(void (*mark)(struct world *w, size_t i))
{
    struct mover m;
    struct world *w = &m.w;
    uint64_t id;
    union inet_address asker;

    open_mover(&m);
    id = m.flow->id;
    mark(w, 0);
    assert_is_on(&m, 0, 0); /* its next datagram moves it, not the mark */
    asker = world_ask(w, m.client, 1, "next");
    assert_is_on(&m, 1, 1);
    assert_int_equal(m.flow->id, id);
    assert_int_equal(entered(w, 0), 1);
    assert_int_equal(left(w, 0), 1);
    assert_int_equal(entered(w, 1), 1);
    assert_int_equal(left(w, 1), 0);
    assert_int_equal(world_metric(w, METRIC_FLOWS_ENDED), 0);
    world_answer(w, 1, &asker, m.client, "yes");
    assert_int_equal(m.flow->datagrams_in, 2);
    assert_int_equal(world_cell(&w->server[0]->cell[0].bytes_out), 0);
    assert_int_equal(world_cell(&w->server[1]->cell[0].bytes_out), 3);
    (void)world_ask(w, m.client, 1, "and on");
    assert_is_on(&m, 1, 1);
    world_silence(w, w->socket[0]);
    close_mover(&m);
}

static void a_suspect_server_is_left(void **state)
{
    (void)state;
    check_move(make_suspect);
}

static void a_deserted_server_is_left(void **state)
{
    (void)state;
    check_move(desert);
}

static void what_comes_together_moves_together(void **state)
{
    static const char *const said[] = {"1", "22", "333", "4444"};
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    open_mover(&m);
    make_suspect(w, 0);
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        world_say(w, m.client, said[i]);
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        (void)world_hear(w, w->socket[1], said[i]);
    assert_is_on(&m, 1, 1);
    close_mover(&m);
}

/* ---- when there is nowhere to go ---- */

static void a_suspect_server_is_better_than_none(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    open_mover(&m);
    w->usable[0] = true; /* itself is no other */
    w->usable[1] = false;
    make_suspect(w, 0);
    (void)world_ask(w, m.client, 0, "next");
    assert_is_on(&m, 0, 0);
    assert_int_equal(world_metric(w, METRIC_DROP_NO_SERVER), 0);
    w->usable[1] = true;
    (void)world_ask(w, m.client, 1, "then");
    assert_is_on(&m, 1, 1);
    close_mover(&m);
}

static void a_full_server_is_none(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    open_mover(&m);
    make_suspect(w, 0);
    atomic_store(&w->server[1]->live.limit, 1);
    assert_true(server_enter(w->server[1]));
    (void)world_ask(w, m.client, 0, "next");
    assert_int_equal(m.flow->moves, 0);
    (void)server_leave(w->server[1]);
    (void)world_ask(w, m.client, 1, "then");
    assert_is_on(&m, 1, 1);
    close_mover(&m);
}

/* ---- servers that refuse ---- */

/*
 * The refusal of an earlier datagram is still to be read when the next one is to be sent, and that
 * one has not been sent by the call that tells. The order of the two events is that of these lines.
 */
static void say_after_a_refusal(struct mover *m, const char *text)
{
    world_refuse(&m->w, 0);
    world_say(&m->w, m->client, text);
    assert_int_equal(send(m->flow->upstream->fd, "earlier", 7, 0), 7);
}

/* The earlier one's refusal may have been the last. */
static void with_nowhere_to_go_it_is_sent_once_more(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    open_mover(&m);
    w->usable[1] = false;
    say_after_a_refusal(&m, "again");
    WORLD_UNTIL(w, world_metric(w, METRIC_DROP_REFUSED) == 2);
    assert_int_equal(w->suspected[0], 2);
    assert_int_equal(world_metric(w, METRIC_DATAGRAMS_IN), 2);
    assert_is_on(&m, 0, 0);
    world_settle(w);
    assert_int_equal(world_metric(w, METRIC_DROP_REFUSED), 2);
    close_mover(&m);
}

/* The flow has gone to each once, and does not turn in circles. */
static void when_all_refuse_it_stays_with_the_last(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    open_mover(&m);
    w->usable[0] = true;
    world_refuse(w, 0);
    world_refuse(w, 1);
    for (int i = 0; i < 5; i++) {
        world_say(w, m.client, "?");
        world_settle(w);
    }
    assert_int_equal(w->suspected[0], 1);
    assert_int_equal(w->suspected[1], 4);
    assert_int_equal(world_metric(w, METRIC_DROP_REFUSED), 5);
    assert_is_on(&m, 1, 1);
    close_mover(&m);
}

/* ---- per-packet flows ---- */

/* Each datagram chooses for itself, so its flow is not what has to move. */
static void per_packet_flows_do_not_move(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    world_init(w);
    w->policy.per_packet = true;
    begin(&m);
    w->usable[0] = true; /* chosen before b */
    make_suspect(w, 0);
    (void)world_ask(w, m.client, 0, "suspect");
    desert(w, 0);
    (void)world_ask(w, m.client, 0, "deserted");
    assert_is_on(&m, 0, 0);
    w->usable[0] = false;
    (void)world_ask(w, m.client, 1, "chosen");
    assert_int_equal(udp_flows(w->udp), 2);
    assert_int_equal(world_metric(w, METRIC_FLOWS_MOVED), 0);
    close_mover(&m);
}

static void nor_do_they_when_refused(void **state)
{
    struct mover m;
    struct world *w = &m.w;

    (void)state;
    world_init(w);
    w->policy.per_packet = true;
    begin(&m);
    w->usable[0] = true;
    say_after_a_refusal(&m, "again");
    WORLD_UNTIL(w, world_metric(w, METRIC_DROP_REFUSED) == 2);
    assert_is_on(&m, 0, 0);
    assert_int_equal(w->suspected[0], 2);
    close_mover(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_must_move_from_the_suspect_and_the_deserted),
        cmocka_unit_test(a_closed_server_keeps_its_flows),
        cmocka_unit_test(a_suspect_server_is_left),
        cmocka_unit_test(a_deserted_server_is_left),
        cmocka_unit_test(what_comes_together_moves_together),
        cmocka_unit_test(a_suspect_server_is_better_than_none),
        cmocka_unit_test(a_full_server_is_none),
        cmocka_unit_test(with_nowhere_to_go_it_is_sent_once_more),
        cmocka_unit_test(when_all_refuse_it_stays_with_the_last),
        cmocka_unit_test(per_packet_flows_do_not_move),
        cmocka_unit_test(nor_do_they_when_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
