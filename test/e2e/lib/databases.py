"""Redis and PostgreSQL as child processes, without persistence, and their own load programs."""
import pwd
import re
import signal
import subprocess
from pathlib import Path

from lib.servers import Server
from lib.wait import SLOW

POSTGRES_USER = "postgres"


class Redis(Server):
    def command(self):
        return ["/usr/bin/redis-server", "--bind", self.host, "--port", str(self.port),
                "--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", str(self.directory)]


class Postgres(Server):
    """A cluster of its own; it refuses to run as root, so the package's user runs it."""

    def __init__(self, wrap=(), **where):
        as_user = ("setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}",
                   "--clear-groups")
        super().__init__(wrap=(*wrap, *as_user), **where)
        self._data = self.directory / "data"
        self._data.mkdir()
        user = pwd.getpwnam(POSTGRES_USER)
        for path in (self.directory, self._data):
            path.chmod(0o700)
            subprocess.run(["chown", f"{user.pw_uid}:{user.pw_gid}", path], check=True)
        _run([*as_user, _program("initdb"), "-D", str(self._data), "-A", "trust", "--no-sync",
              "--locale=C", "-E", "UTF8"], cwd=self.directory)
        with open(self._data / "pg_hba.conf", "a", encoding="ascii") as rules:
            rules.write("host all all all trust\n")

    def command(self):
        return [_program("postgres"), "-D", str(self._data), "-p", str(self.port),
                "-c", f"listen_addresses={self.host}", "-c", "unix_socket_directories=",
                "-c", "fsync=off"]

    def stop(self):
        """Fast: the postmaster alone is told, and tells its children."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20 * SLOW)


def _program(name):
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found, f"{name} is not installed"
    return str(found[-1])


def _run(words, **how):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60 * SLOW, check=False,
                          **how)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def redis_benchmark(address, *options):
    """{test: requests per second}. It exits with an error when it was answered with one."""
    host, port = address
    output = _run(["redis-benchmark", "-h", host, "-p", str(port), "--csv", *map(str, options)])
    head, *lines = output.splitlines()
    results = {}
    for line in lines:
        match = re.match(r'"([^"]+)","([\d.]+)",', line)
        assert match and head.startswith('"test","rps"'), f"redis-benchmark says: {line}"
        results[match[1]] = float(match[2])
    return results


def pgbench(address, *options):
    """Returns what it reports. It ends with an error itself when a client was cut off."""
    host, port = address
    return _run([_program("pgbench"), "-h", host, "-p", str(port), "-U", POSTGRES_USER,
                 *map(str, options), "postgres"])
