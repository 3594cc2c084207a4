"""Sessions of a server that is drained or went down: how they end, and that all are counted.

Issue 2, "Shown by" 6: a drain under load, and on_down drain, keep and kill.
"""
import collections
import time

import pytest

from lib.kept import Kept, Talk
from lib.ledger import began, line_of, time_of
from lib.wait import SLOW, eventually

HEALTH = {"type": "http", "path": "/healthz", "interval": "200ms", "timeout": "200ms",
          "rise": 2, "fall": 2}


def ends(lines):
    return collections.Counter(line["end"] for line in lines)


def at(kept, name):
    return [one for one in kept if one.name == name]


@pytest.fixture
def kept():
    """kept(weir, count): so many kept connections, closed at the end. kept(weir, count, name): so
    many at this server."""
    made = []

    def make(weir, count, name=None):
        new = []
        while len(new) < count:
            one = Kept(weir)
            if name in (None, one.name):
                new.append(one)
            else:
                one.close()
        made.extend(new)
        return new
    yield make
    for one in made:
        one.close()


# ---- an operator drains ----

def check_counts(drain, lines, asked, replied):
    """What `show servers` says of the drain is what the access lines say."""
    counted = ends(line for line in lines if time_of(line) >= asked - 0.001)
    assert drain["ended_quiet"] == counted.pop("drain-quiet", 0)
    assert drain["ended_deadline"] == counted.pop("drain-deadline", 0)
    # One that ended while the command was on its way may have ended before the drain.
    in_between = [line for line in lines if asked - 0.001 <= time_of(line) <= replied]
    assert counted.total() - len(in_between) <= drain["ended_self"] <= counted.total()


def wait_lines(weir, server, count):
    """The access lines of a server's sessions, of which there are so many."""
    def lines():
        return [line for line in weir.access_lines() if line["server"] == server]
    eventually(lambda: len(lines()) == count, 5, f"{count} access lines of {server}")
    return lines()


def test_drain_under_load(weir, nginx, caller, kept):
    front = weir([nginx(name).address for name in "abc"], weir={"workers": 2})
    load = caller(front.address, lanes=16, rate=300)
    load.wait_calls(100)
    idle, busy, leaving = (kept(front, 4, "b") for _ in range(3))
    elsewhere = kept(front, 1, "a")
    talk = Talk(busy + elsewhere)

    asked = time.time()
    front.admin("drain web/b deadline=4s")
    replied = time.time()
    for one in leaving:
        one.close()
    load.wait_calls(300)
    for one in idle:
        one.wait_fin()
    assert time.time() - replied >= 4 / 2 - 0.1
    eventually(lambda: front.server("b")["sessions"] == 0, 10, "the server has no session")
    took = time.time() - replied
    assert 4 - 0.1 <= took <= 4 + 0.5 * SLOW, f"reset after {took:.3f} s"
    eventually(lambda: len(talk.reset) >= 4, 5, "the busy sessions are reset")
    talk.stop()
    calls = load.end()

    row = front.server("b")
    assert (row["admin"], row["usable"]) == ("drain", False)
    lines = wait_lines(front, "b", row["sessions_total"])
    assert [call for call in calls if not call.ok] == []
    assert [call for call in calls if call.name == "b" and call.begin > replied] == []
    assert [line for line in lines if began(line) > replied] == []
    assert set(talk.reset) == set(busy)
    assert row["drain"]["ended_deadline"] == len(busy)
    assert row["drain"]["ended_quiet"] == len(idle)
    assert row["drain"]["ended_self"] >= len(leaving)
    assert row["drain"]["sessions_left"] == 0
    check_counts(row["drain"], lines, asked, replied)


def test_drained_server_comes_back(weir, responders, kept):
    front = weir([server.address for server in responders(2)])
    before = at(kept(front, 4), "a")
    front.admin("drain web/a deadline=1m")
    assert {one.name for one in kept(front, 4)} == {"b"}
    # The drain ends with it: nobody is sent away.
    front.admin("enable web/a")
    assert "drain" not in front.server("a")
    # Workers see it with the next view, which may be 50 ms away.
    eventually(lambda: kept(front, 1)[0].name == "a", 2, "a serves again")
    assert {one.name for one in kept(front, 4)} == {"a", "b"}
    assert [one.ask() for one in before] == ["a", "a"]


def test_second_drain_moves_the_deadline(weir, responders, kept):
    front = weir([server.address for server in responders(2)])
    mine = kept(front, 1, "a")[0]
    front.admin("drain web/a deadline=1h")
    assert mine.ask() == "a"
    front.admin("drain web/a deadline=0s")
    mine.wait_reset()
    assert line_of(front, mine.client)["end"] == "drain-deadline"


# ---- a server goes down ----

@pytest.fixture
def unhealthy(weir, responders, kept):
    """Makes weir before a and b with two kept sessions each, and b unhealthy; returns
    (weir, the responder b, sessions of a, sessions of b, when b went down)."""
    def make(on_down, **pool):
        servers = responders(2)
        front = weir([server.address for server in servers],
                     pool={"health": HEALTH, "on_down": on_down, **pool})
        sessions = kept(front, 4)
        servers[1].toggle_health()
        front.wait_health("b", "down")
        return front, servers[1], at(sessions, "a"), at(sessions, "b"), time.time()
    return make


def test_on_down_kill(unhealthy):
    front, _, of_a, of_b, _ = unhealthy("kill")
    for one in of_b:
        one.wait_reset()
    lines = front.wait_access(2)
    assert {line["client"] for line in lines} == {one.client for one in of_b}
    assert ends(lines) == {"server-down": 2}
    assert [one.ask() for one in of_a] == ["a", "a"]


def test_on_down_keep(unhealthy, kept):
    front, _, of_a, of_b, _ = unhealthy("keep")
    assert {one.name for one in kept(front, 4)} == {"a"}
    assert "drain" not in front.server("b")
    assert [one.ask() for one in of_b] == ["b", "b"]
    for one in of_a + of_b:
        one.close()
    assert ends(front.wait_access(4)) == {"done": 4}


def test_on_down_drain(unhealthy):
    deadline = 2.4
    front, _, of_a, (quiet, busy), down = unhealthy("drain", drain_deadline="2400ms")
    drain = front.server("b")["drain"]
    assert (drain["cause"], drain["sessions_left"]) == ("down", 2)
    talk = Talk([busy] + of_a)
    quiet.wait_fin()
    assert time.time() - down >= deadline / 2 - 0.2
    eventually(lambda: talk.reset == [busy], 5, "the busy session is reset")
    took = time.time() - down
    assert deadline - 0.2 <= took <= deadline + 0.5 * SLOW, f"reset after {took:.3f} s"
    talk.stop()
    assert ends(front.wait_access(2)) == {"drain-quiet": 1, "server-down": 1}
    drain = front.server("b")["drain"]
    assert (drain["ended_self"], drain["ended_quiet"], drain["ended_deadline"]) == (0, 1, 1)


def test_up_ends_the_drain(unhealthy):
    front, server, _, of_b, _ = unhealthy("drain", drain_deadline="1m")
    server.toggle_health()
    front.wait_health("b", "up")
    assert "drain" not in front.server("b")
    assert [one.ask() for one in of_b] == ["b", "b"]
