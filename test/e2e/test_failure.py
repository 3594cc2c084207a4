"""One of three servers fails under load, and comes back.

Issue 2, "Shown by" 4 and 5; TESTING.md row 17. The clients make a new connection for each call, and
what they met is laid beside the access log, call by call: only sessions that the server had already
begun to serve may fail. scripts/compare shows the same beside HAProxy and nginx.
"""
import contextlib
import signal
import time

import pytest

from lib.faults import FAULTS
from lib.ledger import began, check_accounts, when
from lib.peers import reset_at_once, source
from lib.wait import SLOW, eventually

INTERVAL = TIMEOUT = 0.2
RISE, FALL, JITTER = 2, 3, 0.1
CONNECT_TIMEOUT = 0.5

# DESIGN.md §8: by then a change of the server is known.
DOWN_WITHIN = FALL * INTERVAL * (1 + JITTER) + TIMEOUT
UP_WITHIN = RISE * INTERVAL * (1 + JITTER) + TIMEOUT

POOL = {
    "connect_timeout": f"{CONNECT_TIMEOUT * 1000:.0f}ms",
    "health": {"type": "http", "path": "/healthz", "rise": RISE, "fall": FALL,
               "interval": f"{INTERVAL * 1000:.0f}ms", "timeout": f"{TIMEOUT * 1000:.0f}ms"},
}
# More lanes than a server that hangs holds up until it is known to be down.
LOAD = {"lanes": 600, "rate": 1000 if SLOW == 1 else 300}
# Shares are taken of so many calls.
CALLS = 600 if SLOW == 1 else 200


class Stage:
    """weir before three nginx in a namespace, under load. The server in the middle is to fail."""

    def __init__(self, space, servers, front, load, cleanup):
        self.space = space
        self.cleanup = cleanup
        self.servers = servers
        self.victim = servers[1]
        self.front = front
        self.load = load

    def fail(self, name):
        """The fault of this name has begun."""
        fault = FAULTS[name](self.victim, self.space)
        self.cleanup.callback(fault.clean)
        fault.begin()
        return fault

    def wait_down(self, begun):
        """Waits until the failure is known, in time."""
        self.front.wait_health("b", "down")
        took = when(self.front, "is down", "b") - begun
        assert took <= DOWN_WITHIN * SLOW, f"down after {took:.3f} s"

    def wait_up(self, begun):
        self.front.wait_health("b", "up")
        took = when(self.front, "is up", "b", nth=2) - begun
        assert took <= UP_WITHIN * SLOW, f"up after {took:.3f} s"

    def totals(self):
        return [row["sessions_total"] for row in self.front.admin("show servers web")]

    def check_shares(self, *wanted):
        """In the next calls the servers have these shares, in turn and so exactly."""
        before = self.totals()
        self.load.wait_calls(CALLS, timeout=30)
        served = [after - was for was, after in zip(before, self.totals())]
        for count, share in zip(served, wanted):
            assert abs(count - share * sum(served)) <= 10, served


@pytest.fixture
def stage(namespace, nginx, weir, caller):
    def make(seconds=None):
        space = namespace()
        servers = [nginx(name, wrap=space.wrap) for name in "abc"]
        front = weir([server.address for server in servers], pool=POOL, weir={"workers": 2},
                     wrap=space.wrap)
        options = {"seconds": seconds} if seconds else {}
        load = caller(front.address, wrap=space.wrap, **LOAD, **options)
        made = Stage(space, servers, front, load, cleanup)
        load.wait_calls(300)
        made.check_shares(1 / 3, 1 / 3, 1 / 3)
        return made
    with contextlib.ExitStack() as cleanup:
        yield make


# ---- killed, and silent: the whole story ----

@pytest.mark.parametrize("seconds", [10, pytest.param(20, marks=pytest.mark.long)])
def test_server_is_killed(stage, seconds):
    on = stage(seconds)
    # First it hangs for a moment, so that it has sessions to lose.
    on.victim.signal(signal.SIGSTOP)
    eventually(lambda: on.front.server("b")["sessions"] >= 5, 5, "sessions are at the server")
    on.victim.kill()
    killed = time.time()
    on.wait_down(killed)
    on.check_shares(1 / 2, 0, 1 / 2)

    on.victim.start()
    on.wait_up(time.time())
    on.check_shares(1 / 3, 1 / 3, 1 / 3)

    failed = check_accounts(on.front, on.load.finish())
    assert len(failed) >= 5
    assert [call for call in failed if call.begin > killed] == []
    # Of the log's own accord, too.
    resets = [line for line in on.front.access_lines() if line["end"] == "server-reset"]
    assert [line for line in resets if began(line) > killed] == []


@pytest.mark.parametrize("seconds", [10, pytest.param(20, marks=pytest.mark.long)])
def test_server_drops_syn(stage, seconds):
    on = stage(seconds)
    fault = on.fail("drops SYN")
    on.wait_down(time.time())
    on.check_shares(1 / 2, 0, 1 / 2)

    fault.end()
    on.wait_up(time.time())
    on.check_shares(1 / 3, 1 / 3, 1 / 3)

    calls = on.load.finish()
    assert check_accounts(on.front, calls) == []
    slowest = max(call.end - call.begin for call in calls)
    assert CONNECT_TIMEOUT <= slowest <= CONNECT_TIMEOUT + 0.5 * SLOW
    assert on.front.server("b")["connect_failures"] > 0


# ---- row 17: every way to fail ----

@pytest.mark.parametrize("name", FAULTS)
def test_server_fails(stage, name):
    on = stage()
    fault = on.fail(name)
    on.wait_down(time.time())
    down = time.time()
    on.check_shares(1 / 2, 0, 1 / 2)
    fault.end()
    on.wait_up(time.time())
    on.check_shares(1 / 3, 1 / 3, 1 / 3)

    calls = on.load.end()
    failed = check_accounts(on.front, calls)
    if name == "accepts and resets":
        # Whoever spoke first cannot be given to another: those fail until the probes know.
        assert [call for call in failed if call.begin > down] == []
    else:
        assert failed == []


def test_server_that_resets_before_a_byte_is_not_noticed(weir, tcp_server, caller):
    """Nothing went to it and nothing came from it: the session is given to another."""
    servers = [tcp_server(reset_at_once)] + [tcp_server(source(b"hello")) for _ in range(2)]
    front = weir([server.address for server in servers], weir={"workers": 2})
    calls = caller(front.address, silent=True, count=300, lanes=8).finish()
    assert [call for call in calls if not call.ok] == []
    lines = front.wait_access(300)
    assert {line["tries"] for line in lines} == {1, 2}
    assert {line["server"] for line in lines} == {"b", "c"}


# ---- weir starts anew while a server is dead ----

@pytest.mark.parametrize("name", ["refuses", "drops SYN"])
def test_restart_with_a_dead_server(stage, caller, name):
    on = stage()
    on.load.end()
    on.fail(name)
    assert on.front.stop() == 0

    # The clients come as soon as weir listens, before it knows any server.
    on.load = caller(on.front.address, wrap=on.space.wrap, wait=True, **LOAD)
    on.front.launch()
    on.front.wait_running()
    on.load.wait_calls(300)
    on.check_shares(1 / 2, 0, 1 / 2)

    assert check_accounts(on.front, on.load.end()) == []
    dead = on.front.server("b")
    assert (dead["sessions_total"], dead["connect_failures"]) == (0, 0)
    assert {line["tries"] for line in on.front.access_lines()} == {1}
