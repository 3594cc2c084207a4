"""Anything at any time, in short and for long: TESTING.md rows 9 and 25."""
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.peers import read_all
from lib.ports import free_port
from lib.resources import resident_bytes
from lib.talk import Talker
from lib.torture import Torture
from lib.wait import SLOW, eventually

SEEDS = range(1, 21)
SESSIONS = 200


@pytest.mark.parametrize("seed", SEEDS)
def test_anything_at_any_time(weir, seed):
    """Closes, resets, commands, freezes, servers that come and go. The fixture holds weir to
    having no session and no descriptor left, and to an end without a sanitizer's line."""
    print(f"seed {seed}")
    with Torture(seed) as torture:
        w = weir(**torture.configuration())
        torture.run(w, SESSIONS)
        w.wait_sessions(0)
        lines = w.wait_access(w.admin("show counters")["sessions"])
    ends = sorted({line["end"] for line in lines})
    print(f"{len(lines)} sessions: {', '.join(ends)}")
    assert len(ends) > 3, "it was no torture"


# ---- the soak ----

STREAM = bytes(range(251)) * 8000


def steady(configuration, server):
    """Adds a listener whose sessions must all be whole, whatever happens in the other pool."""
    front = {"name": "steady", "bind": f"127.0.0.1:{free_port()}", "pool": "steady"}
    configuration["pools"].append(
        {"name": "steady", "servers": [{"name": "nginx", "address": server.address}]})
    configuration["listeners"].insert(0, front)
    return configuration


def download(address, until):
    """Streams, one after the other. How many."""
    count = 0
    while time.monotonic() < until:
        with socket.create_connection(address, 30 * SLOW) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            assert read_all(client).partition(b"\r\n\r\n")[2] == STREAM
        count += 1
    return count


def talk_on(talkers, until):
    """Exchanges on sessions that last as long as the soak does. How many."""
    count = 0
    while time.monotonic() < until:
        for talker in talkers:
            talker.talk()
            count += 1
            time.sleep(0.001)  # a pace, so that others have their turn
    return count


def torment(torture, weir, until):
    count = 0
    while time.monotonic() < until:
        torture.run(weir, SESSIONS, threads=12)
        count += SESSIONS
    return count


def no_turn(weir):
    """True when the workers sleep for a second: a timer that was left would wake them."""
    before = weir.admin("show counters")["loop_turns"]
    time.sleep(1)
    return weir.admin("show counters")["loop_turns"] == before


@pytest.mark.parametrize("seconds, growth", [
    (12, 1.25),
    pytest.param(300, 1.05, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_soak(weir, nginx, caller, seconds, growth):
    """RSS at the end is at most `growth` times that at 40 %, and nothing is left over."""
    server = nginx()
    (server.root / "stream").write_bytes(STREAM)
    # A sanitizer keeps freed memory for a while; not so much that it hides a leak.
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
    with Torture(25) as torture:
        w = weir(env=env, **steady(torture.configuration(), server))
        began = time.monotonic()
        until = began + seconds
        talkers = [Talker(w.connect()) for _ in range(20)]
        load = caller(w.address, lanes=32, rate=200)
        with ThreadPoolExecutor(4) as pool:
            streams = pool.submit(download, w.address, until)
            exchanges = pool.submit(talk_on, talkers, until)
            wild = pool.submit(torment, torture, w, until)
            threading.Event().wait(seconds * 0.4)
            early = resident_bytes(w.pid)
            counts = streams.result(), exchanges.result(), wild.result()
        late = resident_bytes(w.pid)
        calls = load.end()
        for talker in talkers:
            talker.close()
        print(f"{len(calls)} calls, {counts[0]} streams, {counts[1]} exchanges, {counts[2]} wild "
              f"sessions; RSS {early >> 10} KiB, then {late >> 10} KiB")
        w.wait_sessions(0)
        for number in range(4):  # no probes, so no news of them for the workers
            w.admin(f"disable web/s{number}")
        eventually(lambda: no_turn(w), 10, "no worker wakes up for nothing")
    assert all(call.ok for call in calls)
    assert late <= growth * early
