"""Clients that do not come to the point: before a PROXY header or a ClientHello is whole there is
one deadline, and it is theirs alone.

TESTING.md, row 10.
"""
import contextlib
import select
import time

import pytest

from lib import hello
from lib import proxyproto as proxy
from lib.peers import echo, read_exactly
from lib.proxy_vectors import TOLD, VIP, WITH_TLVS
from lib.wait import SLOW

SECONDS = 1.5
HELLO = hello.hello("a.example.com")
DEADLINE = {"preread_timeout": f"{int(SECONDS * 1000)}ms"}
ROUTES = {"routes": [{"sni": "a.example.com", "pool": "web"}]}


def takes(need):
    return {"proxy_protocol": need, "proxy_protocol_from": ["127.0.0.0/8"]}


def is_in_time(seconds):
    return SECONDS * 0.9 <= seconds <= SECONDS + (SECONDS * 0.1 + 0.05) * SLOW


def polite(weir, data):
    """A client that says all that is wanted at once, and is served at once."""
    with weir.connect(source=("127.0.0.77", 0)) as client:
        client.sendall(data + b"hello")
        client.settimeout(SECONDS / 2 * SLOW)
        answer = b"hello" if data in HEADERS else data + b"hello"
        assert read_exactly(client, len(answer)) == answer


HEADERS = (proxy.v1(TOLD, VIP), WITH_TLVS)


@pytest.mark.parametrize("listener, data", [
    (takes("required"), HEADERS[0]),
    (takes("required"), HEADERS[1]),
    (takes("optional"), HEADERS[0]),
    (ROUTES, HELLO),
], ids=["v1 required", "v2 required", "v1 optional", "hello"])
def test_slow_clients_are_ended_and_others_served(weir, tcp_server, listener, data):
    """One that is silent, one that sends a byte now and then, one that stops half-way."""
    server = tcp_server(echo)
    w = weir([server.address], listener={**DEADLINE, **listener})
    start = time.monotonic()
    slow = {w.connect(): first for first in (b"", data[:1], data[:len(data) // 2])}
    for client, first in slow.items():
        client.sendall(first)
    dripping = list(slow)[1]
    ended, left, served = {}, iter(data[1:-1]), 0
    while len(ended) < len(slow) and time.monotonic() - start < 2 * SECONDS * SLOW:
        waiting = [client for client in slow if client not in ended]
        for client in select.select(waiting, [], [], 0.1)[0]:
            ended[client] = time.monotonic() - start
        if dripping not in ended:
            with contextlib.suppress(ConnectionError):  # it may be ended by now
                dripping.send(bytes([next(left)]))
        polite(w, data)
        served += 1
    assert len(ended) == len(slow) and all(map(is_in_time, ended.values())), ended.values()
    for client in slow:
        client.close()
    assert served >= 5 and len(server.connections) == served
    ends = [(line["end"], line["by"]) for line in w.wait_access(served + 3)]
    assert ends.count(("preread-timeout", "client")) == 3
    assert ends.count(("done", "both")) == served
    assert w.admin("show counters")["preread_timeouts"] == 3


def test_header_and_hello_have_one_deadline(weir, tcp_server):
    server = tcp_server(echo)
    w = weir([server.address], listener={**DEADLINE, **takes("required"), **ROUTES})
    start = time.monotonic()
    with w.connect() as client:
        assert not select.select([client], [], [], SECONDS * 0.6)[0]
        client.sendall(HEADERS[0] + HELLO[:len(HELLO) // 2])
        assert select.select([client], [], [], 10 * SECONDS * SLOW)[0]
        assert is_in_time(time.monotonic() - start)
    line, = w.wait_access(1)
    assert (line["end"], line["by"]) == ("preread-timeout", "client")
    assert server.connections == []
