"""A registry that says what a test wants, where a real one would not: errors, silence, endless answers."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from broker.formats.registry import SchemaRegistry
from broker.formats.settings import RegistrySettings

Answer = Callable[[BaseHTTPRequestHandler], None]
UNKNOWN = (404, {"error_code": 40403, "message": "Schema not found"})


class Served:
    """What is answered, by path; and what was asked.

    Attributes:
        url: Of the server.
        answers: A status and a JSON value, or a function that answers.
        asked: The paths, in order.
        logins: The Authorization headers, in order.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[int, Any] | Answer] = {}
        self.asked: list[str] = []
        self.logins: list[str | None] = []

    def registry(self, clock: Callable[[], float] | None = None, **settings: Any) -> SchemaRegistry:
        """A client of it."""
        options = {} if clock is None else {"clock": clock}
        return SchemaRegistry(RegistrySettings(url=self.url, **settings), **options)

    def add(self, number: int, text: Any, kind: str = "AVRO", references: Any = ()) -> None:
        """Let it have a schema."""
        said = text if isinstance(text, str) else json.dumps(text)
        answer: dict[str, Any] = {"schema": said, "references": list(references)}
        if kind != "AVRO":
            answer["schemaType"] = kind
        self.answers[f"/schemas/ids/{number}"] = (200, answer)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Served]:
    """A server in this process, one that speaks TLS where a context is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.logins.append(self.headers.get("Authorization"))
            answer = served.answers.get(self.path, UNKNOWN)
            if callable(answer):
                answer(self)
                return
            body = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # clients that it does not trust, and that do not trust it
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        served = Served(f"{scheme}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
