/* One suite for all engines: bytes pass whole and in order, and every result is the truth. */
#include "lb/tcp/engine.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/unit/death.h"
#include "test/unit/lb/tcp/pair.h"

#define SCRATCH 65536
#define BUDGET (256u * 1024u)
#define SMALL 4096

static const struct engine *engine;

/* feeder → from, to → eater: the direction carries from `from` to `to`. */
struct fixture {
    int feeder, from, to, eater;
    uint64_t fed;
    struct pair_eaten eaten;
    struct direction direction;
    struct pump_io io;
    struct engine_tools tools;
    struct pipe_pool pipes;
    uint8_t scratch[SCRATCH];
};

static void set_up_on(struct fixture *f, const int in[2], const int out[2])
{
    *f = (struct fixture){.feeder = in[0], .from = in[1], .to = out[0], .eater = out[1]};
    pipe_pool_init(&f->pipes, 4, 4);
    f->tools = (struct engine_tools){f->scratch, sizeof(f->scratch), &f->pipes};
    f->direction.engine = engine;
    f->io = (struct pump_io){.from = f->from, .to = f->to, .budget = BUDGET};
}

/* With `buffer` bytes of memory for each socket on the way, 0: as usual. */
static void set_up(struct fixture *f, int buffer)
{
    int in[2], out[2];

    pair_tcp(in, buffer, buffer);
    pair_tcp(out, buffer, buffer);
    set_up_on(f, in, out);
}

static void hang_up(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void tear_down(struct fixture *f)
{
    engine->release(&f->direction, &f->tools);
    assert_int_equal(f->pipes.taken, 0);
    pipe_pool_deinit(&f->pipes);
    hang_up(&f->feeder);
    hang_up(&f->from);
    hang_up(&f->to);
    hang_up(&f->eater);
}

static enum pump_result pump(struct fixture *f)
{
    enum pump_result result;

    f->io.error = 0;
    f->io.lost = 0;
    f->io.emptied = false;
    result = engine->pump(&f->direction, &f->io, &f->tools);
    assert_int_equal(f->pipes.taken, engine == &engine_splice && f->direction.pending > 0 ? 1 : 0);
    assert_true((f->direction.pending > 0) == (f->direction.buffer != NULL));
    return result;
}

static void feed(struct fixture *f, uint64_t count)
{
    f->fed += pair_feed(f->feeder, f->fed, count);
}

static uint64_t eat(struct fixture *f, uint64_t most)
{
    return pair_eat(f->eater, &f->eaten, most);
}

/* Feeds and pumps until the destination takes no more. */
static void fill(struct fixture *f)
{
    enum pump_result result;

    do {
        feed(f, 4 * SCRATCH);
        result = pump(f);
        if (result == PUMP_WANT_READ)
            pair_wait_either(f->from, POLLIN, f->feeder, POLLOUT);
    } while (result != PUMP_WANT_WRITE);
    assert_true(f->direction.pending > 0);
}

/* ---- whole and in order ---- */

/* One pump; what it says is waited for, unless the test itself has to move first. */
static enum pump_result step(struct fixture *f, uint64_t total, bool moved)
{
    enum pump_result result = pump(f);

    switch (result) {
    case PUMP_WANT_READ:
        if (!moved && f->fed == total)
            pair_wait(f->from, POLLIN);
        break;
    case PUMP_WANT_WRITE:
        if (!moved)
            pair_wait(f->eater, POLLIN);
        break;
    case PUMP_AGAIN:
    case PUMP_EOF:
        break;
    default:
        fail_msg("pump says %d: %s", result, strerror(f->io.error));
    }
    return result;
}

/* Carries `total` bytes and the end; the eater takes at most `bite` at a time. */
static void carry(struct fixture *f, uint64_t total, uint64_t bite)
{
    enum pump_result result = PUMP_AGAIN;

    f->io.to_the_end = true; /* no poller here that would tell of a FIN behind a short read */
    while (result != PUMP_EOF) {
        uint64_t before = f->fed;
        feed(f, total - f->fed);
        if (f->fed == total && f->feeder >= 0)
            hang_up(&f->feeder);
        result = step(f, total, eat(f, bite) > 0 || f->fed > before);
    }
    assert_true(f->direction.eof);
    hang_up(&f->to);
    while (!f->eaten.end) {
        pair_wait(f->eater, POLLIN);
        eat(f, UINT64_MAX);
        assert_int_equal(f->eaten.error, 0);
    }
    assert_int_equal(f->eaten.place, total);
    assert_int_equal(f->direction.bytes, total);
    assert_int_equal(f->direction.pending, 0);
}

static void carries_whole_streams(void **state)
{
    static const uint64_t sizes[] = {0, 1, SCRATCH - 1, SCRATCH, SCRATCH + 1, 3000001};
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        set_up(&f, 0);
        carry(&f, sizes[i], UINT64_MAX);
        tear_down(&f);
    }
}

static void carries_through_tiny_buffers(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, SMALL);
    carry(&f, 300007, UINT64_MAX);
    tear_down(&f);
}

static void carries_to_a_slow_reader(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, SMALL);
    carry(&f, 100003, 333);
    tear_down(&f);
}

static void carries_between_unix_sockets(void **state)
{
    struct fixture f;
    int in[2], out[2];

    (void)state;
    pair_unix(in);
    pair_unix(out);
    set_up_on(&f, in, out);
    carry(&f, 1000003, 7001);
    tear_down(&f);
}

static void carries_small_segments(void **state)
{
    struct fixture f;
    uint64_t total = 0;

    (void)state;
    set_up(&f, 0);
    for (int i = 0; i < 500; i++) {
        feed(&f, 17);
        total += 17;
    }
    assert_int_equal(f.fed, total);
    carry(&f, total, UINT64_MAX);
    tear_down(&f);
}

/* ---- what a pump says ---- */

static void an_empty_source_wants_reading(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    assert_int_equal(pump(&f), PUMP_WANT_READ);
    assert_int_equal(f.direction.bytes, 0);
    tear_down(&f);
}

/* Copy asks once: less than it had room for was all there is. */
static void a_short_read_ends_the_pump(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    feed(&f, 100);
    pair_wait(f.from, POLLIN);
    assert_int_equal(pump(&f), PUMP_WANT_READ);
    assert_int_equal(f.direction.bytes, 100);
    assert_false(f.io.emptied);
    tear_down(&f);
}

static void data_and_fin_come_in_one_edge(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    f.io.to_the_end = true;
    feed(&f, 100);
    hang_up(&f.feeder);
    pair_wait(f.from, POLLRDHUP);
    assert_int_equal(pump(&f), PUMP_EOF);
    assert_int_equal(f.direction.bytes, 100);
    assert_true(f.direction.eof);
    tear_down(&f);
}

static void the_end_waits_behind_what_is_held(void **state)
{
    struct fixture f;
    enum pump_result result;

    (void)state;
    set_up(&f, SMALL);
    f.io.to_the_end = true;
    fill(&f);
    hang_up(&f.feeder);
    while ((result = pump(&f)) != PUMP_EOF) {
        assert_true(result == PUMP_WANT_WRITE || result == PUMP_WANT_READ);
        pair_wait_either(f.eater, POLLIN, f.from, POLLIN);
        eat(&f, UINT64_MAX);
    }
    assert_int_equal(f.direction.bytes, f.fed);
    tear_down(&f);
}

/* As after a hand-over: the end was seen before, and only what is held is left to deliver. */
static void an_end_seen_before_is_told_after_the_last_byte(void **state)
{
    struct fixture f;
    enum pump_result result;

    (void)state;
    set_up(&f, SMALL);
    fill(&f);
    f.direction.eof = true;
    while ((result = pump(&f)) == PUMP_WANT_WRITE) {
        pair_wait(f.eater, POLLIN);
        eat(&f, UINT64_MAX);
    }
    assert_int_equal(result, PUMP_EOF);
    assert_int_equal(f.direction.pending, 0);
    tear_down(&f);
}

static void a_full_destination_wants_writing(void **state)
{
    struct fixture f;
    uint32_t held;
    uint64_t bytes;

    (void)state;
    set_up(&f, SMALL);
    fill(&f);
    held = f.direction.pending;
    bytes = f.direction.bytes;
    assert_int_equal(pump(&f), PUMP_WANT_WRITE);
    assert_int_equal(f.direction.pending, held);
    assert_int_equal(f.direction.bytes, bytes);
    tear_down(&f);
}

static void the_budget_ends_a_pump(void **state)
{
    struct fixture f;
    int in[2], out[2];

    (void)state;
    pair_tcp(in, 4 << 20, 4 << 20);
    pair_tcp(out, 4 << 20, 4 << 20);
    set_up_on(&f, in, out);
    f.io.budget = SCRATCH;
    feed(&f, 1 << 20);
    pair_wait(f.from, POLLIN);
    assert_int_equal(pump(&f), PUMP_AGAIN);
    assert_true(f.direction.bytes >= SCRATCH);
    /* Copy reads at most one buffer over it, splice what one pipe can hold. */
    assert_true(f.direction.bytes < (1 << 20));
    f.io.budget = BUDGET;
    carry(&f, 1 << 20, UINT64_MAX);
    tear_down(&f);
}

/* ---- errors ---- */

static void a_reset_source_is_a_read_error(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    pair_reset(f.feeder);
    f.feeder = -1;
    pair_wait(f.from, POLLIN);
    assert_int_equal(pump(&f), PUMP_READ_ERROR);
    assert_int_equal(f.io.error, ECONNRESET);
    tear_down(&f);
}

static void bytes_before_a_reset_are_delivered(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    f.io.to_the_end = true;
    feed(&f, 5000);
    pair_reset(f.feeder);
    f.feeder = -1;
    pair_wait(f.from, POLLIN);
    assert_int_equal(pump(&f), PUMP_READ_ERROR);
    assert_int_equal(f.direction.bytes, 5000);
    pair_wait(f.eater, POLLIN);
    assert_int_equal(eat(&f, UINT64_MAX), 5000);
    tear_down(&f);
}

/* What was read for it is still there: the session counts it as lost. */
static void a_reset_destination_is_a_write_error(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    pair_reset(f.eater);
    f.eater = -1;
    pair_wait(f.to, POLLHUP);
    feed(&f, 100);
    pair_wait(f.from, POLLIN);
    assert_int_equal(pump(&f), PUMP_WRITE_ERROR);
    assert_int_equal(f.io.error, ECONNRESET);
    assert_int_equal(f.direction.bytes, 0);
    assert_int_equal(f.direction.pending + f.io.lost, 100);
    /* The kernel tells a reset once; from then on it is EPIPE, and no signal kills the process. */
    assert_int_equal(pump(&f), PUMP_WRITE_ERROR);
    assert_int_equal(f.io.error, EPIPE);
    assert_int_equal(engine->release(&f.direction, &f.tools), 100);
    tear_down(&f);
}

static void a_destination_may_fail_while_bytes_are_held(void **state)
{
    struct fixture f;
    uint32_t held;

    (void)state;
    set_up(&f, SMALL);
    fill(&f);
    held = f.direction.pending;
    pair_reset(f.eater);
    f.eater = -1;
    pair_wait(f.to, POLLHUP);
    assert_int_equal(pump(&f), PUMP_WRITE_ERROR);
    assert_int_equal(f.direction.pending, held);
    tear_down(&f);
}

/* ---- what is held ---- */

static void release_gives_all_up(void **state)
{
    struct fixture f;
    uint32_t held;

    (void)state;
    set_up(&f, SMALL);
    fill(&f);
    held = f.direction.pending;
    assert_int_equal(engine->release(&f.direction, &f.tools), held);
    assert_int_equal(f.direction.pending, 0);
    assert_null(f.direction.buffer);
    assert_int_equal(f.pipes.taken, 0);
    assert_int_equal(f.pipes.resting, 0); /* a pipe that held bytes is never used again */
    assert_int_equal(engine->release(&f.direction, &f.tools), 0);
    tear_down(&f);
}

/* Drained from one direction and put into another, the stream goes on without a seam. */
static void a_hand_over_keeps_the_stream(void **state)
{
    struct fixture f;
    struct direction next = {.engine = &engine_copy};
    uint32_t held;
    uint8_t *bytes;

    (void)state;
    set_up(&f, SMALL);
    fill(&f);
    assert_true(eat(&f, 1000) > 0);
    pump(&f); /* so that a part of what is held has gone already */
    held = f.direction.pending;
    assert_true(held > 0);
    bytes = malloc(held);
    assert_non_null(bytes);
    engine->drain(&f.direction, bytes, &f.tools);
    assert_int_equal(f.direction.pending, 0);
    assert_null(f.direction.buffer);
    assert_int_equal(f.pipes.taken, 0);
    for (uint32_t i = 0; i < held; i++)
        assert_int_equal(bytes[i], pair_byte(f.direction.bytes + i));
    next.bytes = f.direction.bytes;
    assert_int_equal(engine_refill(&next, bytes, held), 0);
    assert_int_equal(next.pending, held);
    free(bytes);
    while (next.pending > 0) {
        pair_wait(f.eater, POLLIN);
        eat(&f, UINT64_MAX);
        engine_copy.pump(&next, &f.io, &f.tools);
    }
    f.direction.bytes = next.bytes;
    carry(&f, f.fed + 100000, UINT64_MAX);
    tear_down(&f);
}

static void refilling_with_nothing_is_nothing(void **state)
{
    struct direction direction = {.engine = &engine_copy};

    (void)state;
    assert_int_equal(engine_refill(&direction, NULL, 0), 0);
    assert_null(direction.buffer);
}

static void refill_spliced(void *argument)
{
    struct direction direction = {.engine = &engine_splice};

    assert_int_equal(engine_refill(&direction, argument, 1), 0);
}

static void only_copy_is_refilled(void **state)
{
    (void)state;
    assert_bug(refill_spliced, "x", "engine_copy");
}

/* ---- an urgent mark ---- */

/* TCP's urgent byte stays in the stream; recv(2) stops before it once, splice(2) for ever. */
static void an_urgent_mark_is_no_end(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    f.io.to_the_end = true;
    feed(&f, 10);
    uint8_t urgent = pair_byte(f.fed++);
    assert_int_equal(send(f.feeder, &urgent, 1, MSG_OOB), 1);
    feed(&f, 10);
    pair_wait(f.from, POLLPRI);
    assert_int_equal(pump(&f), PUMP_WANT_READ);
    if (engine == &engine_splice) {
        assert_false(f.io.emptied);
        assert_int_equal(f.direction.bytes, 10);
        assert_int_equal(engine_copy.pump(&f.direction, &f.io, &f.tools), PUMP_WANT_READ);
    }
    assert_true(f.io.emptied);
    assert_int_equal(f.direction.bytes, 21);
    pair_wait(f.eater, POLLIN);
    assert_int_equal(eat(&f, UINT64_MAX), 21);
    tear_down(&f);
}

/* ---- splice alone ---- */

static void without_a_pipe_nothing_is_read(void **state)
{
    struct fixture f;
    struct pipe_pair pipe[4];

    (void)state;
    set_up(&f, 0);
    for (size_t i = 0; i < ARRAY_LEN(pipe); i++)
        assert_int_equal(pipe_pool_take(&f.pipes, &pipe[i]), 0);
    feed(&f, 100);
    pair_wait(f.from, POLLIN);
    assert_int_equal(engine_splice.pump(&f.direction, &f.io, &f.tools), PUMP_UNABLE);
    assert_int_equal(f.direction.pending, 0);
    assert_null(f.direction.buffer);
    for (size_t i = 0; i < ARRAY_LEN(pipe); i++)
        pipe_pool_put(&f.pipes, &pipe[i], true);
    assert_int_equal(pump(&f), PUMP_WANT_READ);
    assert_int_equal(f.direction.bytes, 100);
    tear_down(&f);
}

/* EINVAL from splice(2), as from any descriptor that it does not know. */
static void what_cannot_be_spliced_is_told(void **state)
{
    struct fixture f;
    int source = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    assert_true(source >= 0);
    set_up(&f, 0);
    f.io.from = source;
    assert_int_equal(pump(&f), PUMP_UNABLE);
    assert_int_equal(f.direction.bytes, 0);
    close(source);
    tear_down(&f);
}

static const struct CMUnitTest every_engine[] = {
    cmocka_unit_test(carries_whole_streams),
    cmocka_unit_test(carries_through_tiny_buffers),
    cmocka_unit_test(carries_to_a_slow_reader),
    cmocka_unit_test(carries_between_unix_sockets),
    cmocka_unit_test(carries_small_segments),
    cmocka_unit_test(an_empty_source_wants_reading),
    cmocka_unit_test(data_and_fin_come_in_one_edge),
    cmocka_unit_test(the_end_waits_behind_what_is_held),
    cmocka_unit_test(an_end_seen_before_is_told_after_the_last_byte),
    cmocka_unit_test(a_full_destination_wants_writing),
    cmocka_unit_test(the_budget_ends_a_pump),
    cmocka_unit_test(a_reset_source_is_a_read_error),
    cmocka_unit_test(bytes_before_a_reset_are_delivered),
    cmocka_unit_test(a_reset_destination_is_a_write_error),
    cmocka_unit_test(a_destination_may_fail_while_bytes_are_held),
    cmocka_unit_test(release_gives_all_up),
    cmocka_unit_test(a_hand_over_keeps_the_stream),
    cmocka_unit_test(an_urgent_mark_is_no_end),
};

static const struct CMUnitTest copy_alone[] = {
    cmocka_unit_test(a_short_read_ends_the_pump),
    cmocka_unit_test(refilling_with_nothing_is_nothing),
    cmocka_unit_test(only_copy_is_refilled),
};

static const struct CMUnitTest splice_alone[] = {
    cmocka_unit_test(without_a_pipe_nothing_is_read),
    cmocka_unit_test(what_cannot_be_spliced_is_told),
};

int main(void)
{
    int failed;

    signal(SIGPIPE, SIG_IGN); /* as main does: splice(2) has no MSG_NOSIGNAL */
    engine = &engine_copy;
    failed = cmocka_run_group_tests_name("copy", every_engine, NULL, NULL);
    failed += cmocka_run_group_tests_name("copy alone", copy_alone, NULL, NULL);
    engine = &engine_splice;
    failed += cmocka_run_group_tests_name("splice", every_engine, NULL, NULL);
    failed += cmocka_run_group_tests_name("splice alone", splice_alone, NULL, NULL);
    return failed;
}
