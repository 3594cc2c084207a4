"""Processes on a core of their own, and what they cost the machine."""
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("WEIR_BUILD", ROOT / "build"))
# The balancer has one core for itself; load and server share the other.
BALANCER_CORE, LOAD_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")

# Those that are told one by one; all others count as well.
CALLS = """accept4 bind close connect epoll_ctl epoll_pwait epoll_wait getsockname getsockopt ioctl read readv
    recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown socket splice write writev""".split()


def busy_seconds():
    """Of all cores since the boot: everything but idle and iowait."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / TICK


def on_core(core, *command):
    return ["taskset", "-c", str(core), *map(str, command)]


class Process:
    """A child for as long as the context lasts."""

    def __init__(self, core, *command):
        self.process = subprocess.Popen(on_core(core, *command), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def __str__(self):
        return " ".join(self.process.args[3:])

    def ended(self):
        return self.process.poll() is not None

    def tree(self):
        """Its pid and its children's (nginx has workers)."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]


def run_load(command):
    """What a load printed, and the machine's busy seconds meanwhile."""
    before = busy_seconds()
    done = subprocess.run(on_core(LOAD_CORE, *command), capture_output=True, text=True, check=True)
    return done.stdout, busy_seconds() - before


def count_calls(command, pids, folder):
    """What a load printed, and {system call: times} of some processes meanwhile, "all" included.

    By tracepoints: strace would slow the balancer down, and a slow one finds more to do in each call.
    """
    events = ["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{call}" for call in CALLS)]
    told = folder / "calls"
    done = subprocess.run(
        ["perf", "stat", "-x,", "-o", told, "-e", ",".join(events), "-p", ",".join(map(str, pids)), "--",
         *on_core(LOAD_CORE, *command)], capture_output=True, text=True, check=True)
    counted = re.findall(r"^(\d+),[^,]*,(?:raw_)?syscalls:sys_enter_?(\w*),", told.read_text(), re.MULTILINE)
    return done.stdout, {call or "all": int(times) for times, call in counted}


def private_bytes(pids):
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE))
    return total * 1024
