/*
 * Purpose: the end of a loop.
 * Thread:  the loop's own.
 * Owns:    nothing.
 * Fails:   see loop.h.
 */
#include "common/loop.h"

#include "common/base.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static void on_handle(uv_handle_t *handle, void *arg)
{
    bool *any_closing = arg;
    *any_closing |= uv_is_closing(handle) != 0;
}

static bool is_closing(uv_loop_t *loop)
{
    bool any_closing = false;
    uv_walk(loop, on_handle, &any_closing);
    return any_closing;
}

static void name_leaked(uv_handle_t *handle, void *arg)
{
    (void)arg;
    dprintf(STDERR_FILENO, "weir: handle never closed: %s %p, %s\n",
            uv_handle_type_name(uv_handle_get_type(handle)), (void *)handle,
            uv_is_active(handle) ? "active" : "inactive");
}

void loop_close(uv_loop_t *loop)
{
    /* Not UV_RUN_DEFAULT: a leaked handle would hold it. A close callback may close more. */
    while (is_closing(loop))
        uv_run(loop, UV_RUN_NOWAIT);

    int rc = uv_loop_close(loop);
    if (rc == UV_EBUSY)
        uv_walk(loop, name_leaked, NULL);
    BUG_ON(rc != 0);
}
