"""strace on a running process: the system calls it makes for a while."""
import collections
import re
import signal
import subprocess
import tempfile

from lib.wait import SLOW

Call = collections.namedtuple("Call", "name arguments result error")

_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_RESULT = re.compile(r"^(.*)\) += (-?\d+|\?)(?: (E\w+) .*)?$")


def attach(command):
    """Starts strace and returns when it follows the process."""
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in strace.stderr:
        if "attached" in line:
            return strace
    raise RuntimeError("strace could not attach")


def detach(strace):
    strace.send_signal(signal.SIGINT)
    strace.communicate(timeout=20 * SLOW)


class Counts(collections.Counter):
    """A context manager: how many calls of each name a process and its threads made meanwhile."""

    def __init__(self, pid):
        super().__init__()
        self._output = tempfile.NamedTemporaryFile("r", prefix="weir-strace-")
        self._strace = None
        self._command = ["strace", "-f", "-c", "-U", "calls,name", "-o", self._output.name,
                         "-p", str(pid)]

    def __enter__(self):
        self._strace = attach(self._command)
        return self

    def __exit__(self, *_):
        detach(self._strace)
        with self._output as lines:
            for line in lines:
                if match := re.match(r" *(\d+) (?!total)(\w+)$", line):
                    self[match[2]] = int(match[1])


class Trace:
    """A context manager: traces the named calls of a process and all its threads while it is open.

    Descriptors in the arguments are told with what they are, such as "7<socket:[4711]>".
    """

    def __init__(self, pid, *names):
        self._output = tempfile.NamedTemporaryFile("r", prefix="weir-strace-")
        self._command = ["strace", "-f", "-y", "-e", "trace=" + ",".join(names),
                         "-e", "signal=none", "-o", self._output.name, "-p", str(pid)]
        self._strace = None
        self.calls = []

    def __enter__(self):
        self._strace = attach(self._command)
        return self

    def __exit__(self, *_):
        detach(self._strace)
        with self._output as lines:
            self.calls = list(_parse(lines))

    def bytes(self, name):
        """What calls of that name put into sockets, in bytes."""
        return sum(call.result for call in self.of(name) if call.result > 0 and (
            name != "splice" or _target(call).startswith("socket:")))

    def of(self, name):
        return [call for call in self.calls if call.name == name]


def _target(splice):
    """What a splice writes to: the third of its arguments."""
    return re.search(r"<([^>]*)>", splice.arguments.split(", ")[2])[1]


def _parse(lines):
    """Calls in the order in which they ended. One that another thread's broke in two is joined."""
    begun = {}
    for line in lines:
        match = _CALL.match(line)
        if not match:
            continue
        thread, name, rest = match.groups()
        rest = begun.pop(thread, "") + rest
        if rest.endswith(" <unfinished ...>"):
            begun[thread] = rest.removesuffix(" <unfinished ...>")
            continue
        done = _RESULT.match(rest)
        if done and done[2] != "?":
            yield Call(name, done[1], int(done[2]), done[3])
