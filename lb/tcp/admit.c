/*
 * Who may come in: the gate's verdict on the connection's own address, or on the one that a PROXY
 * header told, and what is said of those who may not.
 *
 * A flood must cost little: who is refused by its own address never becomes a session, has no
 * access line, and is named once in ten seconds with how often.
 */
#include "common/clock.h"
#include "common/network.h"
#include "lb/tcp/session.h"

bool admit_is_sender(const struct tcp_policy *policy, const union inet_address *peer)
{
    const struct config_networks *from = policy->proxy_from;

    return policy->proxy_in != CONFIG_PROXY_OFF &&
           network_any_has(from->network, from->count, peer);
}

static void tell(struct tcp *tcp, const struct tcp_policy *policy,
                 const union inet_address *address, const char *why, bool is_spared)
{
    struct refusal refusal = {.listener = policy->listener,
                              .client = address,
                              .source = gate_source(policy->gate, address),
                              .why = why,
                              .is_spared = is_spared};

    refusals_note(tcp->env.refusals, &refusal, 1, tcp->now_ms);
}

void admit_refuse(struct tcp *tcp, const struct tcp_policy *policy,
                  const union inet_address *client, const char *why)
{
    metrics_add(tcp->env.metrics, METRIC_SESSIONS_REFUSED, 1);
    tell(tcp, policy, client, why, false);
}

static bool enter(struct tcp *tcp, const struct tcp_policy *policy,
                  const union inet_address *client, uint32_t *out_ticket)
{
    enum gate_verdict verdict = gate_enter(policy->gate, client, clock_now_us(), out_ticket);

    if (verdict == GATE_ADMITTED)
        return true;
    if (!gate_is_dry(policy->gate)) {
        admit_refuse(tcp, policy, client, gate_verdict_word(verdict));
        return false;
    }
    metrics_add(tcp->env.metrics, METRIC_SESSIONS_SPARED, 1);
    tell(tcp, policy, client, gate_verdict_word(verdict), true);
    return true;
}

bool admit_peer(struct tcp *tcp, const struct tcp_policy *policy, const union inet_address *peer,
                uint32_t *out_ticket)
{
    bool is_sender = admit_is_sender(policy, peer);

    *out_ticket = GATE_NO_TICKET;
    if (policy->proxy_in == CONFIG_PROXY_REQUIRED && !is_sender) {
        admit_refuse(tcp, policy, peer, "its address is not in proxy_protocol_from");
        return false;
    }
    if (is_sender || gate_is_open(policy->gate))
        return true;
    return enter(tcp, policy, peer, out_ticket);
}

void admit_again(struct session *session)
{
    session->ticket = gate_adopt(session->policy->gate, &session->client, clock_now_us());
}

bool admit_told(struct session *session)
{
    if (gate_is_open(session->policy->gate))
        return true;
    return enter(session->tcp, session->policy, &session->client, &session->ticket);
}
