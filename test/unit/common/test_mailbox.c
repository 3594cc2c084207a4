/* Mail between threads: nothing lost, each producer's order kept, no wake-up too many. */
#include "common/mailbox.h"

#include "common/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define PRODUCERS 4
#define MAILS 5000u

struct note {
    struct mail mail;
    unsigned producer;
    unsigned number;
};

struct receiver {
    uv_loop_t loop;
    struct mailbox box;
    unsigned received;
    unsigned expected;
    unsigned next[PRODUCERS];
    unsigned out_of_order;
    unsigned relays;
};

static void receiver_init(struct receiver *receiver)
{
    *receiver = (struct receiver){0};
    assert_int_equal(uv_loop_init(&receiver->loop), 0);
    assert_int_equal(mailbox_open(&receiver->box, &receiver->loop, receiver), 0);
}

static void receiver_deinit(struct receiver *receiver)
{
    mailbox_close(&receiver->box);
    loop_close(&receiver->loop);
}

static void on_note(struct mail *mail, void *owner)
{
    struct note *note = container_of(mail, struct note, mail);
    struct receiver *receiver = owner;
    receiver->out_of_order += note->number != receiver->next[note->producer];
    receiver->next[note->producer] = note->number + 1;
    free(note);
    if (++receiver->received == receiver->expected)
        uv_stop(&receiver->loop);
}

static struct note *note_new(unsigned producer, unsigned number)
{
    struct note *note = malloc(sizeof(*note));
    if (note == NULL)
        abort();
    note->producer = producer;
    note->number = number;
    return note;
}

static void delivers_in_order(void **state)
{
    (void)state;
    struct receiver receiver;
    receiver_init(&receiver);
    for (unsigned i = 0; i < 10; i++)
        mailbox_post(&receiver.box, &note_new(0, i)->mail, on_note);
    assert_int_equal(receiver.received, 0);
    uv_run(&receiver.loop, UV_RUN_NOWAIT);
    assert_int_equal(receiver.received, 10);
    assert_int_equal(receiver.out_of_order, 0);
    receiver_deinit(&receiver);
}

static void delivers_what_is_left_at_close(void **state)
{
    (void)state;
    struct receiver receiver;
    receiver_init(&receiver);
    mailbox_post(&receiver.box, &note_new(0, 0)->mail, on_note);
    mailbox_post(&receiver.box, &note_new(0, 1)->mail, on_note);
    mailbox_close(&receiver.box);
    assert_int_equal(receiver.received, 2);
    loop_close(&receiver.loop);
    assert_int_equal(receiver.received, 2);
}

static void on_relay(struct mail *mail, void *owner)
{
    struct receiver *receiver = owner;
    if (++receiver->relays < 3)
        mailbox_post(&receiver->box, mail, on_relay);
}

/* A mail posted again from its own delivery comes in a later turn, so it cannot hold the loop. */
static void posts_again_from_delivery(void **state)
{
    (void)state;
    struct receiver receiver;
    struct mail mail;
    receiver_init(&receiver);
    mailbox_post(&receiver.box, &mail, on_relay);
    uv_run(&receiver.loop, UV_RUN_NOWAIT);
    assert_int_equal(receiver.relays, 1);
    uv_run(&receiver.loop, UV_RUN_NOWAIT);
    uv_run(&receiver.loop, UV_RUN_NOWAIT);
    assert_int_equal(receiver.relays, 3);
    receiver_deinit(&receiver);
}

struct producer {
    pthread_t thread;
    struct mailbox *box;
    unsigned number;
};

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (unsigned i = 0; i < MAILS; i++)
        mailbox_post(producer->box, &note_new(producer->number, i)->mail, on_note);
    return NULL;
}

static void on_give_up(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("mail was lost");
}

static void keeps_the_order_of_each_thread(void **state)
{
    (void)state;
    struct receiver receiver;
    struct producer producer[PRODUCERS];
    uv_timer_t give_up;
    receiver_init(&receiver);
    receiver.expected = PRODUCERS * MAILS;
    uv_timer_init(&receiver.loop, &give_up);
    uv_timer_start(&give_up, on_give_up, 60000, 0);

    for (unsigned i = 0; i < PRODUCERS; i++) {
        producer[i] = (struct producer){.box = &receiver.box, .number = i};
        assert_int_equal(pthread_create(&producer[i].thread, NULL, produce, &producer[i]), 0);
    }
    uv_run(&receiver.loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(producer[i].thread, NULL);

    assert_int_equal(receiver.received, PRODUCERS * MAILS);
    assert_int_equal(receiver.out_of_order, 0);
    uv_close((uv_handle_t *)&give_up, NULL);
    receiver_deinit(&receiver);
}

/* ---- Two loops that answer each other: the wake-up from empty to full is never missed. ---- */

#define ROUNDS 3000u

struct player {
    struct receiver receiver;
    struct player *other;
    unsigned rounds;
    bool keeps_last;
};

static void on_ball(struct mail *mail, void *owner)
{
    struct player *player = container_of(owner, struct player, receiver);
    if (++player->rounds < ROUNDS || !player->keeps_last)
        mailbox_post(&player->other->receiver.box, mail, on_ball);
    if (player->rounds == ROUNDS)
        uv_stop(&player->receiver.loop);
}

static void *play(void *argument)
{
    struct player *player = argument;
    uv_run(&player->receiver.loop, UV_RUN_DEFAULT);
    return NULL;
}

static void never_misses_a_wake_up(void **state)
{
    (void)state;
    struct player here, there;
    here = (struct player){.other = &there};
    there = (struct player){.other = &here, .keeps_last = true};
    struct mail ball;
    pthread_t thread;
    receiver_init(&here.receiver);
    receiver_init(&there.receiver);
    assert_int_equal(pthread_create(&thread, NULL, play, &there), 0);
    mailbox_post(&here.receiver.box, &ball, on_ball);
    play(&here);
    pthread_join(thread, NULL);
    assert_int_equal(here.rounds, ROUNDS);
    assert_int_equal(there.rounds, ROUNDS);
    receiver_deinit(&here.receiver);
    receiver_deinit(&there.receiver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_in_order),
        cmocka_unit_test(delivers_what_is_left_at_close),
        cmocka_unit_test(posts_again_from_delivery),
        cmocka_unit_test(keeps_the_order_of_each_thread),
        cmocka_unit_test(never_misses_a_wake_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
