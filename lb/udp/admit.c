/*
 * Purpose: who may begin a flow and how much a source may send: the gate's verdict, or that nobody
 *          speaks for the client; and what is said of those who may not.
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

/* How many of the datagrams may pass. */
static uint32_t charge(struct udp_port *port, const union inet_address *client, uint32_t count)
{
    struct gate *gate = port->policy->gate;
    uint32_t passed = gate_charge(gate, client, clock_now_us(), count);

    if (passed == count)
        return count;
    tell(port, client, gate_datagram_word, count - passed, gate_is_dry(gate));
    return gate_is_dry(gate) ? count : passed;
}

bool admit_train(struct arrival *arrival)
{
    struct udp_port *port = arrival->port;
    uint32_t count, passed;

    if (!gate_limits_datagrams(port->policy->gate))
        return true;
    count = train_count(&arrival->train);
    passed = charge(port, arrival->told != NULL ? &arrival->told->client : arrival->sender, count);
    if (passed == count)
        return true;
    drop(port->udp, METRIC_DROP_RATE, count - passed);
    if (passed > 0)
        arrival->train = train_cut(&arrival->train, passed);
    return passed > 0;
}
