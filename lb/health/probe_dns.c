/*
 * Purpose: the probe kind "dns": a question, and a judgement on the code and, if wanted, on the
 *          addresses of the reply.
 * Thread:  control.
 * Owns:    a probe_datagram.
 * Fails:   see probe_datagram.h.
 *
 * A reply with another id is passed over: the one that is due may still come. Every other datagram
 * decides, since only the server itself can have sent it. A truncated reply is not asked for again
 * over TCP: the code is in its header, and an address that did not fit is one that clients do not
 * see either.
 */
#include "common/random.h"
#include "common/text.h"
#include "lb/health/dns_reply.h"
#include "lb/health/probe_datagram.h"

#include <arpa/inet.h>

struct dns_probe {
    struct probe_datagram datagram;
    struct dns_query query;
};

#define TYPE_NUMBER(name, number) number,
static const uint16_t type_numbers[] = {CONFIG_DNS_TYPES(TYPE_NUMBER)};

#define RCODE_NAME(name) #name,
static const char *const rcode_names[] = {CONFIG_DNS_RCODES(RCODE_NAME)};

/* ---- The judgement ---- */

static void add_rcode(struct text *text, unsigned rcode)
{
    if (rcode < ARRAY_LEN(rcode_names))
        text_add(text, rcode_names[rcode]);
    else
        text_addf(text, "%u", rcode);
}

/* True when an address is wanted. Its family is that of the type: the checks see to it. */
static bool wanted_address(const struct config_health *settings, struct dns_data *out)
{
    bool four = settings->dns_type == CONFIG_DNS_A;
    if (settings->dns_address[0] == '\0')
        return false;
    int rc = inet_pton(four ? AF_INET : AF_INET6, settings->dns_address, out->bytes);
    BUG_ON(rc != 1);
    out->size = four ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    return true;
}

static void add_answers(struct text *text, unsigned count)
{
    text_addf(text, "%u %s", count, count == 1 ? "answer" : "answers");
}

/* Why a reply fails, or false when it does not. */
static bool explain_failure(const struct config_health *settings, enum dns_reply_state state,
                            const struct dns_reply *reply, bool wanted, struct text *to)
{
    if (state == DNS_REPLY_BROKEN) {
        text_add(to, reply->why);
    } else if (reply->rcode != (unsigned)settings->dns_rcode) {
        text_add(to, "rcode ");
        add_rcode(to, reply->rcode);
        text_add(to, ", expected ");
        add_rcode(to, (unsigned)settings->dns_rcode);
    } else if (wanted && !reply->found) {
        add_answers(to, reply->answers);
        text_addf(to, " without %s%s", settings->dns_address,
                  state == DNS_REPLY_TRUNCATED ? ", and truncated" : "");
    } else {
        return false;
    }
    return true;
}

static void dns_judge(struct probe_datagram *datagram, const uint8_t *bytes, size_t size)
{
    const struct dns_probe *dns = (struct dns_probe *)datagram;
    const struct config_health *settings = datagram->probe.settings;
    struct dns_data address;
    struct dns_reply reply;
    bool wanted = wanted_address(settings, &address);
    enum dns_reply_state state =
        dns_reply_read(&reply, &dns->query, wanted ? &address : NULL, bytes, size);
    if (state == DNS_REPLY_FOREIGN)
        return;

    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_add(&text, "dns: ");
    bool failed = explain_failure(settings, state, &reply, wanted, &text);
    if (!failed) {
        text_add(&text, "rcode ");
        add_rcode(&text, reply.rcode);
        text_add(&text, ", ");
        add_answers(&text, reply.answers);
    }
    probe_datagram_finish(datagram, failed ? PROBE_FAIL : PROBE_PASS, detail);
}

/* ---- The kind ---- */

static int dns_start(struct probe *probe)
{
    struct dns_probe *dns = (struct dns_probe *)probe;
    const struct config_health *settings = probe->settings;
    /* From the kernel, not from a sequence: who can guess the id can answer for the server. */
    uint16_t id = (uint16_t)random_seed();
    dns_query_init(&dns->query, settings->dns_name, type_numbers[settings->dns_type], id);
    return probe_datagram_send(&dns->datagram, dns->query.bytes, dns->query.size, dns_judge);
}

const struct probe_kind probe_dns = {
    .size = sizeof(struct dns_probe),
    .inet = true,
    .start = dns_start,
    .stop = probe_datagram_stop,
};
