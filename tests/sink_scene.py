"""A sink under test: rows in a database, the topic that they go to, and a comparison of both."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from pydantic import SecretStr
from sqlalchemy import make_url

from reviews.adapter import AdapterVersion
from reviews.label import Label
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.rescoring import Rescored
from reviews.scored_row import ScoredRow
from reviews.stream_records import AcceptedWithdrawal, PartitionRange
from reviews.withdrawal import read_withdrawal
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

VERSIONS = ("sentiment-111111111111", "sentiment-222222222222")
LABELS = ("bad", "good")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = 5
"""Reviews are published again and again under so many ids a partition."""


class Message(NamedTuple):
    """A message of the sink's topic."""

    key: bytes
    row: ScoredRow  # of a tombstone, only the key is of the message
    headers: dict[str, bytes]


class SinkScene:
    """A migrated database with reviews, and a sink's topic.

    Args:
        bootstrap: Of the broker.
        database_url: Of a migrated database.
        topic: Of the sink; made already.
        partitions: Of the stream that the reviews came from.
    """

    def __init__(self, bootstrap: str, database_url: str, topic: str, partitions: int = 2) -> None:
        self.bootstrap = bootstrap
        self.database_url = database_url
        self.topic = topic
        self.database = Database(DatabaseSettings(url=SecretStr(database_url)))
        store = AdapterStore(self.database)
        for number, version in enumerate(VERSIONS):
            adapter = AdapterVersion(version, "sentiment", LABELS, "none", None, f"{number}" * 64)
            store.add(adapter, {"adapter.json": b"{}"})
        store.activate(store.find(VERSIONS[0]), expected=None, decided_by="test", reason="the first")
        positions = PartitionStore(self.database)
        self.partitions = [
            positions.register("cluster", "reviews", "topic", number, 0).partition_id
            for number in range(partitions)
        ]
        self._writer = ReviewWriter(self.database)
        self._next = dict.fromkeys(self.partitions, 0)
        self.decode: Callable[[bytes], ScoredRow] = ScoredRow.model_validate_json

    def store(self, count: int, *, texts: Sequence[str] = ()) -> None:
        """Store so many reviews more in every partition, as a worker does."""
        for partition in self.partitions:
            first = self._next[partition]
            scored = [
                _scored(partition, offset, texts[offset - first] if texts else f"text {offset}")
                for offset in range(first, first + count)
            ]
            self._writer.write([PartitionRange(partition, first, first + count, scored)])
            self._next[partition] = first + count

    def withdraw(self, place: int, review_id: str) -> None:
        """Store that a review is withdrawn, as the next record of a partition."""
        partition = self.partitions[place]
        offset = self._next[partition]
        withdrawal = AcceptedWithdrawal(
            offset, read_withdrawal(review_id, "delete"), NOW, NOW, None, None, arrived_ms=1_000 + offset
        )
        part = PartitionRange(partition, offset, offset + 1, withdrawals=[withdrawal])
        self._writer.write([part])
        self._next[partition] = offset + 1

    def label(self, place: int, offset: int, label: str | None = "good", annotator: str = "ann") -> None:
        """Let somebody say something of a stored review."""
        record = record_id(self.partitions[place], offset)
        moment = NOW + timedelta(seconds=next(_SECONDS))
        LabelStore(self.database).add([Label(record, "sentiment", label, annotator, "test", moment)])

    def rescore(self, place: int, offsets: Sequence[int]) -> None:
        """Exchange the predictions of some stored reviews by those of the second adapter."""
        store = RescoreStore(self.database)
        adapters = AdapterStore(self.database)
        ids = dict(self.sql("SELECT version, id FROM adapter"))
        job = store.create(adapters.find(VERSIONS[1]))
        claims = iter(lambda: store.claim(job, f"test {next(_SECONDS)}"), None)
        claim = next(one for one in claims if one.first_record >> 40 == self.partitions[place])
        rescored = [
            Rescored(
                record_id(self.partitions[place], offset), ids[VERSIONS[0]], _prediction(offset, 1), None
            )
            for offset in offsets
        ]
        store.commit(job, claim, claim.next_record, rescored, 0)
        store.cancel("sentiment")

    def messages(self) -> list[Message]:
        """Everything that the topic has, in order within each of its partitions."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        with closing(consumer):
            numbers = consumer.partitions_for_topic(self.topic) or set()
            places = [TopicPartition(self.topic, number) for number in numbers]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            found: list[Message] = []
            while any(consumer.position(place) < ends[place] for place in places):
                for records in consumer.poll(timeout_ms=500).values():
                    found += [self._message(record) for record in records]
            return found

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, straight from PostgreSQL."""
        url = make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def check(self, *, may_repeat: bool) -> list[Message]:
        """Compare the topic with the rows: nothing lost, in order, the last message as the row is.

        Args:
            may_repeat: Whether messages may be there twice, under the same identity.

        Raises:
            AssertionError: If that is not so.
        """
        messages = self.messages()
        ids = [message.row.event_id for message in messages]
        assert may_repeat or len(set(ids)) == len(ids), "messages are there twice"
        rows: dict[tuple[int, str | None], list[ScoredRow]] = defaultdict(list)
        first_seen: dict[str, list[int]] = defaultdict(list)
        moments: dict[bytes, datetime] = {}
        for key, row, _ in messages:
            assert key == row.review_id.encode()
            assert row.as_of >= moments.get(key, row.as_of), f"an older state of {key!r} came later"
            moments[key] = row.as_of
            rows[row.record, row.task].append(row)
            if row.change == "scored" and row.record not in first_seen[row.review_id]:
                first_seen[row.review_id].append(row.record)
        for review_id, records in first_seen.items():
            assert records == sorted(records), f"the versions of {review_id} are not in order"
        self._compare(rows)
        return messages

    def _compare(self, published: dict[tuple[int, str | None], list[ScoredRow]]) -> None:
        stored = self.sql("""
            SELECT r.record, r.review_id, r.text, r.attributes, p.task, p.label, p.probabilities, a.version,
                   (SELECT c.label FROM label_consensus c WHERE c.record = p.record AND c.task = p.task)
              FROM review r JOIN prediction p ON p.record = r.record JOIN adapter a ON a.id = p.adapter_id
        """)
        assert {(row[0], row[4]) for row in stored} == {key for key in published if key[1] is not None}
        for record, review_id, body, attributes, task, label, probabilities, version, human in stored:
            last = published[record, task][-1]
            assert (last.review_id, last.text, last.label) == (review_id, body, label)
            assert last.attributes == attributes
            assert last.probabilities == dict(zip(LABELS, probabilities, strict=True))
            assert (last.adapter_version, last.human_label) == (version, human), last

    def _message(self, record: Any) -> Message:
        row = self.decode(record.value) if record.value is not None else _erased(record.key)
        return Message(record.key, row, dict(record.headers))

    def close(self) -> None:
        self.database.close()


_SECONDS = itertools.count()


def _scored(partition: int, offset: int, text: str) -> Any:
    review_id = f"p{partition}-{offset % IDS}"
    attributes = json.dumps({"market": "de", "place": offset}).encode() if offset % 3 == 0 else None
    return scored_review(
        offset, review_id, text, "shirt", "web", 4.5, NOW + timedelta(seconds=offset), NOW,
        (_prediction(offset, 0),), timestamp_ms=1_000 + offset, attributes=attributes,
    )  # fmt: skip


def _prediction(offset: int, version: int) -> Prediction:
    label, probabilities = (LABELS[1], (0.25, 0.75)) if (offset + version) % 2 else (LABELS[0], (0.75, 0.25))
    return Prediction("sentiment", label, 0.75, probabilities, 0.5, 0.56, False, VERSIONS[version])


def _erased(key: bytes) -> ScoredRow:
    latest = datetime.max.replace(tzinfo=UTC)
    return ScoredRow(
        change="erased", event_id="", as_of=latest, record=-1, review_id=key.decode(),
        kafka_topic="", kafka_partition=0, kafka_offset=0,
    )  # fmt: skip
