"""ClientHellos for routes: which one a client takes, in whatever way it sends, and those that are
none. Built by lib/hello.py; for weir's own tests and for scripts/compare."""
import select
import socket
from typing import NamedTuple

from lib import hello
from lib.peers import echo, read_exactly

NAME = "a.example.com"


def parts(*extensions):
    return hello.records(hello.message(b"".join(extensions)))


WHOLE = hello.message(hello.server_name(NAME))

# Each breaks what its RFC asks; the client is to be ended.
BROKEN = {
    "record without data": b"\x16\x03\x01\x00\x00" * 20,
    "record too long": b"\x16\x03\x01\x48\x01" + bytes(100),
    "hello of 20,000 bytes": hello.records(hello.message(b"", length=20000)),
    "hello of 16 MiB": hello.records(hello.message(b"", length=(1 << 24) - 1)),
    "other message": hello.records(hello.message(b"", kind=2)),
    "alert in the middle": hello.records(WHOLE[:20]) + hello.records(WHOLE[20:], kind=21),
    "data in the middle": hello.records(WHOLE[:20]) + hello.records(WHOLE[20:], kind=23),
    "shorter than its random": hello.records(b"\x01\x00\x00\x10\x03\x03" + bytes(14)),
    "session id of 33 bytes": hello.records(hello.message(b"", session=bytes(33))),
    "session id beyond the end": hello.records(
        b"\x01\x00\x00\x23\x03\x03" + bytes(32) + b"\x20"),
    "suites of 3 bytes": hello.records(hello.message(b"", suites=bytes(3))),
    "extension beyond the end": parts(b"\x00\x17\x00\x05abcd"),
    "half an extension": parts(b"\x00\x17\x00"),
    "bytes behind the extensions": hello.records(
        b"\x01" + (len(WHOLE) - 2).to_bytes(3, "big") + WHOLE[4:] + b"xx"),
    "name beyond the end": parts(hello.extension(0, b"\x00\x08\x00\x00\x20abcde")),
    "names beyond the end": parts(hello.extension(0, b"\x00\x20\x00\x00\x05abcde")),
    "empty name": parts(hello.server_name("")),
    "name with a NUL": parts(hello.server_name(f"{NAME}\0.org")),
    "two names": parts(hello.server_name(NAME), hello.server_name("b.example.com")),
    "protocol without a name": parts(hello.alpn("h2", "")),
    "protocols beyond the end": parts(hello.extension(16, b"\x00\x09\x02h2")),
}


# ---- ways of sending ----

def at_once(client, data):
    client.sendall(data)


def byte_by_byte(client, data):
    """Each is a segment of its own: the pace is what is under test."""
    for at in range(len(data)):
        assert not select.select([client], [], [], 0.003)[0], "an answer to half a hello"
        client.sendall(data[at:at + 1])


def in_pieces(*cuts):
    """Parted at these places, each piece in a segment of its own."""
    def send(client, data):
        for start, end in zip((0, *cuts), (*cuts, len(data))):
            assert not select.select([client], [], [], 0.05)[0], "an answer to half a hello"
            client.sendall(data[start:end])
    return send


def inside_name(data):
    half = NAME[:len(NAME) // 2].encode()
    return data.index(half) + len(half)


# ---- routes ----

class Case(NamedTuple):
    """`server` is the one to be reached; see ROUTES."""
    data: bytes
    server: str
    send: object = at_once


# In front of the listener's own server, "own".
ROUTES = [{"sni": NAME, "pool": "named"}, {"protocol": "not-tls", "pool": "plain"}]

GREASE = b"".join(hello.extension(0x0a0a + 0x1010 * index, b"\0" * (index % 2))
                  for index in range(16))
NAMED = hello.hello(NAME)
REAL = hello.real(NAME, ["h2", "http/1.1"])
SPLIT = hello.records(hello.message(hello.server_name(NAME)),
                      inside_name(hello.message(hello.server_name(NAME))))

ROUTED = {
    "the name": Case(NAMED, "named"),
    "the name in capitals": Case(hello.hello(NAME.upper()), "named"),
    "OpenSSL's": Case(REAL, "named"),
    "OpenSSL's, segments of 200": Case(REAL, "named", in_pieces(*range(200, len(REAL), 200))),
    "segments parted inside the name": Case(NAMED, "named", in_pieces(inside_name(NAMED))),
    "records parted inside the name": Case(SPLIT, "named"),
    "records and segments parted inside the name": Case(
        SPLIT, "named", in_pieces(inside_name(SPLIT))),
    "a byte at a time": Case(NAMED, "named", byte_by_byte),
    "records of 50 bytes": Case(hello.hello(NAME, size=50), "named"),
    "records of one byte": Case(hello.hello(NAME, size=1), "named"),
    "GREASE (RFC 8701) before the name": Case(hello.hello(NAME, more=GREASE), "named"),
    "6 KiB before the name, segments of 1,400": Case(
        hello.hello(NAME, pad=6144), "named", in_pieces(*range(1400, 6144, 1400))),
    "6 KiB before the name, records of 50 bytes": Case(
        hello.hello(NAME, pad=6144, size=50), "named", in_pieces(*range(1400, 6144, 1400))),
    "200,000 bytes behind it": Case(NAMED + bytes(200000), "named"),
    "another name": Case(hello.hello("b.example.com"), "own"),
    "a longer name": Case(hello.hello(f"{NAME}.org"), "own"),
    "no name": Case(hello.hello(), "own"),
    "no extensions at all": Case(hello.records(hello.message(None)), "own"),
    "HTTP": Case(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "plain"),
    "one byte that is none of TLS": Case(b"\0", "plain"),
    "SSH": Case(b"SSH-2.0-x\r\n", "plain"),
}

# What may be sent without any decision.
UNDECIDED = {
    "nothing": b"", "one byte of it": NAMED[:1], "half of it": NAMED[:len(NAMED) // 2],
    "all but a byte": NAMED[:-1],
}


# ---- both ends ----

def named(name):
    """A server's handler that says its name as soon as it has heard something, and sends that
    back."""
    def handle(client):
        heard = client.recv(1, socket.MSG_PEEK)
        if heard:
            client.sendall(name.encode() + b"\n")
            echo(client)
    return handle


def read_name(client):
    """What `named` says."""
    name = bytearray()
    while not name.endswith(b"\n"):
        name += read_exactly(client, 1)
    return name[:-1].decode()
