"""Routes: pools chosen by what a client's TLS hello says, or by where it comes from.

Real clients and servers are curl and openssl; the hellos of lib/hello.py are made by bytes.
"""
import contextlib
import re
import select
import socket
import subprocess
import time

import pytest

from lib import hello
from lib import proxyproto as proxy
from lib.hello_cases import BROKEN, ROUTED, ROUTES, byte_by_byte, named, read_name
from lib.meeting import wait_for_reset
from lib.peers import TIMEOUT, echo, read_exactly
from lib.ports import free_port
from lib.servers import Server
from lib.wait import SLOW

# Long enough for any test, where a deadline is not what it is about.
PATIENT = f"{int(20 * SLOW)}s"


class TlsServer(Server):
    """openssl s_server, which answers GET /name with its own."""

    def __init__(self, name, certificate):
        super().__init__()
        (self.directory / "name").write_text(name)
        self._certificate = certificate

    def command(self):
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(self.directory),
                "openssl", "s_server", "-accept", self.address, "-WWW", "-alpn", "h2,http/1.1",
                "-cert", str(self._certificate), "-key", f"{self._certificate}.key"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("certificate") / "own"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", f"{path}.key", "-out", path, "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=DNS:*.example.com,DNS:example.com"],
        check=True, capture_output=True)
    return path


@pytest.fixture
def tls_server(certificate):
    with contextlib.ExitStack() as cleanup:
        def make(name):
            made = TlsServer(name, certificate)
            cleanup.callback(made.discard)
            return made.start()
        yield make


def pools(servers, routes, **listener):
    """Sections of one pool for each name in `servers`, the first of them the listener's own."""
    return {
        "pools": [{"name": name, "scheduler": "round-robin",
                   "servers": [{"name": name, "address": server.address}]}
                  for name, server in servers.items()],
        "listeners": [{"name": "web", "bind": f"127.0.0.1:{free_port()}",
                       "pool": next(iter(servers)), "routes": routes,
                       "preread_timeout": PATIENT, **listener}]}


@pytest.fixture
def fronted(weir, tcp_server):
    """fronted("own ab", routes, …): a weir before servers of these names, the first its
    listener's own; they are in its `servers`."""
    def make(names, routes, **listener):
        servers = {name: tcp_server(named(name)) for name in names.split()}
        w = weir(**pools(servers, routes, **listener))
        w.servers = servers
        return w
    return make


def reached(weir, data, *, source=None, send=socket.socket.sendall):
    """The name of the server that a client with this first data reaches, whole."""
    with weir.connect(source=source) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send(client, data)
        name = read_name(client)
        assert read_exactly(client, len(data)) == data, "the server saw something else"
    return name


def check_ended(weir, end, by, count=1):
    lines = weir.wait_access(count)
    assert {(line["end"], line["by"]) for line in lines} == {(end, by)}
    assert not any("server" in line for line in lines)
    assert not any(server.connections for server in weir.servers.values())
    return lines


# ---- real clients and servers ----

def curl(w, host, certificate, *options):
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", certificate, "--max-time",
         str(TIMEOUT), "--noproxy", "*", "--resolve", f"{host}:{w.address[1]}:{w.address[0]}",
         *options, f"https://{host}:{w.address[1]}/name"],
        capture_output=True, text=True, timeout=TIMEOUT + 5, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def s_client(w, host, certificate, *options):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{w.address[0]}:{w.address[1]}", "-servername", host,
         "-CAfile", certificate, "-verify_return_error", "-ign_eof", *options],
        input="GET /name HTTP/1.0\r\n\r\n", capture_output=True, text=True, timeout=TIMEOUT,
        check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("splice", ["off", "on"])
def test_real_clients_reach_the_server_of_their_name(weir, tls_server, certificate, splice):
    servers = {"none": tls_server("none"), "a": tls_server("server-a"), "b": tls_server("server-b")}
    w = weir(**pools(servers, [{"sni": "a.example.com", "pool": "a"},
                               {"sni": "*.example.com", "pool": "b"}], splice=splice))
    for host, name in {"a.example.com": "server-a", "b.example.com": "server-b",
                       "A.Example.COM": "server-a", "example.com": "none"}.items():
        assert curl(w, host, certificate, "--http1.1") == name
    for version in ("-tls1_2", "-tls1_3"):
        for host, name in {"a.example.com": "server-a", "b.example.com": "server-b"}.items():
            told = s_client(w, host, certificate, version)
            assert name in told
            assert {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version] in told
    w.wait_sessions(0)
    by_pool = [line["pool"] for line in w.wait_access(8)]
    assert (by_pool.count("a"), by_pool.count("b"), by_pool.count("none")) == (4, 3, 1)


def test_real_clients_reach_the_server_of_their_alpn(weir, tls_server, certificate):
    servers = {"none": tls_server("none"), "two": tls_server("two")}
    w = weir(**pools(servers, [{"alpn": "h2", "pool": "two"}]))
    for words, name in {"h2,http/1.1": "two", "http/1.1,h2": "two", "http/1.1": "none"}.items():
        told = s_client(w, "a.example.com", certificate, "-alpn", words)
        assert re.search(rf"^{name}", told, re.MULTILINE), told


@pytest.mark.parametrize("name", [None, "a.example.com"])
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("http/1.1", "h2")])
@pytest.mark.parametrize("version", [None, "TLSv1_2", "TLSv1_3"])
def test_hellos_of_openssl(fronted, name, protocols, version):
    w = fronted("own named h2", [{"alpn": "h2", "pool": "h2"},
                                 {"sni": "a.example.com", "protocol": "tls", "pool": "named"}])
    number = version and getattr(hello.ssl.TLSVersion, version)
    expected = "named" if name else "h2" if "h2" in protocols else "own"
    assert reached(w, hello.real(name, protocols, number)) == expected


# ---- which route ----

ORDERED = [
    {"sni": "*.example.com", "pool": "short"},
    {"sni": "*.deep.example.com", "pool": "long"},
    {"alpn": "h2", "pool": "h2"},
    {"sni": "www.example.com", "alpn": "h2", "pool": "both"},
    {"sni": "www.example.com", "pool": "exact"},
    {"sni": "x.deep.example.com", "from": ["127.0.0.2"], "pool": "from"},
    {"protocol": "not-tls", "pool": "plain"},
    {"protocol": "tls", "from": ["127.0.0.3", "127.0.4.0/24"], "pool": "from"},
    {"protocol": "tls", "from": ["127.0.4.0/24"], "pool": "plain"},
]


@pytest.mark.parametrize("data, source, expected", [
    (hello.hello("www.example.com"), None, "exact"),
    (hello.hello("WWW.Example.Com"), None, "exact"),
    (hello.hello("www.example.com", ["http/1.1"]), None, "exact"),
    (hello.hello("www.example.com", ["http/1.1", "h2"]), None, "both"),
    (hello.hello("a.example.com"), None, "short"),
    (hello.hello("a.b.example.com", ["h2"]), None, "short"),
    (hello.hello("deep.example.com"), None, "short"),
    (hello.hello("x.deep.example.com"), None, "long"),
    (hello.hello("x.deep.example.com"), "127.0.0.2", "from"),
    (hello.hello("y.x.deep.example.com"), None, "long"),
    (hello.hello("example.com"), None, "own"),
    (hello.hello("notexample.com"), None, "own"),
    (hello.hello("www.example.com.org"), None, "own"),
    (hello.hello("example.com", ["h2"]), None, "h2"),
    (hello.hello(None, ["h2"]), None, "h2"),
    (hello.hello(None, ["h2c"]), None, "own"),
    (hello.hello("example.com"), "127.0.0.3", "from"),
    (hello.hello(), "127.0.4.77", "from"),
    (b"GET / HTTP/1.1\r\n\r\n", "127.0.0.3", "plain"),
    (b"\x00", None, "plain"),
    (b"SSH-2.0-x\r\n", None, "plain"),
], ids=lambda value: "first" if isinstance(value, bytes) else None)
def test_the_most_exact_route_that_holds(fronted, data, source, expected):
    w = fronted("own short long h2 both exact from plain", ORDERED)
    assert reached(w, data, source=source and (source, 0)) == expected
    assert w.wait_access(1)[0]["pool"] == expected


def test_told_address_chooses(fronted):
    """`from` is about the client that a PROXY header tells."""
    w = fronted("own from", [{"from": ["192.0.2.0/24"], "pool": "from"}],
                proxy_protocol="required", proxy_protocol_from=["127.0.0.0/8"])
    for host, name in (("192.0.2.1", "from"), ("192.0.3.1", "own")):
        header = proxy.v2((host, 1), ("198.51.100.1", 443))
        with w.connect() as client:
            client.sendall(header + b"x")
            assert read_exactly(client, len(name) + 2) == name.encode() + b"\nx"


@pytest.mark.parametrize("case", ROUTED.values(), ids=ROUTED.keys())
def test_route_whatever_the_way_of_sending(fronted, case):
    w = fronted("own named plain", ROUTES)
    assert reached(w, case.data, send=case.send) == case.server


# ---- hellos in pieces ----

NAMED = [{"sni": "a.example.com", "alpn": "h2", "pool": "named"}]


def test_protocol_behind_the_name_is_waited_for(fronted):
    w = fronted("own named", NAMED)
    assert reached(w, hello.hello("a.example.com", ["h2"]), send=byte_by_byte) == "named"


# ---- hellos that are none ----

@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken_hello_resets_the_client(fronted, data):
    w = fronted("own named", [{"sni": "a.example.com", "pool": "named"},
                              {"alpn": "h2", "pool": "named"}])
    with w.connect() as client:
        client.sendall(data)
        wait_for_reset(client)
    line, = check_ended(w, "preread-wrong", "client")
    assert line["why"]
    assert w.admin("show counters")["preread_wrong"] == 1


def test_preread_max_is_what_a_hello_may_have(fronted):
    w = fronted("own named", NAMED, preread_max="4k")
    assert reached(w, hello.hello("a.example.com", ["h2"], pad=3000)) == "named"
    with w.connect() as client:
        client.sendall(hello.hello("a.example.com", ["h2"], pad=5000))
        wait_for_reset(client)
    assert {line["end"] for line in w.wait_access(2)} == {"done", "preread-wrong"}


@pytest.mark.parametrize("need", [
    {"sni": "a.example.com"}, {"alpn": "h2"}, {"protocol": "tls"}, {"protocol": "not-tls"}])
def test_undecided_clients_are_nobodys(fronted, need):
    """Neither a route's pool nor the listener's own gets a client that never said which it is."""
    w = fronted("own named", [{**need, "pool": "named"}], preread_timeout="500ms")
    data = hello.hello("a.example.com", ["h2"])
    start = time.monotonic()
    waiting = [w.connect() for _ in range(4)]
    for client, sent in zip(waiting, (0, 1, 4, 4 if need.get("protocol") == "not-tls" else 60)):
        client.sendall(data[:sent])
    while waiting:
        ended = select.select(waiting, [], [], TIMEOUT)[0]
        assert ended, "the deadline passed"
        assert 0.5 * 0.9 <= time.monotonic() - start <= 0.5 + (0.05 + 0.05) * SLOW
        for client in ended:
            waiting.remove(client)
            client.close()
    check_ended(w, "preread-timeout", "client", 4)
    assert w.admin("show counters")["preread_timeouts"] == 4


# ---- no route ----

@pytest.mark.parametrize("refuse", ["reset", "close"])
def test_no_route_can_refuse(fronted, refuse):
    w = fronted("own named", NAMED, no_route="refuse", refuse=refuse)
    # Unread bytes would make any close a reset; whoever was heard has none.
    for data in (hello.hello("b.example.com", ["h2"]), hello.hello("a.example.com"), b"plain"):
        with w.connect() as client:
            client.sendall(data)
            if refuse == "reset":
                wait_for_reset(client)
            else:
                assert client.recv(1) == b""
    check_ended(w, "refused", "weir", 3)
    assert w.admin("show counters")["sessions_refused"] == 3
    assert reached(w, hello.hello("a.example.com", ["h2"])) == "named"


# ---- nothing to wait for ----

@pytest.mark.parametrize("source, expected", [("127.0.0.2", "two"), ("127.0.0.1", "own")])
def test_routes_by_source_alone_wait_for_nothing(weir, tcp_server, source, expected):
    def greets(name):
        return tcp_server(lambda client: (client.sendall(name.encode()), echo(client)))
    w = weir(**pools({name: greets(name) for name in ("own", "two")},
                     [{"from": ["127.0.0.2", "127.0.3.0/24"], "pool": "two"}]))
    for _ in range(20):
        # A client that says nothing would be ended at preread_timeout if anything was waited for.
        with w.connect(source=(source, 0)) as client:
            assert read_exactly(client, 3) == expected.encode()
    assert {line["pool"] for line in w.wait_access(20)} == {expected}
