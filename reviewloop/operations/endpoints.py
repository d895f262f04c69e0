"""Serves /metrics, /healthz and /readyz from a thread of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from consumer.measures import Measures
from reviewloop.operations.metrics import Health, WorkerCollector
from reviewloop.operations.settings import MetricsSettings
from reviews.errors import WrongUse

log = structlog.get_logger()

_TEXT = "text/plain; charset=utf-8"
_CLIENT_SECONDS = 5.0
_STOP_SECONDS = 0.1


class Verdicts(Protocol):
    """Says how a process is; each reason is a sentence."""

    def why_not_alive(self) -> list[str]:
        """What only a restart repairs."""

    def why_not_ready(self) -> list[str]:
        """What keeps the process from its work now."""


@contextmanager
def watched(settings: MetricsSettings, measures: Measures, tasks: tuple[str, ...]) -> Iterator[None]:
    """Let supervisors look at this worker during the block, if a port is configured.

    Raises:
        WrongUse: If the port cannot be listened on.
    """
    health = Health(measures, tasks, settings.stalled_after_seconds)
    with served(settings, health, WorkerCollector(measures, health)):
        yield


@contextmanager
def served(settings: MetricsSettings, health: Verdicts, collector: Collector) -> Iterator[None]:
    """Serve metrics, health and readiness during the block, if a port is configured.

    Raises:
        WrongUse: If the port cannot be listened on.
    """
    if settings.port is None:
        yield
        return
    with _listen(settings.address, settings.port, health, _registry(collector)) as server:
        thread = threading.Thread(
            target=server.serve_forever, args=(_STOP_SECONDS,), name="metrics", daemon=True
        )
        thread.start()
        log.info("metrics_served", address=settings.address, port=settings.port)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def _registry(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(collector)
    return registry


def _listen(address: str, port: int, health: Verdicts, registry: CollectorRegistry) -> "_Server":
    try:
        return _Server(address, port, health, registry)
    except OSError as err:
        raise WrongUse(
            f"The metrics cannot be served on {address}:{port} ({err.strerror or err}): choose another "
            "metrics.port or metrics.address."
        ) from err


class _Server(ThreadingHTTPServer):
    """Knows what its handlers answer with."""

    def __init__(self, address: str, port: int, health: Verdicts, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.health = health
        self.registry = registry
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Bind without a reverse name lookup, which the base class does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_SECONDS
    server_version = "reviewloop"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/healthz":
            self._verdict(self.server.health.why_not_alive())
        elif path == "/readyz":
            self._verdict(self.server.health.why_not_ready())
        else:
            self._answer(HTTPStatus.NOT_FOUND, _TEXT, b"Here are /metrics, /healthz and /readyz.\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Log nothing: supervisors ask every few seconds."""

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept") or "")
        self._answer(HTTPStatus.OK, content_type, encode(self.server.registry))

    def _verdict(self, reasons: list[str]) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        self._answer(status, _TEXT, ("\n".join(reasons or ["ok"]) + "\n").encode())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
