"""The schema registry is killed in mid-stream and comes back: nothing is lost, and no record is to blame."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import fastavro
import pytest

from broker.formats.settings import RegistrySettings
from consumer.measures import Measures
from consumer.parsing import ReviewParser
from reviewloop.operations.metrics import Health
from reviewloop.settings import Settings
from reviewloop.wiring.sources import open_mappings
from reviews.errors import ReviewLoopError
from tests.conftest import TopicFactory, cannot_run
from tests.integration.in_process import InProcess, open_in_process
from tests.schema_registry import PREFIX, OwnRegistry, register

SCHEMA = {
    "type": "record",
    "name": "Review",
    "fields": [{"name": "id", "type": "string"}, {"name": "text", "type": "string"}],
}
NEWER = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "lang", "type": "string", "default": "en"}]}
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def registry() -> Iterator[OwnRegistry]:
    """A registry that may be killed."""
    own = OwnRegistry(Path(tempfile.mkdtemp(prefix=f"own-{PREFIX}")))
    try:
        own.start()
    except ReviewLoopError as err:
        cannot_run(err)
    yield own
    own.delete()


@pytest.fixture
def made(kafka_bootstrap: str, database: str, topic: TopicFactory) -> Iterator[InProcess]:
    """A topic of two partitions, and a database."""
    with open_in_process(kafka_bootstrap, database, topic(partitions=2)) as opened:
        yield opened


def _written(number: int, schema: dict, first: int, count: int) -> list[bytes]:
    values = []
    for index in range(first, first + count):
        out = BytesIO()
        value = {"id": f"r{index}", "text": f"Good {index}.", "lang": "de"}
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
        values.append(b"\x00" + number.to_bytes(4, "big") + out.getvalue())
    return values


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)


def test_a_registry_killed_in_mid_stream_delays_its_records_and_loses_none(
    made: InProcess, registry: OwnRegistry
) -> None:
    old, newer = (register(registry.url, made.topic, json.dumps(schema)) for schema in (SCHEMA, NEWER))
    measures = Measures()
    settings = Settings(
        sources=({"topic": made.topic, "format": "avro"},),  # type: ignore[arg-type]  # as a file gives it
        registry=RegistrySettings(url=registry.url, timeout_seconds=2),
        consumer={"retry_max_seconds": 0.5},  # type: ignore[arg-type]  # the same
    )
    mappings = open_mappings(settings, measures.noting("registry", by="schemas"))

    def rows() -> int:
        return int(made.sql("SELECT count(*) FROM review")[0][0])

    made.publish(_written(old, SCHEMA, 0, 100))
    with made.worker(parts={"parse": ReviewParser(mappings)}) as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            _wait_until(lambda: rows() == 100)
            assert measures.answers("registry") is True
            registry.kill()
            made.publish(_written(newer, NEWER, 100, 100), partition=0)
            made.publish(_written(old, SCHEMA, 200, 100), partition=1)
            # The partition whose schema is known goes on; the other one waits, and the worker says so.
            _wait_until(lambda: rows() == 200)
            _wait_until(lambda: measures.answers("registry") is False)
            assert any("schema registry" in why for why in Health(measures, (), 60).why_not_ready())
            assert measures.retries["registry"] > 0
            registry.start()
            _wait_until(lambda: rows() == 300)
            assert measures.answers("registry") is True
        finally:
            worker._stopping.set()
            thread.join()
    assert made.sql("SELECT count(*) FROM dead_letters") == [(0,)]
    assert made.sql("SELECT count(DISTINCT review_id) FROM review") == [(300,)]
    assert made.sql("SELECT partition, next_offset FROM stream_partition ORDER BY 1") == [(0, 200), (1, 100)]
