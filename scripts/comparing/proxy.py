"""Row 2: PROXY headers, from the client's side and from the server's."""
import contextlib
import socket
import time

from comparing.fronts import Kind, haproxy_defaults, running
from comparing.rows import row
from lib import proxyproto as proxy
from lib.peers import TcpServer, read_exactly
from lib.ports import free_port, join
from lib.proxy_vectors import SILENT, TELLING, TELLING_LONG, WRONG
from lib.servers import Haproxy, Nginx
from lib.weir import Weir, sections

DEADLINE_SECONDS = 2
# What is refused is refused at once, or when the header was due.
PATIENCE_SECONDS = DEADLINE_SECONDS + 1
# So long the first part of a header is left alone.
PAUSE_SECONDS = 0.3


def weir(server, host):
    return Weir(sections([server.address], pool={"send_proxy": "v2"}, listener={
        "bind": join(host, free_port(host)),
        "proxy_protocol": "required", "proxy_protocol_from": ["127.0.0.0/8", "::1"],
        "preread_timeout": f"{DEADLINE_SECONDS}s"}))


def haproxy(server, host):
    return Haproxy(f"""{haproxy_defaults(client=f"{DEADLINE_SECONDS}s")}
listen web
    bind @LISTEN@ accept-proxy
    server a {server.address} send-proxy-v2
""", host=host)


def nginx(server, host):
    return Nginx(host=host, config=f"""
        stream {{
            server {{
                listen @LISTEN@ proxy_protocol;
                proxy_protocol_timeout {DEADLINE_SECONDS}s;
                set_real_ip_from 127.0.0.0/8;
                set_real_ip_from ::1;
                proxy_protocol on;
                proxy_pass {server.address};
            }}
        }}""")


KINDS = [Kind("weir", weir), Kind("haproxy", haproxy), Kind("nginx", nginx)]


def tell_source(client):
    """Answers with the address that the header tells, or with what is wrong with it, and the first
    byte behind it."""
    try:
        source = proxy.read(client).source
    except (AssertionError, ValueError, OSError) as error:
        client.sendall(f"a wrong header: {error}\n".encode())
        return
    word = f"{source[0]}:{source[1]}" if source else "nobody"
    client.sendall(word.encode() + b" " + client.recv(1) + b"\n")


def outcome(client):
    """What became of a client that sends no more."""
    client.settimeout(PATIENCE_SECONDS)
    told = b""
    try:
        while not told.endswith(b"\n"):
            told += read_exactly(client, 1)
    except (AssertionError, ConnectionError):
        return "refused"
    except TimeoutError:
        return "neither served nor refused"
    return f"served as {told.decode(errors='replace').strip()}"


def expected(client, source):
    host, port = source or client.getsockname()[:2]
    return f"served as {host}:{port} x"


def whole(front, header, source):
    with front.connect() as client:
        client.sendall(header + b"x")
        wanted, got = expected(client, source), outcome(client)
    return "right" if got == wanted else got


def send_in_two(server, clients, header, cuts):
    """A connection for each cut, all at the same time; how many reached the server with a part."""
    before = len(server.connections)
    for client, cut in zip(clients, cuts):
        client.sendall(header[:cut])
    time.sleep(PAUSE_SECONDS)
    early = len(server.connections) - before
    for client, cut in zip(clients, cuts):
        with contextlib.suppress(OSError):
            client.sendall(header[cut:] + b"x")
    return early


def cut_anywhere(front, server, header, source):
    cuts = range(1, len(header))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.connect()) for _ in cuts]
        early = send_in_two(server, clients, header, cuts)
        wanted = [expected(client, source) for client in clients]
        wrong = [got for client, want in zip(clients, wanted) if (got := outcome(client)) != want]
    told = [f"{len(cuts) - len(wrong)} of {len(cuts)} right", *wrong[:1]]
    return "; ".join(told + ([f"{early} reached the server early"] if early else []))


def told_wrong(front, server, data, fin=False):
    before = len(server.connections)
    with front.connect() as client:
        with contextlib.suppress(OSError):  # it may have been refused by now
            client.sendall(data)
            if fin:
                client.shutdown(socket.SHUT_WR)
        found = outcome(client)
    reached = len(server.connections) > before
    return found + (", a connection to the server was made" if reached and found == "refused" else "")


RIGHT = {**TELLING, **{name: (header, None) for name, header in SILENT.items()}}
TRUNCATED = {"v1": TELLING["v1 TCP4"][0][:-1], "v2": TELLING["v2 INET"][0][:-1]}


@row(2, "PROXY headers: right ones, whole and cut at every byte, are served with the address that "
        "they tell, wrong ones are refused, and nothing reaches a server before a whole one. (The "
        "protocol lets receivers drop what comes in pieces.)", KINDS)
def headers(kind):
    with TcpServer(tell_source) as server, running(kind, server, "127.0.0.1") as front, \
            running(kind, server, "::1") as front_6:
        # nginx would mix the families of a client and of its own address, and tell nonsense.
        fronts = {name: front_6 if source and ":" in source[0] else front
                  for name, (_, source) in {**RIGHT, **TELLING_LONG}.items()}
        for name, (header, source) in {**RIGHT, **TELLING_LONG}.items():
            yield name, whole(fronts[name], header, source)
        for name, (header, source) in RIGHT.items():
            yield f"{name}, cut", cut_anywhere(fronts[name], server, header, source)
        for name, data in WRONG.items():
            yield f"wrong: {name}", told_wrong(front, server, data + b"x")
        for name, data in TRUNCATED.items():
            yield f"{name} without its last byte", told_wrong(front, server, data)
            yield f"{name} without its last byte, and a FIN", \
                told_wrong(front, server, data, fin=True)
