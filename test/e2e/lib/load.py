"""Load through a balancer: wrk for numbers, test/lib/caller.c for a record of each call."""
import re
import signal
from typing import NamedTuple

from lib.ports import join
from lib.servers import Process
from lib.wait import SLOW, eventually
from lib.weir import BUILD


class Call(NamedTuple):
    """One call, on a connection of its own. `name` is what was answered."""
    begin: float
    end: float
    client: str
    outcome: str
    name: str

    @property
    def ok(self):
        return self.outcome == "ok"


class Caller(Process):
    """A run of the caller; its options are keyword arguments, flags as True."""

    def __init__(self, address, *, wrap=(), **options):
        super().__init__(wrap)
        self._address = join(*address)
        self._options = [
            word for name, value in options.items()
            for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]

    def command(self):
        return [str(BUILD / "caller"), "--to", self._address, *self._options]

    def calls(self):
        """Those that are over by now, in order of their ends."""
        lines = (line.split(" ") for line in self.output().split("\n")[:-1])
        return [Call(float(begin), float(end), *rest) for begin, end, *rest in lines]

    def wait_calls(self, count, timeout=10):
        """Waits until so many more calls have ended."""
        wanted = self.output().count("\n") + count
        eventually(lambda: self.output().count("\n") >= wanted, timeout, f"{wanted} calls")

    def finish(self, timeout=60):
        """Waits for the end of a run that has one; all calls."""
        code = self.process.wait(timeout * SLOW)
        assert code == 0, f"caller exited {code}:\n{self.output()}"
        return self.calls()

    def end(self):
        """No new calls; waits for those under way. All calls."""
        self.process.terminate()
        return self.finish()


class Wrk(Process):
    """wrk with a new connection for each request, until `end`."""

    def __init__(self, address, *, connections=32, wrap=()):
        super().__init__(wrap)
        self._address = join(*address)
        self._connections = connections

    def command(self):
        return ["/usr/bin/wrk", "-t", "1", "-c", str(self._connections), "-d", "300s",
                "-H", "Connection: close", f"http://{self._address}/"]

    def end(self):
        """Stops it; returns (requests answered, what it says of errors)."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20 * SLOW)
        output = self.output()
        answered = re.search(r"(\d+) requests in", output)
        assert answered, output
        errors = re.findall(r"Socket errors:.*|Non-2xx.*", output)
        return int(answered[1]), errors
