/* A log line crosses the ring whole, in order, or not at all. */
#include "common/log_ring.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZE 64

static int ring_setup(void **state)
{
    *state = log_ring_new(SIZE);
    return *state ? 0 : -1;
}

static int ring_teardown(void **state)
{
    struct log_ring *ring = *state;
    log_ring_free(&ring);
    assert_null(ring);
    return 0;
}

static void push(struct log_ring *ring, const char *line)
{
    assert_true(log_ring_push(ring, line, strlen(line)));
}

static void expect(struct log_ring *ring, size_t room, const char *lines)
{
    char out[SIZE];
    size_t n = log_ring_pop(ring, out, room);
    assert_int_equal(n, strlen(lines));
    assert_memory_equal(out, lines, n);
}

static void test_lines_come_out_in_order(void **state)
{
    struct log_ring *ring = *state;
    assert_true(log_ring_empty(ring));
    push(ring, "one\n");
    push(ring, "two\n");
    assert_false(log_ring_empty(ring));
    expect(ring, SIZE, "one\ntwo\n");
    assert_true(log_ring_empty(ring));
    expect(ring, SIZE, "");
}

static void test_small_room_gets_whole_lines_only(void **state)
{
    struct log_ring *ring = *state;
    push(ring, "one\n");
    push(ring, "twenty\n");
    expect(ring, 3, "");
    expect(ring, 4, "one\n");
    expect(ring, 6, "");
    expect(ring, 7, "twenty\n");
}

static void test_full_ring_refuses_and_recovers(void **state)
{
    struct log_ring *ring = *state;
    char line[SIZE + 1];
    memset(line, 'x', sizeof(line));
    line[SIZE - 1] = '\n';
    assert_false(log_ring_push(ring, line, SIZE + 1));
    assert_true(log_ring_push(ring, line, SIZE));
    assert_false(log_ring_push(ring, "\n", 1));
    assert_int_equal(log_ring_discard(ring), 1);
    push(ring, "again\n");
    expect(ring, SIZE, "again\n");
}

/* Every length at every position of the seam. */
static void test_lines_wrap(void **state)
{
    struct log_ring *ring = *state;
    for (int round = 0; round < 1000; round++) {
        char line[SIZE];
        snprintf(line, sizeof(line), "%0*d\n", 1 + round % 61, round % 10);
        push(ring, line);
        expect(ring, SIZE, line);
    }
}

static void test_discard_counts_lines(void **state)
{
    struct log_ring *ring = *state;
    assert_int_equal(log_ring_discard(ring), 0);
    for (int i = 0; i < 20; i++)
        push(ring, "ab\n");
    assert_int_equal(log_ring_discard(ring), 20);
    assert_true(log_ring_empty(ring));
}

static void test_lines_in(void **state)
{
    (void)state;
    assert_int_equal(log_lines_in("", 0), 0);
    assert_int_equal(log_lines_in("\n\n", 2), 2);
    assert_int_equal(log_lines_in("a\nb", 3), 1);
    assert_int_equal(log_lines_in("a\nb\n", 3), 1);
}

#define NUMBERS 50000

static void *push_numbers(void *argument)
{
    struct log_ring *ring = argument;
    for (int i = 0; i < NUMBERS; i++) {
        char line[16];
        int length = snprintf(line, sizeof(line), "%d\n", i);
        while (!log_ring_push(ring, line, (size_t)length))
            sched_yield();
    }
    return NULL;
}

static void test_two_threads_keep_the_order(void **state)
{
    struct log_ring *ring = *state;
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, push_numbers, ring), 0);
    for (long next = 0; next < NUMBERS;) {
        char out[SIZE + 1];
        size_t n = log_ring_pop(ring, out, SIZE);
        out[n] = '\0';
        if (n == 0)
            sched_yield();
        for (char *at = out; *at; at++)
            assert_int_equal(strtol(at, &at, 10), next++);
    }
    pthread_join(producer, NULL);
    assert_true(log_ring_empty(ring));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_come_out_in_order, ring_setup, ring_teardown),
        cmocka_unit_test_setup_teardown(test_small_room_gets_whole_lines_only, ring_setup,
                                        ring_teardown),
        cmocka_unit_test_setup_teardown(test_full_ring_refuses_and_recovers, ring_setup,
                                        ring_teardown),
        cmocka_unit_test_setup_teardown(test_lines_wrap, ring_setup, ring_teardown),
        cmocka_unit_test_setup_teardown(test_discard_counts_lines, ring_setup, ring_teardown),
        cmocka_unit_test(test_lines_in),
        cmocka_unit_test_setup_teardown(test_two_threads_keep_the_order, ring_setup, ring_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
