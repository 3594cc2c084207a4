"""A namespace with few local ports, and what weir and ss tell of how many are used."""
import time

# Of each address of ours (towards each server).
FIRST, PORTS = 40000, 500
SOURCES = ["127.0.0.5", "127.0.0.6"]


def narrow(space):
    """Makes the namespace one, where TIME_WAIT is not cut short."""
    space.sysctl("net.ipv4.ip_local_port_range", f"{FIRST} {FIRST + PORTS - 1}")
    space.sysctl("net.ipv4.tcp_tw_reuse", 0)
    space.sysctl("net.core.somaxconn", 4096)
    return space


def lines(weir, event):
    return [line for line in weir.log_lines() if line["event"] == event]


def short(weir, source):
    return [line for line in lines(weir, "source ports run short") if line["source"] == source]


def ss(space, source, server=None, kind="t"):
    """What ss counts of one address of ours (towards one server): those in TIME-WAIT apart."""
    words = ["ss", f"-Ha{kind}n", "src", source]
    states = [line.split()[0] for line in
              space.run(*words, *(["dst", server] if server else [])).splitlines()]
    states = [state for state in states if state != "LISTEN"]
    return len(states), states.count("TIME-WAIT")


def check_figures(line, space, server=None, kind="t"):
    used, waiting = ss(space, line["source"], server, kind)
    print(f"told: {line['used']} of {line['range']}, {line['time_wait']} in TIME_WAIT; "
          f"ss: {used}, {waiting}")
    assert line["range"] == PORTS and line["protocol"] == {"t": "tcp", "u": "udp"}[kind]
    assert abs(line["used"] - used) <= used * 0.01
    assert line["time_wait"] <= waiting
    assert line["percent"] == line["used"] * 100 // PORTS
    assert "net.ipv4.ip_local_port_range" in line["cure"] and "source" in line["cure"]


def told(weir, source, percent):
    last = short(weir, source)[-1:]
    return last[0] if last and last[0]["percent"] >= percent else None


# Of ports of each address, in which they are taken on the way to a warning: less than 1 %.
STEP = 2
# weir looks five times a second: so often it is looked for its word.
LOOKS = 14


def fill_until_told(weir, space, percent, have, take_more, server=None, kind="t"):
    """Takes ports until it is told that so much of each address is used; the figures are compared
    when a warning comes, with what ss has then. Returns the warnings by their source."""
    take_more(2 * (PORTS * percent // 100 - 3 * STEP) - have)
    warnings = {}

    def all_told():
        for source in SOURCES:
            line = told(weir, source, percent)
            if line and source not in warnings:
                warnings[source] = line
                assert line["level"] == "warn"
                check_figures(line, space, server, kind)
        return len(warnings) == len(SOURCES)

    for _ in range(20):
        for _ in range(LOOKS):
            if all_told():
                return warnings
            time.sleep(0.02)
        take_more(2 * STEP)
    raise AssertionError(f"no warning of {percent} % for {set(SOURCES) - set(warnings)}")


def rows_of(weir, name="a"):
    return {row["address"]: row for row in weir.server(name)["source_ports"]}


def is_counted(weir, used):
    rows = rows_of(weir)
    return all(rows[source]["counted_by"] == "kernel" and rows[source]["used"] >= used
               for source in SOURCES)
