/*
 * Purpose: the commands that change a server. Each answers with the server's row as it is now.
 * Thread:  control.
 * Owns:    nothing beyond a call.
 * Fails:   by answering with an error.
 */
#include "common/clock.h"
#include "lb/admin/handlers.h"
#include "lb/admin/lookup.h"
#include "lb/admin/servers.h"

static void reply_row(struct request *request, const struct pool_member *member)
{
    request_reply(request, server_row(member, clock_now_ms()));
}

static void set_admin(struct request *request, struct pool_member *member, enum server_admin admin,
                      uint64_t deadline_ms)
{
    control_set_admin(request->control, member, admin, deadline_ms, request->who);
    reply_row(request, member);
}

void run_drain(struct request *request)
{
    struct pool_member *member = lookup_member(request, request_argument(request, 0));
    if (member == NULL)
        return;
    int64_t deadline_ms = member->pool->config->drain_deadline;
    if (request_take_duration(request, "deadline", 0, &deadline_ms))
        set_admin(request, member, SERVER_DRAIN, (uint64_t)deadline_ms);
}

void run_enable(struct request *request)
{
    struct pool_member *member = lookup_member(request, request_argument(request, 0));
    if (member != NULL)
        set_admin(request, member, SERVER_ENABLED, 0);
}

void run_disable(struct request *request)
{
    struct pool_member *member = lookup_member(request, request_argument(request, 0));
    if (member != NULL)
        set_admin(request, member, SERVER_MAINTENANCE, 0);
}

void run_weight(struct request *request)
{
    struct pool_member *member = lookup_member(request, request_argument(request, 0));
    const char *text = request_argument(request, 1);
    uint64_t weight;
    if (member == NULL)
        return;
    if (!words_number(text, CONFIG_WEIGHT_MAX, &weight)) {
        request_refuse_usage(request, "the weight is a number from 0 to %d, not \"%s\"",
                             CONFIG_WEIGHT_MAX, text);
        return;
    }
    control_set_weight(request->control, member, (uint32_t)weight, request->who);
    reply_row(request, member);
}
