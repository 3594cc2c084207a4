"""PROXY headers, right and wrong, as the protocol's text has them; built by lib/proxyproto.py.

For weir's own tests and for scripts/compare.
"""
from lib import proxyproto as proxy

TOLD = ("192.0.2.7", 4711)
TOLD_6 = ("2001:db8::7", 4711)
VIP = ("198.51.100.1", 443)
VIP_6 = ("2001:db8::1", 443)


def v1_line(text):
    return text.encode() + b"\r\n"


ALL_ONES = ":".join(["ffff"] * 8)

WITH_TLVS = proxy.v2(TOLD, VIP, [(proxy.AUTHORITY, b"a.example.com"), (0xe0, b"x")], checksum=True)

# Header, and the source that it tells.
TELLING = {
    "v1 TCP4": (proxy.v1(TOLD, VIP), TOLD),
    "v1 TCP4, shortest": (v1_line("PROXY TCP4 1.2.3.4 1.2.3.5 0 0"), ("1.2.3.4", 0)),
    "v1 TCP4, longest": (v1_line("PROXY TCP4 223.255.255.254 223.255.255.253 65535 65535"),
                         ("223.255.255.254", 65535)),
    "v1 TCP6": (proxy.v1(TOLD_6, VIP_6), TOLD_6),
    "v1 TCP6, longest": (v1_line(f"PROXY TCP6 {ALL_ONES} {ALL_ONES} 65535 65535"),
                         (ALL_ONES, 65535)),
    "v2 INET": (proxy.v2(TOLD, VIP), TOLD),
    "v2 INET6": (proxy.v2(TOLD_6, VIP_6), TOLD_6),
    "v2 INET, crc32c": (proxy.v2(TOLD, VIP, checksum=True), TOLD),
    "v2 INET6, crc32c": (proxy.v2(TOLD_6, VIP_6, checksum=True), TOLD_6),
    "v2 INET, TLVs and crc32c": (WITH_TLVS, TOLD),
    "v2 INET, an empty TLV last": (proxy.v2(TOLD, VIP, [(0xe0, b"")]), TOLD),
}

# Right, and too long to be cut at every byte.
TELLING_LONG = {
    "v2 INET, 9,000 bytes and crc32c": (
        proxy.v2(TOLD, VIP, [(proxy.NOOP, bytes(9000))], checksum=True), TOLD),
}

# Right, and the addresses of the connection itself are those that count.
SILENT = {
    "v1 UNKNOWN": proxy.V1_UNKNOWN,
    "v1 UNKNOWN with addresses": v1_line("PROXY UNKNOWN ffff::1 ffff::2 1 2"),
    "v1 UNKNOWN, longest": v1_line(f"PROXY UNKNOWN {ALL_ONES} {ALL_ONES} 65535 65535"),
    "v2 LOCAL": proxy.V2_LOCAL,
    "v2 LOCAL with addresses": proxy.head(proxy.addresses(TOLD, VIP), command=proxy.LOCAL),
    "v2 UNSPEC with a TLV": proxy.head(proxy.tlv(0xe0, b"whatever"), family=proxy.UNSPEC),
    "v2 UNIX": proxy.head(bytes(216), family=proxy.UNIX_STREAM),
}

# Each is whole: no byte more would mend it.
WRONG = {
    "no header": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "nearly v1": b"PROXZ TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "nearly v2": proxy.SIGNATURE[:11] + b"X" + bytes(32),
    "v1 without CR": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n" + b"x" * 100,
    "v1 never ends": b"PROXY TCP4 " + b"1" * 200,
    "v1 UNKNOWN never ends": b"PROXY UNKNOWN " + b"x" * 200,
    "v1 port too great": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 65536 2"),
    "v1 port is none": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 -1 2"),
    "v1 port is empty": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1  2"),
    "v1 port in hex": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 0x10 2"),
    "v1 port with a leading zero": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 01 2"),
    "v1 address with a leading zero": v1_line("PROXY TCP4 192.0.02.7 198.51.100.1 1 2"),
    "v1 address too great": v1_line("PROXY TCP4 192.0.2.256 198.51.100.1 1 2"),
    "v1 address too short": v1_line("PROXY TCP4 192.0.2 198.51.100.1 1 2"),
    "v1 IPv6 in TCP4": v1_line("PROXY TCP4 2001:db8::1 2001:db8::2 1 2"),
    "v1 IPv4 in TCP6": v1_line("PROXY TCP6 192.0.2.7 198.51.100.1 1 2"),
    "v1 too few words": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 1"),
    "v1 too many words": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3"),
    "v1 two spaces": v1_line("PROXY TCP4  192.0.2.7 198.51.100.1 1 2"),
    "v1 space at the end": v1_line("PROXY TCP4 192.0.2.7 198.51.100.1 1 2 "),
    "v1 other protocol": v1_line("PROXY UDP4 192.0.2.7 198.51.100.1 1 2"),
    "v1 NUL": v1_line("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 2"),
    "v2 version 1": proxy.head(bytes(12), version=1),
    "v2 version 3": proxy.head(bytes(12), version=3),
    "v2 command 2": proxy.head(bytes(12), command=2),
    "v2 family 4": proxy.head(bytes(12), family=0x41),
    "v2 transport 3": proxy.head(bytes(12), family=0x13),
    "v2 IPv4 too short": proxy.head(bytes(11)),
    "v2 IPv6 too short": proxy.head(bytes(35), family=proxy.TCP6),
    "v2 half a TLV": proxy.head(bytes(12) + b"\x02\x00"),
    "v2 TLV beyond the end": proxy.head(bytes(12) + b"\x02\x00\x05abcd"),
    "v2 wrong CRC": proxy.head(bytes(12) + proxy.tlv(proxy.CRC32C, b"abcd")),
    "v2 short CRC": proxy.head(bytes(12) + proxy.tlv(proxy.CRC32C, b"abc")),
}
