"""Flows of a server that takes no new ones: by an operator's word or because it is down.

Issue 3: drain, on_down and enable for UDP as in DESIGN §6. A drained server keeps its flows; one
that is down or in maintenance loses them with their next datagram (drain), at once (kill) or not
(keep).
"""
import collections
import contextlib
import threading
import time

import pytest

from lib import udp
from lib.ledger import time_of
from lib.ports import free_port
from lib.servers import Responder
from lib.wait import SLOW, eventually

HEALTH = {"type": "http", "path": "/healthz", "interval": "200ms", "timeout": "200ms",
          "rise": 2, "fall": 2}
HOSTS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
NAMES = "abc"


class Clients:
    """Clients of a weir by the server that each was given to."""

    def __init__(self, front, closing):
        self.front = front
        self._closing = closing

    def silent(self, count):
        """So many that have not asked yet."""
        return [self._closing.enter_context(udp.Client(self.front.address)) for _ in range(count)]

    def new(self, count):
        """So many new ones, as (client, name of its server)."""
        return [(client, ask(client)) for client in self.silent(count)]

    def at(self, name, count):
        """So many at this server."""
        found = []
        while len(found) < count:
            found += [client for client, where in self.new(1) if where == name]
        return found


def name_in(reply):
    return reply.split(b" ")[0].decode()


def ask(client):
    """The name of whoever answers."""
    return name_in(client.ask())


@pytest.fixture
def scene(weir, udp_echo):
    """scene(**pool): (weir before three echoes, its clients, what says of each echo that it is
    healthy or not)."""
    with contextlib.ExitStack() as closing:
        def make(*, workers=1, **pool):
            port, health = free_port(), free_port()
            for name, host in zip(NAMES, HOSTS):
                udp_echo(name, host=host, port=port)
            tongues = [Responder(name, host=host, port=health) for name, host in zip(NAMES, HOSTS)]
            for tongue in tongues:
                closing.callback(tongue.discard)
                tongue.start()
            front = weir([f"{host}:{port}" for host in HOSTS], weir={"workers": workers},
                         pool={"health": {**HEALTH, "port": health}, **pool},
                         listener=udp.listener())
            return front, Clients(front, closing), dict(zip(NAMES, tongues))
        yield make


@contextlib.contextmanager
def talking(clients, gap_seconds=0.02):
    """Each asks again and again, answered or not; yields by client who answered, in order."""
    heard, over = {client: [] for client in clients}, threading.Event()

    def talk():
        while not over.wait(gap_seconds):
            for client in clients:
                heard[client] += map(name_in, client.waiting())
                client.send()
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()


def ends(front, server, count):
    """Why the flows of a server ended, of which there are so many."""
    def lines():
        return [line for line in front.flow_lines() if line["server"] == server]
    eventually(lambda: len(lines()) >= count, 5, f"{count} lines of {server}")
    found = lines()
    assert all(line["by"] == ("operator" if line["end"] == "killed" else "weir") for line in found)
    return collections.Counter(line["end"] for line in found)


def where(front, client):
    """The server of a client's flow."""
    row, = front.admin(f"show flows client={client.address}")
    return row["server"]


# ---- an operator drains ----

def test_drain_keeps_flows(scene):
    front, clients, _ = scene(workers=2)
    before = clients.new(24)
    at_b = [client for client, name in before if name == "b"]
    front.admin("drain web/b deadline=1m")
    # From the reply on.
    assert {name for _, name in clients.new(12)} == {"a", "c"}
    assert [ask(client) for client, _ in before] == [name for _, name in before]
    row = front.server("b")
    assert (row["admin"], row["usable"]) == ("drain", False)
    assert row["flows"] == row["drain"]["flows_left"] == row["flows_total"] == len(at_b) > 0
    assert row["drain"]["ended_self"] == row["drain"]["ended_quiet"] == 0

    front.admin("enable web/b")
    assert "drain" not in front.server("b")
    eventually(lambda: clients.new(1)[0][1] == "b", 5, "b serves again")
    assert [ask(client) for client, _ in before] == [name for _, name in before]
    assert front.admin("show counters")["flows_moved"] == 0


def test_drain_to_its_deadline(scene, udp_load):
    deadline = 4
    front, clients, _ = scene(workers=2)
    load = udp_load("steady", front.address, flows=30, rate=20)
    load.wait_exchanges(30)
    of_load = len(front.admin("show flows server=b"))
    busy, silent, killed = (clients.at("b", 3) for _ in range(3))
    for client in killed:
        row, = front.admin(f"show flows client={client.address}")
        client.flow = row["id"]

    with talking(busy) as heard:
        front.admin(f"drain web/b deadline={deadline}s")
        began = time.time()
        for client in killed:
            front.admin(f"kill flow {client.flow}")
        eventually(lambda: not any(row["client"] in [one.address for one in silent]
                                   for row in front.admin("show flows server=b")), 10,
                   "the silent flows end")
        assert time.time() - began >= deadline / 2 - 0.1
        eventually(lambda: front.server("b")["flows"] == 0, 10, "the server has no flow")
        took = time.time() - began
        ended = time.time()
        eventually(lambda: all(names[-1] != "b" for names in heard.values()), 5, "they go on")
    assert deadline - 0.1 <= took <= deadline + 0.5 * SLOW, f"after {took:.3f} s"
    # Whoever was in the middle of it just begins another flow.
    for names in heard.values():
        assert names == sorted(names, key=lambda name: name != "b"), "back and forth"
    told = load.end()
    print(udp.summary(told))
    # What the deadline found under way may be lost, and nothing else.
    assert all(abs(sent - ended) <= 0.2 * SLOW for *_, sent in told["losses"])
    assert told["lost"] <= of_load

    drain = front.server("b")["drain"]
    assert drain["flows_left"] == drain["sessions_left"] == 0
    counted = ends(front, "b", len(busy + silent + killed) + of_load)
    assert counted["killed"] == len(killed) <= drain["ended_self"]
    assert counted["drain-quiet"] == drain["ended_quiet"] == len(silent)
    assert counted["drain-deadline"] == drain["ended_deadline"] == len(busy) + of_load


def test_second_drain_moves_the_deadline(scene):
    front, clients, _ = scene()
    mine, = clients.at("b", 1)
    front.admin("drain web/b deadline=1h")
    assert ask(mine) == "b"
    front.admin("drain web/b deadline=0s")
    eventually(lambda: front.server("b")["flows"] == 0, 5, "the flow ends")
    assert ends(front, "b", 1) == {"drain-deadline": 1}
    assert ask(mine) != "b"


# ---- down, or in maintenance ----

def disable(front, _):
    front.admin("disable web/b")


def fail(front, tongues):
    tongues["b"].toggle_health()
    front.wait_health("b", "down")


def come_back(front, tongues, lost):
    if lost is fail:
        tongues["b"].toggle_health()
    else:
        front.admin("enable web/b")
    front.wait_health("b", "up")


@pytest.fixture(params=[fail, disable])
def lose(request):
    """A way in which the server is lost, of which on_down speaks."""
    return request.param


def test_on_down_drain(scene, lose):
    front, clients, tongues = scene(on_down="drain", drain_deadline="1m")
    (speaks, silent), others = clients.at("b", 2), clients.new(6)
    others = [(client, name) for client, name in others if name != "b"]
    lose(front, tongues)
    assert {name for _, name in clients.new(6)} == {"a", "c"}
    # With its next datagram, and no sooner.
    assert where(front, speaks) == where(front, silent) == "b"
    there = ask(speaks)
    assert there != "b"
    assert (where(front, speaks), where(front, silent)) == (there, "b")
    assert front.admin("show counters")["flows_moved"] == 1
    assert [ask(client) for client, _ in others] == [name for _, name in others]

    come_back(front, tongues, lose)
    assert "drain" not in front.server("b")
    # One that has moved has no reason to do so again; one that was silent never knew.
    assert (ask(speaks), ask(silent)) == (there, "b")
    eventually(lambda: clients.new(1)[0][1] == "b", 5, "b serves again")


def test_on_down_drain_has_a_deadline(scene, lose):
    front, clients, tongues = scene(on_down="drain", drain_deadline="1s")
    clients.at("b", 3)
    lose(front, tongues)
    eventually(lambda: front.server("b")["flows"] == 0, 10, "the silent flows end")
    reasons = {"drain-quiet", "server-down" if lose is fail else "drain-deadline"}
    assert set(ends(front, "b", 3)) <= reasons


def test_on_down_keep(scene, lose):
    front, clients, tongues = scene(on_down="keep")
    stay = clients.at("b", 3)
    lose(front, tongues)
    assert {name for _, name in clients.new(6)} == {"a", "c"}
    assert [ask(client) for client in stay] == ["b"] * 3
    assert "drain" not in front.server("b")
    assert front.server("b")["flows"] >= 3
    assert front.admin("show counters")["flows_moved"] == 0


def test_on_down_kill(scene, lose):
    front, clients, tongues = scene(on_down="kill")
    gone = clients.at("b", 3)
    front.admin("show flows")
    before = front.server("b")["flows"]
    lose(front, tongues)
    lost = time.time()
    eventually(lambda: front.server("b")["flows"] == 0, 5, "the flows end")
    reason = "server-down" if lose is fail else "drain-deadline"
    assert ends(front, "b", before) == {reason: before}
    assert max(time_of(line) for line in front.flow_lines()) <= lost + 0.5 * SLOW
    assert {ask(client) for client in gone} <= {"a", "c"}


def test_a_drained_server_that_goes_down_loses_its_flows(scene):
    """The operator's drain would have let them stay, to speak to nobody."""
    front, clients, tongues = scene(on_down="drain")
    mine, = clients.at("b", 1)
    front.admin("drain web/b deadline=10s")
    assert ask(mine) == "b"
    fail(front, tongues)
    assert ask(mine) != "b"


def test_nobody_is_left(scene):
    front, clients, _ = scene(on_down="drain")
    (mine, _), = clients.new(1)
    for name in NAMES:
        front.admin(f"disable web/{name}")
    mine.send()
    other, = clients.silent(1)
    other.send()
    eventually(lambda: front.admin("show counters")["udp_dropped_no_server"] == 2, 5,
               "what an old client and a new one say is dropped")
    front.admin("enable web/c")
    front.wait_health("c", "up")
    for client in (mine, other):
        # What was dropped is not kept for later; what comes before workers know is dropped as well.
        assert client.waiting() == []
        eventually(lambda: client.send() or client.waiting(), 5, "c serves again")
        assert where(front, client) == "c"


# ---- weight ----

def test_weight_zero_is_no_drain(scene):
    front, clients, _ = scene()
    before = clients.new(6)
    front.admin("weight web/b 0")
    assert {name for _, name in clients.new(8)} == {"a", "c"}
    assert [ask(client) for client, _ in before] == [name for _, name in before]
    front.admin("weight web/b 300")
    eventually(lambda: clients.new(1)[0][1] == "b", 5, "b serves again")
    shares = collections.Counter(name for _, name in clients.new(25))
    assert shares == {"b": 15, "a": 5, "c": 5}
