/*
 * What operators say of networks: rules of a listener's gate, their ends, and the tables that a
 * change leaves behind.
 *
 * Workers look at a gate's rules without a word. So what a change has replaced is freed after a
 * mail has been with every worker, one after the other: when it comes to a worker, that one is
 * between two look-ups, and the next finds what is new. There is one such round at a time, for the
 * gates of all listeners; what changes meanwhile waits for the next.
 */
#include "lb/control/private.h"

#include "common/clock.h"
#include "common/log.h"
#include "lb/gate/gate.h"

/* Memory was short for dropping rules whose time is over. */
#define AGAIN_MS 1000

/* Rules that a program says end one after the other, too: each end is a new table and a line, so
 * what ends within this of the last one waits. */
#define GATHER_MS 100

static struct gate *gate_at(const struct control *control, size_t i)
{
    return control->listeners[i].gate;
}

/* ---- Old tables ---- */

static void settle(struct control *control);

static void finish_round(struct control *control)
{
    control->access.is_round = false;
    for (size_t i = 0; i < control->config->listener_count; i++)
        gate_reclaim(gate_at(control, i));
    settle(control);
}

/* After the last worker has ended nobody looks any more. */
static void go_on(struct control *control)
{
    struct control_access *access = &control->access;

    if (access->worker < control->worker_count)
        worker_pass(control->worker[access->worker], &access->pass);
    else
        finish_round(control);
}

static void on_passed(struct worker_pass *pass)
{
    struct control *control = container_of(pass, struct control, access.pass);

    control->access.worker++;
    go_on(control);
}

static bool is_settled(const struct control *control)
{
    for (size_t i = 0; i < control->config->listener_count; i++)
        if (!gate_is_settled(gate_at(control, i)))
            return false;
    return true;
}

static void settle(struct control *control)
{
    struct control_access *access = &control->access;

    if (access->is_round || is_settled(control))
        return;
    for (size_t i = 0; i < control->config->listener_count; i++)
        gate_retire(gate_at(control, i));
    access->is_round = true;
    access->worker = 0;
    access->pass.done = on_passed;
    go_on(control);
}

/* ---- Ends ---- */

static void set_timer(struct control *control);

static bool expire(struct control *control, const struct listener *listener, uint64_t now_ms)
{
    size_t over, left;
    bool is_done = gate_rules_expire(listener->gate, now_ms, &over) == 0;

    if (over == 0)
        return is_done;
    (void)gate_rules(listener->gate, &left);
    control->access.ended_ms = now_ms;
    log_info("access rules are over", LOG_S("listener", listener->config->name),
             LOG_U("over", over), LOG_U("left", left));
    return is_done;
}

static void on_timer(uv_timer_t *timer)
{
    struct control *control = timer->data;
    uint64_t now = clock_now_ms();
    bool is_done = true;

    for (size_t i = 0; i < control->config->listener_count; i++)
        is_done &= expire(control, &control->listeners[i], now);
    settle(control);
    if (is_done)
        set_timer(control);
    else
        uv_timer_start(timer, on_timer, AGAIN_MS, 0);
}

static void set_timer(struct control *control)
{
    uint64_t now = clock_now_ms(), next = UINT64_MAX;

    for (size_t i = 0; i < control->config->listener_count; i++)
        next = MIN(next, gate_rules_next_ms(gate_at(control, i)));
    next = MAX(next, control->access.ended_ms + GATHER_MS);
    if (next == UINT64_MAX)
        uv_timer_stop(&control->access.timer);
    else
        uv_timer_start(&control->access.timer, on_timer, next > now ? next - now : 0, 0);
}

/* ---- What operators do ---- */

static void changed(struct control *control, const char *event, const struct listener *listener,
                    const struct network *network, const char *who)
{
    char text[NETWORK_TEXT_MAX];

    settle(control);
    set_timer(control);
    log_info(event, LOG_S("listener", listener->config->name),
             LOG_S("network", network_format(network, text)), LOG_S("who", who));
}

int control_rule_put(struct control *control, const struct listener *listener,
                     const struct gate_rule *rule, const char *who)
{
    int failed = gate_rule_put(listener->gate, rule);

    if (!failed)
        changed(control, rule->denies ? "denied by an operator" : "allowed by an operator",
                listener, &rule->network, who);
    return failed;
}

int control_rule_drop(struct control *control, const struct listener *listener,
                      const struct network *network, const char *who)
{
    int failed = gate_rule_drop(listener->gate, network);

    if (!failed)
        changed(control, "an access rule is forgotten by an operator", listener, network, who);
    return failed;
}
