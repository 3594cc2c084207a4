"""What UDP takes of the machine, and what it does when there is no more.

TESTING.md rows 12 and 13, the rule of who must go at `max_flows`, descriptors that run out, and the
memory of a flow (issue 3, point 7).
"""
from pathlib import Path

import pytest

from lib.resources import Most, leave_descriptors, limit_descriptors, private_bytes
from lib.udp import check_clean, listener, seconds, summary
from lib.wait import SLOW, eventually

CAP = 10000
RATE = 50000 if SLOW == 1 else 3000


def counters(weir):
    return weir.admin("show counters")


def dropped(weir):
    """How many datagrams by each reason that there is one for."""
    return {name: count for name, count in counters(weir).items()
            if name.startswith("udp_dropped_") and count}


# ---- a flood (row 12) ----

def are_served(weir, count):
    rows = weir.admin("show flows client=127.9.0.1")
    return len(rows) == count and all(row["datagrams_out"] for row in rows)


@pytest.mark.parametrize("workers, duration", [
    (1, 3), (2, 3), pytest.param(2, 10, marks=pytest.mark.long)])
def test_flood(weir, udp_echo, udp_load, udp_flood, workers, duration):
    """50,000 datagrams a second, each from another address and port: more new flows than weir can
    begin. Who was known before loses nothing, and who comes meanwhile gets in."""
    server = udp_echo("a")
    w = weir([server.address], listener=listener(max_flows=CAP, udp_rcvbuf="4m"),
             weir={"workers": workers, "log": {"format": "json", "access": False}})
    patience = {"rate": 10, "timeout": int(3000 * SLOW)}
    known = udp_load("steady", w.address, **patience)
    known.wait_exchanges(300)
    with Most(lambda: w.admin("status")["flows"]) as most:
        flood = udp_flood(w.address, rate=RATE, seconds=int(60 * SLOW))
        eventually(lambda: w.admin("status")["flows"] == CAP, 10, "the cap is reached")
        new = udp_load("steady", w.address, **{"from": "127.9.0.1"}, **patience)
        eventually(lambda: are_served(w, 100), 30, "100 new clients are served meanwhile")
        eventually(lambda: flood.now()["seconds"] >= duration * SLOW, 2 * duration)
        flooded, new, known = flood.end(), new.end(), known.end()
    print(f"flood: {summary(flooded)}\nknown: {summary(known)}\nnew: {summary(new)}\n"
          f"{dropped(w)}, {counters(w)['flows_evicted']} evicted, at most {most.value} flows, "
          f"{server.now()}")
    assert flooded["sent"] >= 0.9 * RATE * flooded["seconds"] and flooded["errors"] == 0
    # A worker counts itself in before it sees that there is no room, and out again.
    assert CAP <= most.value <= CAP + workers
    check_clean(known)
    # Of the datagrams that nobody got each is counted.
    sent = flooded["sent"] + known["sent"] + new["sent"]
    eventually(lambda: counters(w)["datagrams_in"] + sum(dropped(w).values()) == sent, 5,
               f"all {sent} are counted")


# ---- idle expiry, and memory (row 13) ----

IDLE = 3
FLOW_BYTES = 640
SOME = 1 << 20


def kernel_bytes():
    """What the kernel holds in small objects, all over the machine."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Slab:"))


def begin_flows(weir, udp_load):
    """CAP clients that each send one datagram, fast enough that none is idle before the last."""
    load = udp_load("new", weir.address, flows=8, rate=int(1000 / min(SLOW, 4)), sources=CAP // 8,
                    count=CAP, timeout=int(1000 * SLOW))
    check_clean(load.finish())
    assert weir.admin("status")["flows"] == CAP


def test_idle_flows(weir, udp_echo, udp_load):
    w = weir([udp_echo("a").address], listener=listener(udp_idle_timeout=seconds(IDLE)))
    kernel, before = kernel_bytes(), private_bytes(w.pid)
    begin_flows(w, udp_load)
    held = private_bytes(w.pid) - before
    print(f"a flow: {held / CAP:.0f} bytes of weir's, about {(kernel_bytes() - kernel) / CAP:.0f} "
          "of the kernel's")
    lines = w.wait_flow_lines(CAP, timeout=2 * IDLE)
    took = [line["duration_ms"] / 1000 / SLOW for line in lines]
    print(f"idle for {min(took):.4f} to {max(took):.4f} s of {IDLE}")
    assert {(line["end"], line["by"]) for line in lines} == {("idle-timeout", "weir")}
    # The clock of a turn is in milliseconds.
    assert IDLE - 0.002 <= min(took) and max(took) <= 1.2 * IDLE
    w.check_snapshot()
    assert w.admin("status")["flows"] == 0
    # The memory serves the next ones.
    after = private_bytes(w.pid)
    begin_flows(w, udp_load)
    w.wait_flows(0, timeout=2 * IDLE)
    if SLOW == 1:  # a sanitizer has memory of its own, and keeps what was freed
        assert private_bytes(w.pid) <= after + SOME
        assert held <= CAP * FLOW_BYTES + SOME


def test_datagrams_put_the_end_off(weir, udp_server, udp_client):
    """Those of the client and those of the server alike."""
    server = udp_server(lambda *_: [])
    w = weir([server.address], listener=listener(udp_idle_timeout=seconds(0.5)))
    talker, listening = udp_client(w), udp_client(w)
    for client in (talker, listening):
        client.send(b"%d" % (client is talker))
    sources = {data: source for data, source in server.wait_seen(2)}

    def age():
        talker.send()
        server.socket.sendto(b"news", sources[b"0"])
        rows = w.admin("show flows")
        assert len(rows) == 2, "one has ended"
        return min(row["age_ms"] for row in rows) > 1500 * SLOW
    eventually(age, 10, "both are three times as old as a silent one may be")
    ends = [line["end"] for line in w.wait_flow_lines(2)]
    assert ends == ["idle-timeout"] * 2


# ---- who must go at the limit ----

def evicted(weir):
    """The clients, in order."""
    lines = weir.flow_lines()
    assert all((line["end"], line["by"]) == ("evicted", "weir") for line in lines)
    return [line["client"] for line in lines]


def wait_evicted(weir, *clients):
    eventually(lambda: evicted(weir) == [client.address for client in clients], 5,
               "the right ones are evicted")
    assert counters(weir)["flows_evicted"] == len(clients)


def test_the_oldest_with_one_datagram_goes_first(weir, udp_echo, udp_client):
    w = weir([udp_echo().address], listener=listener(max_flows=4))
    clients = [udp_client(w) for _ in range(4)]
    for client in clients:
        client.ask()
    clients[0].ask()
    clients[2].ask()
    newcomers = [udp_client(w) for _ in range(3)]
    for client in newcomers:
        client.ask()
    # Two have talked, so the third newcomer took the place of the first.
    wait_evicted(w, clients[1], clients[3], newcomers[0])
    row, = w.admin("show listeners")
    assert (row["flows"], row["max_flows"]) == (4, 4)


def test_clients_that_talk_keep_their_flows(weir, udp_echo, udp_client):
    """Until they have been silent for a second; then the one that was so the longest goes."""
    w = weir([udp_echo().address], listener=listener(max_flows=2))
    talker, other = udp_client(w), udp_client(w)
    for client in (other, talker, other, talker):
        client.ask()
    late = udp_client(w)
    late.send()
    eventually(lambda: dropped(w) == {"udp_dropped_flow_limit": 1}, 5, "there is no room")
    assert late.waiting() == []

    def gets_in():
        talker.ask()
        late.send()
        return late.waiting()
    eventually(gets_in, 10, "the newcomer gets in")
    wait_evicted(w, other)


def test_a_full_listener_leaves_the_other_alone(weir, udp_echo, udp_client):
    fronts = [{"name": name, "pool": "web", **listener(max_flows=2)} for name in ("small", "other")]
    w = weir([udp_echo().address], listeners=fronts)
    clients = [udp_client(w) for _ in range(4)]
    host, port = fronts[1]["bind"].split(":")
    for client in clients[:2]:
        client.front = (host, int(port))
        client.ask()
    for client in clients[2:] + [udp_client(w)]:
        client.ask()
    wait_evicted(w, clients[2])
    rows = {row["name"]: row["flows"] for row in w.admin("show listeners")}
    assert rows == {"small": 2, "other": 2}


# ---- descriptors ----

@pytest.mark.parametrize("workers", [1, 2])
def test_no_descriptor_left(weir, udp_echo, udp_client, udp_load, workers):
    """Newcomers are dropped and counted; who has a flow notices nothing; it passes by itself."""
    w = weir([udp_echo("a").address], listener=listener(), weir={"workers": workers})
    known = udp_load("steady", w.address, rate=50)
    known.wait_exchanges(1000)
    with w.admin_session() as ask:
        assert ask("status")["flows"] == 100  # once it answers, the session has its descriptor
        leave_descriptors(w.pid, 10)
        clients = [udp_client(w) for _ in range(50)]
        for client in clients:
            client.send()
        eventually(lambda: ask("show counters")["udp_dropped_no_resources"] == 40, 5,
                   "those without a descriptor are counted")
        served = set()
        eventually(lambda: served.update(client for client in clients if client.waiting())
                   or len(served) == 10, 5, "the others are served")
        assert ask("status")["flows"] == 110
        limit_descriptors(w.pid)
        for client in clients:
            assert client.ask().endswith(b"ping")
        assert ask("status")["flows"] == 150
        assert ask("show counters")["udp_dropped_no_resources"] == 40
    check_clean(known.end())
    assert w.server("a")["refused"] == 0, "our own dearth was held against the server"


def test_no_descriptor_left_under_load(weir, udp_echo, udp_load):
    """Questions and answers go on with the sockets that there are."""
    w = weir([udp_echo("a").address],
             listener=listener(responses=1, udp_quarantine="100ms", log_sample=1000))
    known = udp_load("steady", w.address, flows=20)
    new = udp_load("new", w.address, flows=8, rate=100, timeout=500)
    new.wait_exchanges(200)
    with w.admin_session() as ask:
        limit_descriptors(w.pid, 8)
        before = ask("show counters")
        eventually(lambda: ask("show counters")["udp_sockets_reused"]
                   > before["udp_sockets_reused"] + 200, 10, "sockets serve again")
        limit_descriptors(w.pid)
        new.wait_exchanges(500)
    told, lost = new.end(), dropped(w)
    print(summary(told), lost)
    assert told["lost"] + known.end()["lost"] == lost.get("udp_dropped_no_resources", 0)
    assert set(lost) <= {"udp_dropped_no_resources"}
