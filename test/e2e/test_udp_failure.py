"""One of three UDP servers fails under load, and comes back: over veth, where a kernel holds ICMP
errors back.

Issue 3, "Shown by" 2: with ICMP no loss later than 100 ms after the first error, and at most what
was in flight; without it the server is down within the bound of DESIGN §8, and then nothing is
lost. Flows move to another server with their next datagram.
"""
import signal
import time

import pytest

from lib.datagram import Echo, Load
from lib.dns import NAME, Dnsmasq, Dnsperf
from lib.ledger import when
from lib.road import FRONT, SERVERS, IcmpEar, Road, devices
from lib.wait import SLOW, eventually

INTERVAL = TIMEOUT = 0.2
RISE, FALL = 2, 3
# DESIGN.md §8, and what a busy machine lets a process wait.
DOWN_WITHIN = FALL * INTERVAL * 1.1 + TIMEOUT + 0.1
UP_WITHIN = RISE * INTERVAL * 1.1 + TIMEOUT + 0.1
# What is sent so long after weir can know of the failure is not lost: behaviour.
KNOWS_WITHIN = 0.1 * SLOW

ECHO, DNS = 7000, 5300
PROBES = {
    "udp": {"type": "udp", "send": "probe", "expect": "probe"},
    "dns": {"type": "dns", "dns_name": f"health.{NAME}", "port": DNS},
}
# 150 clients that each have at most one datagram under way.
LOAD = {"flows": 150, "rate": 20} if SLOW == 1 else {"flows": 60, "rate": 5}
WRONG = ("late", "twice", "foreign", "damaged", "astray", "errors")


@pytest.fixture
def road():
    made = Road()
    yield made
    made.discard()


class Stage:
    """weir before three servers, each with an echo and a dnsmasq at its address. "b" is to fail."""

    def __init__(self, road, weir, made, probe):
        self.road = road
        self._weir = weir
        self._made = made
        self._probe = probe
        inside = {"wrap": road.servers.wrap}
        self.echoes = [self.start(Echo(name, host=host, port=ECHO, **inside))
                       for name, host in zip("abc", SERVERS)]
        self.dns = [self.start(Dnsmasq(host=host, port=DNS, **inside)) for host in SERVERS]
        self.ear = self.start(IcmpEar(road.weir.wrap))
        self.front = self.load = None

    def start(self, process):
        self._made.append(process)
        return process.start()

    def begin(self, port=ECHO, **listener):
        """weir starts, and is under load."""
        health = {"interval": "200ms", "timeout": "200ms", "rise": RISE, "fall": FALL}
        self.front = self._weir(
            [f"{host}:{port}" for host in SERVERS], wrap=self.road.weir.wrap,
            pool={"health": {**health, **PROBES[self._probe]}},
            listener={"bind": f"{FRONT}:{port}", "protocol": "udp", "udp_idle_timeout": "10s",
                      "log_sample": 1000, **listener}, weir={"workers": 2})
        if port == ECHO:
            self.load = self.start(
                Load("steady", (FRONT, ECHO), wrap=self.road.clients.wrap, **LOAD))
            self.load.wait_exchanges(3 * LOAD["flows"])
        return self

    def victims(self):
        """Whatever runs at the address of b."""
        return [self.echoes[1], self.dns[1]]

    def flows(self, server):
        return self.front.admin(f"show flows server={server}")

    def wait_down(self, began):
        """Waits until the failure is known, in time; when that was."""
        self.front.wait_health("b", "down")
        down = when(self.front, "is down", "b")
        assert down - began <= DOWN_WITHIN * SLOW, f"down after {down - began:.3f} s"
        return down

    def wait_up(self, ended):
        self.front.wait_health("b", "up")
        up = when(self.front, "is up", "b", nth=2)
        assert up - ended <= UP_WITHIN * SLOW, f"up after {up - ended:.3f} s"

    def finish(self):
        """What the load tells at its end; none of it is wrong, though some is lost."""
        told = self.load.end()
        found = {name: told[name] for name in WRONG if told[name]}
        assert not found and told["lost"] == len(told["losses"]), found
        return told

    def check_new_clients(self):
        """Those that come now are served by all three, and lose nothing."""
        told = self.start(Load("rr", (FRONT, ECHO), wrap=self.road.clients.wrap, flows=30,
                               count=600)).finish()
        assert told["lost"] == 0 and set(told["names"]) == set("abc"), told


@pytest.fixture
def processes():
    """A list of what is to be discarded."""
    made = []
    yield made
    for process in made[::-1]:
        process.discard()


@pytest.fixture
def stage(road, processes, weir):
    """stage(the probes' kind). weir goes first: without its servers it is never at rest."""
    return lambda probe: Stage(road, weir, processes, probe)


# ---- ways to fail ----

class Killed:
    """The processes die; the machine says that nobody listens."""

    def __init__(self, on):
        self.on = on

    def begin(self):
        for server in self.on.victims():
            server.kill()

    def end(self):
        for server in self.on.victims():
            server.start()


class Rejected(Killed):
    """A firewall says so, in the server's name."""
    rule = "reject with icmp type port-unreachable"

    def begin(self):
        self.on.road.servers.nft(f"ip daddr {SERVERS[1]} {self.rule}")

    def end(self):
        self.on.road.servers.nft_clear()


class Drops(Rejected):
    """Nothing arrives, and nobody says so."""
    rule = "drop"


class Unreachable(Rejected):
    """A router says that it has lost its way: for UDP the kernel takes that for passing, udp(7)."""
    rule = "reject with icmp type host-unreachable"


class Stopped(Killed):
    """The processes hang."""

    def begin(self):
        for server in self.on.victims():
            server.signal(signal.SIGSTOP)

    def end(self):
        for server in self.on.victims():
            server.signal(signal.SIGCONT)


# ---- ICMP tells ----

@pytest.mark.parametrize("responses", [0, 1])
@pytest.mark.parametrize("fault", [Killed, Rejected])
def test_icmp_moves_all_flows(stage, fault, responses):
    """With responses = 1 each datagram is a new flow: none of them goes to the dead server."""
    on = stage("udp").begin(responses=responses)
    at_b = on.flows("b")
    fails = fault(on)
    began = time.time()
    fails.begin()
    on.wait_down(began)
    on.load.wait_exchanges(3 * LOAD["flows"])
    first = on.ear.times(SERVERS[1])[0]
    counters, row = on.front.admin("show counters"), on.front.server("b")
    fails.end()
    on.wait_up(time.time())
    on.check_new_clients()
    told = on.finish()
    print(f"first ICMP error {first - began:.4f} s after the fault began, {row['refused']} in all; "
          f"lost {[round(sent - first, 4) for *_, sent in told['losses']]} s after it; "
          f"{len(at_b)} flows there, {counters['flows_moved']} moved")

    assert max((sent for *_, sent in told["losses"]), default=0) <= first + KNOWS_WITHIN
    # Each client has one datagram in flight.
    lost_by = {flow for flow, *_ in told["losses"]}
    assert len(lost_by) == told["lost"] <= LOAD["flows"] / 3 + 1
    if responses == 0:
        assert {flow["id"] % 256 for flow in at_b} == {0, 1}, "not on both workers"
        assert counters["flows_moved"] == len(at_b) >= LOAD["flows"] // 3 - 1
        # That is why one error counts for all: this kernel sends few.
        assert 1 <= row["refused"] < len(at_b) / 2
    assert row["flows"] == 0
    assert counters["udp_dropped_refused"] == row["refused"]


def test_dnsmasq_is_killed_under_dnsperf(stage):
    on = stage("dns").begin(DNS, responses=1)
    outstanding = 60
    run = on.start(Dnsperf((FRONT, DNS), wrap=on.road.clients.wrap, l=5, c=30, q=outstanding, t=2))
    eventually(lambda: on.front.server("b")["flows_total"] > 1000 / SLOW, 10, "it is under load")
    began = time.time()
    on.dns[1].kill()
    down = on.wait_down(began)
    on.dns[1].start()
    on.wait_up(time.time())
    perf = run.finish()
    first = on.ear.times(SERVERS[1])[0]
    print(f"{perf}; first ICMP error after {first - began:.4f} s, down after {down - began:.4f} s")
    assert perf.rcodes.startswith(f"NOERROR {perf.completed} ")
    # One that is lost keeps its place until its timeout: more than these are losses that go on.
    assert perf.lost <= outstanding
    rows = on.front.admin("show servers")
    assert all(row["flows_total"] > 1000 / SLOW for row in rows)


# ---- nobody tells ----

@pytest.mark.parametrize("fault, probe", [
    (Drops, "dns"), (Drops, "udp"), (Stopped, "dns"), (Stopped, "udp"), (Unreachable, "udp")])
def test_silence_is_found_by_probes(stage, fault, probe):
    on = stage(probe).begin()
    at_b = on.flows("b")
    fails = fault(on)
    fails.begin()
    down = on.wait_down(began := time.time())
    on.load.wait_exchanges(3 * LOAD["flows"])
    moved = on.front.admin("show counters")["flows_moved"]
    assert on.flows("b") == []
    fails.end()
    on.wait_up(time.time())
    on.check_new_clients()
    told = on.finish()
    print(f"down after {down - began:.4f} s; lost {told['lost']}, the last "
          f"{max(sent for *_, sent in told['losses']) - down:.4f} s after that")
    assert moved == len(at_b) > 0
    assert max(sent for *_, sent in told["losses"]) <= down + KNOWS_WITHIN


# ---- the way is blocked ----

def test_a_firewall_of_our_own(stage):
    """The kernel refuses to send: counted, and no fault of the server's."""
    on = stage("dns").begin()
    on.road.weir.run("nft", "-f", "-", stdin=f"""
        add table inet fault
        add chain inet fault output {{ type filter hook output priority 0; }}
        add rule inet fault output udp dport {ECHO} drop\n""")
    eventually(lambda: on.front.admin("show counters")["udp_dropped_send_error"] > 10, 5,
               "datagrams are refused")
    on.road.weir.nft_clear()
    on.finish()
    rows = on.front.admin("show servers")
    assert [(row["refused"], row["health"]) for row in rows] == [(0, "up")] * 3


def test_a_slow_link(stage, udp_client):
    """What the listener's send buffer has no room for is dropped, and counted."""
    on = stage("dns")
    for host in SERVERS:
        on.start(Echo("burst", host=host, port=ECHO + 1, wrap=on.road.servers.wrap, replies=50,
                      size=1400))
    on.begin(ECHO + 1, udp_sndbuf="4k")
    device = devices(on.road.weir)[0]
    on.road.weir.run(*f"tc qdisc add dev {device} root tbf rate 1mbit burst 3000 limit 1m".split())
    client = udp_client(on.front, namespace=on.road.clients)
    client.send()

    def counted():
        counters = on.front.admin("show counters")
        return counters["datagrams_out"], counters["udp_dropped_send_queue"]
    eventually(lambda: sum(counted()) == 50, 5, "all replies have passed or are counted")
    on.road.weir.run("tc", "qdisc", "del", "dev", device, "root")
    assert min(counted()) > 0
