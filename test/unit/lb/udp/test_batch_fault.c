/*
 * What becomes of datagrams that the kernel refuses to send, which it does here at the test's word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/udp/sender.h"

#include <sys/syscall.h>

static uint8_t text[65536];

/* ---- the kernel ---- */

/* Messages fail with `error` while there are `times`: of trains only, or of datagrams as well. */
static struct {
    int error;
    int times;
    bool trains_only;
} fault;

static bool fails(const struct msghdr *message)
{
    if (fault.times == 0 || (fault.trains_only && message->msg_controllen == 0))
        return false;
    fault.times--;
    errno = fault.error;
    return true;
}

/* In front of the C library's. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return fails(message) ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    unsigned int good = 0;

    while (good < count && !fails(&messages[good].msg_hdr))
        good++;
    if (good == 0)
        return -1;
    return (int)syscall(SYS_sendmmsg, fd, messages, good, flags);
}

static void open_sender(struct sender *sender)
{
    memset(&fault, 0, sizeof(fault));
    sender_open(sender);
}

/* ---- refusals of the kernel ---- */

static void a_train_too_wide_for_the_path_goes_singly(void **state)
{
    static const int errors[] = {EINVAL, EMSGSIZE};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct sender s;
        open_sender(&s);
        fault.error = errors[i];
        fault.times = 1;
        fault.trains_only = true;
        sender_add(&s, text, 250, 100, &s, UINT32_MAX);
        sender_add(&s, text + 250, 70, 70, &fault, UINT32_MAX);
        outbox_flush(&s.outbox);
        sender_expect_train(&s, text, 250, 100);
        (void)sender_expect(&s, text + 250, 70);
        assert_int_equal(s.uncut, 100);
        assert_ptr_equal(s.stream, &s);
        assert_false(s.outbox.no_gso);
        assert_int_equal(s.losses, 0);
        assert_int_equal(sender_count(&s, METRIC_GSO_SENT), 0);
        assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 4);
        sender_close(&s);
    }
}

/* Pieces of several trains: each datagram lies within one of them. */
static void a_joined_train_goes_singly(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    fault.error = EINVAL;
    fault.times = 1;
    fault.trains_only = true;
    sender_add(&s, text, 100, 100, &s, UINT32_MAX);
    sender_add(&s, text + 5000, 200, 100, &s, UINT32_MAX);
    sender_add(&s, text + 9000, 150, 100, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 1);
    outbox_flush(&s.outbox);
    (void)sender_expect(&s, text, 100);
    sender_expect_train(&s, text + 5000, 200, 100);
    sender_expect_train(&s, text + 9000, 150, 100);
    sender_close(&s);
}

static void a_device_without_checksums_ends_it_for_good(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    fault.error = EIO;
    fault.times = -1;
    fault.trains_only = true;
    sender_add(&s, text, 200, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_true(s.outbox.no_gso);
    assert_int_equal(s.uncut, 0);
    sender_add(&s, text, 200, 100, &s, UINT32_MAX);
    assert_int_equal(s.outbox.count, 2);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 200, 100);
    sender_expect_train(&s, text, 200, 100);
    assert_int_equal(s.losses, 0);
    sender_close(&s);
}

/* The kernel tells an earlier datagram's error to the next, which goes on the second try, whole. */
static void an_error_of_an_earlier_datagram_costs_nothing(void **state)
{
    static const int errors[] = {EMSGSIZE, ECONNREFUSED};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct sender s;
        open_sender(&s);
        s.again = s.fd[0];
        fault.error = errors[i];
        fault.times = 1;
        sender_add(&s, text, 300, 100, &s, UINT32_MAX);
        outbox_flush(&s.outbox);
        fault.times = 1;
        sender_add(&s, text + 300, 10, 10, &s, UINT32_MAX);
        outbox_flush(&s.outbox);
        sender_expect_train(&s, text, 300, 100);
        (void)sender_expect(&s, text + 300, 10);
        assert_int_equal(s.failures, 2);
        assert_int_equal(s.uncut, 0);
        assert_int_equal(s.losses, 0);
        assert_int_equal(sender_count(&s, METRIC_GSO_DATAGRAMS), 3);
        sender_close(&s);
    }
}

/* The rest of the batch takes the new way too. */
static void another_socket_takes_over(void **state)
{
    struct sender s;
    union inet_address first, second, from;
    int stream[3];

    (void)state;
    open_sender(&s);
    first = peer_name(s.fd[0]);
    second = peer_name(s.other);
    s.again = s.other;
    sender_add(&s, text, 10, 10, &stream[0], UINT32_MAX);
    outbox_flush(&s.outbox);
    fault.error = ECONNREFUSED;
    fault.times = 1;
    for (size_t i = 0; i < 3; i++)
        sender_add(&s, text, 10, 10, &stream[i], UINT32_MAX);
    outbox_flush(&s.outbox);
    from = sender_expect(&s, text, 10);
    assert_true(inet_address_equal(&from, &first));
    for (size_t i = 0; i < 3; i++) {
        from = sender_expect(&s, text, 10);
        assert_true(inet_address_equal(&from, &second));
    }
    assert_int_equal(s.failures, 1);
    assert_ptr_equal(s.stream, &stream[0]);
    sender_close(&s);
}

/* On the new way it does not fit: singly, not lost. */
static void a_train_that_fails_in_both_ways_goes_singly(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    s.again = s.other;
    fault.error = EMSGSIZE;
    fault.times = 2;
    fault.trains_only = true;
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text, 300, 100);
    assert_int_equal(s.uncut, 100);
    assert_int_equal(s.losses, 0);
    sender_close(&s);
}

static void what_is_lost_is_told_datagram_by_datagram(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    fault.error = EPERM;
    fault.times = 1;
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    sender_add(&s, text + 300, 10, 10, &fault, UINT32_MAX);
    outbox_flush(&s.outbox);
    (void)sender_expect(&s, text + 300, 10);
    assert_int_equal(s.losses, 1);
    assert_int_equal(s.lost, 3);
    assert_int_equal(s.last_error, EPERM);
    assert_ptr_equal(s.stream, &s);
    assert_int_equal(sender_count(&s, METRIC_DATAGRAMS_IN), 1);

    /* Of a train that goes singly, each has its own fate. */
    fault.error = EMSGSIZE;
    fault.times = 2;
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_train(&s, text + 100, 200, 100);
    assert_int_equal(s.losses, 2);
    assert_int_equal(s.lost, 4);

    /* Tried once more, and no more than once. */
    s.again = s.fd[0];
    s.failures = 0;
    fault.error = EAGAIN;
    fault.times = 2;
    sender_add(&s, text, 10, 10, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.lost, 5);
    sender_close(&s);
}

/* ---- with something in front ---- */

static char head[] = "head";
static const struct iovec front = {head, 4};

static void an_uncut_train_keeps_its_prefixes(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    s.outbox.prefix = front;
    fault.error = EINVAL;
    fault.times = 1;
    fault.trains_only = true;
    sender_add(&s, text, 250, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 100);
    sender_expect_headed(&s, &front, text + 100, 100);
    sender_expect_headed(&s, &front, text + 200, 50);
    assert_int_equal(s.uncut, 104);
    assert_int_equal(s.losses, 0);
    sender_close(&s);
}

/* The owner finds another way for a batch in its midst, and whoever is there has to be told. */
static int greet_anew(void *owner, void *stream, int error)
{
    struct sender *sender = owner;

    sender->outbox.lead = front;
    return sender_on_failed(owner, stream, error);
}

static void what_takes_another_way_begins_anew(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    s.outbox.failed = greet_anew;
    s.again = s.other;
    fault.error = ECONNREFUSED;
    fault.times = 1;
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    sender_add(&s, text + 300, 200, 200, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 100);
    sender_expect_train(&s, text + 100, 200, 100);
    (void)sender_expect(&s, text + 300, 200);
    assert_int_equal(s.outbox.lead.iov_len, 0);
    assert_int_equal(s.failures, 1);
    assert_int_equal(s.losses, 0);
    sender_close(&s);
}

/* Each datagram fails twice at the most, whatever the owner says. */
static void nothing_is_tried_in_a_circle(void **state)
{
    struct sender s;

    (void)state;
    open_sender(&s);
    s.outbox.failed = greet_anew;
    s.again = s.other;
    fault.error = ECONNREFUSED;
    fault.times = -1;
    sender_add(&s, text, 300, 100, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    assert_int_equal(s.lost, 3);
    assert_int_equal(s.failures, 4);
    assert_int_equal(s.outbox.lead.iov_len, 4);
    fault.times = 0;
    sender_add(&s, text, 10, 10, &s, UINT32_MAX);
    outbox_flush(&s.outbox);
    sender_expect_headed(&s, &front, text, 10);
    sender_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_train_too_wide_for_the_path_goes_singly),
        cmocka_unit_test(a_joined_train_goes_singly),
        cmocka_unit_test(a_device_without_checksums_ends_it_for_good),
        cmocka_unit_test(an_error_of_an_earlier_datagram_costs_nothing),
        cmocka_unit_test(another_socket_takes_over),
        cmocka_unit_test(a_train_that_fails_in_both_ways_goes_singly),
        cmocka_unit_test(what_is_lost_is_told_datagram_by_datagram),
        cmocka_unit_test(an_uncut_train_keeps_its_prefixes),
        cmocka_unit_test(what_takes_another_way_begins_anew),
        cmocka_unit_test(nothing_is_tried_in_a_circle),
    };
    peer_fill(text, sizeof(text), 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
