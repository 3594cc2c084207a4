"""Ports of the addresses that servers are connected to from: how far each is used up, who is told
of it when, and what happens when there are none left.

All of it in a network namespace with a small range of local ports. Clients come from ports outside
of that range, so that they take none.
"""
import contextlib
import itertools
import socket
import struct

import pytest

from lib.inject import Injection
from lib.narrow import (FIRST, PORTS, SOURCES, check_figures, fill_until_told, is_counted, lines,
                        narrow, rows_of, short, ss)
from lib.peers import TcpServer
from lib.ports import join
from lib.wait import SLOW, eventually

RESET = struct.pack("ii", 1, 0)
SOURCES_6 = ["2001:db8::5", "2001:db8::6"]


@pytest.fixture
def space(namespace):
    return narrow(namespace())


@pytest.fixture
def silent(space):
    """silent(): a server that leaves its connections in the kernel's queue; its socket."""
    with contextlib.ExitStack() as cleanup:
        def make(host="127.0.0.1"):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with space.entered():
                listener = cleanup.enter_context(socket.socket(family))
                listener.bind((host, 8000))
                listener.listen(4096)
            return listener
        yield make


@pytest.fixture
def clients(space):
    """clients(weir): a function that connects another client, from a port of its own."""
    with contextlib.ExitStack() as cleanup:
        ports = itertools.count(10000)

        def make(weir):
            def connect():
                with space.entered():
                    client = cleanup.enter_context(socket.socket())
                client.settimeout(20 * SLOW)
                client.bind(("127.0.9.1", next(ports)))
                client.connect(weir.address)
                return client
            return connect
        yield make


def add_ipv6(space, *addresses):
    for address in addresses:
        space.run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")


def take(make, count):
    return [make() for _ in range(count)]


def is_refused(connect):
    """Even connect(2) may be the one to tell."""
    try:
        connect().recv(1)
    except ConnectionError:
        return True
    return False


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def start(make, space, servers, source=None, **more):
    pool = {"source": SOURCES if source is None else source, **more.pop("pool", {})}
    return make(servers, pool=pool, wrap=space.wrap, **more)


def peers_of(listener):
    """Where its connections come from; they are closed."""
    counts = {}
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            accepted, (host, _) = listener.accept()
            accepted.close()
            counts[host] = counts.get(host, 0) + 1
    return counts


@pytest.mark.parametrize("workers", [1, 2])
def test_sessions_use_up_both_addresses(weir, space, silent, clients, workers):
    """No failure until both are used up; a warning with the kernel's figures before; afterwards no
    resources, a line that names the cure, and all is well when sessions end."""
    listener = silent()
    w = start(weir, space, ["127.0.0.1:8000"], weir={"workers": workers})
    row = rows_of(w)[SOURCES[0]]
    assert row == {"address": SOURCES[0], "protocol": "tcp", "used": 0, "time_wait": None,
                   "range": PORTS, "counted_by": "weir"}
    more, held = clients(w), []

    def take_more(count):
        held.extend(take(more, count))
        w.wait_sessions(len(held))

    for percent in (80, 90, 95):
        fill_until_told(w, space, percent, len(held), take_more, "127.0.0.1:8000")
    assert [len(short(w, source)) for source in SOURCES] == [3, 3]
    assert not lines(w, "source ports are used up")

    take_more(2 * PORTS - len(held))
    eventually(lambda: is_counted(w, PORTS), 5, "every port is used")
    counters = w.admin("show counters")
    assert counters["no_port"] == 0 and not w.access_lines()
    for source in SOURCES:
        assert ss(space, source, "127.0.0.1:8000") == (PORTS, 0)

    assert all(is_refused(more) for _ in range(20))
    ended = w.wait_access(20)
    assert {line["end"] for line in ended} == {"no-resources"} and len(ended) == 20
    assert w.admin("show counters")["no_port"] == 20 == w.server("a")["no_port"]
    assert w.server("a")["connect_failures"] == 0, "our own want was held against the server"
    line = lines(w, "no address and port to connect to a server from")[0]
    assert (line["pool"], line["server"], line["level"]) == ("web", "a", "warn")
    assert "net.ipv4.ip_local_port_range" in line["cure"]
    told = eventually(lambda: {line["source"]: line for line
                               in lines(w, "source ports are used up")}, 5)
    assert told.keys() == set(SOURCES)
    for line in told.values():
        check_figures(line, space, "127.0.0.1:8000")

    for client in held:
        reset(client)
    eventually(lambda: {line["source"] for line in lines(w, "source ports suffice again")}
               == set(SOURCES), 5, "all is well again")
    assert peers_of(listener) == dict.fromkeys(SOURCES, PORTS)
    w.wait_sessions(0)
    again = take(more, 10)
    w.wait_sessions(10)
    assert len(w.access_lines()) == 2 * PORTS + 20
    for client in again:
        reset(client)


def close_second(client):
    """A server that closes when its client has."""
    client.recv(1)


def talk_shortly(weir, more, count):
    """So many sessions that have ended, few of them at once."""
    before = len(weir.access_lines())
    for number in range(1, count + 1):
        with contextlib.suppress(ConnectionError):
            more().close()
        if number % 25 == 0 or number == count:
            weir.wait_access(before + number)


def test_short_sessions_leave_time_wait(weir, space, clients):
    """The client closes first, so weir does towards the server, and the kernel keeps the port for a
    minute: no session holds one, and yet there are none. A wider range is seen at once."""
    with contextlib.ExitStack() as cleanup:
        with space.entered():
            server = cleanup.enter_context(TcpServer(close_second, port=8000, backlog=4096))
        w = start(weir, space, [server.address])
        more = clients(w)
        warnings = fill_until_told(w, space, 80, 0, lambda count: talk_shortly(w, more, count),
                                   server.address)
        for line in warnings.values():
            assert line["time_wait"] >= 0.9 * line["used"]
            assert "net.ipv4.tcp_tw_reuse" in line["cure"]
        eventually(lambda: all((row["used"], row["time_wait"]) == ss(space, source, server.address)
                               for source, row in rows_of(w).items()), 5, "show servers agrees")

        # A few of them go early, by a late reset of the server's end.
        for _ in range(PORTS):
            talk_shortly(w, more, 1)
            if w.access_lines()[-1]["end"] != "done":
                break
        assert w.access_lines()[-1]["end"] == "no-resources"
        assert {line["end"] for line in w.access_lines()[:-1]} == {"done"}
        assert [ss(space, source, server.address)[0] for source in SOURCES] == [PORTS, PORTS]
        eventually(lambda: len(lines(w, "source ports are used up")) == 2, 5)

        space.sysctl("net.ipv4.ip_local_port_range", f"{FIRST} {FIRST + 4 * PORTS - 1}")
        eventually(lambda: len(lines(w, "source ports suffice again")) == 2, 5)
        assert rows_of(w)[SOURCES[0]]["range"] == 4 * PORTS
        talk_shortly(w, more, 10)
        assert w.access_lines()[-1]["end"] == "done"


def test_time_wait_that_is_taken_again_is_no_want(weir, space, clients):
    """With tcp_tw_reuse the kernel takes such a port again after a second: nothing to tell of."""
    space.sysctl("net.ipv4.tcp_tw_reuse", 1)
    with contextlib.ExitStack() as cleanup:
        with space.entered():
            server = cleanup.enter_context(TcpServer(close_second, port=8000, backlog=4096))
        w = start(weir, space, [server.address])
        more = clients(w)
        talk_shortly(w, more, 2 * PORTS * 95 // 100)
        eventually(lambda: is_counted(w, 1), 5, "they are counted")
        assert not lines(w, "source ports run short")


@pytest.mark.parametrize("hosts, source", [
    (["127.0.0.1", "127.0.0.2"], SOURCES[0]), (["2001:db8::1", "2001:db8::2"], SOURCES_6[0]),
], ids=["IPv4", "IPv6"])
def test_another_server_has_ports_left(weir, space, silent, clients, hosts, source):
    """Each server has all ports of each address; who finds none towards one goes to another."""
    if source in SOURCES_6:
        add_ipv6(space, *hosts, source)
    for host in hosts:
        silent(host)
    w = start(weir, space, [join(host, 8000) for host in hosts], source=[source],
              pool={"scheduler": "first"})
    held = take(clients(w), 2 * PORTS)
    w.wait_sessions(2 * PORTS)
    assert [w.server(name)["sessions"] for name in "ab"] == [PORTS, PORTS]
    assert w.server("a")["no_port"] == PORTS and w.server("a")["connect_failures"] == 0
    assert w.server("a")["health"] != "down" and not w.access_lines()
    for client in held:
        reset(client)


def test_address_that_is_not_ours(weir, space, silent, clients):
    """The others do its work, and the log says so once."""
    listener = silent()
    w = start(weir, space, ["127.0.0.1:8000"], source=["203.0.113.9", SOURCES[0]])
    held = take(clients(w), 50)
    w.wait_sessions(50)
    line = eventually(lambda: lines(w, "servers cannot be connected to from a source"), 5)[0]
    assert (line["source"], line["level"], line["used"]) == ("203.0.113.9", "warn", 0)
    assert "address of this machine" in line["cure"]
    assert w.admin("show counters")["no_port"] == 0
    for client in held:
        reset(client)
    w.wait_sessions(0)
    assert peers_of(listener) == {SOURCES[0]: 50}
    assert len(lines(w, "servers cannot be connected to from a source")) == 1


def test_addresses_of_ipv6(weir, space, silent, clients):
    add_ipv6(space, *SOURCES_6)
    silent("::1")
    w = start(weir, space, ["[::1]:8000"], source=["127.0.0.5", *SOURCES_6])
    held = take(clients(w), 2 * PORTS * 9 // 10)
    w.wait_sessions(len(held))
    eventually(lambda: {line["source"] for line in lines(
        w, "source ports run short")} == set(SOURCES_6), 5)
    assert rows_of(w).keys() == set(SOURCES_6)
    for source in SOURCES_6:
        used, _ = ss(space, f"[{source}]", "[::1]:8000")
        eventually(lambda: rows_of(w)[source]["used"] == used, 5, "show servers agrees")
    for client in held:
        reset(client)


def test_kernel_that_does_not_count(weir, space, silent, clients):
    """weir's own count must do: it is told of as such, and so are the levels."""
    silent()
    w = start(weir, space, ["127.0.0.1:8000"], source=SOURCES[:1])
    with Injection(w.pid, "sendto", "ENOENT", "1+"):
        held = take(clients(w), PORTS * 8 // 10)
        w.wait_sessions(len(held))
        line = eventually(lambda: short(w, SOURCES[0]), 5, "a warning")[0]
    assert (line["used"], line["time_wait"]) == (len(held), 0)
    blind, = lines(w, "the kernel does not count source ports: weir's own count must do")
    assert blind["level"] == "warn" and blind["why"] == "No such file or directory"
    for client in held:
        reset(client)
    eventually(lambda: lines(w, "source ports suffice again"), 5, "the kernel counts again")


def test_pool_without_source(weir, space, silent, clients):
    """Not counted before, but told of all the same."""
    silent()
    space.sysctl("net.ipv4.ip_local_port_range", f"{FIRST} {FIRST + 9}")
    w = weir(["127.0.0.1:8000"], wrap=space.wrap)
    assert "source_ports" not in w.server("a")
    more = clients(w)
    held = take(more, 10)
    w.wait_sessions(10)
    assert is_refused(more)
    assert w.wait_access(1)[0]["end"] == "no-resources"
    assert "source" in lines(w, "no address and port to connect to a server from")[0]["cure"]
    assert w.admin("show counters")["no_port"] == 1
    for client in held:
        reset(client)


# ---- UDP ----

@pytest.fixture
def senders(space):
    """senders(weir): a function that makes another client, which has sent a datagram."""
    with contextlib.ExitStack() as cleanup:
        ports = itertools.count(10000)

        def make(weir):
            def send():
                with space.entered():
                    sender = cleanup.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                sender.settimeout(20 * SLOW)
                sender.bind(("127.0.9.1", next(ports)))
                sender.connect(weir.address)
                sender.send(b"x")
                return sender
            return send
        yield make


@pytest.fixture
def sink(space):
    """sink(host): a UDP server that says nothing."""
    with contextlib.ExitStack() as cleanup:
        def make(host):
            with space.entered():
                server = cleanup.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            server.bind((host, 8000))
        yield make


def test_flows_use_up_both_addresses(weir, space, sink, senders):
    """A UDP port is taken whichever server it is connected to: two have no more than one."""
    sink("127.0.0.1")
    sink("127.0.0.2")
    w = start(weir, space, ["127.0.0.1:8000", "127.0.0.2:8000"],
              listener={"protocol": "udp", "udp_idle_timeout": "10m"})
    more, held = senders(w), []

    def take_more(count):
        held.extend(take(more, count))
        w.wait_flows(len(held))

    for percent in (80, 90, 95):
        warnings = fill_until_told(w, space, percent, len(held), take_more, kind="u")
        assert not any("server" in line for line in warnings.values())
    take_more(2 * PORTS - len(held))
    eventually(lambda: is_counted(w, PORTS), 5, "every port is used")
    assert w.admin("show counters")["no_port"] == 0
    assert [w.server(name)["flows"] for name in "ab"] == [PORTS, PORTS]
    take(more, 20)
    eventually(lambda: w.admin("show counters")["udp_dropped_no_resources"] == 20, 5)
    assert w.admin("show counters")["no_port"] == 20
    line = eventually(lambda: lines(w, "no address and port to connect to a server from"), 5)[0]
    assert line["level"] == "warn" and "net.ipv4.ip_local_port_range" in line["cure"]
    told = eventually(lambda: lines(w, "source ports are used up") if len(
        lines(w, "source ports are used up")) == 2 else None, 5)
    for line in told:
        check_figures(line, space, kind="u")

    with w.admin_session() as ask:
        for flow in ask("show flows"):
            ask(f"kill flow {flow['id']}")
    eventually(lambda: len(lines(w, "source ports suffice again")) == 2, 5, "all is well again")
    take(more, 10)
    w.wait_flows(10)


def test_sockets_at_rest_hold_ports(weir, space, udp_echo, senders):
    """Of flows that are over: counted as long as they rest."""
    server = udp_echo("a", wrap=space.wrap, port=8000)
    w = start(weir, space, [server.address],
              listener={"protocol": "udp", "responses": 1})
    for sender in take(senders(w), 100):
        sender.recv(100)
    w.wait_flows(0)
    assert sum(row["used"] for row in rows_of(w).values()) == 100
    assert sum(ss(space, source, kind="u")[0] for source in SOURCES) == 100
