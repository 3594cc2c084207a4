/*
 * Purpose: the probe kind "udp": a datagram, and a judgement on the reply or on the silence.
 * Thread:  control.
 * Owns:    a probe_datagram.
 * Fails:   see probe_datagram.h.
 *
 *      expect    a reply that holds it    any other reply    an ICMP error    the deadline
 *      set       pass                     fail               fail             fail
 *      ""        pass                     pass               fail             pass
 *
 * The last row proves little: routers and hosts hold ICMP errors back, by number (icmp_ratelimit,
 * icmp(7)) or altogether, and a host that is gone sends none. That is for servers which answer no
 * stranger; who can should set `expect`.
 */
#include "common/payload.h"
#include "common/text.h"
#include "lb/health/probe_datagram.h"

#include <string.h>

/* The settings have the form: the configuration's checks see to it. */
static size_t parse_setting(const char *setting, uint8_t bytes[CONFIG_PAYLOAD_MAX])
{
    size_t size = 0;
    int rc = payload_parse(setting, bytes, CONFIG_PAYLOAD_MAX, &size);
    BUG_ON(rc < 0);
    return size;
}

static bool is_expected(const struct probe *probe, const uint8_t *bytes, size_t size)
{
    uint8_t expected[CONFIG_PAYLOAD_MAX];
    size_t expected_size = parse_setting(probe->settings->expect, expected);
    return memmem(bytes, size, expected, expected_size) != NULL;
}

static void udp_judge(struct probe_datagram *datagram, const uint8_t *bytes, size_t size)
{
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_addf(&text, "a reply of %zu bytes", size);
    enum probe_verdict verdict = PROBE_PASS;

    if (!is_expected(&datagram->probe, bytes, size)) {
        text_addf(&text, " that lacks \"%s\"", datagram->probe.settings->expect);
        verdict = PROBE_FAIL;
    }
    probe_datagram_finish(datagram, verdict, detail);
}

static int udp_start(struct probe *probe)
{
    uint8_t payload[CONFIG_PAYLOAD_MAX];
    size_t size = parse_setting(probe->settings->send, payload);
    return probe_datagram_send((struct probe_datagram *)probe, payload, size, udp_judge);
}

/* The errors of this very turn of the loop break the silence too. */
static void pass_silence(struct probe_datagram *datagram)
{
    char detail[PROBE_DETAIL_MAX];
    struct text text;
    text_init(&text, detail, sizeof(detail));
    text_addf(&text, "no ICMP error within %lld ms", (long long)datagram->probe.settings->timeout);
    probe_datagram_receive(datagram);
    probe_datagram_finish(datagram, PROBE_PASS, detail);
}

static void udp_stop(struct probe *probe, enum probe_verdict why, const char *detail)
{
    if (why == PROBE_FAIL && probe->settings->expect[0] == '\0')
        pass_silence((struct probe_datagram *)probe);
    else
        probe_datagram_stop(probe, why, detail);
}

const struct probe_kind probe_udp = {
    .size = sizeof(struct probe_datagram),
    .inet = true,
    .start = udp_start,
    .stop = udp_stop,
};
