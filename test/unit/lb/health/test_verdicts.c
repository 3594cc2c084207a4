/*
 * Rise and fall against a reference model that keeps every verdict and looks back over all of them.
 */
#include "lb/health/verdicts.h"

#include "common/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SEQUENCES 10000
#define LENGTH 64

static const struct config_health settings = {
    .rise = 2, .fall = 3, .interval = 2000, .interval_changing = 500, .interval_down = 1000};

static void one_verdict_decides_on_an_unknown_server(void **state)
{
    (void)state;
    struct verdicts passed = {.state = HEALTH_UNKNOWN};
    assert_true(verdicts_count(&passed, &settings, true));
    assert_int_equal(passed.state, HEALTH_UP);

    struct verdicts failed = {.state = HEALTH_UNKNOWN};
    assert_true(verdicts_count(&failed, &settings, false));
    assert_int_equal(failed.state, HEALTH_DOWN);
}

static void a_pass_begins_the_fall_anew(void **state)
{
    (void)state;
    struct verdicts verdicts = {.state = HEALTH_UP};
    assert_false(verdicts_count(&verdicts, &settings, false));
    assert_false(verdicts_count(&verdicts, &settings, false));
    assert_int_equal(verdicts.streak, 2);
    assert_false(verdicts_count(&verdicts, &settings, true));
    assert_int_equal(verdicts.streak, 0);
    assert_false(verdicts_count(&verdicts, &settings, false));
    assert_false(verdicts_count(&verdicts, &settings, false));
    assert_true(verdicts_count(&verdicts, &settings, false));
    assert_int_equal(verdicts.state, HEALTH_DOWN);
    assert_int_equal(verdicts.streak, 0);
}

static void the_interval_goes_by_state(void **state)
{
    (void)state;
    struct verdicts verdicts = {.state = HEALTH_UNKNOWN};
    assert_int_equal(verdicts_interval(&verdicts, &settings), 500);
    verdicts.state = HEALTH_UP;
    assert_int_equal(verdicts_interval(&verdicts, &settings), 2000);
    verdicts.streak = 1;
    assert_int_equal(verdicts_interval(&verdicts, &settings), 500);
    verdicts.state = HEALTH_DOWN;
    assert_int_equal(verdicts_interval(&verdicts, &settings), 500);
    verdicts.streak = 0;
    assert_int_equal(verdicts_interval(&verdicts, &settings), 1000);
}

/* ---- The model ---- */

struct model {
    enum health_state state;
    bool verdict[LENGTH];
    int count;
    int since; /* the first verdict after the last change */
};

/* Are the last `n` verdicts, none older than the last change, all `passed`? */
static bool model_ends_with(const struct model *model, int64_t n, bool passed)
{
    if (model->count - model->since < n)
        return false;
    for (int64_t i = 1; i <= n; i++) {
        if (model->verdict[model->count - i] != passed)
            return false;
    }
    return true;
}

static bool model_count(struct model *model, const struct config_health *with, bool passed)
{
    model->verdict[model->count++] = passed;
    enum health_state before = model->state;
    if (before != HEALTH_UP && model_ends_with(model, before == HEALTH_DOWN ? with->rise : 1, true))
        model->state = HEALTH_UP;
    else if (before != HEALTH_DOWN &&
             model_ends_with(model, before == HEALTH_UP ? with->fall : 1, false))
        model->state = HEALTH_DOWN;
    if (model->state == before)
        return false;
    model->since = model->count;
    return true;
}

static void run_sequence(struct random_state *random)
{
    const struct config_health with = {.rise = 1 + random_below(random, 5),
                                       .fall = 1 + random_below(random, 5)};
    enum health_state first = (enum health_state)random_below(random, 3);
    /* From nearly always to nearly never: long rows and quick changes. */
    uint32_t passes_of_8 = 1 + random_below(random, 7);
    struct model model = {.state = first};
    struct verdicts verdicts = {.state = first};

    for (int i = 0; i < LENGTH; i++) {
        bool passed = random_below(random, 8) < passes_of_8;
        bool changed = verdicts_count(&verdicts, &with, passed);
        assert_int_equal(changed, model_count(&model, &with, passed));
        assert_int_equal(verdicts.state, model.state);
        assert_true(verdicts.streak < verdicts_needed(&verdicts, &with));
    }
}

static void random_sequences_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEQUENCES; seed++) {
        struct random_state random;
        random_init(&random, seed);
        run_sequence(&random);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_verdict_decides_on_an_unknown_server),
        cmocka_unit_test(a_pass_begins_the_fall_anew),
        cmocka_unit_test(the_interval_goes_by_state),
        cmocka_unit_test(random_sequences_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
