"""Plain TCP peers: servers that run a function per connection, and what a client checks."""
import contextlib
import errno
import socket
import struct
import threading

from lib.ports import join
from lib.wait import SLOW

TIMEOUT = 20 * SLOW


class TcpServer:
    """Listens, and runs handler(socket) in a thread for each connection; a context manager.

    The socket is closed after the handler. What a handler raises is kept in `errors`, and raised
    by `check`, except for the peer's going away. `peers` are the addresses of those who came.
    """

    def __init__(self, handler, host="127.0.0.1", port=0, backlog=128, options=(), *,
                 namespace=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._handler = handler
        self.errors = []
        self.connections = []
        self._threads = []
        self.peers = []
        with namespace.entered() if namespace else contextlib.nullcontext():
            self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, name, value in options:
            self.listener.setsockopt(level, name, value)
        self.listener.bind((host, port))
        self.listener.listen(backlog)
        self.host, self.port = self.listener.getsockname()[:2]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def address(self):
        return join(self.host, self.port)

    def _accept(self):
        while True:
            try:
                client, peer = self.listener.accept()
            except OSError:
                return
            client.settimeout(TIMEOUT)
            self.connections.append(client)
            self.peers.append(peer[0])
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        try:
            self._handler(client)
        except (ConnectionError, TimeoutError):
            pass
        except Exception as error:  # told by check(), in the test's own thread
            self.errors.append(error)
        finally:
            with contextlib.suppress(OSError):
                client.close()

    def check(self):
        if self.errors:
            raise self.errors[0]

    def close(self):
        """No more connections; those that are there are cut."""
        # A shutdown wakes accept(2); a close alone would leave it asleep.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._acceptor.join()
        for client in self.connections:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- handlers ----

def echo(client):
    """Sends back what comes, until the end."""
    while data := client.recv(65536):
        client.sendall(data)


def sink(client):
    """Reads to the end and answers with the number of bytes, in decimal."""
    client.sendall(b"%d" % sum(len(data) for data in chunks(client)))


def source(payload):
    """A handler that sends `payload` at once and closes."""
    def send(client):
        client.sendall(payload)
        client.shutdown(socket.SHUT_WR)
        drain(client)
    return send


def reset_at_once(client):
    """Accepts and resets."""
    reset(client)


# ---- what both ends do ----

def chunks(sock, size=65536):
    while data := sock.recv(size):
        yield data


def read_all(sock):
    return b"".join(chunks(sock))


def read_exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise AssertionError(f"end after {len(data)} of {count} bytes")
        data += more
    return bytes(data)


def drain(sock):
    for _ in chunks(sock):
        pass


def reset(sock):
    """Closes with a RST instead of a FIN; what was not sent yet is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_to_reset(sock):
    """Reads until the peer's RST; returns what came before it. A FIN is a failure."""
    data = bytearray()
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return bytes(data)
        if not more:
            raise AssertionError(f"a FIN after {len(data)} bytes, where a RST was due")
        data += more


def read_to_fin(sock):
    """Reads until the peer's FIN. A RST is a failure."""
    try:
        return read_all(sock)
    except OSError as error:
        if error.errno == errno.ECONNRESET:
            raise AssertionError("a RST where a FIN was due") from error
        raise
