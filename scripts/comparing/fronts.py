"""What stands before a row's servers: weir, HAProxy and nginx, each configured as the row has it."""
import contextlib
import socket
from typing import Callable, NamedTuple

from lib.resources import resident_bytes
from lib.snapshot import children
from lib.wait import SLOW


class Kind(NamedTuple):
    """One column. `make` takes what the row gives and returns a process of lib/weir.py or
    lib/servers.py that is not started yet."""
    name: str
    make: Callable


class Front:
    """A balancer that runs."""

    def __init__(self, process):
        self.process = process
        self.pid = process.process.pid
        named = hasattr(process, "host")
        self.address = (process.host, process.port) if named else process.address

    def connect(self, source=None, timeout=10):
        client = socket.create_connection(self.address, timeout * SLOW,
                                          source_address=source and (source, 0))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def pids(self):
        return [self.pid, *children(self.pid)]

    def resident(self):
        """Bytes that its processes hold in memory."""
        return sum(map(resident_bytes, self.pids()))


@contextlib.contextmanager
def running(kind, *given):
    process = kind.make(*given)
    try:
        process.start()
        yield Front(process)
    finally:
        process.discard()


def haproxy_defaults(client="60s"):
    """For a mode tcp that relays as weir does. `client` bounds a PROXY header as well: HAProxy 2.6
    has no timeout of its own for that."""
    return f"""
defaults
    mode tcp
    timeout connect 3s
    timeout client {client}
    timeout server 60s
"""
