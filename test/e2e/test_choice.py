"""Who may be chosen: weights at run time, maintenance, backups, full servers, and when nobody may.

Issue 2: what the admin commands do to traffic, when_empty, and max_connections of a server; of
TESTING.md row 19 what is counted at the server.
"""
import collections
import os
import signal
import time
from pathlib import Path

import pytest

from lib.kept import Kept
from lib.peers import echo, read_to_reset, reset
from lib.wait import SLOW, eventually

HEALTH = {"type": "http", "path": "/healthz", "interval": "200ms", "timeout": "200ms",
          "rise": 1, "fall": 1}


@pytest.fixture
def kept():
    """kept(weir, count): so many kept connections, closed at the end."""
    made = []

    def make(weir, count):
        made.extend(Kept(weir) for _ in range(count))
        return made[-count:]
    yield make
    for one in made:
        one.close()


def names(kept):
    return collections.Counter(one.name for one in kept)


# ---- what operators change ----

def check_shares(front, load, *wanted):
    def totals():
        return [row["sessions_total"] for row in front.admin("show servers web")]
    before = totals()
    load.wait_calls(500, timeout=30)
    served = [after - was for was, after in zip(before, totals())]
    for count, share in zip(served, wanted):
        assert abs(count - share * sum(served)) <= 10, served


def test_weights_change_under_load(weir, nginx, caller, kept):
    front = weir([nginx(name).address for name in "abc"], weir={"workers": 2})
    stays = kept(front, 6)
    load = caller(front.address, lanes=16, rate=1000)
    check_shares(front, load, 1 / 3, 1 / 3, 1 / 3)
    front.admin("weight web/a 300")
    check_shares(front, load, 3 / 5, 1 / 5, 1 / 5)
    front.admin("weight web/a 0")
    check_shares(front, load, 0, 1 / 2, 1 / 2)
    # Weight 0 is no drain: who is there stays.
    assert "drain" not in front.server("a")
    assert [one.ask() for one in stays] == [one.name for one in stays]
    front.admin("weight web/a 100")
    check_shares(front, load, 1 / 3, 1 / 3, 1 / 3)
    assert [call for call in load.end() if not call.ok] == []


def test_maintenance(weir, tcp_server):
    a, b = tcp_server(echo), tcp_server(echo)
    front = weir([a.address, b.address],
                 pool={"on_down": "kill", "health": {"type": "tcp", "interval": "100ms",
                                                     "timeout": "100ms"}})
    clients = {"{}:{}".format(*client.getsockname()): client
               for client in (front.connect(), front.connect())}
    [row] = eventually(lambda: front.admin("show sessions server=a"), 5, "one of two goes to a")
    client = clients[row["client"]]
    row = front.admin("disable web/a")
    assert (row["admin"], row["health"], row["usable"]) == ("maintenance", "unknown", False)
    # What on_down says happens to its sessions.
    assert read_to_reset(client) == b""
    assert front.wait_access(1)[0]["end"] == "drain-deadline"

    def wait_probes(server, count):
        before = len(server.connections)
        eventually(lambda: len(server.connections) >= before + count, 10, "probes")
    # One may have been under way. From then on there is none, however many b gets.
    wait_probes(b, 2)
    probes = len(a.connections)
    wait_probes(b, 5)
    assert len(a.connections) == probes

    front.admin("enable web/a")
    front.wait_health("a", "up")
    wait_probes(a, 2)
    assert front.server("a")["usable"]


def test_backups_serve_while_nobody_else_can(weir, responders, kept):
    servers = responders(4)
    front = weir([{"name": server.name, "address": server.address, "backup": server.name in "cd"}
                  for server in servers], pool={"health": HEALTH})
    assert names(kept(front, 4)) == {"a": 2, "b": 2}
    servers[0].toggle_health()
    front.wait_health("a", "down")
    assert names(kept(front, 4)) == {"b": 4}
    front.admin("disable web/b")
    on_backup = kept(front, 4)
    assert names(on_backup) == {"c": 2, "d": 2}
    # A server that comes back takes the new ones; those on the backups stay there.
    servers[0].toggle_health()
    front.wait_health("a", "up")
    assert names(kept(front, 4)) == {"a": 4}
    assert [one.ask() for one in on_backup] == [one.name for one in on_backup]


# ---- nobody may ----

def down(weir, responder, **pool):
    """weir before one server that is down, and the server."""
    server = responder("a")
    server.toggle_health()
    front = weir([server.address], pool={"health": HEALTH, **pool})
    front.wait_health("a", "down")
    return front, server


def wait_queued(front, count):
    eventually(lambda: [row["state"] for row in front.admin("show sessions")] == ["queued"] * count,
               5, f"{count} clients wait")


def test_hold_waits_for_a_server(weir, responder, caller):
    front, server = down(weir, responder, when_empty="hold", connect_timeout="20s")
    load = caller(front.address, count=20, lanes=20)
    wait_queued(front, 20)
    server.toggle_health()
    calls = load.finish(timeout=15)
    assert [(call.outcome, call.name) for call in calls] == [("ok", "a")] * 20
    assert {line["tries"] for line in front.wait_access(20)} == {1}


def test_hold_ends_with_the_connect_timeout(weir, responder):
    front, _ = down(weir, responder, when_empty="hold", connect_timeout="700ms")
    begun = time.time()
    with front.connect() as client:
        assert read_to_reset(client) == b""
        took = time.time() - begun
    assert 0.65 <= took <= 0.7 + 0.5 * SLOW, f"reset after {took:.3f} s"
    [line] = front.wait_access(1)
    assert (line["end"], line["tries"], "server" in line) == ("no-server", 0, False)


def test_held_client_that_leaves_is_let_go(weir, responder):
    front, _ = down(weir, responder, when_empty="hold", connect_timeout="1m")
    client = front.connect()
    wait_queued(front, 1)
    reset(client)
    front.wait_sessions(0)
    assert front.wait_access(1)[0]["end"] == "client-gone"


def is_reset_at_once(front):
    """The reset may come before connect returns."""
    try:
        with front.connect() as client:
            return read_to_reset(client) == b""
    except ConnectionResetError:
        return True


def test_reset_sends_clients_away(weir, responder):
    front, server = down(weir, responder, when_empty="reset", connect_timeout="1m")
    assert is_reset_at_once(front)
    assert front.wait_access(1)[0]["end"] == "no-server"
    server.toggle_health()
    front.wait_health("a", "up")
    assert Kept(front).name == "a"


# ---- full servers ----

def test_full_server_is_passed_over(weir, responders, kept):
    a, b = responders(2)
    front = weir([{"name": "a", "address": a.address, "max_connections": 2}, b.address])
    assert names(kept(front, 10)) == {"a": 2, "b": 8}
    assert front.admin("show counters")["queued"] == 0


def test_wait_for_a_slot_ends_with_the_connect_timeout(weir, responder, kept):
    server = responder("a")
    front = weir([{"name": "a", "address": server.address, "max_connections": 1}],
                 pool={"connect_timeout": "500ms"})
    holder = kept(front, 1)[0]
    with front.connect() as client:
        assert read_to_reset(client) == b""
    assert front.wait_access(1)[0]["end"] == "no-server"
    assert holder.ask() == "a"


class Frozen:
    """Stops a process while it is looked at: to count sockets takes the kernel a while, and what
    comes and goes meanwhile would be counted twice."""

    def __init__(self, pid):
        self.pid = pid

    def _stopped(self):
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
                   for task in tasks)

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        eventually(self._stopped, 5, "all threads have stopped")

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_server_is_never_above_its_limit(namespace, weir, responder, caller, workers):
    limit = 5
    space = namespace()
    server = responder("a", delay_ms=5, wrap=space.wrap)
    front = weir([{"name": "a", "address": server.address, "max_connections": limit}],
                 pool={"connect_timeout": "1m"}, weir={"workers": workers}, wrap=space.wrap)
    load = caller(front.address, lanes=40, wrap=space.wrap)

    def connections():
        # First the server, so that none ends; weir fills it up and may not go beyond.
        with Frozen(server.process.pid), Frozen(front.pid):
            return len(space.run("ss", "-Htn", "state", "established",
                                 f"sport = :{server.port}").splitlines())
    seen = collections.Counter()
    while seen.total() < 50:
        seen[connections()] += 1
        load.wait_calls(5)
    assert max(seen) <= limit, seen
    # And it was tried.
    assert seen[limit] > 0, seen
    assert front.admin("show counters")["queued"] > 0
    assert [call for call in load.end() if not call.ok] == []
    front.wait_sessions(0)
    assert front.server("a")["sessions"] == 0
