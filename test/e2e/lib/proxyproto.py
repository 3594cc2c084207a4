"""PROXY headers of both versions, written and read by bytes.

By the text of the protocol alone (haproxy/doc/proxy-protocol.txt), so that weir's own parser is
held against another.
"""
import socket
import struct
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_MAX = 107
LOCAL, PROXY = 0, 1
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX_STREAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31

ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL = 1, 2, 3, 4, 5, 0x20


class Header(NamedTuple):
    """`source` and `destination` are (host, port), or None where the header tells none; `tlvs`
    are (type, value) in order; `raw` is the header itself."""
    version: int
    command: int
    family: int
    source: tuple
    destination: tuple
    tlvs: tuple
    raw: bytes

    def tlv(self, kind):
        """The one value of a type, or None."""
        found = [value for of, value in self.tlvs if of == kind]
        assert len(found) <= 1, f"type {kind:#x} is there {len(found)} times"
        return found[0] if found else None


def crc32c(data):
    """RFC 3720 appendix B.4; the slow way."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


# ---- writing ----

def v1(source, destination, word=None):
    """Addresses are (host, port)."""
    word = word or ("TCP6" if ":" in source[0] else "TCP4")
    return (f"PROXY {word} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n").encode()


V1_UNKNOWN = b"PROXY UNKNOWN\r\n"


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def head(body, *, version=2, command=PROXY, family=TCP4, length=None):
    """The sixteen bytes and what follows, whether it fits or not."""
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, family,
                                   len(body) if length is None else length) + body


def addresses(source, destination):
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    return (socket.inet_pton(family, source[0]) + socket.inet_pton(family, destination[0])
            + struct.pack("!HH", source[1], destination[1]))


def v2(source, destination, tlvs=(), checksum=False, datagram=False):
    """With `checksum` a CRC32C is the last TLV. With `datagram` it speaks of UDP."""
    body = addresses(source, destination) + b"".join(tlv(*one) for one in tlvs)
    family = TCP6 if ":" in source[0] else TCP4
    if datagram:
        family = UDP6 if family == TCP6 else UDP4
    if checksum:
        empty = head(body + tlv(CRC32C, bytes(4)), family=family)
        body += tlv(CRC32C, struct.pack("!I", crc32c(empty)))
    return head(body, family=family)


V2_LOCAL = head(b"", command=LOCAL, family=UNSPEC)


# ---- reading ----

class Reader:
    """Reads from a socket exactly what a header has, so that the rest stays in the socket."""

    def __init__(self, sock):
        self._sock = sock
        self.raw = b""

    def take(self, count):
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            if not more:
                raise AssertionError(f"the end after {self.raw + data!r}, in a PROXY header")
            data += more
        self.raw += data
        return data


def read(sock):
    """The header that a connection begins with; AssertionError if it is none."""
    reader = Reader(sock)
    first = reader.take(len(SIGNATURE))
    if first == SIGNATURE:
        return _read_v2(reader)
    assert first.startswith(b"PROXY "), f"no PROXY header: {first!r}"
    while not reader.raw.endswith(b"\r\n"):
        assert len(reader.raw) < V1_MAX, f"a line too long: {reader.raw!r}"
        reader.take(1)
    return _parse_v1(reader.raw)


class _Datagram:
    """Bytes to read from as from a socket, to their end."""

    def __init__(self, data):
        self._left = data

    def recv(self, count):
        data, self._left = self._left[:count], self._left[count:]
        return data


def split(data):
    """(the header that a datagram begins with, what follows); None for a header that is not there."""
    if not data.startswith(SIGNATURE):
        return None, data
    header = read(_Datagram(data))
    assert header.command == LOCAL or header.family in (UDP4, UDP6), f"family {header.family:#x}"
    return header, data[len(header.raw):]


def _parse_v1(raw):
    words = raw[:-2].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return Header(1, LOCAL, UNSPEC, None, None, (), raw)
    assert words[1] in ("TCP4", "TCP6") and len(words) == 6, f"not a header: {raw!r}"
    family = socket.AF_INET6 if words[1] == "TCP6" else socket.AF_INET
    for host in words[2:4]:
        socket.inet_pton(family, host)
    for port in words[4:]:
        assert str(int(port)) == port and 0 <= int(port) < 1 << 16, f"not a port: {port}"
    return Header(1, PROXY, TCP6 if words[1] == "TCP6" else TCP4, (words[2], int(words[4])),
                  (words[3], int(words[5])), (), raw)


def _read_v2(reader):
    version, family, length = struct.unpack("!BBH", reader.take(4))
    body = reader.take(length)
    assert version >> 4 == 2, f"version {version >> 4}"
    source, destination, used = _parse_addresses(version & 15, family, body)
    tlvs = tuple(_parse_tlvs(body[used:]))
    _check_crc(reader.raw, tlvs)
    return Header(2, version & 15, family, source, destination, tlvs, reader.raw)


def _parse_addresses(command, family, body):
    size = {TCP4: 4, UDP4: 4, TCP6: 16, UDP6: 16}.get(family)
    if command == LOCAL or size is None:
        assert command == LOCAL or family == UNSPEC, f"family {family:#x}"
        return None, None, 2 * size + 4 if size and len(body) >= 2 * size + 4 else 0
    kind = socket.AF_INET if size == 4 else socket.AF_INET6
    ports = struct.unpack_from("!HH", body, 2 * size)
    hosts = [socket.inet_ntop(kind, body[at:at + size]) for at in (0, size)]
    return (hosts[0], ports[0]), (hosts[1], ports[1]), 2 * size + 4


def _parse_tlvs(data):
    while data:
        assert len(data) >= 3, f"half a TLV: {data!r}"
        kind, length = struct.unpack_from("!BH", data)
        assert len(data) >= 3 + length, f"half a TLV: {data!r}"
        yield kind, data[3:3 + length]
        data = data[3 + length:]


def _check_crc(raw, tlvs):
    """Where there is one it is right, as the protocol's section 2.2.3 has it."""
    at = len(raw) - sum(3 + len(value) for _, value in tlvs)
    for kind, value in tlvs:
        if kind == CRC32C:
            zeroed = raw[:at + 3] + bytes(4) + raw[at + 7:]
            assert struct.unpack("!I", value)[0] == crc32c(zeroed), f"a wrong CRC in {raw!r}"
        at += 3 + len(value)
