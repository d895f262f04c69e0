"""The consumer as a story: records become batches, batches become rows, and offsets follow.

Read it from the top. The brokers, the model and the database are small fakes; everything else is the product.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.subscription import AssignmentChange, TopicPartition
from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.pipeline import ReviewPipeline
from consumer.settings import ConsumerSettings
from consumer.source import Source
from consumer.worker import Worker
from reviews.dead_letter import DeadLetter
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange, ScoredReview
from storage.stream.partitions import StreamPosition
from storage.stream.stream_writer import Written

PARTITION = TopicPartition("reviews", 0)


@dataclass
class Record:
    offset: int
    value: bytes
    key: bytes | None = None
    timestamp: int = 0
    headers: tuple[()] = ()


@dataclass
class Brokers:
    """A topic of one partition, and a consumer group of one."""

    log: list[bytes]
    position_: int | None = None
    told: list[int] = field(default_factory=list)
    has_joined: bool = False
    choice: TopicChoice = field(default_factory=lambda: TopicChoice(("reviews",)))
    cluster_id: str = "cluster"

    def changes(self) -> list[AssignmentChange]:
        first, self.has_joined = not self.has_joined, True
        return [AssignmentChange(assigned=True, partitions=frozenset({PARTITION}))] if first else []

    def topics(self) -> list[str]:
        return ["reviews"]

    def missing_topics(self) -> list[str]:
        return []

    def topic_id(self, topic: str) -> str:
        return "topic-id"

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        self.position_ = offset
        return True

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Record]]:
        first, self.position_ = self.position_, len(self.log)
        found = [Record(offset, value) for offset, value in enumerate(self.log)][first:]
        return {PARTITION: found} if found else {}

    def position(self, partition: TopicPartition) -> int | None:
        return self.position_

    def end_offsets(self) -> dict[TopicPartition, int]:
        return {PARTITION: len(self.log)}

    def end_offset(self, partition: TopicPartition) -> int:
        return len(self.log)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.told += offsets.values()

    def pause(self, partitions: object) -> None: ...
    def resume(self, partitions: object) -> None: ...
    def is_member(self) -> bool:
        return True

    def is_reachable(self) -> bool:
        return True


@dataclass
class Database:
    """The stored offset and the rows; both move in one step, by compare-and-set."""

    next_offset: int = 0
    rows: list[ScoredReview] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        return {0: StreamPosition(1, cluster_id, "reviews", topic_id, 0, 0, self.next_offset)}

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        return {0: self.next_offset}

    def write(self, ranges: Sequence[PartitionRange[ScoredReview]]) -> Written[ScoredReview]:
        (part,) = ranges
        if part.expected != self.next_offset:
            return Written([], frozenset({part.partition_id}))
        self.next_offset = part.next
        self.rows += part.accepted
        self.letters += part.dead_letters
        return Written([part], frozenset())


class Model:
    task, adapter_version = "sentiment", "sentiment-1"

    def encode(self, texts: Sequence[str]) -> Sequence[str]:
        return texts

    def score(self, texts: Sequence[str]) -> list[Prediction]:
        if "Break!" in texts:
            raise RuntimeError("index out of range")
        return [self._answer("good" if "Good" in text else "bad") for text in texts]

    def _answer(self, label: str) -> Prediction:
        return Prediction(self.task, label, 0.9, (0.1, 0.9), 0.8, 0.3, False, self.adapter_version)


def _worker(brokers: Brokers, database: Database) -> Worker:
    settings = ConsumerSettings(max_wait_seconds=0.01)
    # The source asks the database where to begin, reads from there, and cuts what comes into batches.
    source = Source(settings, brokers, database, parse_reviews)
    # The pipeline tokenises, scores and stores; each stage is a thread of its own.
    pipeline = ReviewPipeline(settings, lambda: (Model(),), database)
    # The worker is the loop between both: it hands batches over, and takes receipts back.
    return Worker(settings, source, pipeline, stopping=threading.Event())


def test_the_story_of_a_worker():
    brokers, database = (
        Brokers([b'{"id": "1", "text": "Good kettle."}', b'{"id": "2", "text": "It leaks."}']),
        Database(),
    )

    # Two reviews are published. A worker reads all there is, and ends when everything is stored.
    totals = _worker(brokers, database).run(until_idle_seconds=0.01)
    assert (totals.accepted, totals.dead_letters) == (2, 0)
    assert [(row.review.message.id, row.predictions[0].label) for row in database.rows] == [
        ("1", "good"),
        ("2", "bad"),
    ]

    # The stored offset moved with the rows. Kafka is told of it, for its lag tools, and never asked.
    assert database.next_offset == 2
    assert brokers.told[-1] == 2

    # Then somebody publishes what is no JSON, a text that breaks the model, and a good review. Each delivered
    # record ends as a review or as a dead letter, which says at what stage it failed, and why.
    brokers.log += [b"{", b'{"id": "3", "text": "Break!"}', b'{"id": "4", "text": "Good, too."}']
    totals = _worker(Brokers(brokers.log), database).run(until_idle_seconds=0.01)
    assert (totals.accepted, totals.dead_letters) == (1, 2)
    assert [(letter.offset, letter.stage, letter.reason) for letter in database.letters] == [
        (2, "parse", "not_json"),
        (3, "score", "model_failed"),
    ]
    assert database.letters[1].raw == b'{"id": "3", "text": "Break!"}', (
        "a dead letter keeps what was delivered"
    )

    # A worker that is started again begins at the stored offset: nothing is stored twice.
    assert _worker(Brokers(brokers.log), database).run(until_idle_seconds=0.01).accepted == 0
    assert [row.review.offset for row in database.rows] == [0, 1, 4]


def test_a_worker_whose_partition_another_one_took_writes_nothing_and_reads_the_offset_again():
    database = Database()

    class Overtaken(Database):
        """Between this worker's read and its write, another worker stored the first record."""

        def write(self, ranges: Sequence[PartitionRange[ScoredReview]]) -> Written[ScoredReview]:
            if not database.rows and ranges[0].expected == 0:
                database.next_offset = 1
            return database.write(ranges)

        def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
            return database.find(cluster_id, topic_id)

        def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
            return {0: database.next_offset}

    brokers = Brokers([b'{"id": "1", "text": "Good."}', b'{"id": "2", "text": "Good."}'])
    totals = _worker(brokers, Overtaken()).run(until_idle_seconds=0.01)
    # The compare-and-set was lost once; then the worker went on where the other one had stopped.
    assert (totals.lost_partitions, totals.accepted) == (1, 1)
    assert [row.review.offset for row in database.rows] == [1]
    assert database.next_offset == 2
