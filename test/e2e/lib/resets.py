"""How one end of a session leaves, and that the other end sees just that.

Needs no pytest: scripts/compare takes the same steps through other balancers.
"""
import contextlib
import fcntl
import socket
import struct
import termios
import time

from lib.meeting import wait_for_reset
from lib.peers import read_exactly, read_to_fin, read_to_reset, reset
from lib.transfer import payload
from lib.wait import SLOW

IN_FLIGHT = 1 << 20
# An idle session's reset is passed on at once.
AT_ONCE = 0.1 * SLOW


def unacknowledged(sock):
    """Bytes that would be lost if `sock` were reset now (SIOCOUTQ)."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def fill(sender, receiver):
    """Sends IN_FLIGHT bytes. The receiver reads only as much as it takes for the last of them to
    leave the sender: the rest is on its way. Returns what it read."""
    left, read, before = memoryview(payload(IN_FLIGHT)), bytearray(), None
    sender.setblocking(False)
    while remaining := len(left) + unacknowledged(sender):
        if remaining == before:
            read += receiver.recv(1 << 16)
        before = remaining
        with contextlib.suppress(BlockingIOError):
            left = left[sender.send(left):]
        time.sleep(0.0005)  # what can move without the receiver does so now
    assert len(read) < IN_FLIGHT, "nothing is in flight"
    return read


# ---- one end resets; each takes (the end that does, the other) ----

def idle(resetter, other):
    """Bytes have passed each way, and nothing is under way."""
    for one, far in ((resetter, other), (other, resetter)):
        one.sendall(b"ping")
        assert read_exactly(far, 4) == b"ping"
    reset(resetter)
    wait_for_reset(other, AT_ONCE)


def in_flight(resetter, other):
    read = fill(resetter, other)
    reset(resetter)
    read += read_to_reset(other)
    assert read == payload(IN_FLIGHT), f"{len(read)} of {IN_FLIGHT} bytes before the RST"


def after_own_fin(resetter, other):
    resetter.shutdown(socket.SHUT_WR)
    assert read_to_fin(other) == b""
    reset(resetter)
    wait_for_reset(other, 5 * SLOW, fin_seen=True)


def after_the_others_fin(resetter, other):
    other.shutdown(socket.SHUT_WR)
    assert read_to_fin(resetter) == b""
    reset(resetter)
    wait_for_reset(other, 5 * SLOW)


# ---- one end closes ----

def check_fin(sock, expected=b""):
    """The FIN comes after the bytes expected, and no RST after it."""
    assert read_to_fin(sock) == expected
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def closed(closer, other):
    """A FIN stays one: from an end that closes for good, and back."""
    closer.close()
    check_fin(other)


def closed_in_flight(closer, other):
    read = fill(closer, other)
    closer.close()
    check_fin(other, payload(IN_FLIGHT)[len(read):])


def closed_in_turn(closer, other):
    closer.shutdown(socket.SHUT_WR)
    check_fin(other)
    other.shutdown(socket.SHUT_WR)
    check_fin(closer)
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


RESETS = (idle, in_flight, after_own_fin, after_the_others_fin)
CLOSES = (closed, closed_in_flight, closed_in_turn)
