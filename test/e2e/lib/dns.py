"""DNS: dnsmasq as a server, dnsperf as load, and a question by hand."""
import itertools
import re
import socket
import struct
from typing import NamedTuple

from lib.datagram import DatagramServer
from lib.peers import read_exactly
from lib.servers import Process
from lib.snapshot import listens
from lib.wait import SLOW

NAME = "weir.test"
_ids = itertools.count(1)


class Dnsmasq(DatagramServer):
    """Answers every name under NAME with the address `answer`, over UDP and TCP."""

    def __init__(self, answer="192.0.2.1", **where):
        super().__init__(**where)
        self.answer = answer

    def command(self):
        return ["/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
                "--no-resolv", "--no-hosts", "--no-ping", "--user=", "--group=",
                f"--pid-file={self.directory}/pid", f"--port={self.port}",
                f"--listen-address={self.host}", "--bind-interfaces", "--except-interface=none",
                f"--address=/{NAME}/{self.answer}", f"--local=/{NAME}/", "--log-facility=-"]

    def _listens(self):
        return super()._listens() and listens(self.process.pid, self.port)


class Perf(NamedTuple):
    """What dnsperf tells."""
    sent: int
    completed: int
    lost: int
    seconds: float
    rcodes: str


class Dnsperf(Process):
    """A run of dnsperf; its options as on its command line, without the dash."""

    def __init__(self, address, *, mode="udp", wrap=(), **options):
        super().__init__(wrap)
        host, port = address
        names = self.directory / "names"
        names.write_text("".join(f"{index}.{NAME} A\n" for index in range(1000)))
        self._command = ["dnsperf", "-m", mode, "-s", host, "-p", str(port), "-d", str(names), "-W"]
        for name, value in options.items():
            self._command += [f"-{name}", str(value)]

    def command(self):
        return self._command

    def finish(self, timeout=60):
        code = self.process.wait(timeout * SLOW)
        output = self.output()
        assert code == 0, f"dnsperf exited {code}:\n{output}"

        def found(pattern):
            return re.search(pattern, output)[1]
        return Perf(int(found(r"Queries sent: +(\d+)")), int(found(r"Queries completed: +(\d+)")),
                    int(found(r"Queries lost: +(\d+)")), float(found(r"Run time \(s\): +([\d.]+)")),
                    found(r"Response codes: +(.*)"))


def question(name=f"x.{NAME}"):
    """The bytes of a question for an IPv4 address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = struct.pack(">6H", next(_ids) % 65536, 0x0100, 1, 0, 0, 0)
    return head + labels + struct.pack(">BHH", 0, 1, 1)


def answer(asked, reply):
    """The address in a reply, which ends with it."""
    assert reply[:2] == asked[:2], "a reply to another question"
    assert reply[3] & 15 == 0, f"rcode {reply[3] & 15}"
    return socket.inet_ntoa(reply[-4:])


def ask_udp(address, source=("", 0), timeout=5):
    """One question from this (host, port); the address that is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout * SLOW)
        client.bind(source)
        client.connect(address)
        asked = question()
        client.send(asked)
        return answer(asked, client.recv(4096))


def ask_tcp(address, source=("", 0), timeout=5):
    with socket.socket() as client:
        client.settimeout(timeout * SLOW)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(source)
        client.connect(address)
        asked = question()
        client.sendall(struct.pack(">H", len(asked)) + asked)
        length, = struct.unpack(">H", read_exactly(client, 2))
        return answer(asked, read_exactly(client, length))
