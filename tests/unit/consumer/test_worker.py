"""The loop of a worker: what waits in it is bounded, however much faster it reads than it stores."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.subscription import TopicPartition
from consumer.batch import Batch, Batcher
from consumer.measures import Measures
from consumer.parsing import parse_records
from consumer.pipeline import Receipt
from consumer.settings import ConsumerSettings
from consumer.source import Backlog, Delivery
from consumer.worker import Worker

PARTITION, QUIET = TopicPartition("reviews", 0), TopicPartition("reviews", 1)
POLL_RECORDS, BATCH_RECORDS = 100, 10


@dataclass
class Delivered:
    offset: int
    value: bytes = b'{"id": "1", "text": "Good."}'
    key: bytes | None = None
    timestamp: int = 0
    headers: tuple[()] = ()


@dataclass
class Endless:
    """A source that has more at every poll, unless it is paused."""

    delivered: int = 0
    paused: bool = False
    is_settled: bool = True
    topic: str = "reviews"
    markers: list[tuple[TopicPartition, int, int, int]] = field(default_factory=list)

    def poll(self, timeout_seconds: float) -> list[Delivery]:
        if self.paused:
            return []
        first, self.delivered = self.delivered, self.delivered + POLL_RECORDS
        return [Delivery(PARTITION, 1, first, [Delivered(offset) for offset in range(first, self.delivered)])]

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def passed_over(self) -> list[tuple[TopicPartition, int, int, int]]:
        found, self.markers = self.markers, []
        return found

    def launch(self, batch: Batch) -> None:
        pass

    def continue_at(self, partition: TopicPartition, expected: int) -> None:
        pass

    def is_reachable(self) -> bool:
        return True

    def measure(self, measures: Measures) -> None:
        pass


@dataclass
class Slow:
    """A pipeline that takes one batch, or so many, a round of the loop."""

    a_round: int = 1
    room: int = 0
    taken: int = 0
    reached: dict[TopicPartition, int] = field(default_factory=dict)
    error: BaseException | None = None
    ended: list[object] = field(default_factory=list)

    def parse(self, records: Sequence[Delivered], received_at: datetime) -> list[object]:
        return parse_records(records, received_at, 1_000, timedelta())  # type: ignore[arg-type]

    def receipts(self) -> list[object]:
        self.room = self.a_round
        return []

    def offer(self, batch: Batch, timeout_seconds: float) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.taken += batch.records
        self.reached.update({partition: part.next for partition, part in batch.slices.items()})
        return True


def test_a_worker_that_reads_faster_than_it_stores_keeps_a_bounded_number_of_reviews():
    settings = ConsumerSettings(max_batch_reviews=BATCH_RECORDS)
    source, pipeline = Endless(), Slow()
    worker = Worker(settings, source, Batcher(settings), pipeline, stopping=threading.Event())  # type: ignore[arg-type]
    held = []
    for _ in range(200):
        worker._turn()
        held.append(source.delivered - pipeline.taken)
    assert pipeline.taken >= 190 * BATCH_RECORDS, "the loop does not hand on what it reads"
    assert max(held) <= POLL_RECORDS + BATCH_RECORDS, f"{max(held)} reviews wait in the loop"


def test_markers_at_the_end_of_a_quiet_partition_are_passed_over_while_another_never_rests():
    settings = ConsumerSettings(max_batch_reviews=BATCH_RECORDS)
    source, pipeline = Endless(markers=[(QUIET, 2, 7, 8)]), Slow(a_round=100)
    worker = Worker(settings, source, Batcher(settings), pipeline, stopping=threading.Event())  # type: ignore[arg-type]
    for _ in range(50):
        worker._turn()
    assert pipeline.reached.get(QUIET) == 8, "the quiet partition keeps a lag of one"


@dataclass
class Late:
    """A source whose polls take longer than the worker may be idle, and bring nothing at first."""

    pipeline: "Prompt"
    polls: int = 0
    records: int = 3
    is_settled: bool = True
    topic: str = "reviews"
    has_in_flight: bool = False

    def poll(self, timeout_seconds: float) -> list[Delivery]:
        time.sleep(0.02)
        self.polls += 1
        return (
            [Delivery(PARTITION, 1, 0, [Delivered(0), Delivered(1), Delivered(2)])] if self.polls == 3 else []
        )

    def backlog(self) -> Backlog:
        return Backlog("reviews", {0: self.records}, {0: self.pipeline.stored}, frozenset({0}))

    def launch(self, batch: Batch) -> None:
        self.has_in_flight, self.is_settled = True, False

    def settle(self, stored: object, lost: object) -> None:
        self.has_in_flight, self.is_settled = False, True

    def passed_over(self) -> list[object]:
        return []

    def continue_at(self, partition: TopicPartition, expected: int) -> None:
        pass

    def is_reachable(self) -> bool:
        return True

    def measure(self, measures: Measures) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


@dataclass
class Prompt(Slow):
    """A pipeline that stores what it is given."""

    stored: int = 0

    def start(self) -> None:
        pass

    def stop(self, timeout_seconds: float) -> None:
        pass

    def offer(self, batch: Batch, timeout_seconds: float) -> bool:
        self.stored += batch.records
        self.ended = [Receipt({PARTITION: 3}, {}, reviews=batch.records, dead_letters=0)]
        return True

    def receipts(self) -> list[object]:
        found, self.ended = self.ended, []
        return found


def test_a_worker_until_idle_reads_on_while_the_brokers_have_more_however_long_a_poll_takes():
    settings = ConsumerSettings(max_wait_seconds=0.01)
    pipeline = Prompt()
    worker = Worker(settings, Late(pipeline), Batcher(settings), pipeline, stopping=threading.Event())  # type: ignore[arg-type]
    assert worker.run(until_idle_seconds=0.001).reviews == 3
