#include "test/lib/share/plan.h"

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/share/stamp.h"
#include "test/lib/share/tally.h"

enum { HELP = 'h', TO = 't', FROM = 'f', GRO = 'g', NUMBER = 256 /* and its row */ };

#define NUMBER_ROW(name, field, ...)                                                               \
    {                                                                                              \
        name, offsetof(struct plan, field), __VA_ARGS__                                            \
    }

/* Least, most, and what it is where a mode says nothing. */
static const struct number {
    const char *name;
    size_t at; /* in struct plan */
    uint64_t least, most, usual;
    const char *help;
} numbers[] = {
    NUMBER_ROW("flows", flows, 1, 15000, 1, "clients, each with a port of its own"),
    NUMBER_ROW("outstanding", outstanding, 1, 65536, 1, "datagrams of a flow under way"),
    NUMBER_ROW("size", size, sizeof(struct stamp), DATAGRAM_MAX, 100, "bytes of a datagram"),
    NUMBER_ROW("rate", rate, 0, 100000, 0, "datagrams a second and flow, replies or not"),
    NUMBER_ROW("train", train, 1, TRAIN_MAX, 1, "so many are sent as one (UDP_SEGMENT)"),
    NUMBER_ROW("sources", sources, 1, 1 << 24, 1, "addresses, from that of --from on"),
    NUMBER_ROW("seconds", seconds, 0, 86400, 0, "send nothing after so long"),
    NUMBER_ROW("count", count, 0, UINT32_MAX, 0, "send nothing after so many"),
    NUMBER_ROW("timeout", timeout_ms, 1, 3600000, 1000, "ms after which a reply is too late"),
    NUMBER_ROW("answer", answer, 0, DATAGRAM_MAX, 0, "bytes of replies that are cut or filled"),
};

static const struct mode {
    const char *name;
    const char *help;
    const char *roves_from; /* NULL: it does not */
    struct plan plan;
} modes[] = {
    {"rr", "small datagrams, 64 flows", NULL, {.flows = 64, .outstanding = 8}},
    {"stream", "large ones, 4 flows", NULL, {.flows = 4, .outstanding = 64, .size = 1200}},
    {"gso",
     "large ones in trains of 16",
     NULL,
     {.flows = 4, .outstanding = 64, .size = 1200, .train = 16}},
    {"steady", "100 flows at 10 a second, come what may", NULL, {.flows = 100, .rate = 10}},
    {"new",
     "each datagram from an address of its own, 64 under way",
     "127.1.0.1",
     {.flows = 8, .outstanding = 8, .sources = 1000000}},
};

enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]), MODES = sizeof(modes) / sizeof(modes[0]) };

static uint64_t *number_in(struct plan *plan, const struct number *number)
{
    return (uint64_t *)(void *)((char *)plan + number->at);
}

_Noreturn static void usage(void)
{
    puts("usage: udp_load MODE --to ADDRESS [OPTION...]\n"
         "\n"
         "Exchanges datagrams with udp_echo: each reply brings forth the next, unless there is a\n"
         "rate. Prints a line of JSON at its end, and at SIGUSR1. SIGTERM and SIGINT end it as\n"
         "--seconds does: it waits for the replies under way.\n");
    for (size_t i = 0; i < MODES; i++)
        printf("  %-14s %s\n", modes[i].name, modes[i].help);
    puts("\n  --to           127.0.0.1:53 or [::1]:53\n"
         "  --from         the IPv4 address of the first flow, in `new` of the first datagram\n"
         "  --gro          takes several replies as one (UDP_GRO)");
    for (size_t i = 0; i < NUMBERS; i++)
        printf("  --%-12s %s\n", numbers[i].name, numbers[i].help);
    puts("\nWhat it tells:\n");
    tally_help();
    exit(0);
}

static struct plan plan_of_mode(const char *name)
{
    for (size_t i = 0; i < MODES; i++) {
        if (strcmp(name, modes[i].name) != 0)
            continue;
        struct plan plan = modes[i].plan;
        plan.mode = modes[i].name;
        plan.roving = modes[i].roves_from != NULL;
        if (plan.roving)
            plan.from = v4_parse(modes[i].roves_from);
        for (size_t k = 0; k < NUMBERS; k++) {
            if (*number_in(&plan, &numbers[k]) == 0)
                *number_in(&plan, &numbers[k]) = numbers[k].usual;
        }
        return plan;
    }
    refuse("the first word is a mode");
}

static void option_set(struct plan *plan, int option)
{
    if (option >= NUMBER) {
        const struct number *number = &numbers[option - NUMBER];
        *number_in(plan, number) = number_parse(number->name, optarg, number->least, number->most);
    } else if (option == TO) {
        plan->to = inet_parse(optarg);
    } else if (option == FROM) {
        plan->from = v4_parse(optarg);
        plan->bound = !plan->roving;
    } else if (option == GRO) {
        plan->gro = true;
    } else {
        refuse("wrong option");
    }
}

static void plan_check(struct plan *plan)
{
    if (plan->to.any.sa_family == AF_UNSPEC)
        refuse("--to ADDRESS is needed");
    if ((plan->bound || plan->roving) && plan->to.any.sa_family != AF_INET)
        refuse("sources are IPv4 addresses");
    if (plan->train * plan->size > DATAGRAM_MAX)
        refuse("a train is at most 65507 bytes");
    /* By the rate as much waits as the timeout lets. Twice that leaves room. */
    if (plan->rate > 0)
        plan->outstanding = plan->rate * plan->timeout_ms / 500 + 16;
    if (plan->train > plan->outstanding)
        refuse("a train is at most what may be outstanding");
}

struct plan plan_parse(int argc, char **argv)
{
    struct option longs[NUMBERS + 5] = {
        {"help", no_argument, NULL, HELP},
        {"to", required_argument, NULL, TO},
        {"from", required_argument, NULL, FROM},
        {"gro", no_argument, NULL, GRO},
    };
    int option;

    if (argc < 2 || strcmp(argv[1], "--help") == 0)
        usage();
    struct plan plan = plan_of_mode(argv[1]);
    for (int i = 0; i < NUMBERS; i++)
        longs[4 + i] = (struct option){numbers[i].name, required_argument, NULL, NUMBER + i};
    optind = 2;
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (option == HELP)
            usage();
        option_set(&plan, option);
    }
    if (optind < argc)
        refuse("too many words");
    plan_check(&plan);
    return plan;
}
