/* Which address is next, and that each port goes back where it came from. */
#include "lb/ports/ports.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "test/unit/lb/ports/fixture.h"

static int begin(void **state)
{
    (void)state;
    fixture_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    fixture_end();
    return 0;
}

static void addresses_take_turns(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    unsigned taken[2] = {0};
    for (int i = 0; i < 100; i++)
        taken[ports_take(ports, 0, now)]++;
    assert_int_equal(taken[0], 50);
    assert_int_equal(taken[1], 50);
    ports_put(&ports);
}

/* Short ones, of which none is open when the next one comes. */
static void closed_ones_count_as_well(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    unsigned taken[2] = {0};
    for (int i = 0; i < 100; i++) {
        uint8_t index = ports_take(ports, 0, now);
        taken[index]++;
        ports_give(ports, index);
        pass(100);
    }
    assert_int_equal(taken[0], 50);
    assert_int_equal(taken[1], 50);
    assert_int_equal(ports_held(ports->tally[0]), 50);
    assert_int_equal(ports_open(ports->tally[0]), 0);
    ports_put(&ports);
}

static void the_one_with_more_left_is_next(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    take(ports, 20);
    give(ports, 1, 10);
    pass(70000); /* those are free by now */
    for (int i = 0; i < 10; i++)
        assert_int_equal(ports_take(ports, 0, now), 1);
    assert_int_equal(ports_held(ports->tally[0]), 10);
    assert_int_equal(ports_held(ports->tally[1]), 10);
    ports_put(&ports);
}

static void what_was_tried_is_left_out(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    assert_int_equal(ports_take(ports, 1u << 0, now), 1);
    assert_int_equal(ports_take(ports, 1u << 0, now), 1);
    assert_int_equal(ports_take(ports, 1u << 1, now), 0);
    assert_int_equal(ports_take(ports, 1u << 0 | 1u << 1, now), PORTS_NONE);
    assert_int_equal(ports_held(ports->tally[0]), 1);
    assert_int_equal(ports_held(ports->tally[1]), 2);
    ports_put(&ports);
}

static void who_had_none_is_not_asked_for_a_moment(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    uint8_t first = ports_take(ports, 0, now);
    ports_refuse(ports, first, now);
    assert_int_equal(ports_held(ports->tally[first]), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ports_take(ports, 0, now + 99), !first);
    ports_refuse(ports, !first, now + 99);
    assert_int_equal(ports_take(ports, 0, now + 99), PORTS_NONE);
    assert_int_equal(ports_take(ports, 0, now + 100), first);
    ports_put(&ports);
}

static void one_that_is_given_back_ends_the_moment(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    uint8_t held = ports_take(ports, 1u << 1, now);
    assert_int_equal(ports_take(ports, 1u << 1, now), held);
    ports_refuse(ports, held, now);
    assert_int_equal(ports_take(ports, 1u << 1, now), PORTS_NONE);
    ports_give(ports, held);
    assert_int_equal(ports_take(ports, 1u << 1, now), held);
    ports_put(&ports);
}

static void only_addresses_of_the_servers_family(void **state)
{
    (void)state;
    static const char *const mixed[] = {"[2001:db8::5]:0", "10.0.0.6:0", "[2001:db8::6]:0", NULL};
    struct ports *ports = ports_of(PORTS_TCP, "10.0.0.80:80", mixed);
    assert_int_equal(ports->count, 1);
    assert_string_equal(ports->tally[0]->source_text, "10.0.0.6");
    ports_put(&ports);
    ports = ports_of(PORTS_TCP, "[2001:db8::80]:80", mixed);
    assert_int_equal(ports->count, 2);
    assert_string_equal(ports->tally[0]->source_text, "2001:db8::5");
    assert_int_equal(ports_source(ports, 1)->v6.sin6_addr.s6_addr[15], 6);
    ports_put(&ports);
    ports = ports_of(PORTS_TCP, "[2001:db8::80]:80", two);
    assert_null(ports);
    ports_put(&ports);
}

/* TCP: per server, however many pools have it. UDP: per address, whoever it is. */
static void pools_share_what_the_kernel_shares(void **state)
{
    (void)state;
    struct ports *tcp = two_of(PORTS_TCP);
    struct ports *same = two_of(PORTS_TCP);
    struct ports *other = ports_of(PORTS_TCP, "10.0.0.80:81", two);
    struct ports *udp = two_of(PORTS_UDP);
    struct ports *other_udp = ports_of(PORTS_UDP, "10.0.0.81:53", two);
    take(tcp, 10);
    take(udp, 6);
    assert_int_equal(ports_held(same->tally[0]), 5);
    assert_int_equal(ports_held(other->tally[0]), 0);
    assert_int_equal(ports_held(other_udp->tally[0]), 3);
    give(same, 0, 1);
    assert_int_equal(ports_open(tcp->tally[0]), 4);
    ports_put(&tcp);
    ports_put(&same);
    ports_put(&other);
    ports_put(&udp);
    ports_put(&other_udp);
}

/* More than there are buckets, so that some have to share one. */
static void each_of_many_servers_has_its_own(void **state)
{
    (void)state;
    static struct ports *many[3000];
    static const char *const one[] = {"10.0.0.5:0", NULL};
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        char server[32];
        snprintf(server, sizeof(server), "10.0.%u.80:%u", i / 1000, 8000 + i % 1000);
        many[i] = ports_of(PORTS_TCP, server, one);
        take(many[i], 1);
    }
    assert_true(ARRAY_LEN(many) > PORTS_BUCKETS);
    assert_int_equal(book.tally_count, ARRAY_LEN(many));
    for (unsigned i = 0; i < ARRAY_LEN(many); i++) {
        assert_int_equal(ports_held(many[i]->tally[0]), 1);
        ports_put(&many[i]);
    }
}

static void a_udp_port_is_free_at_once(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_UDP);
    take(ports, 10);
    give(ports, 0, 5);
    assert_int_equal(ports_held(ports->tally[0]), 0);
    assert_int_equal(ports_held(ports->tally[1]), 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ports_take(ports, 0, now), 0);
    ports_put(&ports);
}

static void an_open_socket_is_adopted(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    union inet_address ours = endpoint_of("10.0.0.6:41234");
    union inet_address foreign = endpoint_of("10.0.0.7:41234");
    assert_int_equal(ports_adopt(ports, &ours), 1);
    assert_int_equal(ports_open(ports->tally[1]), 1);
    assert_int_equal(ports_adopt(ports, &foreign), PORTS_NONE);
    give(ports, 1, 1);
    assert_int_equal(ports_open(ports->tally[1]), 0);
    ports_put(&ports);
}

/* A session may outlive the view, its server's place in it, and the book. */
static void outlives_the_book(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    struct ports *second = ports_ref(ports);
    take(ports, 2);
    ports_put(&ports);
    assert_null(ports);
    ports_book_deinit(&book);
    give(second, 0, 1);
    assert_int_equal(ports_open(second->tally[0]), 0);
    ports_put(&second);
}

#define WORKERS 3
#define ROUNDS 20000

static void *work(void *arg)
{
    struct ports *ports = arg;
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t index = ports_take(ports, 0, now);
        if (index == PORTS_NONE)
            continue;
        if (i % 100 == 0)
            ports_refuse(ports, index, 0);
        else
            ports_give(ports, index);
    }
    return NULL;
}

/* While control counts. */
static void workers_lose_none(void **state)
{
    (void)state;
    struct ports *ports = two_of(PORTS_TCP);
    pthread_t worker[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&worker[i], NULL, work, ports), 0);
    for (int i = 0; i < 1000; i++) {
        struct ports_tally *tally = ports->tally[i % 2];
        ports_book_advance(&book, &range, now + (unsigned)i);
        ports_asked(tally);
        (void)!ports_counted(&book, tally, 10, 5, now + (unsigned)i);
    }
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(worker[i], NULL), 0);
    assert_int_equal(ports_open(ports->tally[0]), 0);
    assert_int_equal(ports_open(ports->tally[1]), 0);
    ports_put(&ports);
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(addresses_take_turns),
        EACH(closed_ones_count_as_well),
        EACH(the_one_with_more_left_is_next),
        EACH(what_was_tried_is_left_out),
        EACH(who_had_none_is_not_asked_for_a_moment),
        EACH(one_that_is_given_back_ends_the_moment),
        EACH(only_addresses_of_the_servers_family),
        EACH(pools_share_what_the_kernel_shares),
        EACH(each_of_many_servers_has_its_own),
        EACH(a_udp_port_is_free_at_once),
        EACH(an_open_socket_is_adopted),
        EACH(outlives_the_book),
        EACH(workers_lose_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
