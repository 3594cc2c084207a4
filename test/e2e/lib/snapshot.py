"""What a process holds: descriptors by kind, sockets by state, bytes left in pipes.

Compared before and after each test: the difference must be nothing.
"""
import array
import collections
import fcntl
import os
import re
import termios

TCP_STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
    7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING",
}


def socket_states(pid):
    """Inode to "tcp ESTABLISHED", "udp", "unix" …, of the process's own network namespace."""
    states = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as rows:
            next(rows)
            for row in rows:
                column = row.split()
                kind = table.rstrip("6")
                state = TCP_STATES.get(int(column[3], 16)) if kind == "tcp" else None
                states[int(column[9])] = f"{kind} {state}" if state else kind
    with open(f"/proc/{pid}/net/unix", encoding="utf-8", errors="replace") as rows:
        next(rows)
        for row in rows:
            states[int(row.split()[6])] = "unix"
    return states


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
