"""Running out: of descriptors, of session slots, of pipes. A state and never a failure of weir.

TESTING.md rows 6 and 26, and the session limits of issue 2.
"""
import contextlib
import select
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.peers import read_all
from lib.ports import free_port
from lib.resources import cpu_seconds, leave_descriptors, limit_descriptors, taken_descriptors
from lib.servers import answer_of
from lib.talk import REQUEST, Talker
from lib.wait import SLOW, eventually

def talkers(weir, count):
    made = [Talker(weir.connect()) for _ in range(count)]
    for talker in made:
        talker.talk()
    return made


def close_all(made):
    for talker in made:
        talker.close()


def pending(weir):
    """A client whose connection the kernel holds in the listener's queue."""
    client = weir.connect()
    client.sendall(REQUEST)
    return client


# ---- descriptors (row 6) ----

PROBED = {"health": {"type": "tcp", "interval": "100ms", "timeout": "50ms", "fall": 1}}


RATE = 1000


def wait_more(ask, **wanted):
    """Until one of the counters named has grown by so much."""
    before = ask("show counters")

    def grown():
        now = ask("show counters")
        return any(now[name] >= before[name] + more for name, more in wanted.items())
    eventually(grown, 10, f"more of {wanted}")


def starve(weir, ask, live, limit, **until):
    """Lowers the limit for a while; returns weir's share of a CPU in that time."""
    limit_descriptors(weir.pid, limit)
    began, busy = time.monotonic(), cpu_seconds(weir.pid)
    wait_more(ask, **until)
    for talker in live:
        talker.talk()
    share = (cpu_seconds(weir.pid) - busy) / (time.monotonic() - began)
    limit_descriptors(weir.pid)
    return share


def accepts_within(weir, seconds):
    began = time.monotonic()
    assert answer_of(weir.address)[0] == 200
    took = time.monotonic() - began
    assert took < seconds * SLOW, f"accepting again after {took:.3f} s"


def test_no_descriptor_left(weir, responders, caller):
    """Below all that is open: nothing can be opened, probes and admin clients included."""
    w = weir([responders(1)[0].address], pool=PROBED)
    live = talkers(w, 50)
    load = caller(w.address, lanes=64, rate=RATE)
    load.wait_calls(300)
    with w.admin_session() as ask:
        share = starve(w, ask, live, 8, accept_pauses=15)
    print(f"weir's share of a CPU without descriptors: {share:.3f}")
    assert share < 0.3, "it spins"
    accepts_within(w, 1)
    load.wait_calls(300)
    check_refused(w, load.end())
    assert w.server("a")["health"] == "up", "our own dearth was held against the server"
    for talker in live:
        talker.talk()
    close_all(live)


def test_no_descriptor_for_the_server(weir, responders):
    """A client gets in and no further: it is told by a reset, and the server is not blamed. Those
    behind it wait in the queue for a while."""
    w = weir([responders(1)[0].address])
    with w.admin_session() as ask:
        live = talkers(w, 20)
        leave_descriptors(w.pid, 1)
        for _ in range(5):
            with pytest.raises(ConnectionResetError):  # even connect(2) may be the one to tell
                pending(w).recv(1)
        leave_descriptors(w.pid, 2)
        live += talkers(w, 1)
        limit_descriptors(w.pid)
        counters = ask("show counters")
        assert counters["connect_failures"] == 0 and counters["accept_pauses"] >= 5
    assert [line["end"] for line in w.wait_access(5)] == ["no-resources"] * 5
    close_all(live)


@pytest.mark.parametrize("workers", [1, 3])
def test_few_descriptors_left(weir, responders, caller, workers):
    """Under load, with several workers after the same few."""
    w = weir([responders(1)[0].address], pool=PROBED, weir={"workers": workers})
    live = talkers(w, 20)
    load = caller(w.address, lanes=64, rate=RATE)
    load.wait_calls(300)
    with w.admin_session() as ask:
        for _ in range(4):
            starve(w, ask, live, taken_descriptors(w.pid), accept_pauses=5,
                   sessions_ended=200)
    accepts_within(w, 1)
    load.wait_calls(300)
    check_refused(w, load.end())
    for talker in live:
        talker.talk()
    close_all(live)


def check_refused(weir, calls):
    """Who was not served was reset, and stands in the access log with the reason. Nobody else."""
    lost = [call for call in calls if not call.ok]
    assert {call.outcome for call in lost} <= {"ECONNRESET"}
    weir.wait_access(len(calls))
    told = [line["client"] for line in weir.access_lines() if line["end"] == "no-resources"]
    assert sorted(call.client for call in lost) == sorted(told)
    print(f"{len(calls)} calls, {len(lost)} refused")


# ---- session limits ----

def is_silent(client):
    """Neither an answer nor an end."""
    return not select.select([client], [], [], 0)[0]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("section", ["weir", "listener"])
def test_session_limit_pauses_and_resumes(weir, responders, section, workers):
    """Clients beyond max_connections wait in the kernel's queue, and come in as others leave."""
    limited = {"weir": {"workers": workers}, "listener": {}}
    limited[section]["max_connections"] = 10
    w = weir([responders(1)[0].address], **limited)
    inside = talkers(w, 10)
    outside = [pending(w) for _ in range(5)]
    with w.admin_session() as ask:
        wait_more(ask, accept_pauses=3)
        assert ask("status")["sessions"] == 10
        assert ask("show listeners")[0]["sessions"] == 10
    assert all(map(is_silent, outside))
    assert f"max_connections of {'weir' if section == 'weir' else 'the listener'}" in w.stderr()

    close_all(inside[:5])
    for client in outside:
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert w.admin("status")["sessions"] == 10
    for talker in inside[5:]:
        talker.talk()
    close_all(inside)
    for client in outside:
        client.close()


def test_full_listener_leaves_the_other_alone(weir, responders):
    servers = responders(1)[0].address
    listeners = [{"name": name, "bind": f"127.0.0.1:{free_port()}", "pool": "web", **more}
                 for name, more in (("small", {"max_connections": 3}), ("large", {}))]
    w = weir([servers], listeners=listeners)
    inside = talkers(w, 3)
    outside = pending(w)
    host, port = listeners[1]["bind"].split(":")
    for _ in range(20):
        assert answer_of((host, int(port)))[0] == 200
    assert is_silent(outside)
    rows = {row["name"]: row for row in w.admin("show listeners")}
    assert rows["small"]["sessions"] == rows["small"]["max_connections"] == 3
    assert rows["large"]["max_connections"] is None
    close_all(inside)
    assert outside.recv(4096).startswith(b"HTTP/1.1 200")
    outside.close()


def test_limit_beyond_the_descriptors_is_lowered(weir, responders):
    w = weir([responders(1)[0].address], weir={"max_connections": 100000})
    told = w.admin("status")["descriptors"]
    assert told["lowered"] is True
    assert told["limit"] >= told["reserved"] + 2 * (told["sessions"] + told["pipes"])
    assert "max_connections is lowered" in w.stderr()


# ---- pipes (row 26) ----

QUOTA = int(open("/proc/sys/fs/pipe-user-pages-soft", encoding="ascii").read())
PIPE_PAGES = 16
STREAMS = 1200
CONTENT = bytes(range(251)) * 1100

# The quota is the user's: nobody else's pipes are to count.
LONER = "nobody"

# Holds as many pipes as it is told until its input ends.
HOG = """
import os, sys
held = [os.pipe() for _ in range(int(sys.argv[1]))]
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def pipes_taken(count):
    with subprocess.Popen([sys.executable, "-c", HOG, str(count)], user=LONER,
                          extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as hog:
        assert hog.stdout.readline() == "held\n"
        yield
        hog.stdin.close()


def slow_clients(weir, count):
    """Clients that ask for the stream and read nothing yet; small buffers, so that it must wait."""
    made = []
    for _ in range(count):
        client = socket.socket()
        client.settimeout(60 * SLOW)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(weir.address)
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        made.append(client)
    return made


def holding(weir):
    """Pipes that hold bytes; each of them has two ends."""
    return weir.snapshot()["pipe holding bytes"] // 2


@pytest.mark.parametrize("left", [0, 100])
def test_pipe_quota_of_an_unprivileged_user(weir, nginx, left):
    """`left` whole pipes remain of the user's quota for 1,200 streams: the rest is copied."""
    assert QUOTA > 0, "pipes are not limited here"
    server = nginx()
    (server.root / "stream").write_bytes(CONTENT)
    w = weir([server.address], weir={"user": LONER}, start=False,
             listener={"splice": "on", "rcvbuf": "16k", "sndbuf": "16k"})
    w.directory.chmod(0o777)  # weir removes its admin socket at the end
    w.start()
    with pipes_taken(QUOTA // PIPE_PAGES - left):
        clients = slow_clients(w, STREAMS)
        w.wait_sessions(STREAMS)
        # The kernel gives one more where the quota is met exactly.
        eventually(lambda: left <= holding(w) <= left + 1, 20, "every whole pipe has its stream")
        eventually(lambda: w.admin("show counters")["splice_refused"] >= STREAMS - left - 1, 20,
                   "the other streams are copied")
        with ThreadPoolExecutor(16) as pool:
            bodies = pool.map(body, clients)
            assert sum(one == CONTENT for one in bodies) == STREAMS
    for client in clients:
        client.close()


def body(client):
    return read_all(client).partition(b"\r\n\r\n")[2]
