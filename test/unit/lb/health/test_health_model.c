/*
 * 10,000 random sequences of probes against a small reference model (TESTING.md, row 16): passes,
 * failures, silence, doubts at any moment, stalls, and probes that cannot start. The model says
 * when each probe starts, to the millisecond, and what is known after it.
 */
#include "test/unit/lb/health/fake.h"

#include "common/random.h"

#include <errno.h>

#define SEQUENCES 10000
#define PROBES 24
#define SPREAD 200
#define GAP 100

static struct random_state chance;

static bool one_in(uint32_t n)
{
    return random_below(&chance, n) == 0;
}

static uint64_t between(uint64_t least, uint64_t most)
{
    return least + random_below(&chance, (uint32_t)(most - least) + 1);
}

/* ---- The model ---- */

struct model {
    struct config_health settings;
    enum health_state state;
    int64_t passes, failures; /* in a row, since the last change */
    unsigned changes, clears;
    uint64_t probes;
    /* The next probe starts in this span of time, which is nearly always one millisecond. */
    uint64_t earliest, latest;
    uint64_t last_start;
    bool any_start;
    bool doubted, doubted_under_way;
};

static void model_expect(struct model *model, uint64_t earliest, uint64_t latest)
{
    model->earliest = earliest;
    model->latest = latest;
}

static void model_count(struct model *model, bool passed)
{
    model->probes++;
    model->passes = passed ? model->passes + 1 : 0;
    model->failures = passed ? 0 : model->failures + 1;
    enum health_state before = model->state;
    int64_t rise = before == HEALTH_DOWN ? model->settings.rise : 1;
    int64_t fall = before == HEALTH_UP ? model->settings.fall : 1;
    if (before != HEALTH_UP && model->passes >= rise)
        model->state = HEALTH_UP;
    if (before != HEALTH_DOWN && model->failures >= fall)
        model->state = HEALTH_DOWN;
    if (model->state != before) {
        model->changes++;
        model->passes = model->failures = 0;
    }
}

static uint64_t model_interval(const struct model *model)
{
    if (model->state == HEALTH_UNKNOWN || (model->state == HEALTH_UP && model->failures > 0) ||
        (model->state == HEALTH_DOWN && model->passes > 0))
        return (uint64_t)model->settings.interval_changing;
    return (uint64_t)(model->state == HEALTH_UP ? model->settings.interval
                                                : model->settings.interval_down);
}

static void model_verdict(struct model *model, bool passed, uint64_t now)
{
    model_count(model, passed);
    uint64_t next = model->last_start + model_interval(model);
    bool undecided = model->state == HEALTH_UP ? model->failures > 0 : model->passes > 0;
    if (model->doubted_under_way)
        next = model->last_start + GAP;
    else if (model->doubted && !undecided) {
        model->clears++;
        model->doubted = false;
    }
    model_expect(model, MAX(next, now), MAX(next, now));
}

/* A doubt while nothing is under way. */
static void model_doubt(struct model *model, uint64_t now)
{
    if (model->doubted)
        return;
    model->doubted = true;
    uint64_t soonest = model->any_start ? MAX(model->last_start + GAP, now) : now + SPREAD;
    model_expect(model, MIN(model->earliest, now), MIN(model->latest, soonest));
    if (model->any_start)
        model->earliest = model->latest;
}

/* ---- One sequence ---- */

static void assert_agree(const struct model *model, const struct fake_server *server)
{
    struct health_report report;
    health_report(server->target, &report);
    assert_int_equal(report.state, model->state);
    assert_int_equal(server->state, model->state);
    assert_int_equal(server->changes, model->changes);
    assert_int_equal(server->clears, model->clears);
    assert_int_equal(report.probes, model->probes);
    assert_int_equal(report.streak, model->state == HEALTH_UP ? model->failures : model->passes);
}

/* The process stands still, and comes back long after the schedule had to be called. */
static void stand_still(void)
{
    world.now = MAX(world.now, health_next(world.health)) + between(1001, 20000);
    health_advance(world.health, world.now);
}

/* What came due meanwhile is spread; what was not yet due stays as it is. */
static void model_stall(struct model *model, uint64_t now)
{
    if (model->earliest > now)
        return;
    model_expect(model, now, MAX(model->latest, now + SPREAD));
}

/* Before the next start: a doubt, a stall, or nothing. */
static void wait_for_start(struct model *model, struct fake_server *server)
{
    unsigned starts = server->starts;
    if (one_in(6)) {
        if (model->earliest > world.now)
            world_run_until(between(world.now, model->earliest - 1));
        health_suspect(world.health, server->target);
        model_doubt(model, world.now);
    } else if (one_in(20)) {
        stand_still();
        model_stall(model, world.now);
    }
    while (server->starts == starts)
        assert_true(world_step(model->latest));
    assert_in_range(world.now, model->earliest, model->latest);
    model->last_start = world.now;
    model->any_start = true;
    model->doubted_under_way = false;
}

static void doubt_under_way(struct model *model, struct fake_server *server)
{
    health_suspect(world.health, server->target);
    model->doubted_under_way = model->doubted_under_way || !model->doubted;
    model->doubted = true;
}

/* From the start of a probe to its end. */
static void run_probe(struct model *model, struct fake_server *server)
{
    uint64_t timeout = (uint64_t)model->settings.timeout;
    uint64_t length = server->answer == FAKE_IS_SILENT ? timeout : server->latency_ms;
    uint64_t end = model->last_start + length;
    bool doubted = one_in(6) && length > 0;
    bool stalled = one_in(20) && length > 0;

    if (length > 0)
        world_run_until(between(world.now, end - 1));
    if (doubted)
        doubt_under_way(model, server);
    if (stalled) {
        stand_still();
        model_expect(model, world.now, world.now + SPREAD);
        end = world.now;
    }
    /* Not further: the next may start in the same millisecond. */
    while (server->probe != NULL)
        assert_true(world_step(end));
    if (!stalled)
        model_verdict(model, server->answer == FAKE_PASSES, end);
}

static void choose_settings(struct config_health *settings)
{
    *settings = fake_settings();
    settings->rise = (int64_t)between(1, 4);
    settings->fall = (int64_t)between(1, 4);
    settings->timeout = (int64_t)between(1, 500);
    settings->interval_changing = settings->timeout + (int64_t)between(0, 500);
    settings->interval = settings->interval_changing + (int64_t)between(0, 5000);
    settings->interval_down = settings->timeout + (int64_t)between(0, 2000);
}

static void choose_answer(const struct model *model, struct fake_server *server, uint32_t mood)
{
    server->refusal = one_in(20) ? -EMFILE : 0;
    server->answer = random_below(&chance, 8) < mood ? FAKE_PASSES
                     : one_in(2)                     ? FAKE_FAILS
                                                     : FAKE_IS_SILENT;
    server->latency_ms = random_below(&chance, (uint32_t)model->settings.timeout);
}

static void run_sequence(uint64_t seed)
{
    random_init(&chance, seed);
    world_begin(seed);
    struct model model = {.state = (enum health_state)random_below(&chance, 3)};
    choose_settings(&model.settings);
    model_expect(&model, world.now, world.now + SPREAD);
    struct fake_server *server = fake_add(&model.settings, 0, model.state);
    uint32_t mood = 1 + random_below(&chance, 7);

    for (unsigned i = 0; i < PROBES; i++) {
        choose_answer(&model, server, mood);
        wait_for_start(&model, server);
        if (server->refusal == 0)
            run_probe(&model, server);
        else
            model_expect(&model, world.now + model_interval(&model),
                         world.now + model_interval(&model));
        assert_agree(&model, server);
    }
    world_end();
}

static void random_sequences_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEQUENCES; seed++)
        run_sequence(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, fake_quiet_log, fake_end_log);
}
