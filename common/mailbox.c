/*
 * Purpose: the mailbox of mailbox.h.
 * Thread:  see mailbox.h.
 * Owns:    the async handle.
 * Fails:   see mailbox.h.
 *
 * A stack that is pushed one by one and taken whole, so no node is ever popped while others push,
 * and the ABA problem cannot arise. It is turned round before delivery.
 */
#include "common/mailbox.h"

static struct mail *mailbox_take_all(struct mailbox *box)
{
    struct mail *newest = atomic_exchange_explicit(&box->head, NULL, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest != NULL) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void mailbox_deliver(struct mailbox *box)
{
    struct mail *mail = mailbox_take_all(box);
    while (mail != NULL) {
        /* The mail is its receiver's from the call on. */
        struct mail *next = mail->next;
        mail->deliver(mail, box->owner);
        mail = next;
    }
}

static void on_async(uv_async_t *async)
{
    mailbox_deliver(container_of(async, struct mailbox, async));
}

int mailbox_open(struct mailbox *box, uv_loop_t *loop, void *owner)
{
    atomic_init(&box->head, NULL);
    box->owner = owner;
    return uv_async_init(loop, &box->async, on_async);
}

void mailbox_post(struct mailbox *box, struct mail *mail, mail_fn *deliver)
{
    mail->deliver = deliver;
    struct mail *head = atomic_load_explicit(&box->head, memory_order_relaxed);
    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&box->head, &head, mail, memory_order_release,
                                                    memory_order_relaxed));
    /* From here on the mail may be gone. Whoever found the box empty wakes the receiver, once. */
    if (head == NULL)
        uv_async_send(&box->async);
}

void mailbox_close(struct mailbox *box)
{
    while (atomic_load_explicit(&box->head, memory_order_relaxed) != NULL)
        mailbox_deliver(box);
    uv_close((uv_handle_t *)&box->async, NULL);
}
