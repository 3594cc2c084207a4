"""PROXY headers in datagrams: what weir tells its servers, and what it takes from who stands before
it. Headers are read and written by lib/proxyproto.py.
"""
import socket

import pytest

from lib import proxyproto as proxy
from lib.dns import NAME
from lib.ports import join
from lib.proxy_vectors import SILENT, TELLING, WRONG as VECTORS_WRONG
from lib.udp import UDP_SEGMENT, Client, check_clean, listener
from lib.udp_peers import silent
from lib.wait import SLOW, eventually

TOLD = ("192.0.2.7", 4711)
TOLD_6 = ("2001:db8::7", 4711)
OTHER = ("192.0.2.8", 4712)
VIP = ("198.51.100.1", 53)
VIP_6 = ("2001:db8::1", 53)

modes = pytest.mark.parametrize("mode", ["first", "each"])


def tells(mode="each", **more):
    """A pool whose servers are told."""
    return {"send_proxy": "v2", "send_proxy_udp": mode, **more}


def takes(need="required", networks=("127.0.0.0/8", "::1"), **more):
    """A listener that reads headers."""
    return listener(proxy_protocol=need, proxy_protocol_from=[*networks], **more)


def header(source=TOLD, destination=VIP, **more):
    return proxy.v2(source, destination, datagram=True, **more)


def counter(weir, name):
    return weir.admin("show counters")[name]


class Told:
    """A handler that takes headers off, and answers with what is left. `got` is (header or None,
    what is left), in order."""

    def __init__(self, prefix=b""):
        self.got = []
        self._prefix = prefix

    def __call__(self, data, _source):
        self.got.append(proxy.split(data))
        return [self._prefix + self.got[-1][1]]

    @property
    def headers(self):
        return [head for head, _ in self.got]


def own(client):
    return client.sock.getsockname()[:2]


# ---- told by weir ----

@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_datagram_tells_client_and_listener(weir, udp_server, udp_client, host):
    told = Told()
    server = udp_server(told, host)
    w = weir([server.address], pool=tells(), listener=listener(host))
    clients = [udp_client(w), udp_client(w)]
    for client in clients * 2:
        assert client.ask(b"hello") == b"hello"
    server.check()
    assert [(head.version, head.command) for head in told.headers] == [(2, proxy.PROXY)] * 4
    assert [head.source for head in told.headers] == [own(client) for client in clients * 2]
    assert {head.destination for head in told.headers} == {w.address}
    assert {head.tlvs for head in told.headers} == {()}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_first_datagram_of_a_flow_tells(weir, udp_server, udp_client, host):
    told = Told()
    server = udp_server(told, host)
    w = weir([server.address], pool=tells("first"), listener=listener(host))
    first, second = udp_client(w), udp_client(w)
    for client in (first, first, second, first, second):
        assert client.ask() == b"ping"
    server.check()
    assert [head and head.source for head in told.headers] == [
        own(first), None, own(second), None, None]


def test_each_is_the_standard(weir, udp_server, udp_client):
    told = Told()
    w = weir([udp_server(told).address], pool={"send_proxy": "v2"}, listener=listener())
    client = udp_client(w)
    client.ask(), client.ask()
    assert all(told.headers) and len(told.headers) == 2


@modes
@pytest.mark.parametrize("bind, used", [("0.0.0.0", "127.0.0.9"), ("::", "127.0.0.9"),
                                        ("::", "::1")])
def test_destination_is_what_the_client_used(weir, udp_server, mode, bind, used):
    told = Told()
    w = weir([udp_server(told).address], pool=tells(mode),
             listener=listener(bind, **({"v6only": False} if bind == "::" else {})))
    used = (used, w.address[1])
    with Client(used) as client:
        assert client.ask() == b"ping"
        head, = told.headers
        assert (head.source, head.destination) == (own(client), used)


def test_header_carries_what_was_asked_for(weir, udp_server, udp_client):
    """The checksum is held against another implementation by the reader."""
    told = Told()
    w = weir([udp_server(told).address], listener=listener(udp_idle_timeout="200ms"),
             pool=tells(send_proxy_tlvs=["authority", "alpn", "unique-id", "crc32c"]))
    udp_client(w).ask()
    head, = told.headers
    line, = w.wait_flow_lines(1)
    assert head.tlv(proxy.UNIQUE_ID) == b"%d" % line["id"]
    assert [kind for kind, _ in head.tlvs] == [proxy.UNIQUE_ID, proxy.CRC32C]


@modes
def test_flow_that_moves_tells_the_next_server(weir, udp_server, udp_client, mode):
    tolds = Told(b"a "), Told(b"b ")
    servers = [udp_server(told) for told in tolds]
    w = weir([server.address for server in servers], pool=tells(mode, scheduler="first"),
             listener=listener())
    client = udp_client(w)
    for _ in range(2):
        assert client.ask() == b"a ping"
    servers[0].close()

    def moved():
        client.send()
        client.sock.settimeout(0.3)  # not longer: without probes a server is suspect for 2 s
        return client.receive() == b"b ping"
    eventually(moved, 5, "b answers")
    client.sock.settimeout(5 * SLOW)
    assert client.ask() == b"b ping"
    first, *later = tolds[1].headers
    assert (first.source, first.destination) == (own(client), w.address)
    assert all(later) if mode == "each" else not any(later)
    assert bool(tolds[0].headers[1]) == (mode == "each")


def test_each_server_that_datagrams_are_spread_over_is_told(weir, udp_server, udp_client):
    tolds = Told(), Told()
    w = weir([udp_server(told).address for told in tolds], pool=tells("first"),
             listener=listener(per_packet=True))
    client = udp_client(w)
    for _ in range(6):
        assert client.ask() == b"ping"
    for told in tolds:
        assert [head and head.source for head in told.headers] == [own(client), None, None]


@modes
def test_what_a_header_makes_too_large_is_dropped(weir, udp_server, udp_client, mode):
    told = Told()
    w = weir([udp_server(told).address], pool=tells(mode), listener=listener(udp_fragment=False))
    client = udp_client(w)
    client.send(bytes(65507 - 27))
    eventually(lambda: counter(w, "udp_dropped_too_large") == 1, 5, "it is counted")
    # It has not used the first one up.
    client.send(bytes(65507 - 28))
    eventually(lambda: told.got, 5, "it arrives")
    (head, left), = told.got
    assert head.source == own(client) and len(left) == 65507 - 28
    assert counter(w, "datagrams_in") == 1


def test_a_run_of_equal_datagrams_leaves_as_one_message(weir, udp_server, udp_client):
    server = udp_server(silent)
    w = weir([server.address], pool=tells(), listener=listener())
    client = udp_client(w)
    client.sock.sendmsg([bytes(40 * 1000)], [(socket.SOL_UDP, UDP_SEGMENT, b"\xe8\x03")], 0,
                        w.address)
    for data, _ in server.wait_seen(40):
        head, left = proxy.split(data)
        assert head.source == own(client) and left == bytes(1000)
    assert counter(w, "udp_gso_datagrams") == 40
    assert counter(w, "udp_sends") == 1


def test_client_cannot_pass_for_another(weir, udp_server, udp_client):
    """After the first header a server may still look for one; a client's own must not be it."""
    told = Told()
    w = weir([udp_server(told).address], pool=tells("first"), listener=listener())
    client = udp_client(w)
    client.ask()
    forged = header(("198.51.100.66", 666))
    assert client.ask(forged + b"trust me") == forged + b"trust me"
    assert [head.source for head in told.headers] == [own(client)] * 2


def test_version_1_is_refused_for_datagrams(weir):
    w = weir(["127.0.0.1:1"], pool={"send_proxy": "v1"}, listener=listener(), start=False)
    w.launch()
    assert w.process.wait(30 * SLOW) > 0
    assert 'send_proxy = "v1" cannot speak of datagrams' in w.stderr()
    assert 'set send_proxy = "v2"' in w.stderr()


# ---- probes ----

def empty_answer(query):
    """To a question of DNS: no error, and no record."""
    return query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12:]


class Probed:
    """A server that answers probes of both kinds, and keeps the headers."""

    def __init__(self):
        self.got = []

    def __call__(self, data, _source):
        self.got.append(proxy.split(data))
        left = self.got[-1][1]
        return [left if left.startswith(b"probe") else empty_answer(left)]


@pytest.mark.parametrize("probe", [{"type": "udp", "send": "probe", "expect": "probe"},
                                   {"type": "dns", "dns_name": f"health.{NAME}"}],
                         ids=["udp", "dns"])
@pytest.mark.parametrize("more, local", [({}, True), ({"send_proxy": False}, False)],
                         ids=["told", "not-told"])
def test_probes_speak_for_themselves(weir, udp_server, probe, more, local):
    probed = Probed()
    w = weir([udp_server(probed).address], listener=listener(),
             pool=tells("first", health={**probe, **more, "interval": "100ms",
                                         "timeout": "100ms"}))
    w.wait_health("a", "up")
    assert {head and (head.version, head.command) for head, _ in probed.got} == {
        (2, proxy.LOCAL) if local else None}


def test_probes_of_another_port_have_no_header(weir, udp_server):
    probed = Probed()
    other = udp_server(probed)
    w = weir([udp_server(Told()).address], listener=listener(),
             pool=tells(health={"type": "udp", "send": "probe", "expect": "probe",
                                "port": other.port}))
    w.wait_health("a", "up")
    assert {head for head, _ in probed.got} == {None}


# ---- told to weir ----

@pytest.mark.parametrize("head, source, destination, more", [
    (header(), TOLD, VIP, None), (header(TOLD_6, VIP_6), TOLD_6, VIP_6, None),
    (header(tlvs=[(0xea, b"more"), (proxy.NOOP, b"")], checksum=True), TOLD, VIP, b"more"),
], ids=["v4", "v6", "tlvs"])
def test_header_tells_the_client(weir, udp_server, udp_client, head, source, destination, more):
    """The line, the list, and the servers have the address that was told."""
    told = Told()
    server = udp_server(told)
    w = weir([server.address], pool=tells(send_proxy_tlvs=["received"]),
             listener=takes(udp_idle_timeout="2s"))
    client = udp_client(w)
    assert client.ask(head + b"hello") == b"hello"
    (passed, left), = told.got
    assert (passed.source, passed.destination, left) == (source, destination, b"hello")
    assert passed.tlv(0xea) == more
    row, = w.admin("show flows")
    assert row["client"] == join(*source)
    assert [one["id"] for one in w.admin(f"show flows client={join(*source)}")] == [row["id"]]
    line, = w.wait_flow_lines(1)
    assert (line["client"], line["via"]) == (join(*source), client.address)
    assert (line["datagrams_in"], line["bytes_in"]) == (1, 5)


def test_clients_of_one_socket_have_flows_of_their_own(weir, udp_server, udp_client):
    server = udp_server(lambda data, source: [b"%d " % source[1] + data])
    w = weir([server.address], listener=takes())
    front = udp_client(w)
    ports = {}
    for source in (TOLD, OTHER, TOLD_6) * 2:
        head = header(source, VIP_6 if ":" in source[0] else VIP)
        port, text = front.ask(head + join(*source).encode()).split()
        assert text.decode() == join(*source)
        assert ports.setdefault(source, port) == port
    assert len(set(ports.values())) == 3
    assert {row["client"] for row in w.admin("show flows")} == {
        join(*source) for source in (TOLD, OTHER, TOLD_6)}


def test_what_has_no_header_is_of_the_client_told_last(weir, udp_server, udp_client):
    server = udp_server(lambda data, source: [b"%d" % source[1]])
    w = weir([server.address], listener=takes())
    front = udp_client(w)
    first = front.ask(header() + b"1")
    assert front.ask(b"2") == first
    other = front.ask(header(OTHER) + b"1")
    assert front.ask(b"2") == other != first
    assert {row["client"]: row["datagrams_in"] for row in w.admin("show flows")} == {
        join(*TOLD): 2, join(*OTHER): 2}


def test_server_is_chosen_by_the_client_told(weir, udp_server, udp_client):
    """All of one client to one server, wherever they come from; many clients to all."""
    servers = [udp_server(lambda data, source, name=name: [name]) for name in (b"a", b"b", b"c")]
    w = weir([server.address for server in servers], pool={"scheduler": "maglev"}, listener=takes())
    fronts = [udp_client(w) for _ in range(3)]
    chosen = {}
    for host in range(1, 40):
        for index, front in enumerate(fronts):
            name = front.ask(header((f"192.0.2.{host}", 1000 + index)))
            assert chosen.setdefault(host, name) == name
    assert set(chosen.values()) == {b"a", b"b", b"c"}


def test_what_is_required_must_be_there(weir, udp_server, udp_client):
    server = udp_server()
    w = weir([server.address], listener=takes())
    front = udp_client(w)
    for count, data in enumerate((b"hello", b"", b"\r\n\r\n\0\r\nQUIT"), 1):
        front.send(data)
        eventually(lambda: counter(w, "udp_dropped_header_missing") == count, 5, "it is counted")
    assert server.seen == [] and w.admin("show flows") == []


def test_sender_may_speak_for_itself_where_optional(weir, udp_server, udp_client):
    w = weir([udp_server().address], listener=takes("optional"))
    plain, front = udp_client(w), udp_client(w)
    assert plain.ask(b"hello") == b"hello"
    assert front.ask(header() + b"hello") == b"hello"
    assert {row["client"] for row in w.admin("show flows")} == {plain.address, join(*TOLD)}


def test_local_is_the_senders_own_word(weir, udp_server, udp_client):
    w = weir([udp_server().address], listener=takes())
    front = udp_client(w)
    assert front.ask(proxy.V2_LOCAL + b"probe") == b"probe"
    assert [row["client"] for row in w.admin("show flows")] == [front.address]


WRONG = {
    "v1": proxy.v1(TOLD, VIP),
    "stream": proxy.v2(TOLD, VIP),
    "version": proxy.head(proxy.addresses(TOLD, VIP), version=3, family=proxy.UDP4),
    "command": proxy.head(proxy.addresses(TOLD, VIP), command=2, family=proxy.UDP4),
    "family": proxy.head(proxy.addresses(TOLD, VIP), family=0x13),
    "short block": proxy.head(b"123", family=proxy.UDP4),
    "too long": proxy.head(proxy.addresses(TOLD, VIP), family=proxy.UDP4, length=500),
    "tlv": proxy.head(proxy.addresses(TOLD, VIP) + b"\x04\x00\x09", family=proxy.UDP4),
    "checksum": header(checksum=True)[:-1] + b"\0",
    "cut": header()[:20],
}


@pytest.mark.parametrize("need", ["required", "optional"])
def test_malformed_header_goes_nowhere(weir, udp_server, udp_client, need):
    server = udp_server()
    w = weir([server.address], listener=takes(need))
    for count, (name, head) in enumerate(WRONG.items(), 1):
        udp_client(w).send(head if name in ("cut", "tlv") else head + b"hello")
        eventually(lambda: counter(w, "udp_dropped_header_wrong") == count, 5, f"{name} is counted")
    assert server.seen == [] and w.admin("show flows") == []
    told = [line for line in w.log_lines() if line.get("counter") == "udp_dropped_header_wrong"]
    assert told and told[0]["why"] == "a PROXY header of version 1 cannot speak of datagrams"
    assert len(told) < len(WRONG) / 2 * SLOW


# ---- the vectors of TCP, in datagrams ----

def as_datagram(head):
    """A header of version 2 that speaks of a stream, as one that speaks of a datagram; where it had a
    right checksum it has none any more."""
    stream = head.startswith(proxy.SIGNATURE) and head[13] & 15 == 1
    return head[:13] + bytes([head[13] + 1]) + head[14:] if stream else head


def fate(head):
    """What becomes of a wrong one: nothing in it says that it is a header, or it is a wrong one."""
    begins = head.startswith((b"PROXY ", proxy.SIGNATURE))
    return "udp_dropped_header_wrong" if begins else "udp_dropped_header_missing"


@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "crc32c"])
def test_right_headers_of_every_kind(weir, udp_server, udp_client, checksum):
    server = udp_server()
    w = weir([server.address], listener=takes())
    tlvs = [[], [(0xe0, b"")], [(proxy.AUTHORITY, b"a.example"), (0xe0, b"x")],
            [(proxy.NOOP, bytes(9000))]]
    ends = [(TOLD, VIP), (TOLD_6, VIP_6), (("0.0.0.1", 1), ("255.255.255.254", 65535))]
    for source, destination in ends:
        front = udp_client(w)
        for listed in tlvs:
            head = header(source, destination, tlvs=listed, checksum=checksum)
            assert front.ask(head + b"hello") == b"hello"
    assert {row["client"]: row["datagrams_in"] for row in w.admin("show flows")} == {
        join(*source): len(tlvs) for source, _ in ends}


@pytest.mark.parametrize("silent_one", [one for one in SILENT if one.startswith("v2")])
def test_headers_that_tell_nothing(weir, udp_server, udp_client, silent_one):
    """But one of a Unix stream speaks of a stream."""
    w = weir([udp_server().address], listener=takes())
    front = udp_client(w)
    assert front.ask(as_datagram(SILENT[silent_one]) + b"hello") == b"hello"
    assert [row["client"] for row in w.admin("show flows")] == [front.address]


@pytest.mark.parametrize("vectors", [
    VECTORS_WRONG, {name: head for name, (head, _) in TELLING.items()},
    {name: SILENT[name] for name in SILENT if name.startswith("v1") or name == "v2 UNIX"},
], ids=["wrong", "of streams", "silent ones of streams"])
def test_no_wrong_one_passes(weir, udp_server, udp_client, vectors):
    server = udp_server()
    w = weir([server.address], listener=takes())
    before = w.admin("show counters")
    for name, head in vectors.items():
        head = as_datagram(head) if vectors is VECTORS_WRONG else head
        counted = fate(head)
        udp_client(w).send(head)
        eventually(lambda: counter(w, counted) == before[counted] + 1, 5, f"{name}: {counted}")
        before[counted] += 1
    assert server.seen == [] and w.admin("show flows") == []
    assert counter(w, "datagrams_in") == 0


NGINX = """stream {
    server { listen @LISTEN@ udp; proxy_protocol on; proxy_pass %s; }
    server { listen @LISTEN@; return ""; }
}"""


def test_version_1_of_nginx_is_told_of(weir, nginx, udp_server):
    """It puts a line in front of datagrams, which the protocol has no word for."""
    server = udp_server()
    w = weir([server.address], listener=takes())
    front = nginx(config=NGINX % join(*w.address))
    with Client((front.host, front.port)) as client:
        client.send()
        eventually(lambda: counter(w, "udp_dropped_header_wrong") == 1, 5, "it is counted")
    assert server.seen == []


# ---- who may tell ----

def test_stranger_is_refused_where_required(weir, udp_server, udp_client):
    server = udp_server()
    w = weir([server.address], listener=takes(networks=["127.0.0.1"]))
    stranger = udp_client(w, source=("127.0.0.9", 0))
    stranger.send(header() + b"hello")
    stranger.send(b"hello")
    eventually(lambda: counter(w, "udp_dropped_denied") == 2, 5, "they are counted")
    assert server.seen == []
    line = eventually(lambda: [one for one in w.log_lines() if one.get("why") ==
                               "its address is not in proxy_protocol_from"], 5, "it is told of")[0]
    assert line["client"] == stranger.address


def test_header_of_a_stranger_is_data_where_optional(weir, udp_server, udp_client):
    w = weir([udp_server().address], listener=takes("optional", ["127.0.0.1"],
                                                    udp_idle_timeout="200ms"))
    stranger = udp_client(w, source=("127.0.0.9", 0))
    assert stranger.ask(header() + b"hello") == header() + b"hello"
    line, = w.wait_flow_lines(1)
    assert line["client"] == stranger.address and "via" not in line


def test_limits_are_of_the_client_told(weir, udp_server, udp_client):
    w = weir([udp_server().address],
             listener=takes(deny=["198.51.100.0/24"], source_max_sessions=1))
    front = udp_client(w)
    assert front.ask(header() + b"hello") == b"hello"
    front.send(header(("198.51.100.9", 1)) + b"denied")
    front.send(header((TOLD[0], 1)) + b"one too many")
    eventually(lambda: counter(w, "udp_dropped_denied") == 2, 5, "they are counted")
    # Neither is what follows taken for the first one's.
    front.send(b"hello?")
    eventually(lambda: counter(w, "udp_dropped_header_missing") == 1, 5, "it is counted")
    assert front.ask(header() + b"again") == b"again"
    assert front.waiting() == []


# ---- two in a row ----

class Chain:
    """A client, weir, weir and a server, which is told in turn."""

    def __init__(self, weir, udp_server, mode, outer=None, **inner):
        self.told = Told()
        self.server = udp_server(self.told)
        self.inner = weir([self.server.address], pool=tells(mode), listener=takes(**inner))
        self.outer = weir([join(*self.inner.address)], pool=tells(mode),
                          listener=listener(**(outer or {})))


@modes
def test_two_in_a_row_pass_the_client_on(weir, udp_server, udp_client, mode):
    chain = Chain(weir, udp_server, mode)
    clients = [udp_client(chain.outer, source=(f"127.0.0.{host}", 0)) for host in (5, 6, 7)]
    for client in clients * 3:
        assert client.ask(client.address.encode()) == client.address.encode()
    chain.server.check()
    for index, (head, left) in enumerate(chain.told.got):
        assert (head is not None) == (mode == "each" or index < 3)
        if head:
            assert (join(*head.source), head.destination) == (left.decode(), chain.outer.address)
    assert {row["client"] for row in chain.inner.admin("show flows")} == {
        client.address for client in clients}


@modes
def test_inner_one_denies_by_the_client(weir, udp_server, udp_client, mode):
    chain = Chain(weir, udp_server, mode, deny=["127.0.0.9"])
    good = udp_client(chain.outer, source=("127.0.0.8", 0))
    bad = udp_client(chain.outer, source=("127.0.0.9", 0))
    assert good.ask() == b"ping"
    bad.send()
    bad.send()
    eventually(lambda: counter(chain.inner, "udp_dropped_denied") +
               counter(chain.inner, "udp_dropped_header_missing") == 2, 5, "they are counted")
    assert good.ask() == b"ping"
    assert bad.waiting() == []
    assert {head.source for head in chain.told.headers if head} == {own(good)}


@modes
def test_socket_that_serves_another_client_tells_of_it(weir, udp_server, udp_client, mode):
    """The outer one's sockets rest between flows; what the inner one took for the first client's
    it must not go on taking so. Where one header may be lost, and with it the word, none rests."""
    chain = Chain(weir, udp_server, mode, outer={"responses": 1, "udp_quarantine": "100ms"})
    clients = [udp_client(chain.outer) for _ in range(3)]
    for client in clients:
        assert client.ask() == b"ping"
        eventually(lambda: chain.outer.admin("status")["flows"] == 0, 5, "the flow is done")
        if mode == "each":
            used = counter(chain.outer, "udp_sockets_reused")
            eventually(lambda: udp_client(chain.outer).ask() and
                       counter(chain.outer, "udp_sockets_reused") > used, 5, "a socket serves again")
    assert mode == "each" or counter(chain.outer, "udp_sockets_reused") == 0
    assert {join(*head.source) for head in chain.told.headers} >= {
        client.address for client in clients}
    assert {row["client"] for row in chain.inner.admin("show flows")} == {
        join(*head.source) for head in chain.told.headers}


@modes
@pytest.mark.parametrize("words", [b"PROXY ", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
                                   proxy.SIGNATURE, header(OTHER)])
def test_what_a_client_says_passes_two_in_a_row(weir, udp_server, udp_client, mode, words):
    """Bytes of a header are bytes, at the head of a flow and within it."""
    chain = Chain(weir, udp_server, mode)
    client = udp_client(chain.outer)
    for _ in range(2):
        assert client.ask(words + b"said") == words + b"said"
    assert {head.source for head in chain.told.headers} == {own(client)}
    assert counter(chain.inner, "udp_dropped_header_wrong") == 0


@modes
def test_load_through_two_in_a_row_is_clean(weir, udp_server, udp_echo, udp_load, mode):
    """Each reply reaches the client that asked, whichever socket both shared on the way."""
    echo = udp_echo()
    inner = weir([echo.address], listener=takes(), weir={"workers": 2})
    outer = weir([join(*inner.address)], pool=tells(mode), listener=listener(),
                 weir={"workers": 2})
    load = udp_load("steady", outer.address, flows=50, rate=50, seconds=2)
    check_clean(load.finish())
    assert counter(inner, "udp_dropped_header_wrong") == 0
