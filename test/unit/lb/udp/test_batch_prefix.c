/* What goes in front of datagrams: of each one, or of the next that the kernel takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/sender.h"

static uint8_t text[65536];
static uint8_t head[] = "a header";
#define HEAD (sizeof(head) - 1)
static const struct iovec front = {head, HEAD};

static void set_prefix(struct sender *s)
{
    s->outbox.prefix = front;
}

static void set_lead(struct sender *s)
{
    s->outbox.lead = front;
}

static void expect_headed_train(const struct sender *s, const uint8_t *bytes, size_t length,
                                size_t segment)
{
    for (size_t at = 0; at < length; at += segment)
        sender_expect_headed(s, &front, bytes + at, MIN(segment, length - at));
}

/* ---- each ---- */

static void a_train_with_prefixes_is_one_message(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    sender_add(&s, text, 40 * 1000 + 7, 1000, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    expect_headed_train(&s, text, 40 * 1000 + 7, 1000);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    assert_int_equal(sender_count(&s, METRIC_GSO_SENT), 1);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 41);
    sender_close(&s);
}

/* As it would without: those that come one by one as well. */
static void equal_datagrams_are_one_message(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    for (uint32_t i = 0; i < SEGMENTS_MAX; i++)
        sender_add(&s, text + i, 100, 100, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 1);
    outbox_flush(&s.outbox);
    for (uint32_t i = 0; i < SEGMENTS_MAX; i++)
        sender_expect_headed(&s, &front, text + i, 100);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), SEGMENTS_MAX);
    sender_close(&s);
}

/* A train of all that the kernel takes is too much with its prefixes, and goes as two messages of
 * one call. */
static void prefixes_count_in_a_message_of_most_bytes(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    sender_add(&s, text, 1488 * 44, 1488, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    expect_headed_train(&s, text, 1488 * 44, 1488);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    sender_close(&s);
}

static void an_empty_datagram_is_the_prefix_alone(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    sender_add(&s, text, 0, 0, &s, UINT32_MAX);
    sender_add(&s, text, 0, 0, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 0);
    sender_expect_headed(&s, &front, text, 0);
    sender_close(&s);
}

/* `gso_below` is what the path takes, prefix included. */
static void prefixes_count_in_what_the_path_takes(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    sender_add(&s, text, 200, 100, &s, 100 + HEAD);
    assert_int_equal(s.outbox.count, 2);
    sender_add(&s, text, 200, 100, &s, 101 + HEAD);
    assert_int_equal(s.outbox.count, 3);
    outbox_flush(&s.outbox);
    expect_headed_train(&s, text, 200, 100);
    expect_headed_train(&s, text, 200, 100);
    sender_close(&s);
}

static void with_and_without_a_prefix_is_not_joined(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, 100 + HEAD, 100 + HEAD, &s, UINT32_MAX);
    set_prefix(&s);
    sender_add(&s, text, 100, 100, &s, UINT32_MAX);
    s.outbox.prefix.iov_len = 0;
    sender_add(&s, text, 100 + HEAD, 100 + HEAD, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 3);
    outbox_flush(&s.outbox);
    (void)sender_expect(&s, text, 100 + HEAD);
    sender_expect_headed(&s, &front, text, 100);
    (void)sender_expect(&s, text, 100 + HEAD);
    sender_close(&s);
}

static void a_full_outbox_of_prefixes_is_flushed(void **state)
{
    static int stream[2];
    struct sender s;
    uint32_t datagrams = PIECES / 2 + 3;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    for (uint32_t i = 0; i < datagrams; i++)
        sender_add(&s, text + i, 10, 10, stream, UINT32_MAX);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    outbox_flush(&s.outbox);
    for (uint32_t i = 0; i < datagrams; i++)
        sender_expect_headed(&s, &front, text + i, 10);
    for (uint32_t i = 0; i < BATCH + 1; i++)
        sender_add(&s, text + i, 10, 10, &stream[i % 2], UINT32_MAX);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 3);
    outbox_flush(&s.outbox);
    for (uint32_t i = 0; i < BATCH + 1; i++)
        sender_expect_headed(&s, &front, text + i, 10);
    sender_close(&s);
}

static void a_datagram_of_65508_bytes_is_lost(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_prefix(&s);
    sender_add(&s, text, 65508 - HEAD, 65508 - HEAD, &s, UINT32_MAX);
    sender_add(&s, text, 65507 - HEAD, 65507 - HEAD, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_int_equal(s.lost, 1);
    assert_int_equal(s.last_error, EMSGSIZE);
    sender_expect_headed(&s, &front, text, 65507 - HEAD);
    sender_close(&s);
}

/* ---- the next one ---- */

/* The first of a train goes before the others, which go as before. */
static void the_lead_goes_ahead_of_one_datagram(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_lead(&s);
    sender_add(&s, text, 1005, 100, &s, UINT32_MAX);
    sender_add(&s, text + 2000, 50, 50, &s.outbox, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 100);
    sender_expect_train(&s, text + 100, 905, 100);
    (void)sender_expect(&s, text + 2000, 50);
    assert_int_equal(s.outbox.lead.iov_len, 0);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 2);
    assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 12);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 10);
    sender_close(&s);
}

/* Of two one is left, which is no train; of pieces that were joined whole ones are taken off. */
static void what_is_left_of_a_train_goes_as_it_is(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_lead(&s);
    sender_add(&s, text, 150, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 100);
    (void)sender_expect(&s, text + 100, 50);
    set_lead(&s);
    for (uint32_t i = 0; i < 3; i++)
        sender_add(&s, text + i, 10, 10, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 10);
    (void)sender_expect(&s, text + 1, 10);
    (void)sender_expect(&s, text + 2, 10);
    set_lead(&s);
    sender_add(&s, text, 0, 0, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 0);
    sender_close(&s);
}

/* It would be there twice. */
static void a_prefix_takes_the_place_of_the_lead(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_lead(&s);
    set_prefix(&s);
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    s.outbox.prefix.iov_len = 0;
    sender_add(&s, text + 300, 100, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    expect_headed_train(&s, text, 300, 100);
    (void)sender_expect(&s, text + 300, 100);
    sender_close(&s);
}

static void a_datagram_that_was_not_taken_does_not_use_the_lead_up(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    set_lead(&s);
    sender_add(&s, text, 65500, 65500, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_int_equal(s.lost, 1);
    assert_int_equal(s.last_error, EMSGSIZE);
    assert_int_equal(s.outbox.lead.iov_len, HEAD);
    sender_add(&s, text, 65501, 65501, &s, UINT32_MAX);
    sender_add(&s, text, 200, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_int_equal(s.lost, 2);
    sender_expect_headed(&s, &front, text, 100);
    (void)sender_expect(&s, text + 100, 100);
    assert_int_equal(s.outbox.lead.iov_len, 0);
    sender_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_train_with_prefixes_is_one_message),
        cmocka_unit_test(equal_datagrams_are_one_message),
        cmocka_unit_test(prefixes_count_in_a_message_of_most_bytes),
        cmocka_unit_test(an_empty_datagram_is_the_prefix_alone),
        cmocka_unit_test(prefixes_count_in_what_the_path_takes),
        cmocka_unit_test(with_and_without_a_prefix_is_not_joined),
        cmocka_unit_test(a_full_outbox_of_prefixes_is_flushed),
        cmocka_unit_test(a_datagram_of_65508_bytes_is_lost),
        cmocka_unit_test(the_lead_goes_ahead_of_one_datagram),
        cmocka_unit_test(what_is_left_of_a_train_goes_as_it_is),
        cmocka_unit_test(a_prefix_takes_the_place_of_the_lead),
        cmocka_unit_test(a_datagram_that_was_not_taken_does_not_use_the_lead_up),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
