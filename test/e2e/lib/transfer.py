"""Bytes from one end of a session to the other, and proof that they are the same ones.

Needs no pytest: scripts/compare takes the same steps through other balancers.
"""
import functools
import hashlib
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from lib.peers import chunks, read_exactly, read_to_fin

SIZES = (0, 1, 65535, 65537, 4 << 20)
HUGE = 256 << 20
FIRST_FIN = ("sender", "receiver")
# What the payload's receiver sends: more than one read of weir's.
ANSWER_SIZE = 70001
SEGMENT = 1400
BLOCK = 1 << 20


_noise = memoryview(random.Random(2).randbytes(BLOCK) * 2)


def pieces(size):
    """Bytes that look like noise, the same in each run: blocks of which no two are alike."""
    for number, start in enumerate(range(0, size, BLOCK)):
        turn = number * 977
        yield _noise[turn:turn + min(BLOCK, size - start)]


@functools.cache
def payload(size):
    return b"".join(pieces(size))


@functools.cache
def digest(size):
    """What `received` finds when all of payload(size) has come."""
    hashed = hashlib.sha256()
    for piece in pieces(size):
        hashed.update(piece)
    return size, hashed.hexdigest()


def received(sock):
    """Reads to the FIN; (how many bytes, their SHA-256). A RST is an OSError."""
    count, hashed = 0, hashlib.sha256()
    for data in chunks(sock, 1 << 18):
        count += len(data)
        hashed.update(data)
    return count, hashed.hexdigest()


# ---- manners of sending a payload; each ends with a FIN ----

def whole(sock, size):
    for piece in pieces(size):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)


def in_segments(sock, size):
    """1,400 bytes at a time, none waiting for the next."""
    data = payload(size)
    for start in range(0, size, SEGMENT):
        sock.sendall(data[start:start + SEGMENT])
    sock.shutdown(socket.SHUT_WR)


def with_fin(sock, size):
    """The last bytes and the FIN in one segment: corked bytes leave when the FIN joins them."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    whole(sock, size)


def urgent_at(position):
    """One byte is urgent: the one at `position` in the payload, from the end when negative."""
    def send(sock, size):
        data, at = payload(size), position % size
        sock.sendall(data[:at])
        sock.send(data[at:at + 1], socket.MSG_OOB)
        sock.sendall(data[at + 1:])
        sock.shutdown(socket.SHUT_WR)
    return send


# ---- what passes between two ends ----

def answer(receiver, sender):
    """The other direction: some bytes, then its FIN."""
    whole(receiver, ANSWER_SIZE)
    assert read_to_fin(sender) == payload(ANSWER_SIZE), "the other direction is not whole"


def transfer(sender, receiver, size, *, first="sender", send=whole):
    """`size` bytes one way and an answer the other way. The FIN of the end that `first` names
    is read at the far end before the other end has sent a byte."""
    if first == "receiver":
        answer(receiver, sender)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, sender, size)
        got = received(receiver)
        sending.result()
    assert got == digest(size), f"{got[0]} bytes of {size}, or not the same; {first} first"
    if first == "sender":
        answer(receiver, sender)


def exchange(one, other, size):
    """`size` bytes each way at the same time."""
    with ThreadPoolExecutor(3) as pool:
        sending = [pool.submit(whole, end, size) for end in (one, other)]
        there = pool.submit(received, other)
        got = {"one way": there, "the other way": pool.submit(received, one)}
        for way, future in got.items():
            assert future.result() == digest(size), f"{way} is not whole"
        for future in sending:
            future.result()


def trickle(pairs, step, count):
    """In each (closer, open end): the closer has finished; then a byte the other way every `step`
    seconds, `count` times, and the FIN."""
    for closer, open_end in pairs:
        closer.shutdown(socket.SHUT_WR)
        assert read_to_fin(open_end) == b""
    due = time.monotonic()
    for number in range(count):
        due += step
        time.sleep(max(0, due - time.monotonic()))  # the pace is what is under test
        for closer, open_end in pairs:
            open_end.sendall(bytes([number]))
            assert read_exactly(closer, 1) == bytes([number])
    for closer, open_end in pairs:
        open_end.shutdown(socket.SHUT_WR)
        assert read_to_fin(closer) == b""
