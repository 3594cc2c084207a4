/*
 * Purpose: the clocks of clock.h, and UTC as text.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   never.
 */
#include "common/clock.h"

#include "common/base.h"

#include <time.h>

#define US_PER_SECOND 1000000u
#define SECONDS_PER_DAY 86400u
#define DAYS_PER_ERA 146097u /* 400 years, after which the calendar repeats itself */
#define YEAR_10000_S UINT64_C(253402300800)

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * US_PER_SECOND + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_now_ms(void)
{
    uint64_t ms = clock_us(CLOCK_MONOTONIC) / 1000;
    return MAX(ms, 1);
}

uint64_t clock_now_us(void)
{
    uint64_t us = clock_us(CLOCK_MONOTONIC);
    return MAX(us, 1);
}

uint64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

struct date {
    unsigned year;
    unsigned month;
    unsigned day;
};

/*
 * Days since 1970-01-01 to a date ("chrono-compatible low-level date algorithms", H. Hinnant,
 * 2013): the year is taken to begin in March, so that the leap day is its last.
 */
static struct date date_from_days(unsigned days)
{
    days += 719468; /* from 0000-03-01 to 1970-01-01 */
    unsigned era = days / DAYS_PER_ERA;
    unsigned day_of_era = days % DAYS_PER_ERA;
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month_from_march = (5 * day_of_year + 2) / 153;
    unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    return (struct date){
        .year = era * 400 + year_of_era + (month <= 2),
        .month = month,
        .day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
    };
}

/* Writes `value` with as many digits as asked and then `end`; returns what follows. */
static char *put_number(char *out, unsigned value, unsigned digits, char end)
{
    for (unsigned i = digits; i-- > 0; value /= 10)
        out[i] = (char)('0' + value % 10);
    out[digits] = end;
    return out + digits + 1;
}

/* Not by gmtime_r(3): it takes a lock that all threads share, and every log line comes here. */
char *clock_format(uint64_t wall_us, char text[CLOCK_TEXT_MAX])
{
    /* RFC 3339 ends with the year 9999. */
    wall_us = MIN(wall_us, YEAR_10000_S * US_PER_SECOND - 1);
    unsigned ms = (unsigned)(wall_us % US_PER_SECOND / 1000);
    uint64_t seconds = wall_us / US_PER_SECOND;
    unsigned second_of_day = (unsigned)(seconds % SECONDS_PER_DAY);
    struct date date = date_from_days((unsigned)(seconds / SECONDS_PER_DAY));

    char *out = text;
    out = put_number(out, date.year, 4, '-');
    out = put_number(out, date.month, 2, '-');
    out = put_number(out, date.day, 2, 'T');
    out = put_number(out, second_of_day / 3600, 2, ':');
    out = put_number(out, second_of_day / 60 % 60, 2, ':');
    out = put_number(out, second_of_day % 60, 2, '.');
    out = put_number(out, ms, 3, 'Z');
    *out = '\0';
    return text;
}
