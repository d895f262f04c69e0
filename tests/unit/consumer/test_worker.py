"""The loop of a worker: what waits in it is bounded, however much faster it reads than it stores."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.subscription import AssignmentChange, TopicPartition
from broker.topics import TopicChoice
from consumer.batch import Batch
from consumer.parsing import parse_reviews
from consumer.pipeline import Receipt
from consumer.settings import ConsumerSettings
from consumer.source import Source
from consumer.worker import Worker
from storage.stream.partitions import StreamPosition

PARTITION = TopicPartition("reviews", 0)
POLL_RECORDS, BATCH_RECORDS = 100, 10


@dataclass
class Delivered:
    offset: int
    value: bytes = b'{"id": "1", "text": "Good."}'
    key: bytes | None = None
    timestamp: int = 0
    headers: tuple[()] = ()


@dataclass
class Topic:
    """A subscription to one partition, which has more at every poll unless it is paused, up to an end."""

    end: int = 10**9
    poll_seconds: float = 0.0
    empty_polls: int = 0
    polls: int = 0
    delivered: int = 0
    is_paused: bool = False
    choice: TopicChoice = field(default_factory=lambda: TopicChoice(("reviews",)))
    cluster_id: str = "cluster"
    notes: list[AssignmentChange] = field(
        default_factory=lambda: [AssignmentChange(assigned=True, partitions=frozenset({PARTITION}))]
    )
    at_poll: Callable[[], None] = lambda: None

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Delivered]]:
        self.at_poll()
        time.sleep(self.poll_seconds)
        self.polls += 1
        if self.is_paused or self.delivered == self.end or self.polls <= self.empty_polls:
            return {}
        first, self.delivered = self.delivered, min(self.end, self.delivered + POLL_RECORDS)
        return {PARTITION: [Delivered(offset) for offset in range(first, self.delivered)]}

    def changes(self) -> list[AssignmentChange]:
        found, self.notes = self.notes, []
        return found

    def topics(self) -> list[str]:
        return ["reviews"]

    def missing_topics(self) -> list[str]:
        return []

    def topic_id(self, topic: str) -> str:
        return "topic"

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.is_paused = True

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.is_paused = False

    def position(self, partition: TopicPartition) -> int:
        return self.delivered

    def end_offset(self, partition: TopicPartition) -> int:
        return self.end

    def end_offsets(self) -> dict[TopicPartition, int]:
        return {PARTITION: self.end}

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        pass

    def is_member(self) -> bool:
        return True

    def is_reachable(self) -> bool:
        return True


@dataclass
class Store:
    """Positions and a pipeline that takes so many batches a round of the loop, and stores them at once."""

    a_round: int = 1
    room: int = 0
    stored: int = 0
    ended: list[Receipt] = field(default_factory=list)

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        return {0: StreamPosition(1, cluster_id, "reviews", topic_id, 0, 0, self.stored)}

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        return {0: self.stored}

    def start(self) -> None:
        pass

    def stop(self, timeout_seconds: float) -> None:
        pass

    def receipts(self) -> list[Receipt]:
        self.room = self.a_round
        found, self.ended = self.ended, []
        return found

    def offer(self, batch: Batch, timeout_seconds: float) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.stored = batch.ranges[PARTITION].next
        self.ended.append(Receipt({PARTITION: self.stored}, {}, accepted=batch.records, dead_letters=0))
        return True


def _worker(settings: ConsumerSettings, topic: Topic, store: Store, stopping: threading.Event) -> Worker:
    source = Source(settings, topic, store, parse_reviews)
    return Worker(settings, source, store, stopping=stopping)


def test_a_worker_that_reads_faster_than_it_stores_keeps_a_bounded_number_of_reviews():
    stopping, store, held = threading.Event(), Store(), []
    topic = Topic()

    def look() -> None:
        held.append(topic.delivered - store.stored)
        if topic.polls == 200:
            stopping.set()

    topic.at_poll = look
    totals = _worker(ConsumerSettings(max_batch_reviews=BATCH_RECORDS), topic, store, stopping).run()
    assert totals.accepted == store.stored == topic.delivered, "what was in hand was not stored at the end"
    assert store.stored >= 190 * BATCH_RECORDS, "the loop does not hand on what it reads"
    assert max(held) <= POLL_RECORDS + BATCH_RECORDS, f"{max(held)} reviews wait in the loop"


def test_a_worker_until_idle_reads_on_while_the_brokers_have_more_however_long_a_poll_takes():
    topic = Topic(end=3, poll_seconds=0.02, empty_polls=2)
    worker = _worker(ConsumerSettings(max_wait_seconds=0.01), topic, Store(), threading.Event())
    assert worker.run(until_idle_seconds=0.001).accepted == 3
