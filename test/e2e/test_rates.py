"""So many a second: sessions, which wait in the kernel's queue, and datagrams, which are dropped."""
import contextlib
import math
import selectors
import signal
import socket
import time

import pytest

from lib import proxyproto as proxy
from lib import udp
from lib.peers import TIMEOUT, echo
from lib.ports import free_port
from lib.wait import SLOW, eventually


class Crowd:
    """Clients that connect all at once and say one byte each; those not refused hear it again."""

    def __init__(self, address, count, source="127.0.0.1"):
        self._selector = selectors.DefaultSelector()
        self._socks = []
        self.start = time.monotonic()
        self.served, self.wrong = [], []
        for _ in range(count):
            sock = socket.socket()
            self._socks.append(sock)
            sock.bind((source, 0))
            self._begin(sock, address)

    def _begin(self, sock, address):
        try:
            sock.connect(address)
            sock.sendall(b"x")
            self._selector.register(sock, selectors.EVENT_READ)
        except ConnectionResetError as error:
            self.wrong.append(error)

    def wait(self, count, timeout=TIMEOUT):
        """Until so many were served, or refused: seconds since the start, of each that was."""
        deadline = time.monotonic() + timeout
        while len(self.served) + len(self.wrong) < count and time.monotonic() < deadline:
            for key, _ in self._selector.select(0.1):
                self._selector.unregister(key.fileobj)
                try:
                    assert key.fileobj.recv(1) == b"x"
                    self.served.append(time.monotonic() - self.start)
                except (AssertionError, OSError) as error:
                    self.wrong.append(error)
        return self.served

    def close(self):
        self._selector.close()
        for sock in self._socks:
            sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def check_pace(times, rate, burst):
    """The k-th was served no sooner than it was due: a client may be late, and never early. So those
    of any second were taken within a second and the longest delay."""
    times = sorted(times)
    late = 0
    for number, at in enumerate(times, start=1):
        assert number <= burst + rate * at, f"{number} within {at:.3f} s"
        late = max(late, at - (number - burst) / rate)
    for at in times:
        among = sum(at <= other <= at + 1 for other in times)
        assert among <= math.ceil(rate * (1 + late)) + burst, f"{among} in the second from {at:.3f} s on"


def counters(weir):
    return weir.admin("show counters")


def listeners(*keys):
    return [{"name": f"l{number}", "pool": "web", "bind": f"127.0.0.1:{free_port()}", **one}
            for number, one in enumerate(keys)]


def address_of(weir, number):
    host, port = weir.configuration["listeners"][number]["bind"].rsplit(":", 1)
    return host, int(port)


def first_refusal(weir):
    """The log is written by a thread of its own, after the fact."""
    return eventually(lambda: [line for line in weir.log_lines()
                               if line["event"] == "a client was refused"], 5, "it is told")[0]


# ---- sessions ----

@pytest.mark.parametrize("workers", [1, 2])
def test_clients_wait_for_the_rate_of_their_listener(weir, tcp_server, workers):
    w = weir([tcp_server(echo, backlog=500).address], listener={"session_rate": 50},
             weir={"workers": workers})
    with Crowd(w.address, 200) as crowd:
        assert w.admin("show listeners")[0]["session_rate"] == 50
        # At each client's turn it is nobody for a moment.
        eventually(lambda: w.admin("show listeners")[0]["throttled"] > 0, 5, "somebody waits")
        times = crowd.wait(200)
        assert (len(times), crowd.wrong) == (200, [])
        check_pace(times, 50, 5)
        # And no later than that by much: nothing is lost on the way.
        assert max(times) < (200 / 50 * 1.5 + 1) * SLOW
    told = counters(w)
    assert told["accept_rate_pauses"] >= 100
    assert told["accept_pauses"] == told["sessions_refused"] == 0
    lines = [line for line in w.log_lines() if line.get("why") == "session_rate of the listener"]
    assert {(line["level"], line["listener"]) for line in lines} == {("warn", "web")}
    assert len(lines) <= workers * (2 + max(times))
    eventually(lambda: w.admin("show listeners")[0]["throttled"] == 0, 5, "nobody waits")


def test_a_burst_is_taken_at_once(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"session_rate": 100})
    with Crowd(w.address, 10) as crowd:
        assert len(crowd.wait(10)) == 10
    assert counters(w)["accept_rate_pauses"] == 0


def test_listeners_share_the_rate_of_weir(weir, tcp_server):
    w = weir([tcp_server(echo, backlog=500).address], weir={"session_rate": 50, "workers": 2},
             listeners=listeners({}, {}))
    with Crowd(address_of(w, 0), 75) as one, Crowd(address_of(w, 1), 75) as other:
        first = one.wait(75)
        second = other.wait(75)
        assert (len(first), len(second), one.wrong + other.wrong) == (75, 75, [])
        check_pace(first, 50, 5)
        # Those of the other are told late, while the first are waited for; the sum is the last one's.
        assert max(first + second) >= (150 - 5 - 1) / 50
    eventually(lambda: {line["listener"] for line in w.log_lines()
                        if line.get("why") == "session_rate of weir"} == {"l0", "l1"}, 5, "told")


def test_neither_of_two_listeners_starves(weir, tcp_server):
    w = weir([tcp_server(echo, backlog=500).address], weir={"session_rate": 40, "workers": 2},
             listeners=listeners({}, {}))
    with Crowd(address_of(w, 0), 100) as many, Crowd(address_of(w, 1), 10) as few:
        # Of the four queues each has its turn: behind at most three others for each of its own.
        times = few.wait(10)
        assert len(times) == 10 and not few.wrong
        assert max(times) < ((40 + 4) / 40 * 1.5 + 1) * SLOW
        many.wait(100)
        assert len(many.served) == 100


def test_a_rate_of_its_own_is_no_burden(weir, tcp_server):
    """A listener with both rates has its share, beside one that has only weir's and a flood."""
    w = weir([tcp_server(echo, backlog=500).address], weir={"session_rate": 20, "workers": 4},
             listeners=listeners({"session_rate": 10}, {}))
    with Crowd(address_of(w, 1), 200), Crowd(address_of(w, 0), 30) as few:
        times = few.wait(30, timeout=20 * SLOW)
        assert len(times) == 30 and not few.wrong
        check_pace(times, 10, 1)
        assert max(times) < (30 / 10 * 1.5 + 1) * SLOW


def test_a_listener_without_room_takes_no_turns(weir, tcp_server):
    w = weir([tcp_server(echo, backlog=500).address], weir={"session_rate": 20, "workers": 4},
             listeners=listeners({"max_connections": 1}, {}))
    with Crowd(address_of(w, 0), 20), Crowd(address_of(w, 1), 60) as others:
        times = others.wait(60, timeout=20 * SLOW)
        assert len(times) == 60 and not others.wrong
        assert max(times) < (60 / 20 * 1.3 + 0.3) * SLOW


def test_a_flood_at_one_listener_is_its_own(weir, tcp_server):
    w = weir([tcp_server(echo, backlog=500).address],
             listeners=listeners({"session_rate": 20}, {}))
    with Crowd(address_of(w, 0), 100) as flood, Crowd(address_of(w, 1), 100) as others:
        times = others.wait(100)
        assert len(times) == 100 and not others.wrong
        assert max(times) < 100 / 20 / 2 * SLOW, "as if the rate were theirs"
        check_pace(flood.wait(100, timeout=0.5), 20, 2)
    w.wait_sessions(0, timeout=20)


def test_who_is_refused_has_used_the_rate(weir, tcp_server):
    w = weir([tcp_server(echo).address], listener={"session_rate": 20, "deny": ["127.0.0.66"]})
    start = time.monotonic()
    with Crowd(w.address, 20, source="127.0.0.66") as denied:
        assert denied.wait(20) == []
        assert len(denied.wrong) == 20
    assert time.monotonic() - start >= (20 - 2 - 1) / 20
    assert counters(w)["sessions_refused"] == 20


def test_stop_serves_those_in_the_queue(weir, tcp_server):
    w = weir([tcp_server(echo, backlog=500).address], listener={"session_rate": 5},
             weir={"workers": 2, "session_rate": 50})
    with Crowd(w.address, 60) as crowd:
        eventually(lambda: w.admin("show listeners")[0]["throttled"] == 2, 5, "both workers wait")
        w.process.send_signal(signal.SIGTERM)
        assert (len(crowd.wait(60, timeout=5 * SLOW)), crowd.wrong) == (60, [])
    assert w.process.wait(TIMEOUT) == 0


# ---- datagrams ----

RATE = 100


def flood(client, polite, seconds, per_second):
    """Sends at that pace, while another asks now and then: how many were sent, what was heard, and
    how often the other asked."""
    start, sent, heard, asked = time.monotonic(), 0, [], 0
    while (now := time.monotonic() - start) < seconds:
        if sent < now * per_second:
            client.send(b"%d" % sent)
            sent += 1
        elif asked < now * 20:
            assert polite.ask(b"polite %d" % asked) == b"polite %d" % asked
            asked += 1
            heard += client.waiting()
        else:
            time.sleep(0.001)
    return sent, heard, asked


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_gets_no_more_than_its_rate_of_datagrams(weir, udp_echo, udp_client, workers):
    w = weir([udp_echo().address], listener=udp.listener(source_datagram_rate=RATE),
             weir={"workers": workers})
    loud, polite = udp_client(w, ("127.0.0.66", 0)), udp_client(w, ("127.0.0.67", 0))
    start = time.monotonic()
    sent, replies, asked = flood(loud, polite, 2, 1000)
    eventually(lambda: counters(w)["datagrams_in"] + counters(w)["udp_dropped_rate"] ==
               sent + asked, 5, "each datagram was passed on or dropped")
    took = time.monotonic() - start
    passed = sent - counters(w)["udp_dropped_rate"]
    assert passed <= RATE * took + RATE
    assert passed >= min(sent, RATE * 2)
    eventually(lambda: replies.extend(loud.waiting()) or len(replies) == passed, 5, "all replies")
    assert asked > 10 and counters(w)["udp_dropped_denied"] == 0
    gate = w.admin("show listeners")[0]["gate"]
    assert gate["datagrams"] == {"passed": passed + asked, "source-datagram-rate": sent - passed,
                                 "untracked": 0, "evicted": 0, "sources": 2}
    assert gate["sources"] == 0
    line = first_refusal(w)
    assert line["client"].startswith("127.0.0.66:")
    assert line["why"] == "source-datagram-rate"


def test_many_clients_of_one_source_have_one_rate(weir, udp_echo, udp_client):
    w = weir([udp_echo().address], listener=udp.listener(source_datagram_rate=10))
    start = time.monotonic()
    clients = [udp_client(w, ("127.0.0.66", 0)) for _ in range(60)]
    for client in clients:
        client.send()
    eventually(lambda: counters(w)["datagrams_in"] + counters(w)["udp_dropped_rate"] == 60, 5,
               "each was passed on or dropped")
    # What is dropped for its rate begins no flow.
    assert 10 <= w.admin("status")["flows"] <= 10 + 10 * (time.monotonic() - start)


def test_dry_run_counts_datagrams_and_drops_none(weir, udp_echo, udp_client):
    w = weir([udp_echo().address],
             listener=udp.listener(source_datagram_rate=10, dry_run=True))
    client = udp_client(w, ("127.0.0.66", 0))
    for number in range(50):
        assert client.ask(b"%d" % number)
    assert counters(w)["udp_dropped_rate"] == 0
    told = w.admin("show listeners")[0]["gate"]["datagrams"]
    assert told["passed"] + told["source-datagram-rate"] == 50
    assert told["source-datagram-rate"] >= 10
    eventually(lambda: [line for line in w.log_lines()
                        if line["event"] == "a client would be refused, but for dry_run"], 5,
               "it is named")


def test_datagrams_are_charged_to_the_client_told(weir, udp_echo, udp_client):
    w = weir([udp_echo().address], listener=udp.listener(
        source_datagram_rate=5, proxy_protocol="required", proxy_protocol_from=["127.0.0.0/8"]))
    sender = udp_client(w)
    # Thirty through one balancer, three of each client: none of them sends too much.
    for number in range(30):
        header = proxy.v2((f"192.0.2.{number // 3}", 4711), ("198.51.100.1", 53), datagram=True)
        assert sender.ask(header + b"x") == b"x"
    header = proxy.v2(("192.0.2.99", 4711), ("198.51.100.1", 53), datagram=True)
    start = time.monotonic()
    for _ in range(30):
        sender.send(header + b"y")
    eventually(lambda: counters(w)["datagrams_in"] + counters(w)["udp_dropped_rate"] == 60, 5,
               "each was passed on or dropped")
    assert counters(w)["udp_dropped_rate"] >= 30 - 5 - 5 * (time.monotonic() - start)
    line = first_refusal(w)
    assert line["client"] == "192.0.2.99:4711"
