"""UDP: weir and nginx. HAProxy has none."""
import contextlib
import re
import time

from comparing.rows import row
from lib import snapshot
from lib.crossing import INSIDE, LOOPBACK, OUTSIDE, PORT, Crossing, answer, payload
from lib.resources import Most, private_bytes, taken_descriptors
from lib.udp import Client, UdpEcho, UdpFlood, UdpLoad
from lib.udp_balancers import UDP_BALANCERS, UdpSettings
from lib.udp_peers import UdpServer, echo, silent, times, udp_socket
from lib.wait import eventually

# What does not come need not be waited for long.
PATIENCE_SECONDS = 0.3


@contextlib.contextmanager
def started(process):
    try:
        yield process.start()
    finally:
        process.discard()


def processes(front):
    return [front.pid, *snapshot.children(front.pid)]


def descriptors(front):
    return sum(map(taken_descriptors, processes(front)))


def flows(front):
    """As the kernel sees them: sockets that are connected to a server."""
    return sum(snapshot.descriptors(pid)["udp connected"] for pid in processes(front))


def memory(front):
    return sum(map(private_bytes, processes(front)))


# ---- row 12 ----

ROW_12 = UdpSettings(max_flows=10000)
FLOOD = {"rate": 50000, "seconds": 10}


def told(load):
    return f"{load['lost']} of {load['sent']} lost, p99 {load['p99_us'] / 1000:.0f} ms"


@row(12, "for 10 s 50,000 datagrams a second, each from another address and port, against a cap of "
         "10,000 flows; 100 known and 100 new clients at 10 a second beside it", UDP_BALANCERS)
def flooded(kind):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(UdpEcho("a")))
        front = stack.enter_context(kind([server], ROW_12))
        known = stack.enter_context(started(UdpLoad("steady", front.address)))
        known.wait_exchanges(300)
        most = stack.enter_context(Most(lambda: descriptors(front), every=1))
        flood = stack.enter_context(started(UdpFlood(front.address, **FLOOD)))
        eventually(lambda: flood.now()["seconds"] > 1, 5)
        new = stack.enter_context(started(
            UdpLoad("steady", front.address, seconds=8, **{"from": "127.9.0.1"})))
        loads = [flood.finish(), known.end(), new.end()]
        yield "known clients", told(loads[1])
        yield "new clients", told(loads[2])
        sent = sum(load["sent"] for load in loads)
        yield "datagrams that the server got", f"{server.now()['datagrams']} of {sent}"
        yield "most descriptors", str(most.value)
        yield "what it says of those it dropped", drops_told(front)


def drops_told(front):
    if front.name == "weir":
        counters = front.weir.admin("show counters")
        return ", ".join(f"{name} {count}" for name, count in counters.items()
                         if name.startswith("udp_dropped_") and count) or "none"
    lines = front.nginx.output().count("worker_connections are not enough")
    return f"{lines} lines that worker_connections are not enough"


# ---- row 13 ----

ROW_13 = UdpSettings(idle_timeout=10000, max_flows=12000)
CLIENTS = 10000


class Expiry:
    """When the sockets of CLIENTS flows go, of which each had one exchange."""

    def __init__(self, front):
        self._front = front
        with Client(front.address) as client:
            client.ask()  # it has all that it needs without flows
        self._without = descriptors(front) - flows(front)
        self.begun = time.monotonic()
        load = UdpLoad("new", front.address, flows=8, rate=250, sources=CLIENTS // 8,
                       count=CLIENTS)
        with started(load):
            self.answered = load.finish()["exchanges"]
        self.sent = time.monotonic()
        self.memory = memory(front)
        self.flows = self.left()

    def left(self):
        return descriptors(self._front) - self._without

    def watch(self):
        """(when the first went, from the first datagram on; when the last did, from the last on)"""
        timeout = ROW_13.idle_timeout / 1000
        eventually(lambda: self.left() < self.flows - 1, 5 * timeout)
        first = time.monotonic() - self.begun
        eventually(lambda: self.left() <= 0, 5 * timeout)
        return first / timeout, (time.monotonic() - self.sent) / timeout


@row(13, "10,000 flows of one exchange each, and an idle timeout of 10 s", UDP_BALANCERS)
def expires(kind):
    with started(UdpEcho("a")) as server, kind([server], ROW_13) as front:
        before = memory(front)
        expiry = Expiry(front)
        yield "answered, and flows held", f"{expiry.answered}, {expiry.flows}"
        first, last = expiry.watch()
        yield "the first ends, from its begin on", f"{first:.2f} × the timeout"
        yield "the last has ended, from its datagram on", f"{last:.2f} × the timeout"
        yield "sockets left over", str(flows(front))
        yield "memory of a flow", f"{(expiry.memory - before) / expiry.flows:.0f} bytes"
        again = Expiry(front)
        again.watch()
        yield "memory after a second time, less that after the first", \
            f"{(again.memory - expiry.memory) / 1024:.0f} KiB"


# ---- row 14 ----

LOOP_SECONDS = 2


def sent_to(namespace, port):
    """How many packets were."""
    listed = namespace.run("nft", "list", "chain", "ip", "count", "output")
    return int(re.search(rf"udp dport {port} counter packets (\d+)", listed)[1])


def in_a_circle(kind):
    """What its server's address is translated to is the balancer itself."""
    crossing = Crossing()
    with contextlib.ExitStack() as stack:
        stack.callback(crossing.discard)
        crossing.inside.run("nft", "-f", "-", stdin=f"""
            add table ip count
            add chain ip count output {{ type filter hook output priority -200; }}
            add rule ip count output udp dport 7777 counter
            add table ip nat
            add chain ip nat output {{ type nat hook output priority -100; }}
            add rule ip nat output udp dport 7777 redirect to :{PORT}
            """)
        settings = UdpSettings(max_flows=200, host="0.0.0.0", port=PORT)
        front = stack.enter_context(kind([Address("127.0.0.1:7777")], settings,
                                         wrap=crossing.inside.wrap))
        client = stack.enter_context(Client(("127.0.0.1", PORT), namespace=crossing.inside))
        for _ in range(10):
            client.send()
            time.sleep(0.02)  # else the kernel joins them, and counts one
        time.sleep(LOOP_SECONDS)  # what goes round does so meanwhile
        return (f"{sent_to(crossing.inside, 7777)} sent on within {LOOP_SECONDS} s, "
                f"{flows(front)} flows held")


class Address:
    """A server that is nothing but that."""

    def __init__(self, address):
        self.address = address


def received(client):
    """How many datagrams have come and come still."""
    count = 0
    client.sock.settimeout(PATIENCE_SECONDS)
    with contextlib.suppress(TimeoutError):
        while True:
            client.sock.recvfrom(1 << 16)
            count += 1
    return count


def amplified(kind, most):
    with UdpServer(times(5)) as server, kind([server], UdpSettings(max_replies=most)) as front, \
            Client(front.address) as client:
        client.send()
        return str(received(client))


def by_strangers(kind):
    with UdpServer(echo) as server, kind([server], UdpSettings()) as front, \
            Client(front.address) as client, \
            contextlib.closing(udp_socket()) as stranger, \
            contextlib.closing(udp_socket("127.0.0.2", server.port)) as other:
        client.ask()
        (_, source), = server.seen
        for _ in range(5):
            stranger.sendto(b"stranger", source)
            other.sendto(b"stranger", source)
        return f"{received(client)} of 10"


def owed_reply(kind):
    """A reply that comes after the client's flow has ended, while others use their own."""
    with UdpServer(silent) as server, \
            kind([server], UdpSettings(idle_timeout=1000, responses=1)) as front, \
            contextlib.ExitStack() as stack:
        first, *others = [stack.enter_context(Client(front.address)) for _ in range(100)]
        first.send()
        (_, source), = server.wait_seen(1)
        eventually(lambda: flows(front) == 0, 10)
        for client in others:
            client.send()
        server.wait_seen(100)
        server.socket.sendto(b"late", source)
        time.sleep(PATIENCE_SECONDS)
        found = sum(client.waiting().count(b"late") for client in [first, *others])
        return f"{found} of 1"


@row(14, "in a circle, more than was asked for, and to whom did not ask", UDP_BALANCERS)
def abused(kind):
    yield "10 datagrams to a server whose address leads back", in_a_circle(kind)
    yield "replies to a datagram to which the server sends five", amplified(kind, 0)
    yield "the same, with a cap of one (max_replies; proxy_responses)", amplified(kind, 1)
    yield "strangers' datagrams to its socket towards the server that reach a client", \
        by_strangers(kind)
    yield "replies that come after the end of their flow and reach a client", owed_reply(kind)


# ---- row 15 ----

SIZES = (0, 1, 1472, 1473, 8972, 65507)


def fate(receive, expected):
    """What became of a datagram that had these bytes."""
    try:
        got = receive()
    except TimeoutError:
        return "lost"
    if got == expected:
        return "whole"
    return f"{len(got)} bytes" if expected.startswith(got) else "damaged"


def request_fate(client, server, size):
    before = len(server.seen)
    client.send(payload(size))

    def seen():
        with contextlib.suppress(TimeoutError):
            client.receive()
        if len(server.seen) == before:
            raise TimeoutError
        return server.seen[before][0]
    return fate(seen, payload(size))


def reply_fate(client, _server, size):
    client.send(b"%d" % size)
    return fate(client.receive, payload(size))


def fates(judge, front, server, namespace=None):
    """Those that did not arrive whole, by their sizes."""
    with Client(front, namespace=namespace, timeout=PATIENCE_SECONDS) as client:
        client.ask()
        found = {size: judge(client, server, size) for size in SIZES}
    others = [f"{size}: {what}" for size, what in found.items() if what != "whole"]
    return ", ".join(others) or f"all {len(SIZES)} whole"


WAYS = {"to the server": request_fate, "to the client": reply_fate}


def answered(front, namespace):
    """Does a reply come from the address that the client has used?"""
    with contextlib.suppress(TimeoutError, AssertionError), \
            Client(front, namespace=namespace, timeout=PATIENCE_SECONDS) as client:
        return client.ask() == b"got"
    return False


def by_each_address(kind, crossing, family):
    wildcard = UdpSettings(host={4: "0.0.0.0", 6: "::"}[family], port=PORT)
    with UdpServer(answer, OUTSIDE[family], namespace=crossing.outside) as server, \
            kind([server], wildcard, wrap=crossing.inside.wrap):
        right = [answered((address, PORT), crossing.outside) for address in INSIDE[family]]
        right.append(answered((LOOPBACK[family], PORT), crossing.inside))
    return f"{sum(right)} of {len(right)}"


@row(15, f"datagrams of {', '.join(map(str, SIZES))} bytes, and replies from the address that was "
         "used, on a wildcard bind", UDP_BALANCERS)
def arrives(kind):
    for family in (4, 6):
        with UdpServer(answer, LOOPBACK[family]) as server, \
                kind([server], UdpSettings(host=LOOPBACK[family])) as front:
            for way, judge in WAYS.items():
                yield f"IPv{family}, loopback, {way}", fates(judge, front.address, server)
    crossing = Crossing()
    with contextlib.ExitStack() as stack:
        stack.callback(crossing.discard)
        for family in (4, 6):
            settings = UdpSettings(host=INSIDE[family][0], port=PORT)
            with UdpServer(answer, OUTSIDE[family], namespace=crossing.outside) as server, \
                    kind([server], settings, wrap=crossing.inside.wrap) as front:
                for way, judge in WAYS.items():
                    yield f"IPv{family}, MTU of 1500, {way}", \
                        fates(judge, front.address, server, crossing.outside)
            yield f"IPv{family}, replies from the right address", \
                by_each_address(kind, crossing, family)
