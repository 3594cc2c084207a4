/* Events reach the handler of their kind with the token they were added with; tasks take turns. */
#include "common/poller.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "test/unit/death.h"

struct seen {
    unsigned count;
    uint32_t index;
    uint32_t generation;
    uint32_t events;
};

static void on_event(void *owner, uint32_t index, uint32_t generation, uint32_t events)
{
    struct seen *seen = owner;
    *seen = (struct seen){seen->count + 1, index, generation, events};
}

static void open_pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
}

static void close_pair(const int fd[2])
{
    close(fd[0]);
    close(fd[1]);
}

static void send_byte(int fd)
{
    assert_int_equal(send(fd, "x", 1, 0), 1);
}

/* ---- Events ---- */

static void hands_out_by_kind(void **state)
{
    (void)state;
    struct poller poller;
    struct seen one = {0}, two = {0};
    int a[2], b[2];
    open_pair(a);
    open_pair(b);
    assert_int_equal(poller_open(&poller), 0);
    unsigned kind_one = poller_kind(&poller, on_event, &one);
    unsigned kind_two = poller_kind(&poller, on_event, &two);
    uint64_t token_one = poller_token(kind_one, UINT32_MAX, 0xffffff);
    uint64_t token_two = poller_token(kind_two, 7, 1);
    assert_int_equal(poller_add(&poller, a[0], EPOLLIN | EPOLLET, token_one), 0);
    assert_int_equal(poller_add(&poller, b[0], EPOLLIN | EPOLLRDHUP | EPOLLET, token_two), 0);

    poller_wait(&poller, 0);
    assert_int_equal(one.count + two.count, 0);

    send_byte(a[1]);
    poller_wait(&poller, 0);
    assert_int_equal(one.count, 1);
    assert_int_equal(one.index, UINT32_MAX);
    assert_int_equal(one.generation, 0xffffff);
    assert_int_equal(one.events, EPOLLIN);
    assert_int_equal(two.count, 0);

    shutdown(b[1], SHUT_WR);
    poller_wait(&poller, -1);
    assert_int_equal(two.count, 1);
    assert_int_equal(two.index, 7);
    assert_int_equal(two.generation, 1);
    assert_int_equal(two.events, EPOLLIN | EPOLLRDHUP);
    assert_int_equal(one.count, 1); /* edge-triggered: the byte is still there */

    poller_close(&poller);
    close_pair(a);
    close_pair(b);
}

static void forgets_what_is_removed(void **state)
{
    (void)state;
    struct poller poller;
    struct seen seen = {0};
    int pair[2];
    open_pair(pair);
    assert_int_equal(poller_open(&poller), 0);
    uint64_t token = poller_token(poller_kind(&poller, on_event, &seen), 1, 1);
    assert_int_equal(poller_add(&poller, pair[0], EPOLLIN, token), 0);
    assert_int_equal(poller_add(&poller, pair[0], EPOLLIN, token), -EEXIST);
    poller_del(&poller, pair[0]);
    poller_del(&poller, pair[0]); /* harmless */
    send_byte(pair[1]);
    poller_wait(&poller, 0);
    assert_int_equal(seen.count, 0);

    assert_int_equal(poller_add(&poller, pair[0], EPOLLIN, token), 0);
    poller_wait(&poller, 0);
    poller_wait(&poller, 0);
    assert_int_equal(seen.count, 2); /* level-triggered when asked so */
    poller_close(&poller);
    close_pair(pair);
}

static void tells_why_it_cannot_add(void **state)
{
    (void)state;
    struct poller poller;
    assert_int_equal(poller_open(&poller), 0);
    assert_int_equal(poller_add(&poller, -1, EPOLLIN, 0), -EBADF);
    poller_close(&poller);
}

static void on_alarm(int number)
{
    (void)number;
}

/* A signal ends the turn; nothing is handed out and nothing is waited for anew. */
static void a_signal_ends_the_wait(void **state)
{
    (void)state;
    struct poller poller;
    assert_int_equal(poller_open(&poller), 0);
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    /* Repeated, as the first may come before the wait. */
    const struct itimerval soon = {.it_value.tv_usec = 1000, .it_interval.tv_usec = 1000};
    const struct itimerval off = {0};
    setitimer(ITIMER_REAL, &soon, NULL);
    poller_wait(&poller, -1);
    setitimer(ITIMER_REAL, &off, NULL);
    poller_close(&poller);
}

/* ---- Tasks ---- */

struct job {
    struct poller_task task;
    struct poller *poller;
    struct job *other;
    unsigned runs;
};

static void run_once(struct poller_task *task)
{
    container_of(task, struct job, task)->runs++;
}

static void run_and_queue_again(struct poller_task *task)
{
    struct job *job = container_of(task, struct job, task);
    job->runs++;
    poller_queue(job->poller, task);
}

static void run_and_unqueue_other(struct poller_task *task)
{
    struct job *job = container_of(task, struct job, task);
    job->runs++;
    poller_unqueue(&job->other->task);
}

static void runs_each_once(void **state)
{
    (void)state;
    struct poller poller;
    struct job one = {0}, two = {0};
    assert_int_equal(poller_open(&poller), 0);
    poller_task_init(&one.task, run_once);
    poller_task_init(&two.task, run_once);
    assert_false(poller_has_tasks(&poller));
    poller_run_tasks(&poller);

    poller_queue(&poller, &one.task);
    poller_queue(&poller, &one.task);
    poller_queue(&poller, &two.task);
    assert_true(poller_has_tasks(&poller));
    poller_unqueue(&two.task);
    poller_unqueue(&two.task);
    poller_run_tasks(&poller);
    assert_int_equal(one.runs, 1);
    assert_int_equal(two.runs, 0);
    assert_false(poller_has_tasks(&poller));
    poller_close(&poller);
}

static void a_task_queued_anew_waits_a_turn(void **state)
{
    (void)state;
    struct poller poller;
    assert_int_equal(poller_open(&poller), 0);
    struct job job = {.poller = &poller};
    poller_task_init(&job.task, run_and_queue_again);
    poller_queue(&poller, &job.task);
    poller_run_tasks(&poller);
    assert_int_equal(job.runs, 1);
    assert_true(poller_has_tasks(&poller));
    poller_run_tasks(&poller);
    assert_int_equal(job.runs, 2);
    poller_unqueue(&job.task);
    poller_close(&poller);
}

static void a_task_may_unqueue_another(void **state)
{
    (void)state;
    struct poller poller;
    struct job one = {0}, two = {0};
    assert_int_equal(poller_open(&poller), 0);
    poller_task_init(&one.task, run_and_unqueue_other);
    poller_task_init(&two.task, run_once);
    one.other = &two;
    poller_queue(&poller, &one.task);
    poller_queue(&poller, &two.task);
    poller_run_tasks(&poller);
    assert_int_equal(one.runs, 1);
    assert_int_equal(two.runs, 0);
    assert_false(poller_has_tasks(&poller));
    poller_close(&poller);
}

/* Busy tasks, more than a turn takes: none runs twice before each has run once. */
static void takes_turns(void **state)
{
    (void)state;
    enum { JOBS = POLLER_TASKS * 2 + 10 };
    static struct job job[JOBS];
    struct poller poller;
    assert_int_equal(poller_open(&poller), 0);
    for (unsigned i = 0; i < JOBS; i++) {
        job[i] = (struct job){.poller = &poller};
        poller_task_init(&job[i].task, run_and_queue_again);
        poller_queue(&poller, &job[i].task);
    }
    for (unsigned turn = 1; turn <= 20; turn++) {
        unsigned runs = 0, least = UINT32_MAX, most = 0;
        poller_run_tasks(&poller);
        for (unsigned i = 0; i < JOBS; i++) {
            runs += job[i].runs;
            least = MIN(least, job[i].runs);
            most = MAX(most, job[i].runs);
        }
        assert_int_equal(runs, turn * POLLER_TASKS);
        assert_true(most - least <= 1);
    }
    for (unsigned i = 0; i < JOBS; i++)
        poller_unqueue(&job[i].task);
    poller_close(&poller);
}

/* ---- Misuse ---- */

static void add_a_kind(void *poller)
{
    poller_kind(poller, on_event, NULL);
}

static void close_with_task(void *argument)
{
    struct job job;
    poller_task_init(&job.task, run_once);
    poller_queue(argument, &job.task);
    poller_close(argument);
}

static void remove_closed(void *argument)
{
    int pair[2];
    open_pair(pair);
    close_pair(pair);
    poller_del(argument, pair[0]);
}

static void stops_at_misuse(void **state)
{
    (void)state;
    struct poller poller;
    assert_int_equal(poller_open(&poller), 0);
    for (unsigned i = 0; i < POLLER_KINDS; i++)
        add_a_kind(&poller);
    assert_bug(add_a_kind, &poller, "POLLER_KINDS");
    assert_bug(close_with_task, &poller, "poller_has_tasks");
    assert_bug(remove_closed, &poller, "EBADF");
    poller_close(&poller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_out_by_kind),
        cmocka_unit_test(forgets_what_is_removed),
        cmocka_unit_test(tells_why_it_cannot_add),
        cmocka_unit_test(a_signal_ends_the_wait),
        cmocka_unit_test(runs_each_once),
        cmocka_unit_test(a_task_queued_anew_waits_a_turn),
        cmocka_unit_test(a_task_may_unqueue_another),
        cmocka_unit_test(takes_turns),
        cmocka_unit_test(stops_at_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
