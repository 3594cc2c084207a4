/*
 * Purpose: who may begin a flow: the gate's verdict, or that nobody speaks for the client; and what
 *          is said of those who may not.
 * Thread:  the worker's.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "common/clock.h"
#include "lb/udp/private.h"

static void tell(struct udp_port *port, const union inet_address *client, const char *why,
                 uint32_t datagrams, bool is_spared)
{
    const struct udp_policy *policy = port->policy;
    struct refusal refusal = {.listener = policy->listener,
                              .client = client,
                              .source = gate_source(policy->gate, client),
                              .why = why,
                              .is_spared = is_spared};

    refusals_note(port->udp->env.refusals, &refusal, datagrams, port->udp->now_ms);
}

bool admit_flow(struct udp_port *port, const union inet_address *client, uint32_t *out_ticket)
{
    struct gate *gate = port->policy->gate;
    enum gate_verdict verdict;

    *out_ticket = GATE_NO_TICKET;
    if (gate_is_open(gate))
        return true;
    verdict = gate_enter(gate, client, clock_now_us(), out_ticket);
    if (verdict == GATE_ADMITTED)
        return true;
    tell(port, client, gate_verdict_word(verdict), port->udp->arriving, gate_is_dry(gate));
    return gate_is_dry(gate);
}

void admit_refuse_sender(struct udp_port *port, const union inet_address *sender,
                         uint32_t datagrams)
{
    drop(port->udp, METRIC_DROP_DENIED, datagrams);
    tell(port, sender, "its address is not in proxy_protocol_from", datagrams, false);
}
