/*
 * Purpose: who may come in at one listener: by network, and by how much of it a source has already.
 * Thread:  gate_new, gate_free: control, when no worker has it. gate_rule_* and what follows on
 *          old rules: control. The rest: any number at once.
 * Owns:    a gate copies its options. A ticket belongs to whom gate_enter gave it, and goes back
 *          once, to the same gate and before gate_free.
 * Fails:   gate_new with -ENOMEM, or -EINVAL for a table above 2^30. Nothing is allocated later,
 *          but by changes of rules.
 *
 * Networks first: the longest match over `allow` and `deny` together decides, `deny` when one is in
 * both. What no network has is admitted if `allow` is empty. Operators add rules while weir runs,
 * which are networks like those, and of the very same one an operator's word counts. What no
 * network has is none of theirs: a first rule that allows shuts nobody out.
 *
 * Then sources: all addresses with the same first bits. The table has a fixed size, shared by all
 * workers without a lock. A source is forgotten only when it has no session and its rate is used
 * by nothing, so that forgetting it changes no verdict. When its place in the table is full of
 * sources that are not so, a new one is admitted and counted as untracked: a full table must not
 * be a way to keep others out.
 *
 * Datagrams have a table of their own, and the same holds for it.
 */
#pragma once

#include "common/network.h"

enum gate_verdict {
    GATE_ADMITTED,
    GATE_DENIED,   /* by allow or deny */
    GATE_SESSIONS, /* source_max_sessions */
    GATE_RATE,     /* source_rate */
    GATE_VERDICTS
};

/* "admitted", "denied", "source-sessions", "source-rate" */
const char *gate_verdict_word(enum gate_verdict verdict);

/* Networks that stand together. */
struct gate_list {
    const struct network *network;
    size_t count;
};

struct gate_options {
    struct gate_list allow[2]; /* from two places, and alike */
    struct gate_list deny[2];
    uint32_t source_max;    /* at once; 0: no limit; above 1048572 as that */
    uint32_t source_rate;   /* new ones a second; 0: no limit; above 1000000 as that */
    uint32_t datagram_rate; /* datagrams a second; as source_rate */
    uint8_t prefix_v4;      /* bits that make a source: 0 to 32 */
    uint8_t prefix_v6;      /* 0 to 128 */
    uint32_t table;         /* sources remembered, rounded up to a power of two; 0: 65536 */
    bool dry_run;
    uint64_t seed; /* of the table's hash: random, so that nobody can aim at one place in it */
};

struct gate;

must_check int gate_new(struct gate **out, const struct gate_options *options);
void gate_free(struct gate **gate);

#define GATE_NO_TICKET UINT32_MAX

/*
 * May a session or flow from `source` begin? Counts the verdict and sets *out_ticket: when
 * admitted, to what is to be given back by gate_leave (GATE_NO_TICKET, which need not be, when
 * nothing is counted); otherwise to GATE_NO_TICKET. The verdict of a dry gate is the same, but its
 * caller lets the source in whatever it is.
 *
 * `now_us` is of a monotonic clock; those of two workers may differ by some milliseconds. The
 * burst of a rate is one second's worth of it (GCRA, ITU-T I.371). What is refused uses no rate.
 */
enum gate_verdict gate_enter(struct gate *gate, const union inet_address *source, uint64_t now_us,
                             uint32_t *out_ticket);
/*
 * A session that another process let in is here now, and is its source's as if it had entered here:
 * none is refused, whatever the networks and limits are, and no rate is used. The ticket, for
 * gate_leave, or GATE_NO_TICKET where sessions are not counted. The gate may be NULL.
 */
must_check uint32_t gate_adopt(struct gate *gate, const union inet_address *source,
                               uint64_t now_us);
/* Nothing for GATE_NO_TICKET, and then the gate may be NULL. */
void gate_leave(struct gate *gate, uint32_t ticket);

/* "source-datagram-rate": why gate_charge grants less. */
extern const char gate_datagram_word[];

/* Is there a datagram_rate? In a gate that is NULL there is none. */
bool gate_limits_datagrams(const struct gate *gate);

/*
 * A source has sent `count` datagrams, at least one: how many of them may pass, from the first on.
 * What is refused uses no rate. That of a dry gate is the same, but its caller lets all pass. Asks
 * the rate alone: networks and the other limits are about who begins.
 */
uint32_t gate_charge(struct gate *gate, const union inet_address *source, uint64_t now_us,
                     uint32_t count);

/* The source that an address belongs to; without a gate an IPv4 address, or an IPv6 /64. */
struct network gate_source(const struct gate *gate, const union inet_address *address);

/* Does it admit everybody now, at no cost? A gate that is NULL does. */
bool gate_is_open(const struct gate *gate);

/* Would a network, or the want of one, keep the source out? Counts nothing. NULL denies nobody. */
bool gate_denies(const struct gate *gate, const union inet_address *source);

/* Does it only say what it would do? */
bool gate_is_dry(const struct gate *gate);

/* Of the table of datagrams. */
struct gate_datagrams {
    bool is_limited; /* else the rest is 0 */
    uint64_t passed;
    uint64_t refused;
    uint64_t untracked; /* of those passed */
    uint64_t evicted;
    uint32_t sources;
};

struct gate_counts {
    uint64_t verdict[GATE_VERDICTS];
    uint64_t untracked; /* admitted without being counted: their place in the table was full of
                           sources that are still under way */
    uint64_t evicted;   /* sources forgotten to make room for another */
    uint32_t sources;   /* in the table now, those that could be forgotten included */
    struct gate_datagrams datagrams;
};

/* Walks the table: for people and metrics, not for each session. */
void gate_read(const struct gate *gate, struct gate_counts *out);

/* Is who is in no network admitted? */
bool gate_admits_others(const struct gate *gate);

/* ---- what operators say while weir runs ---- */

#define GATE_RULES_MAX 4096

struct gate_rule {
    struct network network;
    bool denies;
    uint64_t until_ms; /* as clock_now_ms tells; UINT64_MAX: without an end */
};

/* A rule, or another one for its network. -ENOSPC beyond GATE_RULES_MAX, -ENOMEM: nothing has
 * changed. */
must_check int gate_rule_put(struct gate *gate, const struct gate_rule *rule);
/* -ENOENT: there is none for the very same network. -ENOMEM: it holds on. */
must_check int gate_rule_drop(struct gate *gate, const struct network *network);
/* Until the next change. */
const struct gate_rule *gate_rules(const struct gate *gate, size_t *out_count);

/* Drops the rules whose time is over, *out_dropped of them. -ENOMEM: they hold on. */
must_check int gate_rules_expire(struct gate *gate, uint64_t now_ms, size_t *out_dropped);
/* When the next one's is; UINT64_MAX: never. */
uint64_t gate_rules_next_ms(const struct gate *gate);

/*
 * A change leaves the rules as they were behind, for the threads that look at them just then.
 * Whoever makes changes calls gate_retire; when after that he has seen every other thread
 * outside of gate_enter and gate_denies, gate_reclaim frees what was left until gate_retire. Then
 * it may be called again, and need not be once the gate is settled: nothing is left.
 */
void gate_retire(struct gate *gate);
void gate_reclaim(struct gate *gate);
bool gate_is_settled(const struct gate *gate);
