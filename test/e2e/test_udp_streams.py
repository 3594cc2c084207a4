"""Streams of datagrams over veth: QUIC, iperf3, and what the kernel joins and cuts (GRO, GSO).

Issue 3, "Shown by" 3 and 4. scripts/streams shows the figures beside nginx.
"""
import contextlib
import hashlib
import os

import pytest

from lib.datagram import Echo, Load
from lib.road import FRONT, SERVERS, Road
from lib.streams import Iperf, QuicClient, QuicServer, iperf
from lib.udp import check_clean, seconds
from lib.wait import SLOW

MIB = 1 << 20
PORT = 7000


@pytest.fixture
def road():
    """road(): a Road; its arguments."""
    with contextlib.ExitStack() as cleanup:
        def make(**mtu):
            made = Road(**mtu)
            cleanup.callback(made.discard)
            return made
        yield make


@pytest.fixture
def started():
    """Starts a process, and sees to it that it goes."""
    made = []

    def start(process):
        made.append(process)
        return process.start()
    yield start
    for process in made[::-1]:
        process.discard()


def before(weir, way, server, **listener):
    """A weir at the middle of the road, of one worker."""
    return weir([server.address], wrap=way.weir.wrap,
                listener={"bind": f"{FRONT}:{server.port}", "protocol": "udp", **listener})


def grown(front, run):
    """What the counters have grown by meanwhile, and what `run` returns."""
    was = front.admin("show counters")
    result = run()
    return {name: value - was[name] for name, value in front.admin("show counters").items()}, result


def dropped(counters):
    return {name: value for name, value in counters.items()
            if name.startswith("udp_dropped_") and value}


# ---- QUIC ----

def download(way, weir, started, size):
    """One file by QUIC through weir, which is set as for QUIC; the counters."""
    server = QuicServer(host=SERVERS[0], port=4433, wrap=way.servers.wrap)
    data = os.urandom(size)
    (server.root / "file").write_bytes(data)
    front = before(weir, way, started(server), udp_fragment=False)
    client = QuicClient((FRONT, 4433), "file", wrap=way.clients.wrap)
    counters, _ = grown(front, lambda: started(client).finish(110))
    got = client.got.read_bytes()
    assert len(got) == size
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    assert counters["bytes_out"] > size and front.server("a")["flows_total"] == 1
    print(f"{size >> 20} MiB: {counters['datagrams_out']} datagrams of "
          f"{counters['bytes_out'] // counters['datagrams_out']} bytes to the client, "
          f"{counters['udp_sends']} sends, dropped {dropped(counters)}")
    return counters


def test_quic(road, weir, started):
    counters = download(road(), weir, started, 100 * MIB if SLOW == 1 else 10 * MIB)
    assert dropped(counters) == {}
    # It found out by probes with DF set that the path takes more than the least of QUIC's.
    assert counters["bytes_out"] / counters["datagrams_out"] > 1300


def test_quic_finds_the_narrow_path(road, weir, started):
    """The client's probes of the path do not fit between weir and the server: they fail, instead of
    arriving in pieces, and the connection goes on."""
    counters = download(road(back_mtu=1300), weir, started, 2 * MIB)
    assert set(dropped(counters)) == {"udp_dropped_too_large"}


# ---- iperf3 ----

def heard(namespace):
    """(datagrams that sockets of a namespace got, those that their queues had no room for)"""
    names, values = (line.split() for line in namespace.run("cat", "/proc/net/snmp").splitlines()
                     if line.startswith("Udp:"))
    told = dict(zip(names[1:], map(int, values[1:])))
    return told["InDatagrams"], told["RcvbufErrors"]


@pytest.mark.parametrize("options", [
    [], ["-R"], ["-u", "-b", "0"], ["-u", "-b", "0", "--length", "1200"],
    ["-u", "-b", "0", "--length", "1200", "-R"], ["-u", "-b", "0", "--length", "20000"]],
    ids=" ".join)
def test_iperf(road, weir, started, options):
    """TCP leads also where UDP is measured, on the same port: two listeners of one pool."""
    way = road()
    server = started(Iperf(host=SERVERS[0], port=5201, wrap=way.servers.wrap))
    bind = {"bind": f"{FRONT}:5201", "pool": "web"}
    front = weir([server.address], wrap=way.weir.wrap, listeners=[
        {"name": "tcp", **bind},
        {"name": "udp", "protocol": "udp", "udp_idle_timeout": seconds(1), **bind}])
    counters, end = grown(front, lambda: iperf((FRONT, 5201), *options, wrap=way.clients.wrap,
                                               seconds=1))
    if "-u" not in options:
        assert end["sum_received"]["bytes"] > MIB
        assert counters["sessions"] == 2
        return
    sent, lost = end["sum"]["packets"], end["sum"]["lost_packets"]
    way_of_data = "out" if "-R" in options else "in"
    passed = counters[f"datagrams_{way_of_data}"]
    print(f"sent {sent}, passed {passed}, not received {lost}; weir dropped {dropped(counters)}")
    # What the kernel gave to weir has left it, or is counted; and so is what it could not give.
    front.wait_flows(0)
    came, no_room = heard(way.weir)
    through = front.admin("show counters")
    lost_by_us = dropped(through)
    assert lost_by_us.pop("udp_dropped_receive_queue", 0) == no_room
    # Those had left, to an iperf3 that was through; ICMP said so later.
    lost_by_us.pop("udp_dropped_refused", None)
    assert came == through["datagrams_in"] + through["datagrams_out"] + sum(lost_by_us.values())
    assert passed > sent / 10


# ---- what the kernel joins and cuts ----

def ratios(counters):
    """Of the datagrams received and sent: in joined messages, and how many in one such."""
    total = counters["datagrams_in"] + counters["datagrams_out"]
    gro, gso = counters["udp_gro_datagrams"], counters["udp_gso_datagrams"]
    print(f"{total} datagrams: {gro / total:.3f} came joined, "
          f"{gro / max(1, counters['udp_gro_received']):.1f} in one; {gso / total:.3f} left to be "
          f"cut, {gso / max(1, counters['udp_gso_sent']):.1f} of one; "
          f"{counters['udp_receives']} receives, {counters['udp_sends']} sends")
    return gro / total, gso / total


def test_trains_stay_trains(road, weir, started):
    """A sender that uses UDP_SEGMENT: its trains pass whole, both ways."""
    way = road()
    echo = started(Echo(None, host=SERVERS[0], port=PORT, wrap=way.servers.wrap, gro=True))
    front = before(weir, way, echo)
    load = Load("gso", (FRONT, PORT), wrap=way.clients.wrap, gro=True, count=100000)
    counters, told = grown(front, lambda: started(load).finish())
    check_clean(told)
    came, left = ratios(counters)
    assert came > 0.9 and left > 0.9
    assert counters["udp_gro_datagrams"] / counters["udp_gro_received"] >= 15
    assert counters["udp_gso_datagrams"] / counters["udp_gso_sent"] >= 15


@pytest.mark.parametrize("joined", [False, True])
def test_gro_joins_what_was_sent_singly(road, weir, started, joined):
    way = road()
    if joined:
        way.join_arrivals()
    echo = started(Echo(None, host=SERVERS[0], port=PORT, wrap=way.servers.wrap))
    front = before(weir, way, echo)
    # No more under way than a veth holds for its GRO: 256 (drivers/net/veth.c).
    load = Load("stream", (FRONT, PORT), wrap=way.clients.wrap, outstanding=32, count=50000)
    counters, told = grown(front, lambda: started(load).finish())
    check_clean(told)
    came, left = ratios(counters)
    # Whatever the device does: what came in one batch leaves together.
    assert left > 0.5
    assert came > 0.3 if joined else came == 0
