"""A small TCP proxy in front of PostgreSQL that knows its messages: it stops or cuts at a named statement.

Protocol: PostgreSQL 18 documentation, chapter "Frontend/Backend Protocol". Without encryption.
"""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field

from sqlalchemy import make_url

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


@dataclass(eq=False)
class Stop:
    """One place to hold a connection at, once.

    Attributes:
        statement: What the statement begins with.
        after: Whether the server gets the statement and only its answer is held back.
        visits: How many times it still has to pass unheld.
    """

    statement: str
    after: bool
    visits: int = 0
    _reached: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until a connection is held here."""
        assert self._reached.wait(seconds), f"nothing reached {self.statement!r}"

    def reached(self, seconds: float) -> bool:
        """Whether a connection is held here within that time."""
        return self._reached.wait(seconds)

    def release(self) -> None:
        """Let the connection go on."""
        self._released.set()

    def hold(self) -> None:
        """Called by a connection: hold it."""
        self._reached.set()
        self._released.wait()


class PostgresProxy:
    """Listens on loopback for the clients of one worker.

    Args:
        url: The SQLAlchemy URL of the real database.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._stops: list[Stop] = []  # not reached yet
        self._made: list[Stop] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The database as seen through the proxy."""
        host, port = self._listener.getsockname()
        return self._target.set(host=host, port=port).render_as_string(hide_password=False)

    def stop_before(self, statement: str, visits: int = 0) -> Stop:
        """Hold the next connection that sends such a statement; the server does not see it yet."""
        return self._add(Stop(statement, after=False, visits=visits))

    def stop_after(self, statement: str, visits: int = 0) -> Stop:
        """Hold the answer to such a statement, which the server has carried out."""
        return self._add(Stop(statement, after=True, visits=visits))

    def forget(self, stop: Stop) -> None:
        """Hold nobody there any more."""
        with self._lock:
            if stop in self._stops:
                self._stops.remove(stop)
        stop.release()

    def cut(self) -> None:
        """Close every connection, on both sides, in the middle of whatever it does."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()

    def close(self) -> None:
        """Listen no more, cut everything and let go of what is held."""
        self._listener.close()
        self.cut()
        for stop in self._made:
            stop.release()

    def match(self, statement: str) -> Stop | None:
        """The stop for a statement that a client sends, taken out of the list."""
        with self._lock:
            for stop in self._stops:
                if not statement.startswith(stop.statement):
                    continue
                if stop.visits > 0:
                    stop.visits -= 1
                    continue
                self._stops.remove(stop)
                return stop
        return None

    def _add(self, stop: Stop) -> Stop:
        with self._lock:
            self._stops.append(stop)
            self._made.append(stop)
        return stop

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((self._target.host, self._target.port), timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for side in (client, server):  # small messages must not wait for each other's ACK
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = _Link(self, client, server)
                with self._lock:
                    self._links.append(link)
                link.start()


class _Link:
    """One client's connection: a thread for each direction."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._prepared: dict[bytes, str] = {}
        self._hold_answer: Stop | None = None
        self._moves_offset = False

    def start(self) -> None:
        for work in (self._to_server, self._to_client):
            threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def close(self) -> None:
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _run(self, work) -> None:
        with contextlib.suppress(OSError, EOFError):
            work()
        self.close()

    def _to_server(self) -> None:
        self._pass_startup()
        while True:
            kind, body = _read(self._client)
            stop = self._stop(self._statement(kind, body))
            if stop is not None and stop.after:
                self._hold_answer = stop
            elif stop is not None:
                stop.hold()
            self._server.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _stop(self, statement: str | None) -> Stop | None:
        if statement is None:
            return None
        if statement.startswith(("UPDATE stream_partition", "UPDATE sink_position")):
            self._moves_offset = True
        if statement in {"COMMIT", "ROLLBACK"}:
            # Commits of transactions that only read are of no interest to anybody.
            matters, self._moves_offset = self._moves_offset, False
            return self._proxy.match(statement) if matters else None
        return self._proxy.match(statement)

    def _to_client(self) -> None:
        while True:
            kind, body = _read(self._server)
            if kind == b"Z" and self._hold_answer is not None:  # ready for the next query: it is done
                stop, self._hold_answer = self._hold_answer, None
                stop.hold()
            self._client.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def _pass_startup(self) -> None:
        while True:
            (size,) = struct.unpack("!i", _exactly(self._client, 4))
            body = _exactly(self._client, size - 4)
            if struct.unpack("!i", body[:4])[0] in {_SSL_REQUEST, _GSS_REQUEST}:
                self._client.sendall(b"N")
                continue
            self._server.sendall(struct.pack("!i", size) + body)
            return

    def _statement(self, kind: bytes, body: bytes) -> str | None:
        """The text that a message makes the server run: sent now, or prepared before."""
        if kind == b"Q":
            return body.split(b"\0")[0].decode().lstrip()
        if kind == b"P":
            name, text = body.split(b"\0")[:2]
            self._prepared[name] = text.decode().lstrip()
            return None
        if kind == b"B":
            return self._prepared.get(body.split(b"\0")[1])
        return None


def _read(side: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(side, 1)
    (size,) = struct.unpack("!i", _exactly(side, 4))
    return kind, _exactly(side, size - 4)


def _exactly(side: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = side.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
