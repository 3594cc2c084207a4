/*
 * Purpose: a gate: networks first, then the table of sources, and the counters of both.
 * Thread:  see gate.h.
 * Owns:    the networks and the table.
 * Fails:   see gate.h.
 */
#include "lb/gate/gate.h"

#include "common/networks.h"
#include "lb/gate/rules.h"
#include "lb/gate/sources.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Threads count apart, or the counters would be the one line that all workers write. */
#define STRIPES 16

struct stripe {
    _Alignas(CACHE_LINE) _Atomic uint64_t verdict[GATE_VERDICTS];
    _Atomic uint64_t untracked;
    _Atomic uint64_t evicted;
    /* Of datagrams. */
    _Atomic uint64_t passed;
    _Atomic uint64_t refused;
    _Atomic uint64_t passed_untracked;
    _Atomic uint64_t datagrams_evicted;
};

struct gate {
    struct rules rules;
    struct networks *networks; /* NULL: all may come in */
    struct sources *sources;   /* NULL: no limits */
    struct sources *datagrams; /* NULL: no limit */
    uint64_t seed;
    uint8_t prefix_v4; /* of the mapped address */
    uint8_t prefix_v6;
    bool is_dry;
    bool counts_sessions; /* else sources have a rate at most */
    bool admits_others;   /* those that no network has */
    struct stripe stripe[STRIPES];
};

const char *gate_verdict_word(enum gate_verdict verdict)
{
    static const char *const words[GATE_VERDICTS] = {
        [GATE_ADMITTED] = "admitted",
        [GATE_DENIED] = "denied",
        [GATE_SESSIONS] = "source-sessions",
        [GATE_RATE] = "source-rate",
    };
    BUG_ON((unsigned)verdict >= GATE_VERDICTS);
    return words[verdict];
}

/* ---- Making ---- */

/* Networks on their way into the set, each with its value. */
struct filling {
    struct network *network;
    uint32_t *value;
    size_t count;
};

static size_t count_of(const struct gate_list lists[2])
{
    return lists[0].count + lists[1].count;
}

static void fill(struct filling *filling, const struct gate_list lists[2], bool denies)
{
    for (size_t i = 0; i < count_of(lists); i++, filling->count++) {
        const struct network *network =
            i < lists[0].count ? &lists[0].network[i] : &lists[1].network[i - lists[0].count];
        filling->network[filling->count] = *network;
        filling->value[filling->count] = rules_value(network, denies);
    }
}

/* What is denied comes last: it holds when a network is both. */
static int make_networks(struct gate *gate, const struct gate_options *options)
{
    size_t count = count_of(options->allow) + count_of(options->deny);
    if (count == 0)
        return 0;
    struct filling all = {.network = calloc(count, sizeof(*all.network)),
                          .value = calloc(count, sizeof(*all.value))};
    int rc = -ENOMEM;
    if (all.network != NULL && all.value != NULL) {
        fill(&all, options->allow, false);
        fill(&all, options->deny, true);
        rc = networks_new(&gate->networks, all.network, all.value, all.count);
    }
    free(all.network);
    free(all.value);
    return rc;
}

static int make_sources(struct gate *gate, const struct gate_options *options)
{
    int rc = 0;
    if (options->source_max > 0 || options->source_rate > 0)
        rc = sources_new(&gate->sources, options->table, options->source_max, options->source_rate);
    if (rc == 0 && options->datagram_rate > 0)
        rc = sources_new(&gate->datagrams, options->table, 0, options->datagram_rate);
    return rc;
}

int gate_new(struct gate **out, const struct gate_options *options)
{
    struct gate *gate = aligned_alloc(_Alignof(struct gate), sizeof(*gate));
    if (gate == NULL)
        return -ENOMEM;
    memset(gate, 0, sizeof(*gate));
    gate->seed = options->seed;
    gate->prefix_v4 = (uint8_t)(96 + MIN(options->prefix_v4, 32));
    gate->prefix_v6 = MIN(options->prefix_v6, 128);
    gate->is_dry = options->dry_run;
    gate->counts_sessions = options->source_max > 0;
    gate->admits_others = count_of(options->allow) == 0;
    int rc = make_networks(gate, options);
    if (rc == 0)
        rc = make_sources(gate, options);
    if (rc < 0) {
        gate_free(&gate);
        return rc;
    }
    *out = gate;
    return 0;
}

void gate_free(struct gate **gate)
{
    if (*gate == NULL)
        return;
    rules_deinit(&(*gate)->rules);
    networks_free(&(*gate)->networks);
    sources_free(&(*gate)->sources);
    sources_free(&(*gate)->datagrams);
    free(*gate);
    *gate = NULL;
}

bool gate_is_dry(const struct gate *gate)
{
    return gate->is_dry;
}

bool gate_admits_others(const struct gate *gate)
{
    return gate->admits_others;
}

/* A rule that is new to this thread counts for whom it meets next. */
bool gate_is_open(const struct gate *gate)
{
    return gate == NULL || (gate->networks == NULL && gate->sources == NULL &&
                            atomic_load_explicit(&gate->rules.table, memory_order_relaxed) == NULL);
}

/* ---- Entering and leaving ---- */

/* Values of longer networks are larger; of one length they may be of two verdicts. */
static bool is_allowed(const struct gate *gate, const union inet_address *source)
{
    uint32_t said, configured;
    bool is_said = rules_find(&gate->rules, source, &said);
    bool is_configured = networks_find(gate->networks, source, &configured);
    if (!is_said && !is_configured)
        return gate->admits_others;
    uint32_t value =
        is_said && (!is_configured || said >> 1 >= configured >> 1) ? said : configured;
    return (value & 1) == 0;
}

bool gate_denies(const struct gate *gate, const union inet_address *source)
{
    return gate != NULL && !is_allowed(gate, source);
}

struct network gate_source(const struct gate *gate, const union inet_address *address)
{
    struct in6_addr mapped = network_map(address);
    uint8_t bits;
    if (IN6_IS_ADDR_V4MAPPED(&mapped))
        bits = gate != NULL ? gate->prefix_v4 : 128;
    else
        bits = gate != NULL ? gate->prefix_v6 : 64;
    return (struct network){network_mask(&mapped, bits), bits};
}

static uint64_t tag_of(const struct gate *gate, const union inet_address *source)
{
    struct in6_addr address = gate_source(gate, source).address;
    return XXH3_64bits_withSeed(&address, sizeof(address), gate->seed);
}

static struct stripe *own_stripe(struct gate *gate)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned number; /* 0: this thread has none yet */
    if (number == 0)
        number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % STRIPES + 1;
    return &gate->stripe[number - 1];
}

static void add(_Atomic uint64_t *counter, uint64_t count)
{
    if (count > 0)
        atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

static void count_answer(struct gate *gate, const struct sources_answer *answer)
{
    struct stripe *stripe = own_stripe(gate);
    add(&stripe->verdict[answer->verdict], 1);
    add(&stripe->untracked, answer->untracked);
    add(&stripe->evicted, answer->evicted);
}

enum gate_verdict gate_enter(struct gate *gate, const union inet_address *source, uint64_t now_us,
                             uint32_t *out_ticket)
{
    struct sources_answer answer = {.verdict = GATE_ADMITTED, .ticket = GATE_NO_TICKET};
    if (!is_allowed(gate, source))
        answer.verdict = GATE_DENIED;
    else if (gate->sources != NULL)
        answer = sources_enter(gate->sources, tag_of(gate, source), now_us);
    count_answer(gate, &answer);
    *out_ticket = answer.ticket;
    return answer.verdict;
}

uint32_t gate_adopt(struct gate *gate, const union inet_address *source, uint64_t now_us)
{
    if (gate == NULL || !gate->counts_sessions)
        return GATE_NO_TICKET;
    struct sources_answer answer = sources_adopt(gate->sources, tag_of(gate, source), now_us);
    struct stripe *stripe = own_stripe(gate);
    add(&stripe->untracked, answer.untracked);
    add(&stripe->evicted, answer.evicted);
    return answer.ticket;
}

void gate_leave(struct gate *gate, uint32_t ticket)
{
    if (ticket != GATE_NO_TICKET)
        sources_leave(gate->sources, ticket);
}

const char gate_datagram_word[] = "source-datagram-rate";

bool gate_limits_datagrams(const struct gate *gate)
{
    return gate != NULL && gate->datagrams != NULL;
}

uint32_t gate_charge(struct gate *gate, const union inet_address *source, uint64_t now_us,
                     uint32_t count)
{
    if (gate->datagrams == NULL)
        return count;
    struct sources_answer answer =
        sources_charge(gate->datagrams, tag_of(gate, source), now_us, count);
    struct stripe *stripe = own_stripe(gate);
    add(&stripe->passed, answer.granted);
    add(&stripe->refused, count - answer.granted);
    add(&stripe->passed_untracked, answer.untracked ? count : 0);
    add(&stripe->datagrams_evicted, answer.evicted);
    return answer.granted;
}

/* ---- Reading ---- */

static uint64_t read_counter(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void gate_read(const struct gate *gate, struct gate_counts *out)
{
    *out = (struct gate_counts){0};
    for (size_t i = 0; i < STRIPES; i++) {
        const struct stripe *stripe = &gate->stripe[i];
        for (size_t verdict = 0; verdict < GATE_VERDICTS; verdict++)
            out->verdict[verdict] += read_counter(&stripe->verdict[verdict]);
        out->untracked += read_counter(&stripe->untracked);
        out->evicted += read_counter(&stripe->evicted);
        out->datagrams.passed += read_counter(&stripe->passed);
        out->datagrams.refused += read_counter(&stripe->refused);
        out->datagrams.untracked += read_counter(&stripe->passed_untracked);
        out->datagrams.evicted += read_counter(&stripe->datagrams_evicted);
    }
    if (gate->sources != NULL)
        out->sources = sources_count(gate->sources);
    out->datagrams.is_limited = gate_limits_datagrams(gate);
    if (gate->datagrams != NULL)
        out->datagrams.sources = sources_count(gate->datagrams);
}

/* ---- Rules ---- */

int gate_rule_put(struct gate *gate, const struct gate_rule *rule)
{
    return rules_put(&gate->rules, rule);
}

int gate_rule_drop(struct gate *gate, const struct network *network)
{
    return rules_drop(&gate->rules, network);
}

const struct gate_rule *gate_rules(const struct gate *gate, size_t *out_count)
{
    *out_count = gate->rules.count;
    return gate->rules.rule;
}

int gate_rules_expire(struct gate *gate, uint64_t now_ms, size_t *out_dropped)
{
    size_t before = gate->rules.count;
    int rc = rules_expire(&gate->rules, now_ms);
    *out_dropped = before - gate->rules.count;
    return rc;
}

uint64_t gate_rules_next_ms(const struct gate *gate)
{
    return rules_next_ms(&gate->rules);
}

void gate_retire(struct gate *gate)
{
    rules_retire(&gate->rules);
}

void gate_reclaim(struct gate *gate)
{
    rules_reclaim(&gate->rules);
}

bool gate_is_settled(const struct gate *gate)
{
    return gate->rules.replaced == NULL && gate->rules.leaving == NULL;
}
