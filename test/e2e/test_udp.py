"""UDP: which server a client's datagrams go to, what ends a flow, and what weir tells of it.

Issue 3: `responses`, `requests`, `per_packet`, several workers, both protocols on one address, the
access line and its sample, the end of weir. Floods and limits are in test_udp_bounds.py, sizes and
addresses in test_udp_paths.py, late replies, loops and amplification in test_udp_safety.py, what
operators see and do in test_admin_udp.py.
"""
import collections
import contextlib
import os
import signal
import socket
import time

import pytest

from lib import logs
from lib.ports import free_port
from lib.servers import answer_of
from lib.udp import UDP_SEGMENT, check_clean, listener, seconds
from lib.wait import SLOW, eventually

ACCESS_FIELDS = ["time", "level", "event", "id", "client", "listener", "pool", "server",
                 "server_address", "moves", "duration_ms", "datagrams_in", "datagrams_out",
                 "bytes_in", "bytes_out", "end", "by"]


@pytest.fixture
def front(weir, udp_echoes):
    """front(3, …): weir before so many servers a, b, c …, each of which answers with its name;
    keywords are the listener's keys."""
    def make(servers, *, workers=1, replies=1, log=None, **keys):
        listed = [server.address for server in udp_echoes(servers, replies=replies)]
        own = {"workers": workers, **({"log": log} if log else {})}
        return weir(listed, listener=listener(**keys), weir=own)
    return make


def named(client, data=b"ping"):
    """Who answers."""
    name, _, rest = client.ask(data).partition(b" ")
    assert rest == data
    return name.decode()


def pattern(names):
    """As letters in the order in which they came up: each scheduler begins its turn anywhere."""
    order = {}
    return "".join(order.setdefault(name, chr(ord("a") + len(order))) for name in names)


def train(client, datagrams):
    """So many datagrams in one send, which weir gets as one message; the names that answer."""
    client.sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 4)
    client.send(b"".join(b"%4d" % number for number in range(datagrams)))
    replies = [client.receive().partition(b" ") for _ in range(datagrams)]
    assert sorted(int(rest) for _, _, rest in replies) == list(range(datagrams))
    return [name.decode() for name, _, rest in sorted(replies, key=lambda reply: int(reply[2]))]


def only_flow(weir):
    row, = weir.admin("show flows")
    return row


# ---- which server ----

def test_a_flow_stays_with_its_server(front, udp_client):
    w = front(3)
    clients = [udp_client(w) for _ in range(6)]
    for _ in range(5):
        assert pattern(named(client) for client in clients) == "abcabc"
    assert w.admin("status")["flows"] == 6
    assert [w.server(name)["flows"] for name in "abc"] == [2, 2, 2]
    assert w.server("a")["flows_total"] == 2 and w.server("a")["sessions"] == 0


@pytest.mark.parametrize("replies", [1, 3])
def test_responses_end_a_flow(front, udp_client, replies):
    w = front(2, replies=replies, responses=replies)
    client = udp_client(w)
    answers = []
    for _ in range(4):
        client.send()
        answers += [client.receive() for _ in range(replies)]
        # The end comes a moment after the last reply has left.
        w.wait_flows(0)
    assert pattern(answers) == "".join(letter * replies for letter in "abab")
    lines = w.wait_flow_lines(4)
    assert {(line["end"], line["by"]) for line in lines} == {("done", "server")}
    assert {(line["datagrams_in"], line["datagrams_out"]) for line in lines} == {(1, replies)}


def test_each_request_is_owed_its_responses(front, udp_client):
    """Two requests on their way at once: the flow ends with the second reply, not the first."""
    w = front(2, responses=1)
    client = udp_client(w)
    assert pattern(train(client, 8)) == "aaaaaaaa"
    line, = w.wait_flow_lines(1)
    assert (line["end"], line["datagrams_in"], line["datagrams_out"]) == ("done", 8, 8)


def test_requests_pick_anew(front, udp_client):
    w = front(2, requests=3)
    client = udp_client(w)
    assert pattern(named(client) for _ in range(12)) == "aaabbbaaabbb"
    states = collections.Counter(row["state"] for row in w.admin("show flows"))
    assert states == {"spent": 4}
    named(client)
    states = collections.Counter(row["state"] for row in w.admin("show flows"))
    assert states == {"spent": 4, "active": 1}


def test_requests_count_what_came_as_one(front, udp_client):
    w = front(2, requests=3)
    assert pattern(train(udp_client(w), 8)) == "aaabbbaa"
    assert w.admin("show counters")["udp_gro_datagrams"] == 8


def test_requests_with_responses(front, udp_client):
    """A spent flow is done once its replies have come."""
    w = front(2, requests=2, responses=1)
    assert pattern(train(udp_client(w), 8)) == "aabbaabb"
    w.wait_flows(0)
    assert {line["end"] for line in w.wait_flow_lines(4)} == {"done"}


def test_per_packet(front, udp_client):
    w = front(3, per_packet=True)
    clients = [udp_client(w) for _ in range(2)]
    for client in clients:
        assert pattern(named(client) for _ in range(12)) == "abc" * 4
        assert pattern(train(client, 12)) == "abc" * 4
    flows = collections.Counter((row["client"], row["server"]) for row in w.admin("show flows"))
    assert flows == {(client.address, name): 1 for client in clients for name in "abc"}
    assert {row["datagrams_out"] for row in w.admin("show flows")} == {8}


def test_several_workers(front, udp_load):
    w = front(3, workers=2)
    told = check_clean(udp_load("rr", w.address, flows=96, seconds=1).finish())
    flows = w.admin("show flows")
    assert len(flows) == w.admin("status")["flows"] == 96
    # The number of its worker is in a flow's id.
    assert {row["id"] & 255 for row in flows} == {0, 1}
    assert sum(row["datagrams_in"] for row in flows) == told["sent"]
    assert told["names"].keys() == set("abc")
    counters = w.admin("show counters")
    assert counters["datagrams_in"] == counters["datagrams_out"] == told["sent"]


def test_both_protocols_of_one_address(weir, udp_echoes, responder, udp_client):
    """As for DNS: two listeners, one pool, servers that speak both."""
    servers = udp_echoes(2)
    for server in servers:
        responder(server.name, port=server.port)
    bind = f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}"
    both = [{"name": "web-udp", "protocol": "udp", "bind": bind, "pool": "web"},
            {"name": "web-tcp", "protocol": "tcp", "bind": bind, "pool": "web"}]
    w = weir([server.address for server in servers], listeners=both)
    # Each protocol takes its turn with the same scheduler.
    clients = [udp_client(w) for _ in range(2)]
    names = [named(clients[0]), answer_of(w.address)[1].strip(), named(clients[1]),
             answer_of(w.address)[1].strip()]
    assert pattern(names) == "abab"
    w.wait_sessions(0)
    rows = {row["name"]: row for row in w.admin("show listeners")}
    assert rows["web-udp"]["flows"] == 2 and rows["web-udp"]["protocol"] == "udp"
    assert rows["web-tcp"]["sessions"] == 0 and rows["web-tcp"]["protocol"] == "tcp"
    first, second = w.server(names[0]), w.server(names[1])
    assert (first["flows_total"], first["sessions_total"]) == (2, 0)
    assert (second["flows_total"], second["sessions_total"]) == (0, 2)


# ---- the log ----

@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_access_line(weir, udp_echo, udp_client, host, form):
    server = udp_echo("a", host=host)
    w = weir([server.address], listener=listener(host, responses=2),
             weir={"log": {"format": form, "level": "info"}})
    client = udp_client(w)
    client.ask(b"12345")
    flow = only_flow(w)
    client.send(b"")
    client.send(b"123")
    assert [client.receive() for _ in range(2)] == [b"a ", b"a 123"]
    w.admin(f"kill flow {flow['id']}")

    def lines():
        return [line for line in logs.read(w.stderr_path, form) if line["event"] == "flow"]
    line, = eventually(lines, 5, "the access line")
    assert list(line) == ACCESS_FIELDS, "scripts go by the names and awk by the order"
    assert 0 < line["duration_ms"] < 20000 * SLOW
    told = {key: line[key] for key in ACCESS_FIELDS[3:] if key != "duration_ms"}
    assert told == {
        "id": flow["id"], "client": client.address, "listener": "web", "pool": "web",
        "server": "a", "server_address": server.address, "moves": 0, "datagrams_in": 3,
        "datagrams_out": 3, "bytes_in": 8, "bytes_out": 14, "end": "killed", "by": "operator"}


@pytest.mark.parametrize("access, sample, lines", [(True, 20, 3), (False, 1, 0)])
def test_log_sample(weir, udp_echo, responder, udp_client, access, sample, lines):
    """One in so many, of each protocol; the counters know them all."""
    echo = udp_echo("a")
    responder("a", port=echo.port)
    bind = f"127.0.0.1:{free_port(kind=socket.SOCK_DGRAM)}"
    fronts = [{"name": name, "protocol": name, "bind": bind, "pool": "web", "log_sample": sample,
               **({"responses": 1} if name == "udp" else {})} for name in ("udp", "tcp")]
    w = weir([echo.address], listeners=fronts,
             weir={"log": {"format": "json", "level": "info", "access": access}})
    client = udp_client(w)
    for _ in range(60):
        client.ask()
        answer_of(w.address)
        w.wait_flows(0)
    w.wait_sessions(0)
    counters = w.admin("show counters")
    assert (counters["flows_ended"], counters["sessions_ended"]) == (60, 60)
    assert w.stop() == 0  # by then all is written
    assert (len(w.flow_lines()), len(w.access_lines())) == (lines, lines)


# ---- the end of weir ----

def exit_code(weir, timeout=20):
    return weir.process.wait(timeout * SLOW)


def ends(weir):
    return collections.Counter((line["end"], line["by"]) for line in weir.flow_lines())


def told(weir, **wanted):
    counters = weir.admin("show counters")
    return all(counters[name] >= least for name, least in wanted.items())


def first_refused(weir, udp_client):
    """A new client, if its worker takes no new ones any more."""
    client = udp_client(weir)
    client.send()
    return client if told(weir, udp_dropped_stopping=1) else None


@pytest.mark.parametrize("workers", [1, 2])
def test_flows_finish_and_nobody_new_comes(front, udp_client, workers):
    """A flow that is used goes on; once it is silent for a second it ends, and weir with them."""
    w = front(1, workers=workers)
    clients = [udp_client(w) for _ in range(10)]
    for client in clients:
        client.ask()
    os.kill(w.pid, signal.SIGTERM)
    # Each worker hears of it a moment later; until then somebody new may get in.
    late = eventually(lambda: first_refused(w, udp_client), 5, "newcomers are refused")
    begun = w.admin("show counters")["flows"]
    until = time.monotonic() + 1.5 * SLOW
    while time.monotonic() < until:
        late.send()
        for client in clients:
            client.ask()
        time.sleep(0.05)  # less than the silence that ends a flow
    assert w.admin("show counters")["flows"] == begun
    eventually(lambda: told(w, udp_dropped_stopping=10), 5, "newcomers are counted")
    silent = time.monotonic()
    assert exit_code(w) == 0
    assert 0.9 <= time.monotonic() - silent <= 1.2 + 1 * SLOW
    assert ends(w) == {("shutdown", "weir"): begun}
    assert late.waiting() == []


def test_without_flows_it_ends_at_once(front, udp_client):
    """Sockets at rest do not keep it."""
    w = front(1, responses=1, udp_quarantine="1m")
    with contextlib.closing(udp_client(w)) as client:
        client.ask()
    w.wait_flows(0)
    os.kill(w.pid, signal.SIGTERM)
    assert exit_code(w, 0.9) == 0


def test_a_second_signal_ends_it_at_once(front, udp_load):
    w = front(1, workers=2)
    load = udp_load("steady", w.address)
    load.wait_exchanges(300)
    os.kill(w.pid, signal.SIGTERM)
    eventually(lambda: w.admin("status")["state"] == "draining", 5, "weir is draining")
    load.wait_exchanges(1500)
    assert w.admin("status")["flows"] == 100
    os.kill(w.pid, signal.SIGINT)
    assert exit_code(w, 0.9) == 0
    load.discard()
    assert ends(w) == {("shutdown", "weir"): 100}


def test_what_is_left_at_the_deadline_ends(weir, udp_echoes, udp_load):
    w = weir([udp_echoes(1)[0].address], listener=listener(),
             weir={"workers": 2, "shutdown_deadline": seconds(1.5)})
    load = udp_load("steady", w.address)
    load.wait_exchanges(300)
    began = time.monotonic()
    os.kill(w.pid, signal.SIGTERM)
    assert exit_code(w) == 0
    assert time.monotonic() - began >= 1.5 * SLOW
    load.discard()
    assert ends(w) == {("shutdown", "weir"): 100}
