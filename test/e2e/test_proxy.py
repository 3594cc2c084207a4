"""PROXY headers: what weir tells its servers, and what it takes from who stands before it.

Headers are read and written by lib/proxyproto.py, by haproxy and by nginx.
"""
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib import hello
from lib import proxyproto as proxy
from lib.meeting import Meeting, wait_for_reset
from lib.peers import (
    chunks, echo, read_all, read_exactly, read_to_fin, read_to_reset, reset_at_once)
from lib.ports import free_port, join
from lib.proxy_vectors import (
    SILENT, TELLING, TELLING_LONG, TOLD, TOLD_6, VIP, VIP_6, WITH_TLVS, WRONG)
from lib.transfer import ANSWER_SIZE, payload
from lib.wait import SLOW, eventually

VERSIONS = ("v1", "v2")
versions = pytest.mark.parametrize("version", VERSIONS)
hosts = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])

# RFC 4291 section 2.5.5.2.
TOLD_MAPPED, VIP_MAPPED = [(f"::ffff:{host}", port) for host, port in (TOLD, VIP)]

# Long enough for any test, where a deadline is not what it is about.
PATIENT = f"{int(20 * SLOW)}s"


def takes(need="required", networks=("127.0.0.0/8", "::1"), **more):
    """A listener that reads headers."""
    return {"proxy_protocol": need, "proxy_protocol_from": [*networks],
            "preread_timeout": PATIENT, **more}


class Told:
    """A handler that reads a header, keeps it, and goes on as `then` does."""

    def __init__(self, then=echo):
        self.headers = []
        self._then = then

    def __call__(self, client):
        self.headers.append(proxy.read(client))
        self._then(client)


def talk(client, data=b"hello"):
    """To a server that sends back what comes; the client's own address."""
    client.sendall(data)
    assert read_exactly(client, len(data)) == data
    return client.getsockname()[:2]


def ended(weir, count=1):
    return {(line["end"], line["by"]) for line in weir.wait_access(count)}


# ---- told by weir ----

@versions
@hosts
def test_server_is_told_client_and_listener(weir, tcp_server, version, host):
    told = Told()
    server = tcp_server(told, host)
    w = weir([server.address], pool={"send_proxy": version},
             listener={"bind": join(host, free_port(host))})
    with w.connect() as client:
        own = talk(client)
    header, = told.headers
    assert (f"v{header.version}", header.command) == (version, proxy.PROXY)
    assert (header.source, header.destination, header.tlvs) == (own, w.address, ())
    line, = w.wait_access(1)
    assert (line["client"], line["bytes_in"], line["bytes_out"]) == (join(*own), 5, 5)


def ask(weir, source=None):
    """One HTTP request; (the words of the answer, the client's own address)."""
    with weir.connect(source=source) as client:
        own = client.getsockname()[:2]
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return body.decode().split(), own


HAPROXY_READS = """
defaults
    mode http
    timeout connect 1s
    timeout client 20s
    timeout server 20s
frontend web
    bind @LISTEN@ accept-proxy
    http-request return status 200 content-type text/plain \
lf-string "%[src] %[src_port] %[dst] %[dst_port]"
"""

NGINX_READS = """
http {
    access_log off;
    server {
        listen @LISTEN@ proxy_protocol;
        location / {
            return 200 "$proxy_protocol_addr $proxy_protocol_port \
$proxy_protocol_server_addr $proxy_protocol_server_port";
        }
    }
}
"""


# Of all kinds that weir can write.
written = pytest.mark.parametrize("pool", [
    {"send_proxy": "v1"}, {"send_proxy": "v2"},
    {"send_proxy": "v2", "send_proxy_tlvs": ["unique-id", "crc32c"]},
], ids=["v1", "v2", "v2 with TLVs"])


def check_reader(weir, server, pool, host):
    w = weir([server.address], pool=pool, listener={"bind": join(host, free_port(host))})
    for source in ("::1",) if host == "::1" else ("127.0.0.1", "127.0.0.8"):
        words, own = ask(w, (source, 0))
        assert words == [str(word) for word in (*own, *w.address)]


@written
@hosts
def test_haproxy_reads_what_weir_tells(weir, haproxy, pool, host):
    check_reader(weir, haproxy(HAPROXY_READS), pool, host)


@written
@hosts
def test_nginx_reads_what_weir_tells(weir, nginx, pool, host):
    check_reader(weir, nginx(config=NGINX_READS), pool, host)


@versions
def test_header_comes_before_a_server_that_speaks_first(weir, tcp_server, version):
    told = Told(lambda client: (client.sendall(b"220 ready\r\n"), echo(client)))
    w = weir([tcp_server(told).address], pool={"send_proxy": version})
    for _ in range(50):
        with w.connect() as client:
            assert read_exactly(client, 11) == b"220 ready\r\n"
            assert talk(client) == told.headers[-1].source


@versions
def test_header_and_first_data_are_one_segment(weir, version):
    """Where the client's bytes are there before the server is: here they choose it."""
    with Meeting() as meeting:
        w = weir([meeting.address], pool={"send_proxy": version},
                 listener={"routes": [{"protocol": "tls", "pool": "web"}],
                           "preread_timeout": PATIENT})
        first = hello.hello("a.example.com")
        for _ in range(50):
            client = meeting.connect(w.address)
            client.sendall(first)
            server = meeting.accept()
            data = server.recv(65536)
            assert data.endswith(first) and len(data) > len(first), "header and data apart"
            client.close()
            server.close()


@versions
def test_next_server_is_told_the_same(weir, tcp_server, version):
    told = Told()
    w = weir([f"127.0.0.1:{free_port()}", tcp_server(told).address],
             pool={"send_proxy": version, "scheduler": "first"})
    with w.connect() as client:
        assert talk(client) == told.headers[0].source
    line, = w.wait_access(1)
    assert (line["server"], line["tries"], line["end"]) == ("b", 2, "done")


@versions
def test_server_that_resets_leaves_no_half_header_behind(weir, tcp_server, version):
    """A reset that weir sees in time is a connect that failed, and the next server is told all."""
    told = Told()
    resets, serves = tcp_server(reset_at_once), tcp_server(told)
    w = weir([resets.address, serves.address],
             pool={"send_proxy": version, "scheduler": "first"})
    served = []
    for _ in range(50):
        with w.connect() as client:
            try:
                served.append(talk(client))
            except (AssertionError, ConnectionError):
                continue
    lines = w.wait_access(50)
    serves.check()
    assert [header.source for header in told.headers] == served
    assert sum(line["server"] == "b" for line in lines) == len(served)
    assert {line["end"] for line in lines if line["server"] == "a"} <= {"server-reset"}


# ---- told to weir ----

def haproxy_tells(word):
    return lambda w: ("haproxy", f"""
defaults
    mode tcp
    timeout connect 1s
    timeout client 20s
    timeout server 20s
    unique-id-format %[src_port]
listen web
    bind @LISTEN@
    server weir {join(*w.address)} {word}
""")


def nginx_tells(w):
    return "nginx", f"stream {{ server {{ listen @LISTEN@; proxy_protocol on; " \
                    f"proxy_pass {join(*w.address)}; }} }}"


@hosts
@pytest.mark.parametrize("tells", [
    haproxy_tells("send-proxy"), haproxy_tells("send-proxy-v2"),
    haproxy_tells("send-proxy-v2 proxy-v2-options crc32c,unique-id"), nginx_tells,
], ids=["haproxy-v1", "haproxy-v2", "haproxy-v2-tlvs", "nginx"])
def test_weir_reads_what_others_tell_and_passes_it_on(weir, haproxy, nginx, tcp_server, tells,
                                                      host):
    told = Told()
    w = weir([tcp_server(told).address], listener=takes(),
             pool={"send_proxy": "v2", "send_proxy_tlvs": ["received"]})
    kind, config = tells(w)
    front = haproxy(config, host=host) if kind == "haproxy" else nginx(config=config, host=host)
    with socket.create_connection((front.host, front.port), 10 * SLOW, source_address=(
            "::1" if host == "::1" else "127.0.0.8", 0)) as client:
        own = talk(client)
    assert told.headers[0].source == own
    unique = b"%d" % own[1] if "crc32c,unique-id" in config else None
    assert told.headers[0].tlv(proxy.UNIQUE_ID) == unique
    line, = w.wait_access(1)
    assert line["client"] == join(*own)
    assert line["via"].startswith("127.0.0.1:")


@versions
@pytest.mark.parametrize("header, source", [*TELLING.values(), *TELLING_LONG.values()],
                         ids=[*TELLING, *TELLING_LONG])
def test_told_address_is_the_clients(weir, tcp_server, header, source, version):
    told = Told()
    w = weir([tcp_server(told).address], pool={"send_proxy": version}, listener=takes())
    with w.connect() as client:
        client.sendall(header)
        sender = join(*talk(client))
        row, = w.admin("show sessions")
    assert told.headers[0].source == source
    line, = w.wait_access(1)
    assert (row["client"], line["client"], line["via"]) == (join(*source), join(*source), sender)


@versions
@pytest.mark.parametrize("header", [proxy.v1(TOLD_MAPPED, VIP_MAPPED),
                                    proxy.v2(TOLD_MAPPED, VIP_MAPPED)], ids=VERSIONS)
def test_told_address_that_is_mapped_is_one_of_ipv4(weir, tcp_server, header, version):
    told = Told()
    w = weir([tcp_server(told).address], pool={"send_proxy": version},
             listener=takes(routes=[{"from": ["192.0.2.0/24"], "pool": "web"}],
                            no_route="refuse"))
    with w.connect() as client:
        client.sendall(header)
        talk(client)
    head, = told.headers
    assert (head.family, head.source, head.destination) == (proxy.TCP4, TOLD, VIP)
    assert w.wait_access(1)[0]["client"] == join(*TOLD)


def test_server_is_chosen_by_the_client_told(weir, tcp_server):
    """All of one client to one server, wherever they come from; many clients to all."""
    servers = [tcp_server(lambda client, name=name: client.sendall(name)) for name in (b"a", b"b")]
    w = weir([server.address for server in servers], pool={"scheduler": "maglev"},
             listener=takes())
    chosen = {}
    for host in range(1, 20):
        for front in ("127.0.0.8", "127.0.0.9"):
            with w.connect(source=(front, 0)) as client:
                client.sendall(proxy.v2((f"192.0.2.{host}", 1000), VIP))
                name = read_exactly(client, 1)
            assert chosen.setdefault(host, name) == name
    assert set(chosen.values()) == {b"a", b"b"}


@pytest.mark.parametrize("header", [*(header for header, _ in TELLING.values()), *SILENT.values()],
                         ids=[*TELLING, *SILENT])
def test_header_in_two_pieces_cut_anywhere(weir, tcp_server, header):
    told = Told()
    server = tcp_server(told)
    w = weir([server.address], pool={"send_proxy": "v2"}, listener=takes())
    cuts = range(1, len(header))
    clients = [w.connect() for _ in cuts]
    for cut, client in zip(cuts, clients):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(header[:cut])
    w.wait_sessions(len(clients))
    assert server.connections == [], "a server is no part of this before the header is whole"
    own = set()
    for cut, client in zip(cuts, clients):
        client.sendall(header[cut:])
        own.add(talk(client))
        client.close()
    server.check()
    source = dict(TELLING.values()).get(header)
    assert {one.source for one in told.headers} == ({source} if source else own)
    assert len(told.headers) == len(clients)
    assert ended(w, len(clients)) == {("done", "both")}


@pytest.mark.parametrize("header", [proxy.v1(TOLD, VIP), WITH_TLVS], ids=VERSIONS)
def test_header_byte_by_byte_and_data_behind_it(weir, tcp_server, header):
    told = Told()
    server = tcp_server(told)
    w = weir([server.address], pool={"send_proxy": "v1"}, listener=takes())
    with w.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(header)):
            assert server.connections == []
            client.sendall(header[at:at + 1])
        talk(client)
    assert told.headers[0].source == TOLD


# What is right by the protocol, and nothing for this listener.
UNFIT = {
    "v2 longer than preread_max": proxy.head(bytes(12) + proxy.tlv(proxy.NOOP, bytes(20000))),
    "v2 that declares more than preread_max": proxy.head(bytes(20000))[:28],
    "v2 of datagrams": proxy.v2(TOLD, VIP, datagram=True),
    "v2 of datagrams, IPv6": proxy.v2(TOLD_6, VIP_6, datagram=True),
}


@pytest.mark.parametrize("wrong", [*WRONG.values(), *UNFIT.values()],
                         ids=[*WRONG, *UNFIT])
def test_wrong_header_resets_the_client(weir, tcp_server, wrong):
    server = tcp_server(echo)
    w = weir([server.address], listener=takes())
    with w.connect() as client:
        own = join(*client.getsockname())
        client.sendall(wrong)
        wait_for_reset(client)
    line, = w.wait_access(1)
    assert (line["end"], line["by"], line["client"]) == ("preread-wrong", "client", own)
    assert line["why"]
    assert "server" not in line
    assert server.connections == []
    assert w.admin("show counters")["preread_wrong"] == 1


def test_client_that_leaves_in_its_header(weir, tcp_server):
    server = tcp_server(echo)
    w = weir([server.address], listener=takes())
    with w.connect() as client:
        client.sendall(proxy.v1(TOLD, VIP)[:20])
        w.wait_sessions(1)
    w.wait_sessions(0)
    (_, by), = ended(w)
    assert by == "client"
    assert server.connections == []


# ---- who may tell ----

STRANGER = ("127.0.0.9", 0)


@pytest.mark.parametrize("header", [proxy.v1(TOLD, VIP), WITH_TLVS], ids=VERSIONS)
def test_header_of_a_stranger_is_data_where_optional(weir, tcp_server, header):
    w = weir([tcp_server(echo).address], listener=takes("optional", ["127.0.0.1/32"]))
    with w.connect(source=STRANGER) as client:
        own = join(*talk(client, header))
    line, = w.wait_access(1)
    assert (line["client"], line["bytes_in"], line["end"]) == (own, len(header), "done")
    assert "via" not in line


def test_stranger_is_refused_where_required(weir, tcp_server):
    server = tcp_server(echo)
    w = weir([server.address], listener=takes(networks=["127.0.0.1/32"]))
    with pytest.raises(ConnectionResetError), w.connect(source=STRANGER) as client:
        client.recv(1)
    assert w.admin("show counters")["sessions_refused"] == 1
    assert server.connections == []
    # It never was a session: a flood of such is told of now and then.
    assert w.access_lines() == []

    def told():
        return [line for line in w.log_lines() if line["event"] == "a client was refused"]
    line, = eventually(told, 5, "a line about the refused")
    assert "proxy_protocol_from" in line["why"]


def test_optional_header_is_read_if_there_is_one(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener=takes("optional"))
    sent = {proxy.v1(TOLD, VIP): TOLD, proxy.v2(TOLD, VIP): TOLD, b"": None, b"P": None}
    expected = set()
    for header, source in sent.items():
        with w.connect() as client:
            if source:
                client.sendall(header)
                talk(client)
            else:
                source = talk(client, header + b"QUIT is no header")
            expected.add(join(*source))
    assert {line["client"] for line in w.wait_access(4)} == expected


@pytest.mark.parametrize("header", SILENT.values(), ids=SILENT.keys())
def test_header_without_an_address_leaves_the_connections(weir, tcp_server, header):
    told = Told()
    w = weir([tcp_server(told).address], pool={"send_proxy": "v2"}, listener=takes())
    with w.connect() as client:
        client.sendall(header)
        own = talk(client)
    assert told.headers[0].source == own
    line, = w.wait_access(1)
    assert line["client"] == join(*own)


# ---- what else a header says ----

def test_tlvs_are_as_told(weir, tcp_server):
    """The protocol is the one that a route has settled, or the only one on offer."""
    told = Told()
    server = tcp_server(told)
    w = weir([server.address],
             pool={"send_proxy": "v2",
                   "send_proxy_tlvs": ["authority", "alpn", "unique-id", "crc32c"]},
             listener={"routes": [{"alpn": "h2", "pool": "web"},
                                  {"protocol": "tls", "pool": "web"}],
                       "preread_timeout": PATIENT})
    expected = {
        ("a.example.com", ("http/1.1", "h2")): b"h2",
        ("B.example.com", ("http/1.1",)): b"http/1.1",
        ("c.example.com", ("http/1.1", "http/1.0")): None,
        (None, ()): None,
    }
    for name, protocols in expected:
        with w.connect() as client:
            talk(client, hello.hello(name, protocols))
    server.check()
    # Sessions may end in another order than that in which they began.
    ids = sorted(line["id"] for line in w.wait_access(len(expected)))
    assert [header.tlv(proxy.ALPN) for header in told.headers] == list(expected.values())
    assert [header.tlv(proxy.AUTHORITY) for header in told.headers] == \
        [name and name.lower().encode() for name, _ in expected]
    assert [int(header.tlv(proxy.UNIQUE_ID)) for header in told.headers] == ids
    assert all(len(header.tlv(proxy.CRC32C)) == 4 for header in told.headers)


@pytest.mark.parametrize("received", [True, False])
def test_received_tlvs_are_passed_on_if_wanted(weir, tcp_server, received):
    told = Told()
    server = tcp_server(told)
    w = weir([server.address], listener=takes(),
             pool={"send_proxy": "v2",
                   "send_proxy_tlvs": ["crc32c", *(["received"] if received else [])]})
    sent = [(proxy.AUTHORITY, b"b.example.com"), (0xe0, b"\0own\xff"), (proxy.SSL, bytes(5))]
    with w.connect() as client:
        client.sendall(proxy.v2(TOLD, VIP, sent, checksum=True))
        talk(client)
    server.check()
    got = [one for one in told.headers[0].tlvs if one[0] != proxy.CRC32C]
    assert sorted(got) == (sorted(sent) if received else [])
    assert len(told.headers[0].tlv(proxy.CRC32C)) == 4


@pytest.mark.parametrize("size,fits", [(65000, True), (65519, False), (65520, False)])
def test_a_header_that_would_be_too_long(weir, tcp_server, size, fits):
    """Nobody is served without one: the client's bytes might be the header of another."""
    told = Told()
    server = tcp_server(told)
    w = weir([server.address], listener=takes(preread_max="128k"),
             pool={"send_proxy": "v2", "send_proxy_tlvs": ["received", "unique-id"]})
    with w.connect() as client:
        client.sendall(proxy.v2(TOLD, VIP, [(0xe0, bytes(size))]))
        if fits:
            talk(client)
            server.check()
            assert told.headers[0].tlv(0xe0) == bytes(size)
        else:
            assert read_to_reset(client) == b""
    assert w.wait_access(1)[0]["end"] == ("done" if fits else "no-resources")
    assert len(told.headers) == (1 if fits else 0)


# ---- probes ----

PROBE = {"interval": "200ms", "interval_changing": "200ms", "timeout": "150ms", "rise": 1,
         "fall": 1}


@versions
@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_probe_says_that_it_is_nobodys(weir, tcp_server, version, kind):
    def answer(client):
        if kind == "http":
            assert client.recv(4096).startswith(b"GET /healthz HTTP/1.")
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    told = Told(answer)
    server = tcp_server(told)
    w = weir([server.address],
             pool={"send_proxy": version,
                   "health": {**PROBE, "type": kind,
                              **({"path": "/healthz"} if kind == "http" else {})}})
    w.wait_health("a", "up")
    eventually(lambda: len(told.headers) >= 2, 5, "two headers")
    server.check()
    expected = proxy.V1_UNKNOWN if version == "v1" else proxy.V2_LOCAL
    assert {header.raw for header in told.headers} == {expected}


@versions
@pytest.mark.parametrize("sends", [True, False])
def test_haproxy_is_up_if_probes_begin_as_it_wants(weir, haproxy, version, sends):
    server = haproxy(HAPROXY_READS)
    w = weir([server.address],
             pool={"send_proxy": version,
                   "health": {**PROBE, "type": "http", "send_proxy": sends}})
    w.wait_health("a", "up" if sends else "down")


@pytest.mark.parametrize("kind", ["port", "off"])
def test_probe_without_a_header(weir, tcp_server, kind):
    """Of a port of its own, or to servers that are told nothing."""
    heard = []

    def hear(client):
        data = b""
        with contextlib.suppress(ConnectionError):  # a probe may end as it likes
            for more in chunks(client):
                data += more
        heard.append(data)

    probed = tcp_server(hear)
    served = tcp_server(echo)
    health = {**PROBE, "type": "tcp", **({"port": probed.port} if kind == "port" else {})}
    w = weir([served.address if kind == "port" else probed.address],
             pool={"send_proxy": "v2" if kind == "port" else "off", "health": health})
    w.wait_health("a", "up")
    eventually(lambda: len(heard) >= 2, 5, "two probes")
    assert set(heard) == {b""}


# ---- every byte ----

MIB = 1 << 20


@versions
@pytest.mark.parametrize("splice", ["off", "on", "auto"])
@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("routed", [False, True])
def test_every_byte_behind_a_header(weir, version, splice, first, routed):
    """The header, what was read for its sake, and the rest; the one end finishes before the other
    has begun."""
    routes = {"routes": [{"protocol": "tls", "pool": "web"}]} if routed else {}
    start = hello.hello("a.example.com", pad=3000) if routed else b"start"
    with Meeting() as meeting:
        w = weir([meeting.address], pool={"send_proxy": version},
                 listener=takes(splice=splice, **routes))
        client = meeting.connect(w.address)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(client.sendall, proxy.v2(TOLD, VIP) + start + payload(MIB))
            server = meeting.accept()
            assert proxy.read(server).source == TOLD
            assert read_exactly(server, len(start) + MIB) == start + payload(MIB)
            sending.result()
        ends = (client, server) if first == "client" else (server, client)
        ends[0].shutdown(socket.SHUT_WR)
        assert read_to_fin(ends[1]) == b""
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(ends[1].sendall, payload(ANSWER_SIZE))
            assert read_exactly(ends[0], ANSWER_SIZE) == payload(ANSWER_SIZE)
            sending.result()
        ends[1].shutdown(socket.SHUT_WR)
        assert read_to_fin(ends[0]) == b""
    assert ended(w) == {("done", "both")}


def test_fin_right_behind_header_and_data(weir):
    with Meeting() as meeting:
        w = weir([meeting.address], pool={"send_proxy": "v2"}, listener=takes())
        client = meeting.connect(w.address)
        client.sendall(proxy.v1(TOLD, VIP) + b"all there is")
        client.shutdown(socket.SHUT_WR)
        server = meeting.accept()
        assert proxy.read(server).source == TOLD
        assert read_to_fin(server) == b"all there is"
        server.sendall(b"answer")
        server.close()
        assert read_to_fin(client) == b"answer"
    assert ended(w) == {("done", "both")}
