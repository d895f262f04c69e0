"""The stages behind the poll loop: tokenise ‖ score ‖ store, each a thread, bounded queues between them.

Order holds from end to end, so the ranges of one partition reach the database in the order of their offsets.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from queue import Queue

from broker.subscription import Record, TopicPartition
from consumer.batch import Accepted, Batch, Slice
from consumer.breaker import Breaker, Outcomes
from consumer.classifiers import Classifier
from consumer.measures import Measures
from consumer.parsing import parse_records
from consumer.scoring import EncodedBatch, score_batch
from consumer.settings import ConsumerSettings
from consumer.stage import Stage
from consumer.stages import Receipt, Stages
from consumer.trial import Shadow
from consumer.writing import PatientWriter, Writer
from reviews.batch import DeadLetter, PartitionRange

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
        classifiers: Callable[[], Sequence[Classifier]],
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
