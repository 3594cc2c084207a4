"""DNS through weir, as it is served: over UDP and TCP on one port, from one pool of real dnsmasq.

Issue 3, "Shown by" 2 (the half without failures), probes of the kinds dns and udp, and maglev,
which puts a client on the same server over both protocols and from every weir.
"""
import collections
import re
import signal
import time

import pytest

from lib.dns import NAME, Dnsmasq, Dnsperf, ask_tcp, ask_udp, question
from lib.ledger import when
from lib.ports import free_port
from lib.wait import SLOW, eventually

ANSWERS = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
SECONDS = 10 if SLOW == 1 else 3


def both(port=None, **udp):
    """The listeners of one address: UDP with these keys, and TCP."""
    bind = f"127.0.0.1:{port or free_port()}"
    return [{"name": "udp", "bind": bind, "protocol": "udp", "pool": "web", "responses": 1, **udp},
            {"name": "tcp", "bind": bind, "pool": "web"}]


@pytest.fixture
def dnsmasqs():
    """Three of them, answering with ANSWERS."""
    made = [Dnsmasq(answer) for answer in ANSWERS]
    try:
        yield [server.start() for server in made]
    finally:
        for server in made:
            server.discard()


@pytest.fixture
def dnsperf():
    made = []

    def start(*args, **options):
        made.append(Dnsperf(*args, **options))
        return made[-1].start()
    yield start
    for one in made:
        one.discard()


# ---- load ----

def answered(server):
    """The queries over UDP that a dnsmasq says it has answered. Those over TCP its children do."""
    told = server.output().count("answered locally")
    server.process.send_signal(signal.SIGUSR1)
    eventually(lambda: server.output().count("answered locally") > told, 5, "dnsmasq's statistics")
    return int(re.findall(r"queries answered locally (\d+)", server.output())[-1])


def check_all_answered(perf):
    assert perf.lost == 0 and perf.completed == perf.sent > 0
    assert perf.rcodes == f"NOERROR {perf.sent} (100.00%)"


def test_dnsperf_over_both_protocols(weir, dnsmasqs, dnsperf):
    front = weir([server.address for server in dnsmasqs], listeners=both(log_sample=1000),
                 weir={"workers": 2})
    # A dnsmasq closes a connection after 100 queries, whatever is under way on it.
    over = {"udp": dnsperf(front.address, l=SECONDS, c=20),
            "tcp": dnsperf(front.address, mode="tcp", l=SECONDS, c=6, q=6,
                           O="num-queries-per-conn=100")}
    perfs = {mode: run.finish() for mode, run in over.items()}
    rows = front.admin("show servers web")
    queries = [answered(server) for server in dnsmasqs]
    print(f"{perfs}\nUDP queries by server: {queries}, flows: {[r['flows_total'] for r in rows]}, "
          f"TCP sessions: {[r['sessions_total'] for r in rows]}")
    for perf in perfs.values():
        check_all_answered(perf)
    assert sum(queries) == perfs["udp"].sent
    # Round-robin: one turn, for both protocols, on each of two workers.
    turns = [row["flows_total"] + row["sessions_total"] for row in rows]
    assert max(turns) - min(turns) <= 2
    counters = front.admin("show counters")
    assert counters["datagrams_in"] == counters["datagrams_out"] == perfs["udp"].sent
    assert sum(row["flows_total"] for row in rows) == counters["flows"]


def test_every_query_is_a_choice(weir, dnsmasqs, dnsperf):
    """per_packet: one client that keeps its port is spread all the same."""
    servers = [{"name": name, "address": server.address, "weight": weight}
               for name, server, weight in zip("abc", dnsmasqs, (100, 200, 100))]
    front = weir(servers, listeners=both(per_packet=True, log_sample=1000))
    perf = dnsperf(front.address, l=2, c=1).finish()
    queries = [answered(server) for server in dnsmasqs]
    print(perf, queries)
    check_all_answered(perf)
    for count, share in zip(queries, (1 / 4, 1 / 2, 1 / 4)):
        assert abs(count - share * perf.sent) <= 2


# ---- probes ----

INTERVAL = TIMEOUT = 0.2
RISE, FALL = 2, 3
# DESIGN.md §8, and what a busy machine lets a process wait.
DOWN_WITHIN = FALL * INTERVAL * 1.1 + TIMEOUT + 0.1
HEALTH = {"rise": RISE, "fall": FALL, "interval": "200ms", "timeout": "200ms"}

ASKS = question()
PROBES = {
    "dns": {"type": "dns", "dns_name": f"health.{NAME}"},
    # The flags of a reply, and the name that was asked for.
    "udp": {"type": "udp", "send": "hex:" + ASKS.hex(), "expect": "hex:" + ASKS[12:].hex()},
    # It lasts as long as its timeout: there must be moments without any.
    "udp, no refusal": {"type": "udp", "timeout": "50ms"},
}


def served(front, count=12):
    return collections.Counter(ask_udp(front.address) for _ in range(count))


@pytest.mark.parametrize("name", PROBES)
def test_probe_finds_a_dead_dnsmasq(weir, dnsmasqs, name):
    front = weir([server.address for server in dnsmasqs], listeners=both(),
                 pool={"health": {**HEALTH, **PROBES[name]}})
    assert served(front) == dict.fromkeys(ANSWERS, 4)
    dnsmasqs[1].kill()
    killed = time.time()
    front.wait_health("b", "down")
    assert when(front, "is down", "b") - killed <= DOWN_WITHIN * SLOW
    assert "refused" in front.server("b")["reason"]
    assert served(front) == {ANSWERS[0]: 6, ANSWERS[2]: 6}
    dnsmasqs[1].start()
    front.wait_health("b", "up")
    eventually(lambda: served(front, 3) == dict.fromkeys(ANSWERS, 1), 5, "all serve again")


@pytest.mark.parametrize("probe, health, why", [
    ({"dns_name": f"a.{NAME}", "dns_address": ANSWERS[0]}, ["up", "down", "down"],
     f"without {ANSWERS[0]}"),
    ({"dns_name": f"a.{NAME}", "dns_type": "AAAA"}, ["up"] * 3, None),  # there is none
    ({"dns_name": "elsewhere.test"}, ["down"] * 3, "REFUSED"),
    ({"dns_name": "elsewhere.test", "dns_rcode": "REFUSED"}, ["up"] * 3, None)])
def test_dns_probe_reads_the_answer(weir, dnsmasqs, probe, health, why):
    front = weir([server.address for server in dnsmasqs], listeners=both(),
                 pool={"health": {**HEALTH, "type": "dns", **probe}})
    for name, state in zip("abc", health):
        front.wait_health(name, state)
        if state == "down":
            assert why in front.server(name)["reason"]


# ---- maglev ----

CLIENTS = [f"127.0.1.{number}" for number in range(1, 31)]


@pytest.fixture
def twins(weir, dnsmasqs):
    """Two weirs before the same pool, which tell it in another order."""
    def make(**pool):
        servers = [{"name": name, "address": server.address}
                   for name, server in zip("abc", dnsmasqs)]
        return [weir(listed, listeners=both(), pool={"scheduler": "maglev", **pool})
                for listed in (servers, servers[::-1])]
    return make


def answers(fronts, source):
    """Who answers one client, over both protocols, from all weirs."""
    return {ask(front.address, source) for front in fronts for ask in (ask_udp, ask_tcp)}


def test_a_client_meets_one_server(twins):
    fronts = twins()
    met = {client: answers(fronts, (client, 0)) for client in CLIENTS}
    assert {len(found) for found in met.values()} == {1}, met
    shares = collections.Counter(found for (found,) in met.values())
    assert len(shares) == len(ANSWERS), shares


def test_a_client_and_port_meet_one_server(twins):
    fronts = twins(hash="source-ip-port")
    ports = [free_port() for _ in CLIENTS]
    met = {port: answers(fronts, ("127.0.1.1", port)) for port in ports}
    assert {len(found) for found in met.values()} == {1}, met
    assert len(set.union(*met.values())) == len(ANSWERS), met
