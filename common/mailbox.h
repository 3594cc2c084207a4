/*
 * Purpose: the one way in which a thread tells another to do something.
 * Thread:  mailbox_post from any; everything else on the thread of the loop.
 * Owns:    a posted mail belongs to its receiver, whose function frees it or posts it back.
 * Fails:   mailbox_open only (no descriptor). Posting allocates nothing and cannot fail.
 *
 * A lock-free push; uv_async_send(3) only when the box was empty. The receiver takes the whole list
 * at once and delivers each producer's mails in the order in which they were posted.
 */
#pragma once

#include "common/base.h"

#include <stdatomic.h>
#include <uv.h>

struct mail;
/* `owner` is what mailbox_open was given. The mail may be freed or posted again from here. */
typedef void mail_fn(struct mail *mail, void *owner);

/* Embedded in a message by value. */
struct mail {
    struct mail *next;
    mail_fn *deliver;
};

struct mailbox {
    _Atomic(struct mail *) head;
    void *owner;
    uv_async_t async;
};

must_check int mailbox_open(struct mailbox *box, uv_loop_t *loop, void *owner);

void mailbox_post(struct mailbox *box, struct mail *mail, mail_fn *deliver);

/*
 * No thread may post any more. Delivers what is left, then closes the handle; the struct must live
 * until the loop has run its close callbacks.
 */
void mailbox_close(struct mailbox *box);
