#include "lb/metrics/metrics.h"

static const struct {
    const char *name;
    const char *help;
} table[METRIC_COUNT] = {
#define METRIC_ROW(id, name, help) {name, help},
    METRICS(METRIC_ROW)
#undef METRIC_ROW
};

const char *metric_name(enum metric metric)
{
    return table[metric].name;
}

const char *metric_help(enum metric metric)
{
    return table[metric].help;
}
