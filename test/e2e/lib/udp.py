"""Datagrams through weir: its listener, one client in the test's own hands, a flood, and what a
load must not have met. Loads and servers are in lib/datagram.py."""
import contextlib
import socket

from lib.datagram import Echo, Load, words
from lib.ports import free_port, join
from lib.wait import SLOW
from lib.weir import BUILD

UDP_SEGMENT = 103  # linux/udp.h

# What a client of udp_load must not meet, unless the test says so.
WRONG = ("lost", "late", "twice", "foreign", "damaged", "astray", "errors")


def listener(host="127.0.0.1", **keys):
    """A listener of UDP, at a free port."""
    return {"protocol": "udp", "bind": join(host, free_port(host, socket.SOCK_DGRAM)), **keys}


def seconds(count):
    """A duration of weir's, longer under a sanitizer."""
    return f"{int(count * 1000 * SLOW)}ms"


class UdpEcho(Echo):
    """A server at a port that no UDP socket has; without a name its replies are bare."""

    def __init__(self, name=None, *, host="127.0.0.1", port=None, **options):
        super().__init__(name, host=host, port=port or free_port(host, socket.SOCK_DGRAM), **options)

    counts = Echo.now


class UdpLoad(Load):
    counts = Load.now


class UdpFlood(UdpLoad):
    """A run of test/lib/udp_flood.c."""

    def __init__(self, address, *, wrap=(), **options):
        super().__init__("flood", address, wrap=wrap)
        self._command = [str(BUILD / "udp_flood"), "--to", join(*address), *words(options)]


def summary(told):
    """Counts for people: without what is nothing, and without the list of losses."""
    return ", ".join(f"{name} {value}" for name, value in told.items()
                     if value and name not in ("mode", "losses"))


def check_clean(told):
    """Every datagram was answered once, in time, whole, from where it was sent to."""
    print(summary(told))
    assert not any(told[name] for name in WRONG), summary(told)
    assert told["exchanges"] == told["sent"] > 0
    return told


class Client:
    """One address that sends datagrams to `front`, and hears from anywhere. A context manager."""

    def __init__(self, front, source=None, *, namespace=None, timeout=5):
        family = socket.AF_INET6 if ":" in front[0] else socket.AF_INET
        self.front = front
        self._timeout = timeout
        with namespace.entered() if namespace else contextlib.nullcontext():
            self.sock = socket.socket(family, socket.SOCK_DGRAM)
            # Bound to the address that it will have, so that it is known from the start.
            self.sock.bind(source or (self._towards(family), 0))
        self.sock.settimeout(timeout * SLOW)
        self.address = join(*self.sock.getsockname()[:2])

    def _towards(self, family):
        with socket.socket(family, socket.SOCK_DGRAM) as other:
            other.connect(self.front)
            return other.getsockname()[0]

    def send(self, data=b"ping"):
        self.sock.sendto(data, self.front)

    def receive(self):
        """The next datagram; it must come from where this one sends to."""
        data, peer = self.sock.recvfrom(1 << 16)
        # A link-local address is told with its interface.
        assert (peer[0].partition("%")[0], peer[1]) == self.front[:2], f"a reply from {peer}"
        return data

    def ask(self, data=b"ping"):
        """The reply."""
        self.send(data)
        return self.receive()

    def waiting(self):
        """All that has come by now."""
        found = []
        self.sock.setblocking(False)
        try:
            while True:
                found.append(self.sock.recvfrom(1 << 16)[0])
        except BlockingIOError:
            return found
        finally:
            self.sock.settimeout(self._timeout * SLOW)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
