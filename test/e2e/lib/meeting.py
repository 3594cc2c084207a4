"""Both ends of a session through a balancer, in the hands of one test.

Needs no pytest: scripts/compare takes the same steps through other balancers.
"""
import errno
import select
import socket

from lib.peers import TIMEOUT
from lib.ports import join

# What a RST leaves behind in a socket; EPIPE where a FIN had come before it.
RESET_ERRORS = (errno.ECONNRESET, errno.EPIPE)


class Meeting:
    """The server's listening socket. `meet(front)` opens a session through the balancer at `front`.

    A context manager that closes every socket it gave out. `unix` is the path of a Unix socket to
    listen at; `options` of (level, name, value) go on both ends before they connect.
    """

    def __init__(self, host="127.0.0.1", *, unix=None, options=(), backlog=1024,
                 timeout=TIMEOUT):
        self._timeout = timeout
        self._options = options
        self._opened = []
        self._listener = self._socket(socket.AF_UNIX if unix else _family(host))
        self._listener.bind(unix or (host, 0))
        self._listener.listen(backlog)
        self.address = f"unix:{unix}" if unix else join(*self._listener.getsockname()[:2])

    def _socket(self, family):
        made = socket.socket(family)
        self._opened.append(made)
        made.settimeout(self._timeout)
        if family != socket.AF_UNIX:
            for level, name, value in self._options:
                made.setsockopt(level, name, value)
        return made

    def connect(self, front):
        """A client's connection alone."""
        client = self._socket(_family(front[0]))
        client.connect(front)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def accept(self):
        """The balancer's next connection to the server."""
        server, _ = self._listener.accept()
        self._opened.append(server)
        server.settimeout(self._timeout)
        if server.family != socket.AF_UNIX:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def meet(self, front):
        """(client's end, server's end) of a new session."""
        client = self.connect(front)
        return client, self.accept()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for opened in self._opened:
            opened.close()


def _family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def wait_for_reset(sock, timeout=TIMEOUT, *, fin_seen=False):
    """Waits until the peer's RST is in, and reads nothing. A FIN is a failure, unless it is an
    old one that was seen before."""
    poller = select.poll()
    # Errors and hang-ups are told in any case.
    poller.register(sock, 0 if fin_seen else select.POLLRDHUP)
    found = poller.poll(timeout * 1000)
    assert found, f"nothing within {timeout:g} s, where a RST was due"
    assert found[0][1] & (select.POLLERR | select.POLLHUP), "a FIN where a RST was due"
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert error in RESET_ERRORS, f"a hang-up with error {error} where a RST was due"
