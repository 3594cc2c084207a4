"""What was measured, as Markdown."""
import statistics

# At most so much of what a peer adds: (load, peer).
GOALS = {("udp-rr", "nginx"): 0.7, ("udp-stream", "nginx"): 0.5, ("udp-new", "nginx"): 0.7}


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def added(figures, name):
    """What a balancer costs more than no balancer, in one round."""
    return figures[name]["cost"] - figures["direct"]["cost"]


def ratios(rounds, one, other):
    return [added(figures, one) / added(figures, other) for figures in rounds]


def report(name, load, names, rounds):
    """names: direct, weir, and the others."""
    print(f"\n### {name}: {load.unit}, whole machine less direct; {len(rounds)} rounds, median (least–most)\n")
    print(f"| | added | beside {names[1]} | rate /s | p50 ms | p99 ms | errors |\n|---|---|---|---|---|---|---|")
    for balancer in names:
        rows = [figures[balancer] for figures in rounds]
        direct = balancer == "direct"
        cost = [figures["direct"]["cost"] if direct else added(figures, balancer) for figures in rounds]
        beside = "" if direct else spread(ratios(rounds, balancer, names[1]), 2)
        rate, p50, p99 = (statistics.median(row[key] for row in rows) for key in ("rate", "p50", "p99"))
        print(f"| {'direct (its total)' if direct else balancer} | {spread(cost)} | {beside} | {rate:.0f} | "
              f"{p50:.2f} | {p99:.2f} | {sum(row['errors'] for row in rows)} |")
    for balancer in names[2:]:
        report_goal(name, names[1], balancer, rounds)


def report_goal(name, weir, peer, rounds):
    goal = GOALS.get((name, peer))
    if goal is None:
        return
    paired = ratios(rounds, weir, peer)
    met = sum(ratio <= goal for ratio in paired)
    print(f"\n{weir} / {peer}: {spread(paired, 2)}; the goal of at most {goal} is met in {met} of {len(paired)} rounds")


def report_calls(name, load, counted):
    """counted: {balancer: (units, {call: times})}."""
    print(f"\n### {name}: system calls of the balancer for 10,000 {load.calls_unit}\n")
    print("| | all | by name |\n|---|---|---|")
    for balancer, (units, calls) in counted.items():
        each = {call: times * 10000 / (units * load.calls_per_unit) for call, times in calls.items()}
        total = each.pop("all")
        told = sorted(((times, call) for call, times in each.items() if times >= 1), reverse=True)
        others = total - sum(times for times, _ in told)
        words = [f"{call} {times:.0f}" for times, call in told] + ([f"others {others:.0f}"] if others >= 1 else [])
        print(f"| {balancer} | {total:.0f} | {', '.join(words)} |")
