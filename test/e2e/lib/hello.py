"""ClientHellos: built by bytes, each part as a test wants it, and real ones from OpenSSL.

RFC 8446 sections 4.1.2 and 5.1; RFC 6066 section 3 (SNI); RFC 7301 (ALPN); RFC 7685 (padding).
"""
import ssl
import struct

SERVER_NAME, ALPN, PADDING, VERSIONS = 0, 16, 21, 43
# What a record's plaintext may have at most.
RECORD_MAX = 1 << 14


def block(size, data):
    """`data` behind its length of so many bytes."""
    return len(data).to_bytes(size, "big") + data


def extension(kind, data):
    return struct.pack("!H", kind) + block(2, data)


def server_name(name, kind=0):
    return extension(SERVER_NAME, block(2, bytes([kind]) + block(2, name.encode())))


def alpn(*protocols):
    return extension(ALPN, block(2, b"".join(block(1, one.encode()) for one in protocols)))


def padding(size):
    return extension(PADDING, bytes(size))


def message(extensions, *, version=0x0303, session=bytes(32), suites=b"\x13\x01\x13\x02\xc0\x2f",
            kind=1, length=None):
    """A handshake message; `extensions` are bytes, None leaves even their length out."""
    body = struct.pack("!H", version) + bytes(range(32)) + block(1, session) + \
        block(2, suites) + block(1, b"\0")
    if extensions is not None:
        body += block(2, extensions)
    size = len(body) if length is None else length
    return bytes([kind]) + size.to_bytes(3, "big") + body


def records(data, size=RECORD_MAX, *, kind=22, version=0x0301):
    """A handshake message in records of at most so many bytes."""
    return b"".join(bytes([kind]) + struct.pack("!H", version) + block(2, data[at:at + size])
                    for at in range(0, len(data), size))


def hello(name=None, protocols=(), *, pad=0, size=RECORD_MAX, more=b""):
    """A whole one, in records of `size`; `more` extensions go in front."""
    parts = more + extension(VERSIONS, block(1, b"\x03\x04\x03\x03"))
    if pad:
        parts += padding(pad)
    if name is not None:
        parts += server_name(name)
    if protocols:
        parts += alpn(*protocols)
    return records(message(parts), size)


def real(name=None, protocols=(), version=None):
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if version:
        context.minimum_version = context.maximum_version = version
    sent = ssl.MemoryBIO()
    end = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without a peer")
