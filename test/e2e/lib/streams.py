"""What moves much over UDP: iperf3, and QUIC by ngtcp2's example client and server."""
import json
import subprocess

from lib.datagram import DatagramServer
from lib.servers import Process, Server
from lib.wait import SLOW


class Iperf(Server):
    """An iperf3 server. Of UDP only the payload is; a TCP connection to the same port leads."""

    def command(self):
        return ["iperf3", "-s", "-B", self.host, "-p", str(self.port)]


def iperf(address, *options, wrap=(), seconds=2):
    """One run of an iperf3 client; what it tells at its end."""
    host, port = address
    done = subprocess.run([*wrap, "iperf3", "-J", "-c", host, "-p", str(port), "-t", str(seconds),
                           *map(str, options)],
                          capture_output=True, text=True, timeout=(seconds + 30) * SLOW,
                          check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told.get("error", done.stderr)
    return told["end"]


class QuicServer(DatagramServer):
    """gtlsserver; serves the files in `root`."""

    def __init__(self, **where):
        super().__init__(**where)
        self.root = self.directory / "root"
        self.root.mkdir()
        self._key, self._certificate = self.directory / "key.pem", self.directory / "cert.pem"
        (self.directory / "mime.types").write_text("text/plain txt\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=weir.test",
                        "-keyout", self._key, "-out", self._certificate],
                       check=True, capture_output=True)

    def command(self):
        return ["/usr/sbin/gtlsserver", "--quiet", "--no-quic-dump", "--no-http-dump",
                f"--htdocs={self.root}", f"--mime-types-file={self.directory}/mime.types",
                self.host, str(self.port), str(self._key), str(self._certificate)]


class QuicClient(Process):
    """gtlsclient: gets one file, which is then at `got`."""

    def __init__(self, address, name, *, wrap=()):
        super().__init__(wrap)
        self._address = [address[0], str(address[1])]
        self._name = name

    @property
    def got(self):
        return self.directory / self._name

    def command(self):
        return ["/usr/bin/gtlsclient", "--quiet", "--no-quic-dump", "--no-http-dump",
                "--exit-on-all-streams-close", f"--download={self.directory}", *self._address,
                f"https://weir.test/{self._name}"]

    def finish(self, timeout=60):
        code = self.process.wait(timeout * SLOW)
        assert code == 0, f"gtlsclient exited {code}:\n{self.output()}"
