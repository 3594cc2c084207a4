"""A session that stays, with exchanges on it as long as one wants."""
from lib.peers import read_exactly

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Talker:
    """Requests on one connection to an HTTP server; each answer is as long as the first."""

    def __init__(self, connection):
        self.connection = connection
        self._length = None

    def talk(self):
        self.connection.sendall(REQUEST)
        if self._length is None:
            self._length = len(self.connection.recv(4096))
        else:
            read_exactly(self.connection, self._length)

    def close(self):
        self.connection.close()
