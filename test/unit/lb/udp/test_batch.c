/* Datagrams in batches: trains cut, joined, sent and received, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/sender.h"

static uint8_t text[65536];

/* ---- trains ---- */

static void trains_are_counted(void **state)
{
    (void)state;
    assert_int_equal(train_count(&(struct train){text, 0, 0}), 1);
    assert_int_equal(train_count(&(struct train){text, 1, 1}), 1);
    assert_int_equal(train_count(&(struct train){text, 99, 100}), 1);
    assert_int_equal(train_count(&(struct train){text, 100, 100}), 1);
    assert_int_equal(train_count(&(struct train){text, 101, 100}), 2);
    assert_int_equal(train_count(&(struct train){text, 6400, 100}), 64);
    assert_int_equal(train_count(&(struct train){text, 65507, 65507}), 1);
    assert_int_equal(train_count(&(struct train){text, 65507, 1}), 65507);
}

static void trains_are_cut_at_datagrams(void **state)
{
    struct train train = {text, 250, 100};
    struct train head;

    (void)state;
    head = train_cut(&train, 1);
    assert_ptr_equal(head.bytes, text);
    assert_int_equal(head.length, 100);
    assert_int_equal(head.segment, 100);
    assert_ptr_equal(train.bytes, text + 100);
    assert_int_equal(train.length, 150);
    assert_int_equal(train_count(&train), 2);
    head = train_cut(&train, 1);
    assert_ptr_equal(head.bytes, text + 100);
    assert_ptr_equal(train.bytes, text + 200);
    assert_int_equal(train.length, 50);
    assert_int_equal(train_count(&train), 1);
}

/* ---- joining ---- */

static void one_stream_and_size_are_one_message(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, 100, 100, &s, UINT32_MAX);
    sender_add(&s, text + 100, 200, 100, &s, UINT32_MAX);
    sender_add(&s, text + 300, 30, 30, &s, UINT32_MAX); /* a short one closes it */
    sender_add(&s, text + 330, 30, 30, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 330, 100);
    (void)sender_expect(&s, text + 330, 30);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 5);
    assert_int_equal(sender_count(&s, METRIC_GSO_SENT), 1);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 4);
    sender_close(&s);
}

static void a_train_with_a_short_tail_goes_as_one(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, 1000, 300, &s, UINT32_MAX);
    sender_add(&s, text + 1000, 300, 300, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 1000, 300);
    (void)sender_expect(&s, text + 1000, 300);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 4);
    sender_close(&s);
}

static void what_does_not_fit_is_not_joined(void **state)
{
    struct sender s;
    int other;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, 100, 100, &s, UINT32_MAX);
    sender_add(&s, text, 100, 100, &other, UINT32_MAX); /* another stream */
    sender_add(&s, text, 101, 101, &other, UINT32_MAX); /* larger */
    sender_add(&s, text, 200, 100, &other, UINT32_MAX); /* two that are smaller */
    sender_add(&s, text, 0, 0, &other, UINT32_MAX);     /* empty ones are no part of any */
    sender_add(&s, text, 0, 0, &other, UINT32_MAX);
    sender_add(&s, text, 100, 100, &other, UINT32_MAX);
    assert_int_equal(s.outbox.count, 7);
    outbox_flush(&s.outbox);
    (void)sender_expect(&s, text, 100);
    (void)sender_expect(&s, text, 100);
    (void)sender_expect(&s, text, 101);
    sender_expect_train(&s, text, 200, 100);
    (void)sender_expect(&s, text, 0);
    (void)sender_expect(&s, text, 0);
    (void)sender_expect(&s, text, 100);
    assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 8);
    sender_close(&s);
}

static void no_message_is_more_than_the_kernel_takes(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    /* 64 datagrams, and not one more. */
    for (uint32_t i = 0; i < 32; i++)
        sender_add(&s, text + i * 20, 20, 10, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 1);
    sender_add(&s, text + 640, 10, 10, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 650, 10);
    assert_int_equal(sender_count(&s, METRIC_GSO_SENT), 1);

    /* TRAIN_MAX bytes, and not one more. */
    sender_add(&s, text, 4 * 13000, 13000, &s, UINT32_MAX);
    sender_add(&s, text + 52000, 13000, 13000, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 1);
    sender_add(&s, text + 65000, TRAIN_MAX - 65000 + 1, TRAIN_MAX - 65000 + 1, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 65000, 13000);
    (void)sender_expect(&s, text + 65000, TRAIN_MAX - 65000 + 1);
    assert_int_equal(s.losses, 0);
    sender_close(&s);
}

static void a_message_of_train_max_bytes_goes(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, TRAIN_MAX, 1472, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, TRAIN_MAX, 1472);
    assert_int_equal(s.failures, 0);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 45);
    sender_close(&s);
}

static void sizes_that_cannot_be_cut_go_singly(void **state)
{
    struct sender s;

    (void)state;
    sender_open(&s);
    sender_add(&s, text, 350, 100, &s, 100);
    sender_add(&s, text + 350, 100, 100, &s, 100);
    sender_add(&s, text + 450, 99, 99, &s, 100);
    sender_add(&s, text + 549, 99, 99, &s, 100);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 350, 100);
    (void)sender_expect(&s, text + 350, 100);
    sender_expect_train(&s, text + 450, 198, 99);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 1);
    assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 2);
    assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 7);
    sender_close(&s);
}

/* More pieces, and more messages, than an outbox holds: flushed on the way, nothing lost. */
static void a_full_outbox_is_flushed(void **state)
{
    struct sender s;
    int stream[2];

    (void)state;
    sender_open(&s);
    for (uint32_t i = 0; i < 3 * BATCH; i++)
        sender_add(&s, text + i, 1, 1, &stream[i % 2], UINT32_MAX);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 3 * BATCH, 1);
    for (uint32_t i = 0; i < PIECES; i++)
        sender_add(&s, text + i, 1, 1, stream, UINT32_MAX);
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 4);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, PIECES, 1);
    outbox_flush(&s.outbox); /* nothing is there: no call */
    assert_int_equal(sender_count(&s, METRIC_UDP_SENDS), 5);
    sender_close(&s);
}

static void this_kernel_can_join(void **state)
{
    struct sender s;
    int pipes[2];

    (void)state;
    sender_open(&s);
    assert_true(outbox_can_join(s.fd[0]));
    assert_int_equal(pipe(pipes), 0);
    assert_false(outbox_can_join(pipes[0]));
    close(pipes[0]);
    close(pipes[1]);
    sender_close(&s);
}

/* ---- receiving ---- */

static void a_tray_takes_datagrams_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 1472, 65507};
    struct sender s;
    struct tray tray;
    struct train train;
    struct local local;

    (void)state;
    sender_open(&s);
    assert_int_equal(tray_open(&tray), 0);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        assert_int_equal(send(s.fd[0], text, sizes[i], 0), sizes[i]);
    assert_int_equal(tray_receive(&tray, s.fd[1], BATCH), ARRAY_LEN(sizes));
    assert_int_equal(tray.used, ARRAY_LEN(sizes));
    for (uint32_t i = 0; i < tray.used; i++) {
        assert_true(tray_get(&tray, i, &train, &local));
        assert_int_equal(train.length, sizes[i]);
        assert_int_equal(train_count(&train), 1);
        if (sizes[i] > 0)
            assert_memory_equal(train.bytes, text, sizes[i]);
        assert_int_equal(local.interface, 0);
        assert_true(IN6_IS_ADDR_UNSPECIFIED(&local.address));
        assert_int_equal(inet_address_port(&tray.from[i]), ntohs(peer_name(s.fd[0]).v4.sin_port));
    }
    assert_int_equal(tray_receive(&tray, s.fd[1], 1), -EAGAIN);
    tray_close(&tray);
    tray_close(&tray);
    sender_close(&s);
}

static void a_short_batch_has_emptied_the_socket(void **state)
{
    struct sender s;
    struct tray tray;

    (void)state;
    sender_open(&s);
    assert_int_equal(tray_open(&tray), 0);
    for (size_t i = 0; i < BATCH + 3; i++)
        assert_int_equal(send(s.fd[0], text + i, 1, 0), 1);
    assert_int_equal(tray_receive(&tray, s.fd[1], BATCH), BATCH);
    tray.used = 0;
    assert_int_equal(tray_receive(&tray, s.fd[1], BATCH), 3);
    assert_int_equal(tray.bytes[0], text[BATCH]);
    tray_close(&tray);
    sender_close(&s);
}

/* What came of one sender as one message is a train, with the size of its datagrams. */
static void a_tray_takes_trains(void **state)
{
    struct sender s;
    struct tray tray;
    struct train train;
    struct local local;
    union inet_address to;

    (void)state;
    sender_open(&s);
    assert_int_equal(tray_open(&tray), 0);
    peer_option(s.fd[1], IPPROTO_UDP, 104 /* UDP_GRO */, 1);
    to = peer_name(s.fd[1]);
    peer_send_train(s.fd[0], text, 44 * 1472 + 7, 1472, &to);
    assert_int_equal(tray_receive(&tray, s.fd[1], BATCH), 1);
    assert_true(tray_get(&tray, 0, &train, &local));
    assert_int_equal(train.length, 44 * 1472 + 7);
    assert_int_equal(train.segment, 1472);
    assert_int_equal(train_count(&train), 45);
    assert_memory_equal(train.bytes, text, 44 * 1472 + 7);
    tray_close(&tray);
    sender_close(&s);
}

/* The address that was used, mapped for IPv4; a mapped one of both families is one already. */
static void a_tray_knows_the_address_that_was_used(void **state)
{
    struct tray tray;
    struct train train;
    struct local local;
    union inet_address to;
    int receiver = peer_socket("0.0.0.0:0");
    int sender = peer_socket("127.0.0.1:0");

    (void)state;
    peer_pin();
    assert_int_equal(tray_open(&tray), 0);
    peer_option(receiver, IPPROTO_IP, IP_PKTINFO, 1);
    to = peer_name(receiver);
    to.v4.sin_addr.s_addr = htonl(0x7f000009);
    peer_send(sender, "x", 1, &to);
    assert_int_equal(tray_receive(&tray, receiver, BATCH), 1);
    assert_true(tray_get(&tray, 0, &train, &local));
    assert_true(IN6_IS_ADDR_V4MAPPED(&local.address));
    assert_int_equal(local.address.s6_addr32[3], htonl(0x7f000009));
    assert_int_equal(local.interface, 0);
    tray_close(&tray);
    close(sender);
    close(receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains_are_counted),
        cmocka_unit_test(trains_are_cut_at_datagrams),
        cmocka_unit_test(one_stream_and_size_are_one_message),
        cmocka_unit_test(a_train_with_a_short_tail_goes_as_one),
        cmocka_unit_test(what_does_not_fit_is_not_joined),
        cmocka_unit_test(no_message_is_more_than_the_kernel_takes),
        cmocka_unit_test(a_message_of_train_max_bytes_goes),
        cmocka_unit_test(sizes_that_cannot_be_cut_go_singly),
        cmocka_unit_test(a_full_outbox_is_flushed),
        cmocka_unit_test(this_kernel_can_join),
        cmocka_unit_test(a_tray_takes_datagrams_whole),
        cmocka_unit_test(a_short_batch_has_emptied_the_socket),
        cmocka_unit_test(a_tray_takes_trains),
        cmocka_unit_test(a_tray_knows_the_address_that_was_used),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
