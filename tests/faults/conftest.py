"""Streams under fault."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import TopicFactory
from tests.faults.own_stack import OwnStack
from tests.faults.postgres_proxy import PostgresProxy
from tests.faults.scene import Scene


@pytest.fixture
def scene(
    kafka_bootstrap: str, database: str, topic: TopicFactory, tmp_path: Path
) -> Iterator[Callable[..., Scene]]:
    """Makes a stream with a topic and a database of its own; its workers are killed at the end."""
    made: list[Scene] = []

    def make(partitions: int = 3, configs: dict[str, str] | None = None) -> Scene:
        made.append(Scene(kafka_bootstrap, database, topic(partitions, configs=configs), tmp_path))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture
def proxy(database: str) -> Iterator[PostgresProxy]:
    """A proxy in front of the test's database."""
    made = PostgresProxy(database)
    yield made
    made.close()


@pytest.fixture(scope="package")
def own_stack() -> Iterator[OwnStack]:
    """Services that a test may kill; whoever kills one starts it again."""
    made = OwnStack()
    yield made
    made.delete()


@pytest.fixture
def killable(own_stack: OwnStack, tmp_path: Path) -> Iterator[Scene]:
    """A stream on services that may be killed."""
    own_stack.start()
    made = own_stack.scene(tmp_path)
    yield made
    made.close()
