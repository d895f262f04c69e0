"""The one stage behind the poll loop of the labels topic: no classifier, only the transaction."""

from collections.abc import Sequence
from datetime import datetime

from broker.subscription import Record
from consumer.batch import Batch
from consumer.label_parsing import parse_labels
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from consumer.stage import Stage
from consumer.stages import Receipt, Stages
from consumer.writing import PatientWriter, Writer
from reviews.batch import DeadLetter
from reviews.label_batch import DeliveredLabel, LabelRange
from storage.stream.label_writer import Written


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
