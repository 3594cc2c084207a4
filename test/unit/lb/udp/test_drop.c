/* What an errno of a send says: of the server, of the datagram, or of ourselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lb/udp/private.h"

#include <errno.h>

/* icmp(7), and net/ipv6/icmp.c for EACCES. */
static void what_icmp_tells_is_a_refusal(void **state)
{
    static const int refusals[] = {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENONET,
                                   EPROTO,       ENOPROTOOPT,  EOPNOTSUPP,  EACCES};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        assert_true(drop_is_refusal(refusals[i]));
        assert_int_equal(drop_reason(refusals[i]), METRIC_DROP_REFUSED);
    }
}

static void the_rest_is_not(void **state)
{
    static const struct {
        int error;
        enum metric why;
    } rest[] = {
        {EMSGSIZE, METRIC_DROP_TOO_LARGE},       {EAGAIN, METRIC_DROP_SEND_QUEUE},
        {ENOBUFS, METRIC_DROP_SEND_QUEUE},       {ENOMEM, METRIC_DROP_SEND_QUEUE},
        {EPERM, METRIC_DROP_SEND_ERROR},         {EINVAL, METRIC_DROP_SEND_ERROR},
        {EADDRNOTAVAIL, METRIC_DROP_SEND_ERROR},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rest); i++) {
        assert_false(drop_is_refusal(rest[i].error));
        assert_int_equal(drop_reason(rest[i].error), rest[i].why);
    }
    assert_false(drop_is_refusal(0));
}

/* Of a connect, that is: at a send EAGAIN is the queue. */
static void a_connect_without_a_port(void **state)
{
    (void)state;
    assert_true(drop_is_no_port(EAGAIN));
    assert_true(drop_is_no_port(EADDRINUSE));
    assert_true(drop_is_no_port(EADDRNOTAVAIL));
    assert_false(drop_is_no_port(EMFILE));
    assert_false(drop_is_no_port(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_icmp_tells_is_a_refusal),
        cmocka_unit_test(the_rest_is_not),
        cmocka_unit_test(a_connect_without_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
