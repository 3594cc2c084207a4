/*
 * `allow`, `deny`, `forget` and `show access`, without a socket: requests go straight to their
 * handlers, before a control that is made up.
 */
#include "lb/admin/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test/unit/lb/admin/fake_control.h"

#include <jansson.h>

struct asker {
    struct request request;
    struct control *control;
    json_t *data; /* of all lines of the answer */
    char error[512];
    bool more, answered;
    unsigned lines;
};

static void on_line(struct request *request, char *line, bool more)
{
    struct asker *asker = container_of(request, struct asker, request);
    assert_non_null(line);
    json_t *reply = json_loads(line, 0, NULL);
    assert_non_null(reply);
    free(line);
    const char *error = json_string_value(json_object_get(reply, "error"));
    json_t *data = json_object_get(reply, "data");
    if (error != NULL)
        snprintf(asker->error, sizeof(asker->error), "%s", error);
    else if (asker->data == NULL)
        asker->data = json_incref(data);
    else
        assert_int_equal(json_array_extend(asker->data, data), 0);
    json_decref(reply);
    asker->more = more;
    asker->answered = !more;
    asker->lines++;
}

static int setup(void **state)
{
    struct asker *asker = calloc(1, sizeof(*asker));
    asker->control = fake_open("/nowhere");
    *state = asker;
    return 0;
}

static int teardown(void **state)
{
    struct asker *asker = *state;
    json_decref(asker->data);
    fake_close(asker->control);
    free(asker);
    return 0;
}

/* Until the answer is whole. */
static void ask(struct asker *asker, const char *line)
{
    char copy[256];
    json_decref(asker->data);
    asker->data = NULL;
    asker->error[0] = '\0';
    asker->more = asker->answered = false;
    asker->lines = 0;
    asker->request =
        (struct request){.control = asker->control, .who = "uid=0 pid=1", .send = on_line};
    snprintf(copy, sizeof(copy), "%s", line);
    request_run(&asker->request, copy, strlen(copy));
    for (int turns = 0; !asker->answered && turns < 1000; turns++) {
        fake_step(asker->control);
        if (asker->more && !asker->answered)
            asker->request.next(&asker->request);
    }
    assert_true(asker->answered);
}

static void assert_answer(struct asker *asker, const char *line, const char *answer)
{
    ask(asker, line);
    assert_string_equal(asker->error, "");
    char *text = json_dumps(asker->data, JSON_COMPACT);
    assert_string_equal(text, answer);
    free(text);
}

static void assert_refused(struct asker *asker, const char *line, const char *part)
{
    size_t before, after;
    gate_rules(asker->control->listener.gate, &before);
    ask(asker, line);
    if (strstr(asker->error, part) == NULL)
        fail_msg("\"%s\" has no \"%s\"", asker->error, part);
    gate_rules(asker->control->listener.gate, &after);
    assert_int_equal(before, after);
}

/* A gate that the configuration has filled. */
static void fill_gate(struct asker *asker, bool dry_run)
{
    static struct network allowed[2], denied[1], listed[3];
    const char *why;
    struct config_listener *listen = &asker->control->listen;
    assert_int_equal(network_parse(&allowed[0], "10.0.0.0/8", &why), 0);
    assert_int_equal(network_parse(&allowed[1], "192.0.2.0/24", &why), 0);
    assert_int_equal(network_parse(&denied[0], "10.1.0.0/16", &why), 0);
    listen->allow = (struct config_networks){.network = allowed, .count = 2};
    listen->deny = (struct config_networks){.network = denied, .count = 1};
    listen->deny_file.networks = (struct config_networks){.network = listed, .count = 3};
    struct gate_options options = {
        .allow = {{allowed, 2}}, .deny = {{denied, 1}}, .dry_run = dry_run};
    gate_free(&asker->control->listener.gate);
    assert_int_equal(gate_new(&asker->control->listener.gate, &options), 0);
}

static void says_and_takes_back(void **state)
{
    struct asker *asker = *state;
    assert_answer(asker, "deny front 192.0.2.0/24",
                  "{\"listener\":\"front\",\"verdict\":\"deny\",\"network\":\"192.0.2.0/24\","
                  "\"left_ms\":null}");
    assert_string_equal(asker->control->who, "uid=0 pid=1");
    assert_answer(asker, "allow front 192.0.2.7 for=5m",
                  "{\"listener\":\"front\",\"verdict\":\"allow\",\"network\":\"192.0.2.7/32\","
                  "\"left_ms\":300000}");
    size_t count;
    const struct gate_rule *rule = gate_rules(asker->control->listener.gate, &count);
    assert_int_equal(count, 2);
    assert_true(rule[0].denies && rule[0].until_ms == UINT64_MAX);
    assert_true(!rule[1].denies && rule[1].until_ms == fake_now_ms + 300000);
    assert_answer(asker, "forget front 192.0.2.0/24",
                  "{\"listener\":\"front\",\"forgotten\":\"192.0.2.0/24\"}");
    assert_refused(asker, "forget front 192.0.2.0/24",
                   "no operator has said anything of 192.0.2.0/24 for listener \"front\"");
}

static void refuses_what_it_cannot_mean(void **state)
{
    struct asker *asker = *state;
    assert_refused(asker, "deny frnt 192.0.2.0/24", "did you mean \"front\"?");
    assert_refused(asker, "deny front 192.0.2.1/24", "the network is 192.0.2.0/24; usage: deny");
    assert_refused(asker, "allow front office", "\"office\" is not a network");
    assert_refused(asker, "forget front office", "\"office\" is not a network");
    assert_refused(asker, "deny front 192.0.2.1 for=soon", "is not a duration such as 30s");
    assert_refused(asker, "deny front 192.0.2.1 for=0s", "is not a duration such as 30s");
    assert_refused(asker, "allow front 192.0.2.1 for=31d", "at most 30d");
    assert_refused(asker, "deny front 192.0.2.1 kill=maybe", "kill= is yes or no, not \"maybe\"");
    assert_refused(asker, "allow front 192.0.2.1 kill=yes", "takes no \"kill=\"");
    assert_refused(asker, "deny front", "an argument is missing");
    assert_refused(asker, "show access back", "there is no listener \"back\"");
    fill_gate(asker, true);
    assert_refused(asker, "deny front 192.0.2.1 kill=yes", "has dry_run = true");
    assert_refused(asker, "deny front 192.0.2.1 kill=yes", "; leave kill= out");
}

static void kills_whom_it_denies(void **state)
{
    struct asker *asker = *state;
    struct control *control = asker->control;
    control->session_count = 5;
    assert_answer(asker, "deny front 192.0.2.0/24 kill=yes",
                  "{\"listener\":\"front\",\"verdict\":\"deny\",\"network\":\"192.0.2.0/24\","
                  "\"left_ms\":null,\"killed\":1}");
    assert_true(control->kill && control->asked.is_within && control->asked.is_denied);
    assert_int_equal(control->asked.within.bits, 96 + 24);
    assert_string_equal(control->asked.listener, "front");
    assert_int_equal(control->kind, TRAFFIC_SESSIONS);
    control->listen.protocol = CONFIG_PROTOCOL_UDP;
    ask(asker, "deny front 192.0.2.0/24 kill=yes");
    assert_int_equal(control->kind, TRAFFIC_FLOWS);
    control->kind = TRAFFIC_SESSIONS;
    ask(asker, "deny front 192.0.2.0/24 kill=no");
    assert_int_equal(control->kind, TRAFFIC_SESSIONS);
    control->session_count = UINT64_MAX;
    ask(asker, "deny front 192.0.2.0/24 kill=yes");
    assert_string_equal(asker->error, "it is denied, but the workers cannot be asked to end it: "
                                      "not enough memory");
}

static void a_client_that_leaves_ends_its_kill(void **state)
{
    struct asker *asker = *state;
    char line[] = "deny front 192.0.2.0/24 kill=yes";
    asker->request =
        (struct request){.control = asker->control, .who = "uid=0 pid=1", .send = on_line};
    request_run(&asker->request, line, strlen(line));
    request_abandon(&asker->request);
    assert_int_equal(asker->control->cancels, 1);
}

static void has_room_for_so_many(void **state)
{
    struct asker *asker = *state;
    char line[64];
    for (unsigned i = 0; i < GATE_RULES_MAX; i++) {
        struct gate_rule rule = {.network = {.bits = 128}, .until_ms = UINT64_MAX};
        rule.network.address.s6_addr[15] = (uint8_t)i;
        rule.network.address.s6_addr[14] = (uint8_t)(i >> 8);
        assert_int_equal(gate_rule_put(asker->control->listener.gate, &rule), 0);
        gate_retire(asker->control->listener.gate);
        gate_reclaim(asker->control->listener.gate);
    }
    assert_refused(asker, "deny front 192.0.2.1", "has 4096 rules, which is all it may have");
    ask(asker, "show access front");
    assert_int_equal(json_array_size(asker->data), 3 + GATE_RULES_MAX);
    assert_true(asker->lines > 10);
    snprintf(line, sizeof(line), "forget front ::%x", 0x107u);
    ask(asker, line);
    assert_string_equal(asker->error, "");
    ask(asker, "deny front 192.0.2.1");
    assert_string_equal(asker->error, "");
}

#define CONFIGURED(verdict, of, count)                                                             \
    "{\"verdict\":\"" verdict "\",\"by\":\"configuration\",\"network\":\"" of                      \
    "\",\"networks\":" count ",\"left_ms\":null}"
#define SAID(verdict, network, left)                                                               \
    "{\"verdict\":\"" verdict "\",\"by\":\"operator\",\"network\":\"" network                      \
    "\",\"networks\":1,\"left_ms\":" left "}"

static void shows_what_holds(void **state)
{
    struct asker *asker = *state;
    assert_answer(asker, "show access front",
                  "[" CONFIGURED("allow", "configured", "0") "," CONFIGURED(
                      "deny", "configured", "0") "," CONFIGURED("allow", "all others", "0") "]");
    fill_gate(asker, false);
    ask(asker, "deny front 2001:db8::/32 for=1m");
    ask(asker, "allow front 10.1.2.0/24");
    fake_now_ms += 45000;
    assert_answer(asker, "show access front",
                  "[" CONFIGURED("allow", "configured", "2") "," CONFIGURED(
                      "deny", "configured",
                      "4") "," CONFIGURED("deny", "all others",
                                          "0") "," SAID("deny", "2001:db8::/32",
                                                        "15000") "," SAID("allow", "10.1.2.0/24",
                                                                          "null") "]");
}

/* Also `show sessions` knows networks. */
static void filters_clients_by_network(void **state)
{
    struct asker *asker = *state;
    ask(asker, "show sessions client=192.0.2.0/24");
    assert_true(asker->control->asked.is_within);
    assert_false(asker->control->asked.is_denied);
    assert_int_equal(asker->control->asked.within.bits, 96 + 24);
    assert_refused(asker, "show sessions client=192.0.2.1/24",
                   "is not a client's address or network: bits are set");
    assert_refused(asker, "show sessions client=unix:/run/x",
                   "is not a client's address or network: this is not an IP address");
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(says_and_takes_back),        CASE(refuses_what_it_cannot_mean),
        CASE(kills_whom_it_denies),       CASE(a_client_that_leaves_ends_its_kill),
        CASE(has_room_for_so_many),       CASE(shows_what_holds),
        CASE(filters_clients_by_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
