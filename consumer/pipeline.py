"""The stages behind the poll loop: tokenise ‖ score ‖ store, each a thread, bounded queues between them.

Order holds from end to end, so the ranges of one partition reach the database in the order of their offsets.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

from broker.subscription import Record, TopicPartition
from consumer.batch import Accepted, Batch, Item, Slice
from consumer.breaker import Breaker, Outcomes
from consumer.label_parsing import parse_labels
from consumer.measures import Measures
from consumer.parsing import parse_records
from consumer.scoring import EncodedBatch, score_batch
from consumer.serving import ServingClassifier
from consumer.settings import ConsumerSettings
from consumer.shadows import Shadow
from consumer.writing import PatientWriter, Writer
from reviews.batch import DeadLetter, PartitionRange
from reviews.label_batch import DeliveredLabel, LabelRange
from storage.stream.label_writer import Written

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_WAKE_SECONDS = 0.2


class Stage(Generic[_In, _Out]):
    """Runs ``work`` on items in order; the first error ends the stage and is kept for whoever asks.

    Args:
        name: Of the thread.
        work: Takes every item that waits, up to ``take``, and returns what goes on.
        inbox: Where items come from; bounded, so that a slow stage slows those before it.
        outbox: Where results go.
        take: How many waiting items one call of ``work`` may get.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[_In]], _Out],
        inbox: "Queue[_In]",
        outbox: "Queue[_Out]",
        *,
        take: int = 1,
    ) -> None:
        self._work = work
        self._inbox = inbox
        self._outbox = outbox
        self._take = take
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Stop as soon as the item in hand is done; what waits is left."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                items = self._next_items()
                if items:
                    self._hand_on(self._work(items))
        except BaseException as err:  # noqa: BLE001  the main loop raises it
            self.error = err

    def _next_items(self) -> list[_In]:
        items: list[_In] = []
        with suppress(Empty):
            items.append(self._inbox.get(timeout=_WAKE_SECONDS))
            while len(items) < self._take:
                items.append(self._inbox.get_nowait())
        return items

    def _hand_on(self, result: _Out) -> None:
        while not self._stopping.is_set():
            try:
                self._outbox.put(result, timeout=_WAKE_SECONDS)
            except Full:
                continue
            return


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one batch ended.

    Attributes:
        stored: The offset behind the stored records, by partition.
        lost: The same for partitions that another worker moved; nothing of theirs was written.
        reviews: How many valid records were stored: reviews, or labels on their topic.
        dead_letters: How many dead letters were stored.
    """

    stored: dict[TopicPartition, int]
    lost: dict[TopicPartition, int]
    reviews: int
    dead_letters: int


class Stages(Generic[Item]):
    """Takes batches, returns receipts; who extends it makes the stages between.

    Args:
        settings: Sizes and patience.
        measures: Where the stages count what they do.
    """

    def __init__(self, settings: ConsumerSettings, measures: Measures | None = None) -> None:
        self._settings = settings
        self._measures = measures or Measures()
        self._stopping = threading.Event()
        self._inbox: Queue[Batch[Item]] = Queue(settings.queue_batches)
        self._receipts: Queue[list[Receipt]] = Queue()
        self._stages: tuple[Stage[Any, Any], ...] = ()

    def parse(self, records: Sequence[Record], received_at: datetime) -> list[Item | DeadLetter]:
        """One outcome per record, in order (I4)."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the stages."""
        for stage in self._stages:
            stage.start()

    def offer(self, batch: Batch[Item], timeout_seconds: float) -> bool:
        """Put a batch in; False where the stages are busy for longer than the time-out."""
        try:
            self._inbox.put(batch, timeout=timeout_seconds)
        except Full:
            return False
        return True

    def receipts(self) -> list[Receipt]:
        """What ended since the last call, in order.

        Raises:
            BaseException: Whatever ended a stage.
        """
        for stage in self._stages:
            if stage.error is not None:
                raise stage.error
        found: list[Receipt] = []
        try:
            while True:
                found += self._receipts.get_nowait()
        except Empty:
            return found

    def stop(self, timeout_seconds: float) -> bool:
        """End the stages after the item in hand; whether all of them ended in time."""
        self._stopping.set()
        for stage in self._stages:
            stage.stop()
        deadline = time.monotonic() + timeout_seconds
        ended = [stage.join(max(0.0, deadline - time.monotonic())) for stage in self._stages]
        return all(ended)


ScoredBatch = list[tuple[Slice, PartitionRange]]


class Pipeline(Stages[Accepted]):
    """Reviews through the classifiers into the database.

    Args:
        settings: Sizes and patience.
        classifiers: What scores now, asked once per batch, before its texts are tokenised.
        writer: The one transaction.
        measures: Where the stages count what they do.
        shadows: Which adapters on trial score beside them, asked at the same moment.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        classifiers: Callable[[], Sequence[ServingClassifier]],
        writer: Writer[PartitionRange, frozenset[int]],
        measures: Measures | None = None,
        shadows: Callable[[], Sequence[Shadow]] = tuple,
    ) -> None:
        super().__init__(settings, measures)
        self._classifiers = classifiers
        self._shadows = shadows
        self._writer = PatientWriter(
            writer, lambda lost: lost, self._measures, self._stopping, settings.retry_max_seconds
        )
        self._breaker = Breaker(settings.breaker)
        size = settings.queue_batches
        encoded: Queue[EncodedBatch] = Queue(size)
        scored: Queue[ScoredBatch] = Queue(size)
        self._measures.queues.update(tokenise=self._inbox, score=encoded, store=scored)
        self._stages = (
            Stage("tokenise", self._encode, self._inbox, encoded),
            Stage("score", self._score, encoded, scored),
            # What waits together is stored together: fewer commits when the database is the slowest.
            Stage("store", self._store, scored, self._receipts, take=size + 1),
        )

    def parse(self, records: Sequence[Record], received_at: datetime) -> list[Accepted | DeadLetter]:
        """One outcome per record, in order (I4)."""
        settings = self._settings
        return parse_records(records, received_at, settings.max_message_bytes, settings.clock_tolerance)

    def _encode(self, batches: list[Batch]) -> EncodedBatch:
        batch = batches[0]
        self._measures.stage_seconds["wait"].add(time.monotonic() - batch.opened_at)
        with self._measures.timed("tokenise"):
            item = EncodedBatch(batch, self._classifiers(), self._shadows())
        self._measures.batch_reviews.add(len(item.texts))
        self._measures.tokens += item.tokens
        return item

    def _score(self, items: list[EncodedBatch]) -> ScoredBatch:
        with self._measures.timed("score"):
            scored = score_batch(items[0], self._settings.embeddings)
        for trial in items[0].trials:
            self._measures.tried(trial.task, trial.rows, trial.disagreements, has_failed=trial.has_failed)
        letters = [letter for _, part in scored for letter in part.dead_letters]
        self._breaker.note(
            {part.partition_id: Outcomes(len(part.dead_letters), len(part.reviews)) for _, part in scored},
            reason=letters[-1].reason if letters else None,
        )
        return scored

    def _store(self, batches: list[ScoredBatch]) -> list[Receipt]:
        """Write as few transactions as the batches allow: one, unless a partition's ranges have a hole."""
        with self._measures.timed("store"):
            receipts = [self._write(group) for group in merge(batches)]
        self._measure_arrivals(batches, receipts)
        return receipts

    def _measure_arrivals(self, batches: list[ScoredBatch], receipts: list[Receipt]) -> None:
        lost = {partition for receipt in receipts for partition in receipt.lost}
        stored = [part for batch in batches for part, _ in batch if part.partition not in lost]
        # A replay has the time of its first attempt, which says nothing of how long it took.
        accepted = (review for part in stored for review in part.accepted if review.replay is None)
        self._measures.arrived([review.timestamp_ms for review in accepted], time.time() * 1000)

    def _write(self, group: dict[TopicPartition, PartitionRange]) -> Receipt:
        written = self._writer.write(list(group.values()))
        lost_ids = frozenset[int]().union(*(lost for _, lost in written))
        owned = [partition for partition, part in group.items() if part.partition_id not in lost_ids]
        parts = [part for ranges, lost in written for part in ranges if part.partition_id not in lost]
        reviews = sum(len(part.reviews) for part in parts)
        letters = [letter for part in parts for letter in part.dead_letters]
        self._measures.stored(reviews, letters)
        self._measures.kept(one.reason for part in parts for row in part.reviews for one in row.kept)
        return Receipt(
            stored={partition: group[partition].next for partition in owned},
            lost={partition: part.next for partition, part in group.items() if partition not in owned},
            reviews=reviews,
            dead_letters=len(letters),
        )


def merge(batches: Iterable[ScoredBatch]) -> list[dict[TopicPartition, PartitionRange]]:
    """Join consecutive ranges of the same partition, so that they can be stored in one transaction.

    Returns:
        Groups to be stored one after the other; a range that does not continue the one before it in its
        partition opens a new group.
    """
    groups: list[dict[TopicPartition, PartitionRange]] = [{}]
    for part, scored in (item for batch in batches for item in batch):
        before = groups[-1].get(part.partition)
        if before is None:
            groups[-1][part.partition] = scored
        elif before.partition_id == scored.partition_id and before.next == scored.expected:
            groups[-1][part.partition] = PartitionRange(
                before.partition_id,
                before.expected,
                scored.next,
                before.reviews + scored.reviews,
                before.dead_letters + scored.dead_letters,
                before.replays + scored.replays,
            )
        else:
            groups.append({part.partition: scored})
    return groups


class LabelPipeline(Stages[DeliveredLabel]):
    """Labels into the database.

    Nothing stops it when many are invalid: labels are not worth to stop for, and each refusal is kept.

    Args:
        settings: Sizes and patience.
        writer: The one transaction.
        measures: Where it counts what it does.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        writer: Writer[LabelRange, Written],
        measures: Measures | None = None,
    ) -> None:
        super().__init__(settings, measures)
        self._writer = PatientWriter(
            writer, lambda written: written.lost, self._measures, self._stopping, settings.retry_max_seconds
        )
        self._stages = (Stage("store-labels", self._store, self._inbox, self._receipts),)

    def parse(self, records: Sequence[Record], received_at: datetime) -> list[DeliveredLabel | DeadLetter]:
        """One outcome per record, in order (I4)."""
        settings = self._settings
        return parse_labels(records, received_at, settings.max_message_bytes, settings.clock_tolerance)

    def _store(self, batches: list[Batch[DeliveredLabel]]) -> list[Receipt]:
        parts = batches[0].slices
        ranges = [
            LabelRange(part.partition_id, part.expected, part.next, part.accepted, part.dead_letters)
            for part in parts.values()
        ]
        written = [each for _, each in self._writer.write(ranges)]
        labels = sum(each.labels for each in written)
        letters = [letter for each in written for letter in each.dead_letters]
        lost = frozenset[int]().union(*(each.lost for each in written))
        self._measures.stored(labels, letters)
        stored = {name: part.next for name, part in parts.items() if part.partition_id not in lost}
        return [
            Receipt(
                stored=stored,
                lost={name: part.next for name, part in parts.items() if name not in stored},
                reviews=labels,
                dead_letters=len(letters),
            )
        ]
