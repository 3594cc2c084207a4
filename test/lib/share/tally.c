#include "test/lib/share/tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void tally_begin(struct tally *tally)
{
    tally->begin_us = now_us();
    tally->wall_us = wall_now_us();
}

/* ---- latency ---- */

static size_t bucket_of(uint64_t us)
{
    size_t doublings = 0;

    while (us >> doublings >= UINT64_C(2) * LATENCY_STEPS)
        doublings++;
    size_t at = doublings * LATENCY_STEPS + (size_t)(us >> doublings);
    return at < LATENCY_BUCKETS ? at : LATENCY_BUCKETS - 1;
}

static uint64_t least_of(size_t bucket)
{
    size_t doublings = bucket < (size_t)2 * LATENCY_STEPS ? 0 : bucket / LATENCY_STEPS - 1;

    return (uint64_t)(bucket - doublings * LATENCY_STEPS) << doublings;
}

static uint64_t quantile(const struct tally *tally, double share)
{
    uint64_t seen = 0;

    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        seen += tally->latency[i];
        if (seen > 0 && (double)seen >= share * (double)tally->exchanges)
            return least_of(i);
    }
    return 0;
}

/* ---- counting ---- */

void tally_exchange(struct tally *tally, uint64_t latency_us)
{
    tally->exchanges++;
    tally->latency[bucket_of(latency_us)]++;
}

void tally_name(struct tally *tally, const char *name, size_t len)
{
    for (size_t i = 0; i < TALLY_NAMES; i++) {
        char *text = tally->names[i].text;
        if (text[0] == '\0')
            memcpy(text, name, len < NAME_LEN_MAX ? len : NAME_LEN_MAX);
        if (strncmp(text, name, len) == 0 && text[len] == '\0') {
            tally->names[i].exchanges++;
            return;
        }
    }
}

void tally_loss(struct tally *tally, uint32_t flow, uint64_t seq, uint64_t sent_us)
{
    if (tally->lost < TALLY_LOSSES) {
        tally->losses[tally->lost].flow = flow;
        tally->losses[tally->lost].seq = seq;
        tally->losses[tally->lost].sent_us = sent_us;
    }
    tally->lost++;
}

/* ---- telling ---- */

static void print_names(const struct tally *tally)
{
    printf(",\"names\":{");
    for (size_t i = 0; i < TALLY_NAMES && tally->names[i].text[0] != '\0'; i++)
        printf("%s\"%s\":%" PRIu64, i > 0 ? "," : "", tally->names[i].text,
               tally->names[i].exchanges);
    printf("}");
}

static void print_losses(const struct tally *tally)
{
    printf(",\"losses\":[");
    for (size_t i = 0; i < TALLY_LOSSES && i < tally->lost; i++) {
        uint64_t us = tally->losses[i].sent_us - tally->begin_us + tally->wall_us;
        printf("%s[%" PRIu32 ",%" PRIu64 ",%" PRIu64 ".%06" PRIu64 "]", i > 0 ? "," : "",
               tally->losses[i].flow, tally->losses[i].seq, us / 1000000, us % 1000000);
    }
    printf("]");
}

void tally_print(const struct tally *tally, const char *mode)
{
    uint64_t end_us = tally->end_us > 0 ? tally->end_us : now_us();

    printf("{\"mode\":\"%s\",\"seconds\":%.6f", mode, (double)(end_us - tally->begin_us) / 1e6);
#define TALLY_PRINT(name, help) printf(",\"%s\":%" PRIu64, #name, tally->name);
    TALLY_COUNTS(TALLY_PRINT)
#undef TALLY_PRINT
    printf(",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64, quantile(tally, 0.5),
           quantile(tally, 0.99));
    print_names(tally);
    print_losses(tally);
    printf("}\n");
    fflush(stdout);
}

void tally_help(void)
{
#define TALLY_HELP(name, help) printf("  %-11s %s\n", #name, help);
    TALLY_COUNTS(TALLY_HELP)
#undef TALLY_HELP
    printf("  p50_us, p99_us   latency of the exchanges\n"
           "  names       exchanges by the server's name, where replies begin with one\n"
           "  losses      of the first %d: [flow, number, sent in seconds since 1970]\n",
           TALLY_LOSSES);
}
