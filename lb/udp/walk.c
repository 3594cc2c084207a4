/*
 * Purpose: walks over all flows in slices: for looking at them, for ending some, for draining
 *          servers.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   never.
 *
 * A walk stands on slab indexes, so flows may come and go between two slices; one that lives
 * through the whole walk is met exactly once.
 */
#include "common/clock.h"
#include "lb/udp/private.h"

#include <stdio.h>

/* So many places are looked at between two looks at the clock. */
#define STRIDE 64

static bool matches(const struct flow *flow, const struct traffic_filter *filter)
{
    const struct udp_policy *policy = flow->port->policy;
    union inet_address client = flow_client(flow);

    return (!filter->is_denied || gate_denies(policy->gate, &client)) &&
           traffic_matches(filter, flow->id, policy->listener, policy->pool_name, flow->server,
                           &client);
}

static void describe(const struct flow *flow, struct flow_info *out)
{
    const struct udp_policy *policy = flow->port->policy;

    *out = (struct flow_info){
        .id = flow->id,
        .client = flow_client(flow),
        .state = (enum flow_state)flow->state,
        .age_ms = (clock_now_us() - flow->started_us) / 1000,
        .idle_ms = flow->port->udp->now_ms - MIN(flow->activity_ms, flow->port->udp->now_ms),
        .datagrams_in = flow->datagrams_in,
        .datagrams_out = flow->datagrams_out,
        .bytes_in = flow->bytes_in,
        .bytes_out = flow->bytes_out,
    };
    snprintf(out->listener, sizeof(out->listener), "%s", policy->listener);
    snprintf(out->pool, sizeof(out->pool), "%s", policy->pool_name);
    snprintf(out->server, sizeof(out->server), "%s", flow->server->name);
}

/* The next flow from *cursor on; NULL with *cursor at UINT32_MAX after the last, or when time is
 * up. */
static struct flow *next(struct udp *udp, uint32_t *cursor, uint64_t until_us)
{
    for (uint32_t seen = 0; *cursor < udp->flows.span; seen++) {
        struct flow *flow = slab_at(&udp->flows, *cursor);

        if (seen % STRIDE == STRIDE - 1 && clock_now_us() >= until_us)
            return NULL;
        (*cursor)++;
        if (flow != NULL && flow->state != FLOW_ENDED)
            return flow;
    }
    *cursor = UINT32_MAX;
    return NULL;
}

uint32_t udp_list(struct udp *udp, const struct traffic_filter *filter, uint32_t *cursor,
                  struct flow_info *out, uint32_t most, uint64_t until_us)
{
    uint32_t found = 0;
    struct flow *flow;

    while (found < most && (flow = next(udp, cursor, until_us)) != NULL) {
        if (matches(flow, filter))
            describe(flow, &out[found++]);
        else if (clock_now_us() >= until_us)
            break;
    }
    return found;
}

uint32_t udp_kill(struct udp *udp, const struct traffic_filter *filter, enum flow_end_reason reason,
                  uint32_t *cursor, uint64_t until_us)
{
    uint32_t killed = 0;
    struct flow *flow;

    while ((flow = next(udp, cursor, until_us)) != NULL) {
        if (matches(flow, filter)) {
            flow_end(flow, reason);
            killed++;
        }
        if (clock_now_us() >= until_us)
            break;
    }
    return killed;
}

/* Silent for a while, and not waiting for a reply that is known to be owed. */
static bool is_quiet(const struct flow *flow)
{
    return flow->port->udp->now_ms >= flow->activity_ms + DRAIN_QUIET_MS && flow->owed <= 0;
}

/* True when the flow was ended at a quiet moment. */
static bool drain_one(struct flow *flow, bool may_end_quiet)
{
    enum server_drain_cause cause;
    enum drain_step step = server_drain_step(flow->server, flow->port->udp->now_ms, &cause);

    if (step == DRAIN_STEP_DEADLINE) {
        flow_end(flow, cause == DRAIN_CAUSE_DOWN ? FLOW_END_SERVER_DOWN : FLOW_END_DRAIN_DEADLINE);
        return false;
    }
    if (step != DRAIN_STEP_QUIET || !may_end_quiet || !is_quiet(flow))
        return false;
    flow_end(flow, FLOW_END_DRAIN_QUIET);
    return true;
}

uint32_t udp_drain(struct udp *udp, uint32_t *cursor, uint32_t paced, uint64_t until_us)
{
    uint32_t ended = 0;
    struct flow *flow;

    while ((flow = next(udp, cursor, until_us)) != NULL) {
        if (drain_one(flow, ended < paced))
            ended++;
        if (clock_now_us() >= until_us)
            break;
    }
    return ended;
}
