"""Published labels into rows, in the one transaction of their stream."""

from dataclasses import replace

from sqlalchemy import Connection

from reviews.errors import InvalidMessage
from reviews.label import UnpinnedLabel, Vocabularies, resolve_label
from reviews.record_id import record_id
from reviews.stream_records import AcceptedLabel, PartitionRange, in_order
from storage.labels.rows import add_labels
from storage.labels.vocabulary import read_vocabularies
from storage.stream.stream_writer import StreamWriter

SOURCE = "topic"


class LabelWriter(StreamWriter[AcceptedLabel]):
    """Stores labels: each as an answer, as a label that waits for its review, or as a dead letter.

    An answer that is already stored, for example because it was published twice, is not stored again.
    """

    def _store(
        self, connection: Connection, ranges: list[PartitionRange[AcceptedLabel]]
    ) -> list[PartitionRange[AcceptedLabel]]:
        # Read in this transaction: a label is refused by the vocabulary that holds when it is stored.
        vocabularies = read_vocabularies(connection)
        labels: list[UnpinnedLabel] = []
        stored = []
        for part in ranges:
            accepted, refused = [], []
            for item in part.accepted:
                try:
                    labels.append(_unpinned(part.partition_id, item, vocabularies))
                    accepted.append(item)
                except InvalidMessage as err:
                    refused.append(item.refused("label", err.reason, str(err)))
            letters = in_order(part.dead_letters, refused)
            stored.append(replace(part, accepted=accepted, dead_letters=letters))
        add_labels(connection, labels)
        return stored

    def _about(self, row: AcceptedLabel) -> tuple[str, int]:
        return row.message.review_id, row.arrived_ms


def _unpinned(partition_id: int, item: AcceptedLabel, vocabularies: Vocabularies) -> UnpinnedLabel:
    message = item.message
    return UnpinnedLabel(
        message.review_id,
        message.task,
        resolve_label(message.label, vocabularies.get(message.task)),
        message.annotator,
        SOURCE,
        item.event_time,
        record_id(partition_id, item.offset),
        message.seconds,
    )
