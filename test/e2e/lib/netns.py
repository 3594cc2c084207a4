"""Network namespaces, veth pairs between them, and the faults that nftables makes there."""
import contextlib
import ctypes
import itertools
import os
import subprocess
import threading

_serial = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _thread_to(path):
    with open(path, encoding="ascii") as namespace:
        if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)


def run(*words, stdin=None):
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    """One network namespace with its loopback up. Removed, with its veth ends, by `discard`."""

    def __init__(self):
        self.name = f"weir-{os.getpid()}-{next(_serial)}"
        run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def wrap(self):
        """What goes before a command to run it in here: Weir(…, wrap=ns.wrap)."""
        return ("ip", "netns", "exec", self.name)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in here; a socket that it makes stays in here."""
        home = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        with open(home, encoding="ascii") as before:
            _thread_to(f"/run/netns/{self.name}")
            try:
                yield self
            finally:
                _thread_to(f"/proc/self/fd/{before.fileno()}")

    def run(self, *words, stdin=None):
        return run(*self.wrap, *words, stdin=stdin)

    def nft(self, rules):
        """Adds rules to this namespace's input chain, one a line, such as
        "tcp dport 80 tcp flags syn drop". The first call makes table and chain."""
        lines = ["add table inet fault",
                 "add chain inet fault input { type filter hook input priority 0; }"]
        lines += [f"add rule inet fault input {rule.strip()}"
                  for rule in rules.splitlines() if rule.strip()]
        self.run("nft", "-f", "-", stdin="\n".join(lines) + "\n")

    def nft_clear(self):
        self.run("nft", "flush", "ruleset")

    def sysctl(self, name, value):
        self.run("sysctl", "-qw", f"{name}={value}")

    def discard(self):
        run("ip", "netns", "del", self.name)


def namespaces(stack, count):
    """So many, which the ExitStack discards."""
    made = []
    for _ in range(count):
        made.append(Namespace())
        stack.callback(made[-1].discard)
    return made


def veth(left, right, left_address, right_address, mtu=1500):
    """Joins two namespaces; addresses with their prefix, such as "10.99.0.1/24"."""
    serial = next(_serial)
    ends = [(left, left_address, f"veth{serial}a"), (right, right_address, f"veth{serial}b")]
    run("ip", "link", "add", ends[0][2], "netns", left.name, "type", "veth",
        "peer", "name", ends[1][2], "netns", right.name)
    for namespace, address, name in ends:
        # No duplicate address detection: it keeps an IPv6 address unusable for a second.
        extra = ("nodad",) if ":" in address else ()
        namespace.run("ip", "address", "add", address, "dev", name, *extra)
        namespace.run("ip", "link", "set", name, "mtu", str(mtu), "up")
