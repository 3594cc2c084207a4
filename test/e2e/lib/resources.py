"""What a process uses, as the kernel counts it; and the limit of its descriptors."""
import itertools
import os
import re
import subprocess
import threading
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid):
    """CPU time of all threads, in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _kilobytes(path, *names):
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return sum(int(words[1]) for words in lines if words[0].rstrip(":") in names) << 10


def private_bytes(pid):
    """Memory that would be free without the process."""
    return _kilobytes(f"/proc/{pid}/smaps_rollup", "Private_Clean", "Private_Dirty")


def resident_bytes(pid):
    return _kilobytes(f"/proc/{pid}/status", "VmRSS")


def tcp_memory():
    """What all TCP sockets of this machine hold, in bytes, whichever namespace they are in."""
    words = Path("/proc/net/sockstat").read_text("ascii").split()
    return int(words[words.index("mem") + 1]) * _PAGE


def worker_threads(pid):
    """The numbers of the threads that carry traffic: neither control's nor the log writer's."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(task.name) for task in tasks.iterdir() if int(task.name) != pid
            and (task / "comm").read_text() != "weir-log\n"]


class Most:
    """The largest of what `figure` returns, which is asked for every so many seconds in a thread. A
    context manager."""

    def __init__(self, figure, every=0.02):
        self.value = 0
        self._every = every
        self._figure = figure
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._stop.wait(self._every):
            self.value = max(self.value, self._figure())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def taken_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def limit_descriptors(pid, count=None):
    """Descriptors from `count` on can no longer be opened; None: the hard limit's again.

    Done as the process's own user: root in a container may lack the capability to do it to others.
    """
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    user, group = (int(re.search(rf"^{name}:\t(\d+)", status, re.M)[1]) for name in ("Uid", "Gid"))
    hard = re.search(r"^Max open files +\d+ +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.M)[1]
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={hard if count is None else count}:"],
                   user=user, group=group, extra_groups=[], check=True)


def leave_descriptors(pid, spare):
    """Lowers the limit so that just `spare` more can be opened: the limit is one of numbers."""
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    free = (number for number in itertools.count() if number not in taken)
    limit_descriptors(pid, next(itertools.islice(free, spare, None)))
