"""Plain UDP peers: a server that runs a function for each datagram, and sockets in a namespace."""
import contextlib
import select
import socket
import threading

from lib.ports import join
from lib.wait import eventually


def udp_socket(host="127.0.0.1", port=0, *, namespace=None, options=()):
    """A bound socket, in a namespace (lib/netns.py) if one is given; `options` of
    (level, name, value) go on it first."""
    with namespace.entered() if namespace else contextlib.nullcontext():
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    for level, name, value in options:
        made.setsockopt(level, name, value)
    made.bind((host, port))
    return made


# ---- handlers: what a datagram is answered with, as a list ----

def echo(data, _source):
    return [data]


def silent(_data, _source):
    return []


def times(count):
    """A handler that answers each datagram so often, "1 …", "2 …" and so on before what came."""
    return lambda data, _source: [b"%d " % (index + 1) + data for index in range(count)]


class UdpServer:
    """Receives in a thread, and sends back what handler(data, source) returns; a context manager.

    `seen` is all that came, as (data, source) in order. What a handler raises is raised by `check`.
    """

    def __init__(self, handler=echo, host="127.0.0.1", port=0, *, namespace=None, options=()):
        self._handler = handler
        self.seen = []
        self.errors = []
        self.socket = udp_socket(host, port, namespace=namespace, options=options)
        self.host, self.port = self.socket.getsockname()[:2]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self):
        return join(self.host, self.port)

    @property
    def sources(self):
        """The addresses that something came from: through a balancer, one for each of its flows."""
        return {source for _, source in list(self.seen)}

    def _serve(self):
        while self._woken not in select.select([self.socket, self._woken], [], [])[0]:
            # A refusal of an earlier reply is no end.
            with contextlib.suppress(ConnectionRefusedError):
                data, source = self.socket.recvfrom(1 << 16)
                self._answer(data, source)

    def _answer(self, data, source):
        self.seen.append((data, source))
        try:
            for reply in self._handler(data, source):
                self.socket.sendto(reply, source)
        except Exception as error:  # told by check(), in the test's own thread
            self.errors.append(error)

    def wait_seen(self, count, timeout=5):
        """Waits for so many datagrams in all; they."""
        eventually(lambda: len(self.seen) >= count, timeout, f"{count} datagrams")
        return self.seen

    def check(self):
        if self.errors:
            raise self.errors[0]

    def close(self):
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
