"""The stages behind the worker's loop, each a thread, with bounded queues between them.

Reviews: tokenise, score, store. Labels: store. Order holds from end to end, so the ranges of one partition
reach the database in the order of their offsets.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Generic, TypeVar

from broker.subscription import TopicPartition
from consumer.batch import AcceptedT, Batch
from consumer.breaker import Breaker, Outcomes
from consumer.measures import Measures
from consumer.retrying_writer import RetryingWriter
from consumer.scoring import EncodedBatch, ScoredBatch, score_batch, tokenise_batch
from consumer.serving import ServingClassifier
from consumer.settings import ConsumerSettings
from consumer.shadows import Shadow
from reviews.stream_records import AcceptedLabel, AcceptedReview, PartitionRange, ScoredReview, StorableT
from storage.stream.stream_writer import StreamWriter

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_WAKE_SECONDS = 0.2


class Stage(Generic[_In, _Out]):
    """Runs ``work`` on items in order, in a thread; the first error ends the stage and is kept.

    Args:
        name: Of the thread.
        work: Takes every item that waits, up to ``take``, and returns what goes on; unless ``take`` is more
            than 1, its list has one item.
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
        except BaseException as err:  # noqa: BLE001  the worker's loop raises it
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
        accepted: How many valid records were stored, reviews or labels.
        dead_letters: How many dead letters were stored.
        withdrawals: How many withdrawals were stored.
    """

    stored: dict[TopicPartition, int]
    lost: dict[TopicPartition, int]
    accepted: int
    dead_letters: int
    withdrawals: int = 0


class Pipeline(Generic[AcceptedT, StorableT]):
    """Takes batches and returns receipts; a subclass makes the stages between.

    Args:
        settings: Sizes and pauses.
        writer: Stores ranges; each call is one transaction.
        measures: Where the stages count what they do.
    """

    def __init__(
        self, settings: ConsumerSettings, writer: StreamWriter[StorableT], measures: Measures | None = None
    ) -> None:
        self._settings = settings
        self._measures = measures or Measures()
        self._stopping = threading.Event()
        self._writer = RetryingWriter(writer, self._measures, self._stopping, settings.retry_max_seconds)
        self._inbox: Queue[Batch[AcceptedT]] = Queue(settings.queue_batches)
        self._receipts: Queue[list[Receipt]] = Queue()
        self._stages: tuple[Stage[Any, Any], ...] = ()

    def start(self) -> None:
        """Start the stages."""
        for stage in self._stages:
            stage.start()

    def offer(self, batch: Batch[AcceptedT], timeout_seconds: float) -> bool:
        """Put a batch in; False where the stages are busy for longer than the time-out."""
        try:
            self._inbox.put(batch, timeout=timeout_seconds)
        except Full:
            return False
        return True

    def receipts(self) -> list[Receipt]:
        """What ended since the last call, in order.

        Raises:
            BaseException: The error that ended a stage.
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

    def _store(self, ranges: Mapping[TopicPartition, PartitionRange[StorableT]]) -> Receipt:
        """Write ranges, and tell what became of them."""
        written = self._writer.write(list(ranges.values()))
        rows = sum(len(part.accepted) for part in written.ranges)
        letters = [letter for part in written.ranges for letter in part.dead_letters]
        withdrawals = sum(len(part.withdrawals) for part in written.ranges)
        self._measures.stored(rows, letters, withdrawals)
        self._note_stored(written.ranges)
        ends = {partition: part.next for partition, part in ranges.items()}
        lost = {name: ends[name] for name, part in ranges.items() if part.partition_id in written.lost}
        stored = {name: end for name, end in ends.items() if name not in lost}
        return Receipt(stored, lost, accepted=rows, dead_letters=len(letters), withdrawals=withdrawals)

    def _note_stored(self, stored: Sequence[PartitionRange[StorableT]]) -> None:
        """Hook: further measures of what was stored."""


class ReviewPipeline(Pipeline[AcceptedReview, ScoredReview]):
    """Reviews through the classifiers into the database.

    Args:
        settings: Sizes and pauses.
        classifiers: What scores now, asked once per batch, before its texts are tokenised (I6).
        writer: Stores ranges; each call is one transaction.
        measures: Where the stages count what they do.
        shadows: Which adapters are in shadow scoring, asked at the same moment.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        classifiers: Callable[[], Sequence[ServingClassifier]],
        writer: StreamWriter[ScoredReview],
        measures: Measures | None = None,
        shadows: Callable[[], Sequence[Shadow]] = tuple,
    ) -> None:
        super().__init__(settings, writer, measures)
        self._classifiers = classifiers
        self._shadows = shadows
        self._breaker = Breaker(settings.breaker)
        size = settings.queue_batches
        encoded: Queue[EncodedBatch] = Queue(size)
        scored: Queue[ScoredBatch] = Queue(size)
        self._measures.queues.update(tokenise=self._inbox, score=encoded, store=scored)
        self._stages = (
            Stage("tokenise", self._tokenise, self._inbox, encoded),
            Stage("score", self._score, encoded, scored),
            # What waits together is stored together: fewer commits when the database is the slowest.
            Stage("store", self._store_merged, scored, self._receipts, take=size + 1),
        )

    def _tokenise(self, batches: list[Batch[AcceptedReview]]) -> EncodedBatch:
        batch = batches[0]
        self._measures.stage_seconds["wait"].add(time.monotonic() - batch.opened_at)
        with self._measures.timed("tokenise"):
            item = tokenise_batch(batch, self._classifiers(), self._shadows())
        self._measures.batch_reviews.add(len(item.texts))
        self._measures.tokens += item.tokens
        return item

    def _score(self, items: list[EncodedBatch]) -> ScoredBatch:
        with self._measures.timed("score"):
            scored = score_batch(items[0], self._settings.embeddings)
        for shadow in items[0].shadow_scoring:
            self._measures.shadow_scored(
                shadow.task, shadow.rows, shadow.disagreements, has_failed=shadow.has_failed
            )
        letters = [(name.topic, letter) for name, part in scored.items() for letter in part.dead_letters]
        topic, last = letters[-1] if letters else ("", None)
        self._breaker.note(
            {
                part.partition_id: Outcomes(
                    len(part.dead_letters), len(part.accepted) + len(part.withdrawals)
                )
                for part in scored.values()
            },
            reason=last and last.reason,
            topic=topic,
        )
        return scored

    def _store_merged(self, batches: list[ScoredBatch]) -> list[Receipt]:
        """Write as few transactions as the batches allow: one, unless a partition's ranges have a hole."""
        with self._measures.timed("store"):
            return [self._store(group) for group in merge(batches)]

    def _note_stored(self, stored: Sequence[PartitionRange[ScoredReview]]) -> None:
        self._measures.kept(one.reason for part in stored for row in part.accepted for one in row.kept)
        # A replay has the time of its first attempt, which says nothing of how long it took.
        reviews = (row.review for part in stored for row in part.accepted)
        arrived = [review.kafka_ms for review in reviews if review.replay is None]
        self._measures.arrived(arrived, time.time() * 1000)


class LabelPipeline(Pipeline[AcceptedLabel, AcceptedLabel]):
    """Labels into the database: no classifier, only the transaction.

    Many invalid labels do not stop it: each refusal is kept as a dead letter, and labels are not worth
    stopping for.

    Args:
        settings: Sizes and pauses.
        writer: Stores ranges; each call is one transaction.
        measures: Where it counts what it does.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        writer: StreamWriter[AcceptedLabel],
        measures: Measures | None = None,
    ) -> None:
        super().__init__(settings, writer, measures)
        self._stages = (Stage("store-labels", self._store_labels, self._inbox, self._receipts),)

    def _store_labels(self, batches: list[Batch[AcceptedLabel]]) -> list[Receipt]:
        return [self._store(batches[0].ranges)]


def merge(
    batches: Iterable[Mapping[TopicPartition, PartitionRange[StorableT]]],
) -> list[dict[TopicPartition, PartitionRange[StorableT]]]:
    """Join consecutive ranges of the same partition, so that they can be stored in one transaction.

    Returns:
        Groups to be stored one after the other; a range that does not continue the one before it in its
        partition opens a new group.
    """
    groups: list[dict[TopicPartition, PartitionRange[StorableT]]] = [{}]
    for partition, part in (item for batch in batches for item in batch.items()):
        before = groups[-1].get(partition)
        if before is None:
            groups[-1][partition] = part
        elif before.partition_id == part.partition_id and before.next == part.expected:
            groups[-1][partition] = before.joined(part)
        else:
            groups.append({partition: part})
    return groups
