"""Faults inside weir: a system call fails (strace), an allocation does (short_memory.c)."""
import contextlib
import mmap
import os
import struct
import tempfile

from lib.trace import attach, detach
from lib.weir import BUILD


class Injection:
    """While it is open, a call of a running weir fails with an errno, and is not made.

    `when` counts the calls of each thread from the beginning, as strace does: "3" is the third
    alone, "3+" the third and all after it. `threads` are the only ones meant; else all are.
    `count` tells how many were made to fail.
    """

    def __init__(self, pid, call, error, when="1", threads=()):
        self._output = tempfile.NamedTemporaryFile("r", prefix="weir-inject-")
        whom = [word for thread in threads for word in ("-p", str(thread))]
        self._command = ["strace", "-o", self._output.name, "-e", f"trace={call}", "-e", "signal=none",
                         "-e", f"inject={call}:error={error}:when={when}",
                         *(whom or ["-f", "-p", str(pid)])]
        self._strace = None
        self.count = 0

    def __enter__(self):
        self._strace = attach(self._command)
        return self

    def __exit__(self, *_):
        detach(self._strace)
        with self._output as lines:
            self.count = sum("(INJECTED)" in line for line in lines)


class ShortMemory:
    """Orders for a weir started with `env`: which allocation from now on fails."""

    LAYOUT = struct.Struct("III")  # fail, seen, failed: test/lib/preload/short_memory.c

    def __init__(self):
        self._file = tempfile.NamedTemporaryFile("r+b", prefix="weir-memory-")
        os.fchmod(self._file.fileno(), 0o666)
        self._file.truncate(mmap.PAGESIZE)
        self._orders = mmap.mmap(self._file.fileno(), self.LAYOUT.size)
        self.env = {
            "SHORT_MEMORY": self._file.name,
            "LD_PRELOAD": str(BUILD / "short_memory.so"),
            # A sanitizer's runtime then comes second, which it would refuse.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0",
        }

    @contextlib.contextmanager
    def failing(self, number):
        self._orders[:] = self.LAYOUT.pack(number, 0, 0)
        try:
            yield
        finally:
            self._orders[:4] = bytes(4)

    @property
    def failed(self):
        """Whether the order has been carried out; else there were fewer allocations."""
        return bool(self.LAYOUT.unpack(self._orders[:])[2])

    def close(self):
        self._orders.close()
        self._file.close()
