/* A loop closes when all is closed, and names what is not. */
#include "common/loop.h"

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/death.h"

static void closes_an_unused_loop(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    loop_close(&loop);
}

static void on_closed(uv_handle_t *handle)
{
    (*(int *)handle->data)++;
}

static void runs_the_close_callbacks(void **state)
{
    (void)state;
    int closed = 0;
    uv_loop_t loop;
    uv_timer_t timer = {.data = &closed};
    uv_async_t async = {.data = &closed};
    assert_int_equal(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &timer);
    uv_async_init(&loop, &async, NULL);
    uv_close((uv_handle_t *)&timer, on_closed);
    uv_close((uv_handle_t *)&async, on_closed);
    loop_close(&loop);
    assert_int_equal(closed, 2);
}

static void on_close_next(uv_handle_t *handle)
{
    uv_close(handle->data, NULL);
}

static void a_close_callback_may_close_another(void **state)
{
    (void)state;
    uv_loop_t loop;
    uv_timer_t first, second;
    assert_int_equal(uv_loop_init(&loop), 0);
    uv_timer_init(&loop, &first);
    uv_timer_init(&loop, &second);
    first.data = &second;
    uv_close((uv_handle_t *)&first, on_close_next);
    loop_close(&loop);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void leak_active(void *argument)
{
    uv_loop_t loop;
    uv_timer_t timer;
    (void)argument;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 1000000, 1000000);
    loop_close(&loop);
}

static void leak_inactive(void *argument)
{
    uv_loop_t loop;
    uv_idle_t idle;
    (void)argument;
    uv_loop_init(&loop);
    uv_idle_init(&loop, &idle);
    loop_close(&loop);
}

static void names_what_was_leaked(void **state)
{
    (void)state;
    assert_bug(leak_active, NULL, "weir: handle never closed: timer ");
    assert_bug(leak_active, NULL, ", active\n");
    assert_bug(leak_active, NULL, "weir: bug at ");
    assert_bug(leak_inactive, NULL, "weir: handle never closed: idle ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closes_an_unused_loop),
        cmocka_unit_test(runs_the_close_callbacks),
        cmocka_unit_test(a_close_callback_may_close_another),
        cmocka_unit_test(names_what_was_leaked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
