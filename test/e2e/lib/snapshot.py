"""What a process holds: descriptors by kind, sockets by state, bytes left in pipes.

Compared before and after each test: the difference must be nothing.
"""
import array
import collections
import fcntl
import os
import re
import subprocess
import termios


def ss(pid, *filters, of="t"):
    """Rows of ss(8) as lists of columns, in the process's own network namespace. `of`: "t" for TCP,
    "u" for UDP, "tu" for both, each row then beginning with which.

    /proc/PID/net has the same, but with 100,000 in TIME-WAIT takes a second to read; and where
    sockets come and go meanwhile, others are left out.
    """
    done = subprocess.run(["nsenter", "-t", str(pid), "-n", "ss", f"-Hane{of}", *filters],
                          capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def _name(kind, state):
    """A UDP socket has two states: it has a peer, or none."""
    if kind == "udp":
        return "udp connected" if state == "ESTAB" else "udp"
    return f"{kind} {state}"


def socket_states(pid):
    """Inode to "tcp ESTAB", "udp", "udp connected", "unix", "netlink" …"""
    states = {}
    for row in ss(pid, "exclude", "time-wait", of="tu"):
        inode = re.search(r" ino:(\d+)", " ".join(row))
        if inode:
            states[int(inode[1])] = _name(*row[:2])
    for kind, column in (("unix", 6), ("netlink", 9)):
        with open(f"/proc/{pid}/net/{kind}", encoding="utf-8", errors="replace") as rows:
            next(rows)
            for row in rows:
                states[int(row.split()[column])] = kind
    return states


def listens(pid, port):
    return bool(ss(pid, "state", "listening", f"sport = :{port}"))


def is_bound(pid, port):
    """Is there a UDP socket of this port in the process's namespace?"""
    return bool(ss(pid, f"sport = :{port}", of="u"))


def _pipe_bytes(path):
    """What a pipe holds. Opening it in /proc gives a descriptor of the same pipe."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        held = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, held)
        return held[0]
    finally:
        os.close(fd)


def descriptors(pid):
    """Counter of kinds: "file", "pipe", "pipe holding bytes", "eventpoll", "tcp LISTEN" …"""
    found = collections.Counter()
    states = socket_states(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            target = os.readlink(path)
            if target.startswith("pipe:"):
                found["pipe holding bytes" if _pipe_bytes(path) else "pipe"] += 1
            elif target.startswith("socket:"):
                inode = int(re.search(r"\d+", target)[0])
                found[states.get(inode, "socket in no state")] += 1
            else:
                anonymous = re.match(r"anon_inode:\[?(\w+)", target)
                found[anonymous[1] if anonymous else "file"] += 1
        except FileNotFoundError:
            pass  # closed while we looked
    return found


def difference(before, after):
    """{kind: after - before} without zeroes; empty when nothing has changed."""
    kinds = before.keys() | after.keys()
    changed = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in kinds}
    return {kind: count for kind, count in changed.items() if count}


def children(pid):
    """The process's children, as their numbers."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


def is_alive(pid):
    """A zombie is not: whoever must reap it may be slow."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
