"""Row 10: clients that take their time before they have said what they want."""
import contextlib
import select
import threading
import time

from comparing.fronts import Kind, haproxy_defaults, running
from comparing.rows import row
from lib import hello
from lib import proxyproto as proxy
from lib.hello_cases import NAME
from lib.peers import TIMEOUT, TcpServer, echo, read_exactly
from lib.proxy_vectors import TOLD, VIP
from lib.servers import Haproxy, Nginx
from lib.weir import Weir, sections

DEADLINE_SECONDS = 3
# From then on it is no longer of interest when it ends.
PATIENCE_SECONDS = 3 * DEADLINE_SECONDS
TIMED, WAITING = 50, 1000

HELLO = hello.hello(NAME)
# What a client must say first, and the listeners that wait for it.
PREFACES = {"a PROXY header": proxy.v1(TOLD, VIP), "a ClientHello": HELLO}
SOURCES = [f"127.0.2.{number}" for number in range(1, 51)]


# ---- the listeners ----

def weir(server, preface):
    waits = {"a PROXY header": {"proxy_protocol": "required",
                                "proxy_protocol_from": ["127.0.0.0/8"]},
             "a ClientHello": {"routes": [{"sni": NAME, "pool": "web"}]}}
    return Weir(sections([server.address], listener={
        "preread_timeout": f"{DEADLINE_SECONDS}s", **waits[preface]}))


def haproxy(server, preface):
    """For a header there is `timeout client` alone; a hello has an inspect-delay, and whoever has
    not said it by then is refused."""
    if preface == "a PROXY header":
        client, bind, rules = f"{DEADLINE_SECONDS}s", "accept-proxy", ""
    else:
        client, bind, rules = "60s", "", f"""
    tcp-request inspect-delay {DEADLINE_SECONDS}s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    tcp-request content reject"""
    return Haproxy(f"""{haproxy_defaults(client)}
listen web
    bind @LISTEN@ {bind} {rules}
    server a {server.address}
""")


def nginx(server, preface):
    waits = {"a PROXY header": ("proxy_protocol", f"proxy_protocol_timeout {DEADLINE_SECONDS}s;"),
             "a ClientHello": ("", f"ssl_preread on; preread_timeout {DEADLINE_SECONDS}s;")}
    word, rules = waits[preface]
    return Nginx(config=f"""
        stream {{
            server {{ listen @LISTEN@ {word} backlog=4096; {rules} proxy_pass {server.address}; }}
        }}""")


KINDS = [Kind("weir", weir), Kind("haproxy", haproxy), Kind("nginx", nginx)]


# ---- the clients ----

class Slow:
    """Clients that all send alike: some bytes at the start, and then one each second or none."""

    def __init__(self, front, count, data, start, drips):
        self._data, self._at, self._drips = data, start, drips
        self._poller = select.poll()
        self.begun, self.took = {}, []
        self.waiting = {}
        for number in range(count):
            begun = time.monotonic()
            client = front.connect(SOURCES[number % len(SOURCES)])
            client.sendall(data[:start])
            self.waiting[client.fileno()] = client
            self.begun[client.fileno()] = begun
            self._poller.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        self._next = time.monotonic() + 1

    def watch(self, until):
        """Notes who is closed, and when."""
        while self.waiting and (now := time.monotonic()) < until:
            if self._drips and now >= self._next:
                self._drip()
            left = min(until, self._next if self._drips else until) - time.monotonic()
            for number, _ in self._poller.poll(max(left, 0) * 1000):
                self.took.append(time.monotonic() - self.begun[number])
                self._poller.unregister(number)
                self.waiting.pop(number).close()

    def _drip(self):
        self._next += 1
        for client in self.waiting.values():
            with contextlib.suppress(ConnectionError):
                client.send(self._data[self._at:self._at + 1])
        self._at += 1

    def close(self):
        for client in self.waiting.values():
            client.close()

    def tell(self):
        told = [f"{len(self.waiting)} of {len(self.waiting) + len(self.took)} not closed within "
                f"{PATIENCE_SECONDS} s"] if self.waiting else []
        if self.took:
            told.append(f"{min(self.took):.2f}–{max(self.took):.2f} s")
        return "; ".join(told)


class Polite(threading.Thread):
    """Says at once what it must, and is served, again and again."""

    def __init__(self, front, data):
        super().__init__(daemon=True)
        self._front, self._data = front, data
        self._over = threading.Event()
        self.served, self.failed = 0, 0

    def run(self):
        while not self._over.wait(0.02):
            try:
                with self._front.connect("127.0.3.1") as client:
                    client.settimeout(TIMEOUT)
                    client.sendall(self._data + b"hello")
                    read_exactly(client, 5)
                self.served += 1
            except (AssertionError, OSError):
                self.failed += 1

    def end(self):
        self._over.set()
        self.join(TIMEOUT)
        return f"{self.failed} of {self.served + self.failed} failed"


def manners(data):
    """(name, bytes at the start, whether one more comes each second)"""
    return [("nothing sent", 0, False), ("a byte a second", 1, True),
            ("half of it", len(data) // 2, False)]


def timed(front, data, start, drips):
    slow = Slow(front, TIMED, data, start, drips)
    slow.watch(time.monotonic() + PATIENCE_SECONDS)
    slow.close()
    return slow.tell()


def weighed(front, data, start, drips):
    """Memory for each of those that wait, and what a polite client noticed of them."""
    polite = Polite(front, data)
    polite.start()
    before = front.resident()
    slow = Slow(front, WAITING, data, start, drips)
    slow.watch(min(slow.begun.values()) + DEADLINE_SECONDS * 0.8)
    grown, waiting = front.resident() - before, len(slow.waiting)
    slow.watch(time.monotonic() + DEADLINE_SECONDS)
    slow.close()
    each = f"{grown / waiting / 1024:.1f} KiB each for {waiting}" if waiting else "nobody waits"
    return each, polite.end()


@row(10, f"{TIMED} clients that do not say what they must: when they are closed, where "
         f"{DEADLINE_SECONDS} s are allowed; resident memory for {WAITING} of them; and the calls of "
         "a polite client meanwhile", KINDS)
def slow_loris(kind):
    for preface, data in PREFACES.items():
        for name, *how in manners(data):
            # A new one each time, which holds no memory from before.
            with TcpServer(echo) as server, running(kind, server, preface) as front:
                case = f"{preface}, {name}"
                yield f"{case}: closed after", timed(front, data, *how)
                each, calls = weighed(front, data, *how)
                yield f"{case}: memory", each
                yield f"{case}: the polite one's calls", calls
