"""A migrated database for one test."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.settings import DatabaseSettings


@pytest.fixture
def store(database: str) -> Iterator[Database]:
    """The test's own database, at the newest revision."""
    opened = Database(DatabaseSettings(url=SecretStr(database)))
    yield opened
    opened.close()


@pytest.fixture
def queue(store: Database) -> AnnotationQueue:
    """The annotation queue in it, as annotators use it."""
    return AnnotationQueue(store)


@pytest.fixture
def contents(store: Database) -> QueueContents:
    """The same queue, as those use it who fill and watch it."""
    return QueueContents(store)
