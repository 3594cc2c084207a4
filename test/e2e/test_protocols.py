"""Real protocols through weir: issue 2 "Shown by" 7, and Unix-socket servers.

redis-benchmark and pgbench end without an error; a server that speaks first is heard at once.
"""
import re
import socket
import time

import pytest

from lib.databases import pgbench, redis_benchmark
from lib.meeting import Meeting, wait_for_reset
from lib.peers import read_exactly, read_to_fin, reset
from lib.ports import free_port, join
from lib.transfer import FIRST_FIN, SIZES, exchange, in_segments, payload, transfer, whole
from lib.wait import SLOW
from lib.weir import make_directory

ENGINES = ("off", "on", "auto")
engines = pytest.mark.parametrize("splice", ENGINES)


# ---- real clients and servers ----

def test_redis_benchmark(weir, redis):
    w = weir([redis().address])
    small = redis_benchmark(w.address, "-n", 3000, "-c", 50, "-t", "ping,set,get,lpush,lrange")
    assert len(small) >= 8
    assert redis_benchmark(w.address, "-n", 50000, "-P", 16, "-t", "set,get")
    assert redis_benchmark(w.address, "-n", 300, "-c", 10, "-d", 1 << 20, "-t", "set,get")
    assert redis_benchmark(w.address, "-n", 2000, "-k", 0, "-t", "set")
    w.wait_sessions(0)
    assert {line["end"] for line in w.access_lines()} == {"done"}


def test_pgbench(weir, postgres):
    w = weir([postgres().address])
    pgbench(w.address, "--initialize", "--quiet", "--scale", 1)
    for options in (["--client", 8, "--transactions", 100],
                    ["--client", 4, "--transactions", 25, "--connect"],
                    ["--client", 4, "--transactions", 100, "--protocol", "prepared",
                     "--select-only"]):
        report = pgbench(w.address, *options)
        done, due = re.search(r"actually processed: (\d+)/(\d+)", report).groups()
        assert done == due, report
        assert re.search(r"failed transactions: 0 ", report), report
    w.wait_sessions(0)
    assert {line["end"] for line in w.access_lines()} == {"done"}


# ---- the server speaks first ----

@engines
def test_a_banner_comes_before_a_byte_of_the_client(weir, tcp_server, splice):
    def greet(client):
        client.sendall(b"220 ready\r\n")
        while data := client.recv(4096):
            client.sendall(data.upper())

    w = weir([tcp_server(greet).address], listener={"splice": splice})
    for _ in range(100):
        start = time.monotonic()
        with w.connect() as client:
            assert read_exactly(client, 11) == b"220 ready\r\n"
            assert time.monotonic() - start < 1 * SLOW
            client.sendall(b"ehlo")
            assert read_exactly(client, 4) == b"EHLO"


# ---- Unix-socket servers ----

@pytest.fixture
def unix():
    """A meeting whose server listens at a Unix socket that weir's user may use."""
    directory = make_directory()
    with Meeting(unix=str(directory / "app.sock")) as meeting:
        (directory / "app.sock").chmod(0o777)
        yield meeting
    (directory / "app.sock").unlink()
    directory.rmdir()


@engines
@pytest.mark.parametrize("direction", ["in", "out"])
def test_unix_server_gets_and_gives_every_byte(weir, unix, splice, direction):
    w = weir([unix.address], listener={"splice": splice})
    for size in SIZES:
        for first in FIRST_FIN:
            for send in (whole, in_segments):
                client, server = unix.meet(w.address)
                ends = (client, server) if direction == "in" else (server, client)
                transfer(*ends, size, first=first, send=send)
                client.close()
                server.close()
        exchange(*unix.meet(w.address), size)
    lines = w.wait_access(5 * len(SIZES))
    assert {line["end"] for line in lines} == {"done"}
    assert {line["server_address"] for line in lines} == {unix.address}


def test_unix_server_that_drops_a_request_resets_the_client(weir, unix):
    """A Unix socket has no RST. Closing with bytes unread is its error, and not a FIN."""
    w = weir([unix.address])
    client, server = unix.meet(w.address)
    server.sendall(b"hello")
    assert read_exactly(client, 5) == b"hello"
    client.sendall(b"never read")
    server.recv(1, socket.MSG_PEEK)
    server.close()
    wait_for_reset(client)
    assert w.wait_access(1)[0]["end"] == "server-reset"


def test_unix_server_sees_the_end_of_a_client_that_resets(weir, unix):
    w = weir([unix.address])
    client, server = unix.meet(w.address)
    client.sendall(payload(100000))
    assert read_exactly(server, 100000) == payload(100000)
    reset(client)
    assert read_to_fin(server) == b""
    assert w.wait_access(1)[0]["end"] == "client-reset"


# ---- IPv6 ----

@engines
def test_ipv6_on_both_sides_carries_every_byte(weir, splice):
    with Meeting("::1") as meeting:
        bind = join("::1", free_port("::1"))
        w = weir([meeting.address], listener={"bind": bind, "splice": splice})
        for size in (1, 65537, 4 << 20):
            exchange(*meeting.meet(w.address), size)
        assert {line["end"] for line in w.wait_access(3)} == {"done"}
