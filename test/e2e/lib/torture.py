"""Clients, servers and an operator that do anything at any time, drawn from a seed: rows 9 and 25.

Most sessions are wild: neither end knows what the other is up to, and all that is asked is that
weir gets over it. Some are fair: what the client sends comes back, and an end that looks clean
must be one.
"""
import contextlib
import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lib.peers import TcpServer, reset
from lib.ports import free_port
from lib.wait import SLOW
from lib.weir import AdminError

FAIR, WILD = b"f", b"w"

# Longer than weir's own timeouts (see `configuration`): it ends what nobody else does.
PATIENCE = 1.5


# ---- what an end may do ----

def send_much(sock, rng):
    sock.sendall(rng.randbytes(rng.choice((1, 100, 5000, 70000, 300000))))


def send_pieces(sock, rng):
    for _ in range(rng.randrange(20)):
        sock.send(b"piece")


def send_urgent(sock, _):
    sock.send(b"!", socket.MSG_OOB)


def receive_some(sock, rng):
    sock.recv(rng.choice((1, 1000, 200000)))


def rest(_, rng):
    time.sleep(rng.random() * 0.02)


def half_close(sock, _):
    sock.shutdown(socket.SHUT_WR)


def drain(sock, _):
    while sock.recv(65536):
        pass


def close(sock, _):
    sock.close()


def cut(sock, _):
    reset(sock)


def shrink(sock, rng):
    sock.setsockopt(socket.SOL_SOCKET, rng.choice((socket.SO_RCVBUF, socket.SO_SNDBUF)), 4096)


STEPS = (send_much, send_much, send_pieces, send_urgent, receive_some, receive_some, rest,
         half_close, shrink)
ENDS = (close, cut, cut, drain)


def run_wild(sock, rng):
    """A few steps and an end; what the other end does to them is no matter."""
    with contextlib.suppress(OSError):
        for _ in range(rng.randrange(6)):
            rng.choice(STEPS)(sock, rng)
        rng.choice(ENDS)(sock, rng)


def run_fair(sock, rng):
    """The client of an echo. Being cut off is fair, a short answer with a clean end is not."""
    data = rng.randbytes(rng.choice((1, 3000, 100000, 400000)))
    got = bytearray()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(_send_whole, sock, data)
        while more := sock.recv(65536):
            got += more
        sending.result()
    assert got == data, f"{len(got)} of {len(data)} bytes and a clean end"


def _send_whole(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


class Flapper:
    """A server that is there or not; it accepts nobody, and resets them all when it goes."""

    def __init__(self):
        self.port = free_port()
        self._listener = None

    def toggle(self):
        if self._listener:
            self._listener.close()
            self._listener = None
            return
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()

    def close(self):
        if self._listener:
            self.toggle()


class Torture:
    """Servers of its own, and a configuration in front of them. A context manager."""

    def __init__(self, seed):
        self.seed = seed
        self._rng = random.Random(seed)
        self._numbers = iter(range(1 << 60))
        self._stack = contextlib.ExitStack()
        self._fronts = [("127.0.0.1", free_port()) for _ in range(4)]
        self.flapper = Flapper()
        self._servers = [TcpServer(self._serve), TcpServer(self._serve), TcpServer(reset)]
        for server in self._servers:
            self._stack.enter_context(server)
        self._stack.callback(self.flapper.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _new_rng(self):
        """Of its own for each actor: threads share none."""
        return random.Random(f"{self.seed} {next(self._numbers)}")

    def configuration(self):
        addresses = [server.address for server in self._servers]
        addresses.append(f"127.0.0.1:{self.flapper.port}")
        servers = [{"name": f"s{i}", "address": address} for i, address in enumerate(addresses)]
        servers[1]["max_connections"] = 6
        probes = {"type": "tcp", "interval": "40ms", "timeout": "40ms", "rise": 1, "fall": 1}
        pool = {"name": "web", "on_down": "kill", "servers": servers, "health": probes,
                "connect_timeout": "200ms", "drain_deadline": "100ms"}
        timeouts = {"pool": "web", "idle_timeout": "400ms", "half_close_timeout": "300ms",
                    "reset_flush_timeout": "200ms"}
        small = {"sndbuf": "8k", "rcvbuf": "8k"}
        listeners = [
            {"name": f"l{i}", "bind": "%s:%d" % front, **timeouts, **more} for i, (front, more) in
            enumerate(zip(self._fronts, ({}, {"splice": "on"}, {"splice": "on", **small}, small)))]
        return {"pools": [pool], "listeners": listeners, "weir": {"workers": 2}}

    # -- the ends --

    def _serve(self, sock):
        sock.settimeout(PATIENCE * SLOW)
        with contextlib.suppress(OSError):
            if sock.recv(1) == FAIR:
                while data := sock.recv(65536):
                    sock.sendall(data)
            else:
                run_wild(sock, self._new_rng())

    def session(self):
        """One session from one of the listeners."""
        rng = self._new_rng()
        with socket.socket() as sock:
            sock.settimeout(PATIENCE * SLOW)
            with contextlib.suppress(OSError):
                sock.connect(rng.choice(self._fronts))
                manner = rng.choice((FAIR, WILD, WILD, WILD, b""))
                sock.send(manner)
                (run_fair if manner == FAIR else run_wild)(sock, rng)

    # -- the operator --

    def _command(self, weir, rng):
        server = f"web/s{rng.randrange(4)}"
        line = rng.choice((
            "status", "show servers", "show sessions pool=web", "show sessions server=s0",
            f"drain {server}",
            f"drain {server} deadline=50ms", f"disable {server}", f"enable {server}",
            f"enable {server}", f"weight {server} {rng.randrange(100)}"))
        rows = weir.admin(line)
        if line.startswith("show sessions") and rows:
            weir.admin(f"kill session {rng.choice(rows)['id']}")

    def _freeze(self, weir, rng):
        """What happens meanwhile comes to weir as one batch of events."""
        os.kill(weir.pid, signal.SIGSTOP)
        time.sleep(rng.random() * 0.03)
        os.kill(weir.pid, signal.SIGCONT)

    def operate(self, weir, stop):
        """Commands, faults and freezes until `stop` is set; then all is as it was."""
        rng = self._new_rng()
        deeds = (self._command, self._command, self._command, self._freeze,
                 lambda *_: self.flapper.toggle())
        while not stop.wait(rng.random() * 0.02):
            with contextlib.suppress(AdminError):
                rng.choice(deeds)(weir, rng)
        for number in range(4):
            weir.admin(f"enable web/s{number}")

    def run(self, weir, count, threads=24):
        """So many sessions, an operator beside them."""
        stop = threading.Event()
        with ThreadPoolExecutor(threads + 1) as pool:
            operator = pool.submit(self.operate, weir, stop)
            sessions = [pool.submit(self.session) for _ in range(count)]
            try:
                for session in sessions:
                    session.result()
            finally:
                stop.set()
            operator.result()
        for server in self._servers:
            server.check()
