"""Who may come in: networks, limits per source, and how the others are turned away."""
import contextlib
import socket
import threading
import time

import pytest

from lib import proxyproto as proxy
from lib import udp
from lib.peers import TIMEOUT, echo, read_exactly
from lib.wait import eventually

VIP = ("198.51.100.1", 443)


def refused(weir):
    return weir.admin("show counters")["sessions_refused"]


def enter(weir, source, header=b""):
    """A client from this address: its socket if it was served, or None."""
    client = None
    try:
        client = weir.connect(source=(source, 0))
        client.sendall(header + b"x")
        if client.recv(1) == b"x":
            return client
    except ConnectionError:
        pass
    if client:
        client.close()
    return None


def may_enter(weir, source, header=b""):
    client = enter(weir, source, header)
    if client:
        client.close()
    return client is not None


# ---- networks ----

@pytest.mark.parametrize("allow, deny, inside, outside", [
    (["127.0.1.0/24"], [], ["127.0.1.1", "127.0.1.254"], ["127.0.0.1", "127.0.2.1"]),
    ([], ["127.0.1.0/24"], ["127.0.0.1", "127.0.2.1"], ["127.0.1.1", "127.0.1.254"]),
    (["127.0.1.5"], ["127.0.1.0/24"], ["127.0.1.5"], ["127.0.1.4", "127.0.2.1"]),
    (["127.0.0.0/8", "127.0.1.5/32"], ["127.0.1.0/24", "127.0.1.128/25"],
     ["127.0.0.1", "127.0.1.5", "127.0.2.1"], ["127.0.1.6", "127.0.1.200"]),
    (["127.0.1.0/24"], ["127.0.0.0/8", "127.0.1.7"], ["127.0.1.6"], ["127.0.1.7", "127.0.0.1"]),
    (["127.0.0.0/8", "::/0"], ["10.0.0.0/8"], ["127.0.0.1"], []),
])
def test_longest_network_decides(weir, tcp_server, allow, deny, inside, outside):
    server = tcp_server(echo)
    w = weir([server.address],
             listener={key: value for key, value in (("allow", allow), ("deny", deny)) if value})
    assert {source: may_enter(w, source) for source in inside + outside} == \
        {source: source in inside for source in inside + outside}
    assert len(server.connections) == len(inside)
    assert refused(w) == len(outside)
    # Who is refused by its own address never was a session.
    lines = w.wait_access(len(inside))
    assert {line["client"].rpartition(":")[0] for line in lines} == set(inside)


# ---- limits per source ----

def test_sessions_at_once(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"source_max_sessions": 2})
    first, second = enter(w, "127.0.0.66"), enter(w, "127.0.0.66")
    assert first and second
    assert not may_enter(w, "127.0.0.66")
    others = [enter(w, f"127.0.0.{number}") for number in (65, 65, 67)]
    assert all(others)
    first.close()
    eventually(lambda: may_enter(w, "127.0.0.66"), 5, "a place is free again")
    for client in (second, *others):
        client.close()
    w.wait_sessions(0)
    assert refused(w) >= 1


def test_addresses_of_one_network_are_one_source(weir, tcp_server):
    w = weir([tcp_server(echo).address],
             listener={"source_max_sessions": 2, "source_prefix_v4": 24})
    held = [enter(w, "127.0.9.1"), enter(w, "127.0.9.2")]
    assert all(held)
    assert not may_enter(w, "127.0.9.3")
    assert may_enter(w, "127.0.8.1")
    for client in held:
        client.close()


# Two of one /64, one more of their /56, and one of neither.
ADDRESSES_6 = ["fd96::1", "fd96::2", "fd96:0:0:1::1", "fd96:0:1::1"]


@pytest.fixture
def start_6(weir, namespace, tcp_server):
    """start_6(**listener): a weir of IPv6 where clients may have those addresses; enter clients
    within its `space`."""
    def make(**listener):
        space = namespace()
        for address in ADDRESSES_6:
            space.run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")
        w = weir([tcp_server(echo, "::1", namespace=space).address], wrap=space.wrap,
                 listener={"bind": "[::1]:8080", **listener})
        w.space = space
        return w
    return make


@pytest.mark.parametrize("limits, places", [
    ({}, [True, False, True, True]),
    ({"source_prefix_v6": 56}, [True, False, False, True]),
    ({"source_prefix_v6": 128}, [True, True, True, True]),
], ids=["as is", "of 56 bits", "of 128 bits"])
def test_a_source_of_ipv6_is_a_network(start_6, limits, places):
    w = start_6(source_max_sessions=1, **limits)
    with w.space.entered():
        held = [enter(w, address) for address in ADDRESSES_6]
    assert [client is not None for client in held] == places
    for client in filter(None, held):
        client.close()


@pytest.mark.parametrize("lists, inside", [
    ({"allow": ["fd96::/64"]}, [True, True, False, False]),
    ({"deny": ["fd96::/56"]}, [False, False, False, True]),
    ({"deny": ["fd96::/32"], "allow": ["fd96::2", "fd96:0:1::/48"]}, [False, True, False, True]),
], ids=["allow", "deny", "both"])
def test_networks_of_ipv6(start_6, lists, inside):
    w = start_6(**lists)
    with w.space.entered():
        assert [may_enter(w, address) for address in ADDRESSES_6] == inside


RATE = 5


def test_new_sessions_per_second(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"source_rate": RATE})
    start = time.monotonic()
    served = sum(may_enter(w, "127.0.0.66") for _ in range(60))
    took = time.monotonic() - start
    # A burst of a second's worth, and what is due since; the clock is of milliseconds.
    assert RATE <= served <= RATE * (1 + took) + 1
    assert served < 60 or took > 60 / RATE - 1
    assert may_enter(w, "127.0.0.67")
    assert refused(w) == 60 - served
    eventually(lambda: may_enter(w, "127.0.0.66"), 5, "the source may come in again")


# ---- how they are turned away ----

def turned_away(weir, source):
    """How a client is that says nothing."""
    try:
        with weir.connect(source=(source, 0)) as client:
            assert client.recv(1) == b""
            return "close"
    except ConnectionResetError:
        return "reset"


@pytest.mark.parametrize("refuse", ["reset", "close"])
def test_refusal_is_a_reset_or_a_close(weir, tcp_server, refuse):
    w = weir([tcp_server(echo).address],
             listener={"deny": ["127.0.0.66"], "refuse": refuse})
    assert {turned_away(w, "127.0.0.66") for _ in range(20)} == {refuse}
    assert refused(w) == 20


@pytest.mark.parametrize("limit, least", [
    ({"deny": ["127.0.0.66"]}, 5), ({"allow": ["127.0.0.1"]}, 5),
    ({"source_max_sessions": 1}, 4), ({"source_rate": 1}, 3)], ids=lambda value: str(value)[:9])
def test_dry_run_lets_in_and_counts(weir, tcp_server, limit, least):
    w = weir([tcp_server(echo).address], listener={**limit, "dry_run": True})
    clients = [enter(w, "127.0.0.66") for _ in range(5)]
    assert all(clients)
    for client in clients:
        client.close()
    counters = w.admin("show counters")
    assert least <= counters["sessions_spared"] <= 5
    assert counters["sessions_refused"] == 0
    assert {line["end"] for line in w.wait_access(5)} == {"done"}
    eventually(lambda: refusals(w, "a client would be refused, but for dry_run"), 5,
               "the log tells it")


def refusals(weir, event="a client was refused"):
    return [line for line in weir.log_lines() if line["event"] == event]


def hosts(lines):
    return {line["client"].rpartition(":")[0] for line in lines}


def test_each_refused_source_is_named(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"deny": ["127.0.0.64/29"]})
    start = time.monotonic()
    for number in range(200):
        assert not may_enter(w, "127.0.0.66")
        if number in (50, 100):
            assert not may_enter(w, f"127.0.0.{67 + number // 100}")
    assert refused(w) == 202
    quiet = {"127.0.0.67", "127.0.0.68"}
    eventually(lambda: hosts(refusals(w)) == {"127.0.0.66", *quiet}, 5, "the quiet are named too")
    for line in refusals(w):
        assert (line["level"], line["listener"], line["why"]) == ("warn", "web", "denied")
    loud = [line for line in refusals(w) if "127.0.0.66" in line["client"]]
    assert len(loud) <= 1 + (time.monotonic() - start) / 10
    assert loud[0]["refused"] == 1
    # The loud one has been silent since; how often it was refused is told in its turn.
    eventually(lambda: sum(line["refused"] for line in refusals(w)) == 202, 12, "all are told of")


def test_lines_of_many_refused_sources_are_bounded(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"deny": ["127.0.0.0/8"]}, weir={"workers": 2})
    start = time.monotonic()
    for number in range(60):
        assert not may_enter(w, f"127.0.1.{number + 1}")
    # Ten in any second of the two workers.
    assert len(refusals(w)) <= 10 * (1 + time.monotonic() - start)
    eventually(lambda: len(hosts(refusals(w))) == 60, 20, "each is named in its turn")
    assert time.monotonic() - start >= (60 - 10) / 10
    assert len(refusals(w)) == 60


def test_refused_datagrams_name_their_sources(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address], listener=udp.listener(deny=["127.0.0.66", "127.0.0.67"]))
    for source in ("127.0.0.66", "127.0.0.66", "127.0.0.67"):
        udp_client(w, (source, 0)).send()
    eventually(lambda: hosts(refusals(w)) == {"127.0.0.66", "127.0.0.67"}, 5, "both are named")
    assert {line["why"] for line in refusals(w)} == {"denied"}


# ---- whose address counts ----

def told(host):
    return proxy.v2((host, 4711), VIP)


def behind_proxy(**limits):
    return {"proxy_protocol": "required", "proxy_protocol_from": ["127.0.0.0/8"],
            **limits}


def test_networks_are_about_the_told_address(weir, tcp_server):
    server = tcp_server(echo)
    w = weir([server.address], listener=behind_proxy(
        deny=["192.0.2.0/24"], allow=["0.0.0.0/0", "192.0.2.9"]))
    for host, served in {"192.0.2.1": False, "192.0.2.9": True, "198.51.100.9": True}.items():
        assert may_enter(w, "127.0.0.1", told(host)) == served
    ends = {line["client"]: line["end"] for line in w.wait_access(3)}
    assert ends["192.0.2.1:4711"] == "refused"
    assert len(server.connections) == 2


def test_limits_are_about_the_told_address(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener=behind_proxy(source_max_sessions=2))
    held = [enter(w, "127.0.0.1", told(host))
            for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2")]
    assert all(held), "the proxy itself is no source"
    assert not may_enter(w, "127.0.0.2", told("192.0.2.1"))
    for client in held:
        client.close()
    eventually(lambda: may_enter(w, "127.0.0.2", told("192.0.2.1")), 5, "a place is free again")


# ---- one that does not behave ----

class Polite:
    """A client that makes session after session from an address of its own."""

    def __init__(self, weir, source, over):
        self._weir, self._source, self._over = weir, source, over
        self.served, self.errors = 0, []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                with self._weir.connect(source=(self._source, 0)) as client:
                    client.sendall(b"hello")
                    assert read_exactly(client, 5) == b"hello"
                self.served += 1
            except (AssertionError, OSError) as error:
                self.errors.append(error)
            # A pause, which the end of the test cuts short.
            if self._over.wait(0.1):
                return


def test_polite_clients_do_not_notice_a_flood(weir, tcp_server):
    over = threading.Event()
    w = weir([tcp_server(echo).address],
             listener={"source_max_sessions": 10, "source_rate": 50})
    polite = [Polite(w, f"127.0.0.{100 + number}", over) for number in range(50)]
    try:
        eventually(lambda: all(one.served for one in polite), 10, "each was served before")
        before = sum(one.served for one in polite)
        flood(w, 3000)
        eventually(lambda: sum(one.served for one in polite) >= before + 50, 10,
                   "they go on being served")
    finally:
        over.set()
        for one in polite:
            one.thread.join(TIMEOUT)
    assert [error for one in polite for error in one.errors] == []
    w.wait_sessions(0)
    assert refused(w) >= 2000


def flood(weir, count, at_once=100):
    """Opens so many connections as fast as it can, each as long as there is room for it."""
    held = []
    try:
        for _ in range(count):
            client = socket.socket()
            held.append(client)
            client.settimeout(TIMEOUT)
            client.bind(("127.0.0.66", 0))
            with contextlib.suppress(ConnectionResetError):
                client.connect(weir.address)
            if len(held) >= at_once:
                held.pop(0).close()
    finally:
        for client in held:
            client.close()


# ---- datagrams ----

def drops(weir):
    return weir.admin("show counters")["udp_dropped_denied"]


def test_datagrams_of_the_denied_are_dropped(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address], listener=udp.listener(deny=["127.0.0.66"]))
    assert udp_client(w, ("127.0.0.65", 0)).ask(b"one")
    denied = udp_client(w, ("127.0.0.66", 0))
    for number in range(1, 6):
        denied.send()
        eventually(lambda: drops(w) == number, 5, f"{number} drops")
    assert udp_client(w, ("127.0.0.67", 0)).ask(b"two")
    assert denied.waiting() == []
    assert w.admin("status")["flows"] == 2


def test_new_flows_per_second(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address], listener=udp.listener(source_rate=RATE))
    known = udp_client(w, ("127.0.0.66", 0))
    assert known.ask(b"known")
    start = time.monotonic()
    clients = [udp_client(w, ("127.0.0.66", 0)) for _ in range(60)]
    for client in clients:
        client.send()

    def all_told():
        return w.admin("status")["flows"] + drops(w) == 61
    eventually(all_told, 5, "each datagram began a flow or was dropped")
    flows, took = w.admin("status")["flows"], time.monotonic() - start
    assert RATE <= flows <= RATE * (1 + took) + 1
    # Who has a flow is no newcomer, whatever the source does.
    for number in range(50):
        assert known.ask(b"%d" % number)
    assert udp_client(w, ("127.0.0.67", 0)).ask(b"other")


def test_flows_at_once(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address],
             listener=udp.listener(source_max_sessions=2, udp_idle_timeout=udp.seconds(1)))
    for _ in range(2):
        assert udp_client(w, ("127.0.0.66", 0)).ask(b"in")
    third = udp_client(w, ("127.0.0.66", 0))
    third.send()
    eventually(lambda: drops(w) == 1, 5, "one drop")
    assert udp_client(w, ("127.0.0.67", 0)).ask(b"other")
    w.wait_flows(0)
    assert third.ask(b"in")


def test_dry_run_drops_no_datagram(weir, udp_echoes, udp_client):
    w = weir([udp_echoes(1)[0].address],
             listener=udp.listener(deny=["127.0.0.66"], dry_run=True))
    assert udp_client(w, ("127.0.0.66", 0)).ask(b"in")
    assert drops(w) == 0
    gate = w.admin("show listeners")[0]["gate"]
    assert (gate["denied"], gate["admitted"], gate["dry_run"]) == (1, 0, True)
    eventually(lambda: hosts(refusals(w, "a client would be refused, but for dry_run")) ==
               {"127.0.0.66"}, 5, "it is named")
