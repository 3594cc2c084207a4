"""What must not reach a client, or anybody: another client's reply, more than the client may get,
its own echo, a stranger's datagram.

Issue 3 on the quarantine of sockets, and TESTING.md row 14.
"""
import contextlib
import socket
import struct

import pytest

from lib.netns import veth
from lib.udp import UDP_SEGMENT, Client, check_clean, listener
from lib.udp_peers import echo, silent, times, udp_socket
from lib.wait import SLOW, eventually


def counter(weir, name):
    return weir.admin("show counters")[name]


def wait_counter(weir, name, count, timeout=5):
    eventually(lambda: counter(weir, name) >= count, timeout, f"{count} {name}")
    assert counter(weir, name) == count


# ---- late replies ----

QUARANTINE = 2000  # ms, which is the default
MARGIN = 100 if SLOW == 1 else 500


@pytest.mark.parametrize("workers, per_packet", [(1, False), (2, True)])
def test_late_replies_reach_nobody(weir, udp_echo, udp_load, workers, per_packet):
    """Each reply comes a second time, up to 100 ms before the socket may serve another flow.
    Thousands of clients share the few sockets."""
    servers = [udp_echo(name, delay=delay, replies=2, late=True)
               for name, delay in zip("abc", (200, 1000, QUARANTINE - MARGIN))]
    w = weir([server.address for server in servers], weir={"workers": workers},
             listener=listener(responses=1, per_packet=per_packet,
                               udp_quarantine=f"{QUARANTINE}ms"))
    load = udp_load("new", w.address, rate=50, seconds=5, timeout=int(1000 * SLOW))
    told = check_clean(load.finish())
    assert told["names"].keys() == set("abc")
    # Every copy has met a socket that had no flow.
    wait_counter(w, "udp_dropped_late", told["sent"])
    counters = w.admin("show counters")
    assert counters["flows"] == counters["flows_ended"] == told["sent"]
    assert counters["udp_sockets_reused"] > told["sent"] / 4
    print(f"{told['sent']} clients, {counters['udp_sockets_reused']} by a socket that had another")
    assert sum(server.now()["errors"] for server in servers) == 0


def test_sockets_at_rest_are_closed_in_the_end(weir, udp_echo, udp_client):
    w = weir([udp_echo("a").address], listener=listener(responses=1, udp_quarantine="100ms"))
    for _ in range(20):
        udp_client(w).ask()
    w.wait_flows(0)
    assert 1 <= w.snapshot()["sockets without a flow"] <= 20
    eventually(lambda: w.snapshot()["sockets without a flow"] == 0, 12, "all are closed")


def test_a_socket_that_is_owed_a_reply_is_not_used_again(weir, udp_server, udp_client):
    """However late that reply is, it finds no other client."""
    server = udp_server(silent)
    w = weir([server.address], listener=listener(responses=1, udp_quarantine="10ms",
                                                 udp_idle_timeout="100ms"))
    first = udp_client(w)
    first.send(b"first")
    (_, owed), = server.wait_seen(1)
    w.wait_flows(0)
    clients = [udp_client(w) for _ in range(20)]
    for client in clients:
        client.send(b"other")
    seen = server.wait_seen(21)
    # The kernel may give a port anew, and does so by chance; then nothing could be told.
    assert owed not in {source for _, source in seen[1:]}
    server.socket.sendto(b"late", owed)
    for _, source in seen[1:]:
        server.socket.sendto(b"in time", source)
    assert [client.receive() for client in clients] == [b"in time"] * 20
    assert first.waiting() == []
    assert counter(w, "udp_sockets_reused") == 0


def test_what_remains_beyond_the_quarantine(weir, udp_server, udp_client):
    """docs/udp.md says it: a copy that is later than that reaches whoever has the socket by then.
    This also shows that the tests above would see it."""
    server = udp_server(lambda data, _: [data] if data == b"first" else [])
    w = weir([server.address], listener=listener(responses=1, udp_quarantine="50ms"))
    first, second = udp_client(w), udp_client(w)
    first.ask(b"first")
    (_, socket_of_first), = server.seen

    def again():
        """From the second client, until it has the first one's socket."""
        before = len(server.seen)
        second.send(b"second")
        w.wait_flows(1)
        if server.wait_seen(before + 1)[-1][1] == socket_of_first:
            return True
        for row in w.admin("show flows"):
            w.admin(f"kill flow {row['id']}")
        return False
    eventually(again, 5, "the socket serves again")
    server.socket.sendto(b"first", socket_of_first)
    assert second.receive() == b"first"


# ---- more than was asked for ----

def test_max_replies(weir, udp_server, udp_client):
    w = weir([udp_server(times(5)).address], listener=listener(max_replies=2))
    client, other = udp_client(w), udp_client(w)
    for round_ in (1, 2):
        client.send(b"x")
        assert [client.receive() for _ in range(2)] == [b"1 x", b"2 x"]
        wait_counter(w, "udp_dropped_amplification", 3 * round_)
    # The cap is each flow's own.
    assert other.ask(b"y") == b"1 y"
    assert client.waiting() == []
    row = next(row for row in w.admin("show flows") if row["client"] == client.address)
    assert (row["datagrams_in"], row["datagrams_out"]) == (2, 4)


def test_max_reply_bytes(weir, udp_server, udp_client):
    w = weir([udp_server(lambda data, _: [bytes(400)] * 3).address],
             listener=listener(max_reply_bytes=1000))
    client = udp_client(w)
    client.send()
    assert [client.receive() for _ in range(2)] == [bytes(400)] * 2
    wait_counter(w, "udp_dropped_amplification", 1)
    # What the first request left over counts for the second: 2,000 - 800 are three more.
    client.send()
    assert [client.receive() for _ in range(3)] == [bytes(400)] * 3
    client.send(b"")
    assert [client.receive() for _ in range(2)] == [bytes(400)] * 2
    wait_counter(w, "udp_dropped_amplification", 2)
    assert client.waiting() == []


def test_replies_that_come_as_one_are_cut(weir, udp_server, udp_client):
    """With a stream the kernel joins replies; those beyond the cap are taken off the train."""
    server = udp_server(silent)
    w = weir([server.address], listener=listener(max_replies=20))
    client = udp_client(w)
    client.send()
    (_, source), = server.wait_seen(1)
    for number in range(18):  # from the 17th on it is a stream
        server.socket.sendto(b"%03d" % number, source)
    assert [client.receive() for _ in range(18)] == [b"%03d" % number for number in range(18)]
    server.socket.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 3)
    server.socket.sendto(b"".join(b"%03d" % number for number in range(18, 40)), source)
    assert [client.receive() for _ in range(2)] == [b"018", b"019"]
    wait_counter(w, "udp_dropped_amplification", 20)
    assert counter(w, "udp_gro_datagrams") == 22
    assert client.waiting() == []


def test_amplification_under_load(weir, udp_echo, udp_load):
    """Clients get one reply for each datagram, though the server sends five. They ask no second
    time meanwhile: the cap is one over all that a flow has asked."""
    server = udp_echo("a", replies=5, size=1000)
    w = weir([server.address], listener=listener(max_replies=1), weir={"workers": 2})
    load = udp_load("steady", w.address, flows=50, rate=int(20 / SLOW), seconds=2, answer=1000)
    told = check_clean(load.finish())
    wait_counter(w, "udp_dropped_amplification", 4 * told["sent"])
    assert counter(w, "datagrams_out") == counter(w, "datagrams_in") == told["sent"]


# ---- round in a circle ----

@pytest.fixture
def inside(namespace):
    """A machine for weir, with an address beside loopback's."""
    made = namespace()
    veth(made, namespace(), "10.97.0.2/24", "10.97.0.1/24")
    return made


def redirect(namespace, rule):
    """What leaves this machine is led elsewhere, as address translations do."""
    namespace.run("nft", "-f", "-", stdin=f"""
        add table ip nat
        add chain ip nat output {{ type nat hook output priority -100; }}
        add rule ip nat output {rule}
        """)


def check_loop(weir, client, workers, count=10):
    for _ in range(count):
        client.send(b"round")
    # Of two workers each has to meet a datagram of its own to know the address.
    eventually(lambda: counter(weir, "udp_dropped_loop") >= count, 5, "the loop is caught")
    assert counter(weir, "udp_dropped_loop") == count
    assert count <= counter(weir, "datagrams_in") <= workers * count
    assert weir.admin("status")["flows"] <= workers
    assert counter(weir, "datagrams_out") == 0 and client.waiting() == []
    line, = [line for line in weir.log_lines() if line.get("counter") == "udp_dropped_loop"]
    print(line)
    assert line["level"] == "warn" and line["listener"] == "web"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("server, rule", [
    ("127.0.0.1:7777", "udp dport 7777 redirect to :5353"),
    ("10.97.0.1:7777", "udp dport 7777 dnat to 10.97.0.2:5353")])
def test_a_translated_address_that_leads_back(weir, inside, server, rule, workers):
    redirect(inside, rule)
    w = weir([server], wrap=inside.wrap, weir={"workers": workers},
             listener={**listener(), "bind": "0.0.0.0:5353"})
    with Client(("127.0.0.1", 5353), namespace=inside) as client:
        check_loop(w, client, workers)


def test_a_server_whose_address_becomes_our_own(weir, inside):
    """At the start it was another machine's, so the configuration was right."""
    w = weir(["10.97.0.77:5353"], wrap=inside.wrap,
             listener={**listener(), "bind": "0.0.0.0:5353"})
    device = inside.run("ip", "-o", "address", "show", "to", "10.97.0.2").split()[1]
    inside.run("ip", "address", "add", "10.97.0.77/32", "dev", device)
    with Client(("127.0.0.1", 5353), namespace=inside) as client:
        check_loop(w, client, 1)


def test_a_server_that_is_a_client_of_itself(weir, udp_server, udp_client):
    server = udp_server(echo)
    w = weir([server.address], listener=listener())
    for _ in range(5):
        server.socket.sendto(b"round", w.address)
    wait_counter(w, "udp_dropped_loop", 5)
    assert udp_client(w).ask() == b"ping"
    assert [data for data, _ in server.seen] == [b"ping"]


# ---- who did not send first ----

def test_strangers_reach_no_client(weir, udp_server, udp_client):
    """What others send to weir's socket towards a server goes nowhere; not even another port of the
    server's own machine may."""
    server = udp_server(echo)
    w = weir([server.address], listener=listener())
    client = udp_client(w)
    client.ask()
    (_, source), = server.seen
    with contextlib.closing(udp_socket()) as near, \
            contextlib.closing(udp_socket("127.0.0.2", server.port)) as far:
        for stranger in (near, far):
            for _ in range(10):
                stranger.sendto(b"stranger", source)
    # What comes next is the answer, in the order in which it was sent.
    assert client.ask(b"question") == b"question"
    assert client.waiting() == []
    assert only_flow(w)["datagrams_out"] == 2


def only_flow(weir):
    row, = weir.admin("show flows")
    return row


def test_nothing_after_the_end_of_a_flow(weir, udp_server, udp_client):
    server = udp_server(echo)
    w = weir([server.address], listener=listener())
    client = udp_client(w)
    client.ask()
    (_, source), = server.seen
    w.admin(f"kill flow {only_flow(w)['id']}")
    server.socket.sendto(b"late", source)
    assert client.ask(b"question") == b"question"
    assert client.waiting() == []


def test_a_source_that_cannot_be_answered(weir, udp_server, udp_client):
    """Port 0 is nobody's. It takes a raw socket to send so, which fakers have."""
    w = weir([udp_server(echo).address], listener=listener())
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as faker:
        for _ in range(3):
            faker.sendto(struct.pack(">HHHH", 0, w.address[1], 8 + 4, 0) + b"fake", w.address)
    wait_counter(w, "udp_dropped_source", 3)
    assert udp_client(w).ask() == b"ping"
    assert w.admin("status")["flows"] == 1
