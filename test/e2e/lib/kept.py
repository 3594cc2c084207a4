"""A client that keeps its HTTP connection, and talks on it in the background when told to."""
import threading

from lib.peers import read_exactly, read_to_fin, read_to_reset

REQUEST = b"GET / HTTP/1.1\r\nHost: kept\r\n\r\n"


def read_answer(sock):
    """Reads one HTTP answer that has a Content-Length; its body as text."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                  if line.lower().startswith(b"content-length"))
    return read_exactly(sock, length).decode().strip()


class Kept:
    """One connection through weir; `name` is the server that it was given to."""

    def __init__(self, weir):
        self.sock = weir.connect()
        self.client = "{}:{}".format(*self.sock.getsockname())
        self.name = self.ask()

    def ask(self):
        """A request; the name of whoever answers."""
        self.sock.sendall(REQUEST)
        return read_answer(self.sock)

    def wait_fin(self):
        assert read_to_fin(self.sock) == b""

    def wait_reset(self):
        assert read_to_reset(self.sock) == b""

    def close(self):
        self.sock.close()


class Talk:
    """Asks on connections in turn, in a thread, until each is reset; `reset` lists those."""

    def __init__(self, kept, gap_seconds=0.02):
        self.reset = []
        self._kept = list(kept)
        self._gap = gap_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while self._kept and not self._stop.wait(self._gap):
            for one in list(self._kept):
                try:
                    one.ask()
                except ConnectionResetError:
                    self._kept.remove(one)
                    self.reset.append(one)

    def stop(self):
        self._stop.set()
        self._thread.join()
