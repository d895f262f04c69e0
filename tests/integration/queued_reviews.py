"""Reviews in a database that wait for a person's label."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.prediction import Prediction
from reviews.queue_item import LeasedItem, NewItem
from reviews.record_id import record_id
from reviews.stream_records import PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

TASK = "sentiment"
LABELS = ("negative", "neutral", "positive")
PUBLISHED = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)

_ADAPTER = AdapterVersion("sentiment-0123456789ab", TASK, LABELS, "none", None, "0123456789ab" * 5)


def store_reviews(
    database: Database, texts: Sequence[str], ids: Sequence[str] | None = None, **more: Any
) -> list[int]:
    """Store one scored review a text, a minute apart; their records."""
    adapters, partitions = AdapterStore(database), PartitionStore(database)
    if adapters.add(_ADAPTER, {"adapter_config.json": b"{}"}):
        adapters.activate(_ADAPTER, expected=None, decided_by="test", reason="first")
        partitions.register("cluster", "reviews", "topic-id", 0, 0)
    (position,) = partitions.list_positions()
    first = position.next_offset
    answer = Prediction(TASK, "positive", 0.61, (0.09, 0.3, 0.61), 0.31, 0.87, False, _ADAPTER.version)
    reviews = [
        scored_review(
            first + number, ids[number] if ids else f"review-{first + number}", text, more.get("product"),
            more.get("source"), None, PUBLISHED + timedelta(minutes=first + number), PUBLISHED, (answer,),
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    part = PartitionRange(position.partition_id, first, first + len(texts), reviews)
    assert ReviewWriter(database).write([part]).lost == frozenset()
    return [record_id(position.partition_id, review.offset) for review in reviews]


def queue_reviews(database: Database, count: int, **fields: Any) -> list[int]:
    """Store and queue so many reviews, the first the most important; their records."""
    records = store_reviews(database, [f"Text number {number}." for number in range(count)])
    QueueContents(database).add(
        [wanted(record, 1 - number / 1000, **fields) for number, record in enumerate(records)]
    )
    return records


def wanted(record: int, priority: float = 0.5, **fields: Any) -> NewItem:
    """A queue item for a record."""
    values = {"reason": "uncertain", "strategy": "margin", **fields}
    return NewItem(record, TASK, priority=priority, **values)


def rows(database: Database, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """What a query returns."""
    with database.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query), values)]


def execute(database: Database, statement: str, **values: Any) -> None:
    """Run a statement."""
    with database.begin() as connection:
        connection.execute(text(statement), values)


def answers(database: Database) -> list[tuple[Any, ...]]:
    """Record, label, annotator and source of every label row, in order."""
    return rows(database, "SELECT record, label, annotator, source FROM label ORDER BY id")


def states(database: Database) -> list[str]:
    """The state of every queue item, in order of records."""
    return [state for (state,) in rows(database, "SELECT state FROM label_task ORDER BY record")]


def lease_item(queue: AnnotationQueue, annotator: str = "ann", seconds: float = 600) -> LeasedItem:
    """The next item for this annotator; there has to be one."""
    item = queue.lease(TASK, annotator, seconds)
    assert item is not None
    return item
