"""What supervisors see of real workers on a real Kafka and PostgreSQL."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url

from reviewloop.local.places import free_port, is_free
from tests.commands import Running
from tests.integration.system import System

Make = Callable[..., System]
Adapters = tuple[Path, Path]
SECONDS = 180


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionRefusedError:
        return 0, ""
    finally:
        connection.close()


def _sum(ports: list[int], name: str, **labels: str) -> float:
    """The sum of a sample over the workers and over the labels that are not given."""
    return sum(
        sample.value
        for port in ports
        for family in text_string_to_metric_families(_get(port, "/metrics")[1])
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _wait(what: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def _running(made: System, *arguments: object, port: int) -> Iterator[Running]:
    worker = made.start("consume", *arguments, REVIEWLOOP_METRICS__PORT=str(port))
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait(60)


def _two_free_ports() -> int:
    """The first of two ports in a row that are free."""
    while not is_free((port := free_port()) + 1):
        pass
    return port


def test_two_workers_count_every_review_once_on_two_ports_in_a_row(
    system: Make, tiny_adapters: Adapters
) -> None:
    made = system(partitions=4)
    version = made.run("adapters", "add", tiny_adapters[0], "--activate").strip()
    made.publish([{"id": f"r{index}", "text": f"review {index}"} for index in range(500)] + [b"{"])
    port = _two_free_ports()
    ports = [port, port + 1]
    log = made.folder / "worker.log"

    with _running(made, "--workers", 2, port=port):
        _wait(lambda: all(_get(item, "/readyz")[0] == 200 for item in ports), log)
        _wait(lambda: _sum(ports, "reviewloop_reviews_stored_total") >= 500, log)
        _wait(lambda: _sum(ports, "reviewloop_partitions") == 4, log)
        _wait(lambda: _sum(ports, "reviewloop_lag_records") == 0, log)

        assert _sum(ports, "reviewloop_reviews_stored_total") == 500
        assert _sum(ports, "reviewloop_dead_letters_total", stage="parse", reason="not_json") == 1
        assert _sum(ports, "reviewloop_records_received_total") >= 501
        assert _sum(ports, "reviewloop_tokens_total") > 500 * 3
        assert _sum(ports, "reviewloop_adapter_info", version=version) == 2
        assert _sum(ports, "reviewloop_publish_to_row_seconds_count") == 500
        assert 0 < _sum(ports, "reviewloop_publish_to_row_seconds_sum") < 500 * SECONDS
        for stage in ("wait", "tokenise", "score", "store"):
            assert _sum(ports, "reviewloop_stage_seconds_count", stage=stage) > 0
        assert _sum(ports, "reviewloop_degraded") == 0
        assert [_get(item, "/healthz")[0] for item in ports] == [200, 200]


@pytest.mark.parametrize("trouble", ["closed", "read-only"])
def test_a_worker_whose_database_takes_nothing_is_alive_degraded_and_recovers_by_itself(
    system: Make, tiny_adapters: Adapters, database_url: str, trouble: str
) -> None:
    made = system(partitions=1)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    port = free_port()
    log = made.folder / "worker.log"
    with _running(made, port=port):
        _wait(lambda: _get(port, "/readyz")[0] == 200, log)
        with (_closed if trouble == "closed" else _read_only)(made, database_url):
            made.publish([{"id": "late", "text": "written while the database was closed"}])
            _wait(
                lambda: _get(port, "/readyz") == (503, "The database does not answer, or takes no writes.\n"),
                log,
            )
            _wait(lambda: _sum([port], "reviewloop_retries_total", service="database") > 1, log)
            assert _sum([port], "reviewloop_degraded") == 1
            assert _sum([port], "reviewloop_service_up", service="database") == 0
            assert _get(port, "/healthz")[0] == 200
        _wait(lambda: _sum([port], "reviewloop_reviews_stored_total") == 1, log)
        _wait(lambda: _get(port, "/readyz")[0] == 200, log)
        assert _sum([port], "reviewloop_degraded") == 0


@contextmanager
def _closed(made: System, database_url: str) -> Iterator[None]:
    """Nobody gets into the system's database during the block, and who was in is thrown out."""
    name = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).database
    address = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def _read_only(made: System, database_url: str) -> Iterator[None]:
    """Who gets into the system's database during the block may only read, as on a standby."""
    name = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).database
    address = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
