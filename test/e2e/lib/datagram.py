"""Servers and clients of datagrams: test/lib/udp_echo.c and udp_load.c."""
import json
import signal

from lib.ports import join
from lib.servers import Process, Server
from lib.snapshot import is_bound
from lib.wait import SLOW, eventually
from lib.weir import BUILD


def words(options):
    """Keyword arguments as options of a command line, flags as True."""
    return [word for name, value in options.items()
            for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]


class DatagramServer(Server):
    """A server that is there once its UDP port is bound."""

    def _listens(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command()[0]} exited:\n{self.output()}")
        return is_bound(self.process.pid, self.port)


def _catches(pid, signo):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        caught = next(line for line in status if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signo - 1) & 1


class _Telling:
    """A process that tells a line of JSON at SIGUSR1, and one at its end."""

    def start(self):
        super().start()
        # Before that the signal would end it.
        eventually(lambda: self.process.poll() is not None
                   or _catches(self.process.pid, signal.SIGUSR1), 5, "it can be asked")
        return self

    def _told(self):
        return [json.loads(line) for line in self.output().split("\n")[:-1]
                if line.startswith("{")]

    def now(self):
        """What it tells when asked."""
        before = len(self._told())
        self.signal(signal.SIGUSR1)
        return eventually(lambda: self._told()[before:], 5, "the counts")[0]


class Echo(_Telling, DatagramServer):
    """test/lib/udp_echo.c; its options are keyword arguments, flags as True. Its replies begin with
    its name, unless it is None."""

    def __init__(self, name="a", *, host="127.0.0.1", port=None, wrap=(), **options):
        super().__init__(host, port, wrap)
        self.name = name
        self._options = words({**({"name": name} if name else {}), **options})

    def command(self):
        return [str(BUILD / "udp_echo"), "--listen", self.address, *self._options]


class Load(_Telling, Process):
    """A run of test/lib/udp_load.c in one of its modes; options as above."""

    def __init__(self, mode, address, *, wrap=(), **options):
        super().__init__(wrap)
        self._command = [str(BUILD / "udp_load"), mode, "--to", join(*address), *words(options)]

    def command(self):
        return self._command

    def wait_exchanges(self, count, timeout=10):
        """Waits for so many more answers."""
        wanted = self.now()["exchanges"] + count
        eventually(lambda: self.now()["exchanges"] >= wanted, timeout, f"{wanted} exchanges")

    def finish(self, timeout=60):
        """Waits for the end of a run that has one; what it tells."""
        code = self.process.wait(timeout * SLOW)
        assert code == 0, f"udp_load exited {code}:\n{self.output()}"
        return self._told()[-1]

    def end(self):
        """No new datagrams; waits for the replies under way."""
        self.process.terminate()
        return self.finish()
