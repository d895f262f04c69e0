"""A worker of the real parts in this process, with a classifier that needs no model."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition
from pydantic import SecretStr

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.pipeline import ReviewPipeline
from consumer.settings import ConsumerSettings
from consumer.source import Source
from consumer.worker import Totals, Worker
from reviews.adapter import AdapterVersion
from reviews.prediction import Prediction
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter

VERSION = "sentiment-0123456789ab"
POISON = "the model fails on this"

_PATIENCE_SECONDS = 180
_IDLE_SECONDS = 0.1


class LengthClassifier:
    """Calls even lengths positive; fails on poison, as a real model may on one text."""

    task = "sentiment"
    adapter_version = VERSION

    def encode(self, texts: Sequence[str]) -> list[str]:
        return list(texts)

    def score(self, encoded: Sequence[str]) -> list[Prediction]:
        if any(POISON in text for text in encoded):
            raise RuntimeError("poison")
        return [_predict(text) for text in encoded]


def _predict(text: str) -> Prediction:
    label, probabilities = ("positive", (0.3, 0.7)) if len(text) % 2 == 0 else ("negative", (0.7, 0.3))
    return Prediction("sentiment", label, 0.7, probabilities, 0.4, 0.61, False, VERSION)


@dataclass
class InProcess:
    """One topic, one database, and workers in this process.

    Attributes:
        kafka: How to reach the topic.
        database: A migrated database with a registered adapter.
        topic: The topic's name.
        classifier: What scores.
    """

    kafka: KafkaSettings
    database: Database
    topic: str
    classifier: Any = field(default_factory=LengthClassifier)

    def publish(
        self,
        values: Sequence[bytes | None],
        *,
        key: bytes | None = None,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int | None = None,
    ) -> list[int]:
        """Publish with plain kafka-python; the offsets."""
        producer = KafkaProducer(
            bootstrap_servers=self.kafka.bootstrap_servers,
            acks="all",
            linger_ms=20,
            max_request_size=2**24,
            compression_type="lz4",
        )
        try:
            futures = [
                producer.send(
                    self.topic,
                    value,
                    key=key,
                    partition=partition,
                    headers=list(headers),
                    timestamp_ms=timestamp_ms,
                )
                for value in values
            ]
            producer.flush()
            return [future.get().offset for future in futures]
        finally:
            producer.close()

    def consume(
        self, *, forward: bool = False, parts: dict[str, Any] | None = None, **options: Any
    ) -> Totals:
        """Run a worker until all that is published is stored; what it stored."""
        with self.worker(forward=forward, parts=parts, **options) as worker:
            timer = threading.Timer(_PATIENCE_SECONDS, worker._stopping.set)
            timer.start()
            try:
                worker.run(_IDLE_SECONDS)
            finally:
                timer.cancel()
            assert not worker._stopping.is_set(), "the worker does not get on"
            return worker.totals

    @contextmanager
    def worker(
        self, *, forward: bool = False, parts: dict[str, Any] | None = None, **options: Any
    ) -> Iterator[Worker]:
        """One worker, ready to run.

        Args:
            forward: Whether dead letters are published as well.
            parts: ``choice``, ``parse``, ``tasks_of`` and ``classifiers`` in the place of the usual ones.
            options: Settings of the consumer.
        """
        settings = ConsumerSettings(**{"retry_max_seconds": 1.0, "max_wait_seconds": 0.1, **options})
        parts = {
            "choice": TopicChoice((self.topic,)),
            "parse": parse_reviews,
            "tasks_of": lambda _: None,
            "classifiers": (self.classifier,),
            **(parts or {}),
        }
        subscription = Subscription(self.kafka, parts["choice"], settings.max_message_bytes)
        try:
            positions = PartitionStore(self.database)
            source = Source(settings, subscription, positions, parts["parse"], tasks_of=parts["tasks_of"])
            writer = ReviewWriter(self.database, forward_dead_letters=forward)
            pipeline = ReviewPipeline(settings, lambda: parts["classifiers"], writer)
            yield Worker(settings, source, pipeline, stopping=threading.Event())
        finally:
            subscription.close()

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, straight from PostgreSQL."""
        address = self.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, options="-c TimeZone=UTC") as connection:
            return connection.execute(query, parameters).fetchall()

    def environment(self) -> dict[str, str]:
        """The settings of commands on the same topic and database."""
        return {
            "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": str(self.kafka.bootstrap_servers),
            "REVIEWLOOP_KAFKA__REVIEWS_TOPIC": self.topic,
            "REVIEWLOOP_KAFKA__LABELS_TOPIC": f"labels-{self.topic}",
            "REVIEWLOOP_KAFKA__GROUP_ID": self.kafka.group_id,
            "REVIEWLOOP_DATABASE__URL": self.database.url.render_as_string(hide_password=False),
        }


@contextmanager
def open_in_process(bootstrap: str, database_url: str, topic: str) -> Iterator[InProcess]:
    """A migrated database with a registered adapter, and a group of its own."""
    database = Database(DatabaseSettings(url=SecretStr(database_url)))
    try:
        adapter = AdapterVersion(
            version=VERSION,
            task="sentiment",
            labels=("negative", "positive"),
            base_model="none",
            base_revision=None,
            content_hash="01" * 32,
        )
        AdapterStore(database).add(adapter, {"adapter_config.json": b"{}"})
        kafka = KafkaSettings(bootstrap_servers=bootstrap, reviews_topic=topic, group_id=f"group-{topic}")
        yield InProcess(kafka, database, topic)
    finally:
        database.close()


def read_topic(bootstrap: str, topic: str, expected: int, seconds: float = 90) -> list[Any]:
    """The first so many records of a topic, in order within each partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=int(seconds * 1000)
    )
    try:
        consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
        records: list[Any] = []
        for record in consumer:
            records.append(record)
            if len(records) >= expected:
                break
        return records
    finally:
        consumer.close()


def write(folder: Path, name: str, content: bytes) -> Path:
    """A file in that folder."""
    (folder / name).write_bytes(content)
    return folder / name


Stream = Callable[..., InProcess]
