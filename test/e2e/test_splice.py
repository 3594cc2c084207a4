"""Splice carries streams, and strands nothing: issue 2 "Shown by" 8, TESTING.md row 4."""
import hashlib
import selectors
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import snapshot
from lib.meeting import Meeting
from lib.peers import TIMEOUT
from lib.trace import Trace
from lib.transfer import HUGE, digest, exchange, whole
from lib.wait import eventually

MEGABYTE = 1 << 20
STREAMS = 500
TINY = 4096
HOLDING = "pipe holding bytes"
# Empty pipes that may rest in a worker for the next stream (PIPES_KEPT).
RESTING = 64


def test_splice_carries_a_quarter_gigabyte_each_way(weir):
    """Told by `show sessions`, and by the kernel: at least 95 % of the bytes."""
    with Meeting() as meeting:
        w = weir([meeting.address])
        ends = meeting.meet(w.address)
        with Trace(w.pid, "splice", "sendto") as trace, ThreadPoolExecutor(1) as pool:
            running = pool.submit(exchange, *ends, HUGE)
            eventually(lambda: w.admin("show sessions")[0]["engine"] == "splice", 20)
            running.result()
    carried = {name: trace.bytes(name) for name in ("splice", "sendto")}
    assert sum(carried.values()) == 2 * HUGE
    assert carried["splice"] >= 0.95 * 2 * HUGE, carried
    assert w.wait_access(1)[0]["engine"] == "splice"


# ---- nothing is stranded ----

def send_and_close(server):
    whole(server, MEGABYTE)
    server.close()


def read_to_the_end(clients):
    """Each reads what a small buffer holds, then pauses while the others do; none may hang."""
    hashes = {client: hashlib.sha256() for client in clients}
    counts = dict.fromkeys(clients, 0)
    with selectors.DefaultSelector() as reading:
        for client in clients:
            reading.register(client, selectors.EVENT_READ)
        while reading.get_map():
            ready = reading.select(TIMEOUT)
            assert ready, f"{len(reading.get_map())} streams hang"
            for key, _ in ready:
                data = key.fileobj.recv(65536)
                hashes[key.fileobj].update(data)
                counts[key.fileobj] += len(data)
                if not data:
                    reading.unregister(key.fileobj)
    return [(counts[client], hashes[client].hexdigest()) for client in clients]


def pipes(w, kind):
    """How many more pipes of a kind weir has than when it started; two descriptors each."""
    return (snapshot.descriptors(w.pid)[kind] - w.before[kind]) / 2


def held_in_pipes(w):
    """How many pipes hold bytes, once all streams stand still."""
    seen = []

    def at_rest():
        seen.append((pipes(w, HOLDING), sum(row["bytes_out"] for row in w.admin("show sessions"))))
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]
    eventually(at_rest, 20, "all streams stand still")
    return seen[-1][0]


def run_streams(w, meeting, pool):
    """500 servers write a MiB each and close; the clients begin to read when nothing moves any
    more, and half of them when the others have finished. All must be whole. Returns how many
    pipes held bytes in between."""
    clients, servers = zip(*(meeting.meet(w.address) for _ in range(STREAMS)))
    sending = [pool.submit(send_and_close, server) for server in servers]
    held = held_in_pipes(w)
    got = read_to_the_end(clients[:STREAMS // 2]) + read_to_the_end(clients[STREAMS // 2:])
    for future in sending:
        future.result()
    for client in clients:
        client.close()
    assert got == [digest(MEGABYTE)] * STREAMS
    assert {(line["end"], line["bytes_out"], line["bytes_lost"])
            for line in w.wait_access(STREAMS)} == {("done", MEGABYTE, 0)}
    return held


@pytest.fixture
def tiny():
    """A meeting whose clients have the least receive buffer."""
    with Meeting(options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)]) as meeting:
        yield meeting


@pytest.fixture
def pool():
    with ThreadPoolExecutor(STREAMS) as threads:
        yield threads


def test_500_streams_to_clients_that_pause(weir, tiny, pool):
    w = weir([tiny.address], listener={"splice": "on"})
    with Trace(w.pid, "splice") as trace:
        assert run_streams(w, tiny, pool) > STREAMS / 2
    again = sum(call.error == "EAGAIN" for call in trace.calls)
    assert again <= 3 * STREAMS, f"{again} EAGAIN for {STREAMS} MiB in {len(trace.calls)} splices"
    eventually(lambda: pipes(w, HOLDING) == 0 and pipes(w, "pipe") <= RESTING, 5,
               "the pipes are closed, but for those that rest")


def test_500_streams_of_either_engine(weir, tiny, pool):
    run_streams(weir([tiny.address], listener={"splice": "auto"}), tiny, pool)
