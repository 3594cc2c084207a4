/*
 * Purpose: the words and lines that tell of flows.
 * Thread:  the worker's; words: any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "common/clock.h"
#include "common/log.h"
#include "lb/udp/private.h"

static const struct {
    const char *word;
    const char *by;
} ends[FLOW_END_COUNT] = {
#define FLOW_END_ROW(id, word, by, help) {word, by},
    FLOW_ENDS(FLOW_END_ROW)
#undef FLOW_END_ROW
};

const char *flow_end_word(enum flow_end_reason reason)
{
    return ends[reason].word;
}

const char *flow_end_by(enum flow_end_reason reason)
{
    return ends[reason].by;
}

const char *flow_state_name(enum flow_state state)
{
    static const char *const names[FLOW_STATES] = {
        [FLOW_ACTIVE] = "active",
        [FLOW_SPENT] = "spent",
        [FLOW_ENDED] = "ended",
    };

    return names[state];
}

union inet_address flow_client(const struct flow *flow)
{
    union inet_address client = flow->client;

    if (flow->told != NULL)
        return flow->told->told.client;
    inet_address_fold(&client);
    return client;
}

void flow_access_line(const struct flow *flow)
{
    const struct udp_policy *policy = flow->port->policy;
    enum flow_end_reason reason = (enum flow_end_reason)flow->reason;
    union inet_address from = flow_client(flow);
    union inet_address sender = flow->client;
    char client[ADDRESS_TEXT_MAX], via[ADDRESS_TEXT_MAX];

    if (!policy->log_access || (flow->id >> 8) % policy->log_sample != 0)
        return;
    inet_address_fold(&sender);
    log_info("flow", LOG_U("id", flow->id), LOG_S("client", inet_address_format(&from, client)),
             LOG_S("via", flow->told != NULL ? inet_address_format(&sender, via) : NULL),
             LOG_S("listener", policy->listener), LOG_S("pool", policy->pool_name),
             LOG_S("server", flow->server->name),
             LOG_S("server_address", flow->server->address_text), LOG_U("moves", flow->moves),
             LOG_US("duration_ms", clock_now_us() - flow->started_us),
             LOG_U("datagrams_in", flow->datagrams_in), LOG_U("datagrams_out", flow->datagrams_out),
             LOG_U("bytes_in", flow->bytes_in), LOG_U("bytes_out", flow->bytes_out),
             LOG_S("end", flow_end_word(reason)), LOG_S("by", flow_end_by(reason)));
}
