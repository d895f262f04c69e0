"""The one transaction of the labels topic: positions move and answers appear together, or neither does."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert

from reviews.batch import DeadLetter, record_id
from reviews.errors import InvalidMessage
from reviews.label import UnpinnedLabel, Vocabularies, resolve_label
from reviews.label_batch import DeliveredLabel, LabelRange
from storage.database import Database, end_frozen_writers
from storage.errors import Blocked
from storage.labels.rows import land, read_vocabularies
from storage.schema import dead_letter
from storage.stream.dead_letters import cut_columns, note_outcomes
from storage.stream.partitions import advance

SOURCE = "topic"


class Written(NamedTuple):
    """What one transaction did.

    Attributes:
        lost: The ids of the partitions that somebody else moved; nothing of theirs was written.
        labels: How many labels landed: as answers, waiting, or known already.
        dead_letters: Those that were stored, the ones of the stage before included.
    """

    lost: frozenset[int]
    labels: int
    dead_letters: list[DeadLetter]


class LabelWriter:
    """Stores published labels with an exactly-once effect (invariants I1, I2 and I4).

    Each record ends as one answer, as one label that waits for its review, or as one dead letter; an answer
    that is there already, published twice for one, stays one.

    Args:
        database: Where to.
        forward_dead_letters: Whether dead letters are marked to be told of on their Kafka topic as well.
    """

    def __init__(self, database: Database, *, forward_dead_letters: bool = False) -> None:
        self._database = database
        self._forward = forward_dead_letters

    def write(self, ranges: Sequence[LabelRange]) -> Written:
        """Store every range whose position is still the expected one, all in one transaction.

        Args:
            ranges: At most one per partition.

        Raises:
            Unavailable: If the database does not answer; the transaction may have been committed all the
                same, which a repeated call finds out by compare-and-set.
            Unstorable: If the database refuses the values of a record, so that nothing was written.
        """
        return self._write(ranges, keep=True)

    def rehearse(self, ranges: Sequence[LabelRange]) -> None:
        """Store the ranges and take it back at once, to learn whether the database would do it.

        Raises:
            Unavailable: As :meth:`write` would.
            Unstorable: As :meth:`write` would.
        """
        self._write(ranges, keep=False)

    def _write(self, ranges: Sequence[LabelRange], *, keep: bool) -> Written:
        try:
            return self._transact(ranges, keep=keep)
        except Blocked:
            end_frozen_writers(self._database)  # then the next attempt finds the way free
            raise

    def _transact(self, ranges: Sequence[LabelRange], *, keep: bool) -> Written:
        with self._database.begin() as connection:
            # 1. Positions, in one order for all workers, so that two of them never wait for each other.
            owned = [
                part
                for part in sorted(ranges, key=lambda part: part.partition_id)
                if advance(connection, part.partition_id, part.expected, part.next)
            ]
            # 2. Which labels there are is asked in the same transaction: what is refused is refused by that.
            vocabularies = read_vocabularies(connection)
            labels: list[UnpinnedLabel] = []
            letters: list[DeadLetter] = []
            for part in owned:
                found = list(_resolve(part, vocabularies))
                labels += [item for item in found if isinstance(item, UnpinnedLabel)]
                refused = [item for item in found if isinstance(item, DeadLetter)]
                letters += self._refuse(connection, part, refused)
            # 3. Rows; the commit makes all of it visible at once.
            land(connection, labels)
            if not keep:
                connection.rollback()
        lost = frozenset(part.partition_id for part in ranges) - {part.partition_id for part in owned}
        return Written(lost, len(labels), letters)

    def _refuse(
        self, connection: Connection, part: LabelRange, refused: Sequence[DeadLetter]
    ) -> list[DeadLetter]:
        letters = sorted([*part.dead_letters, *refused], key=lambda letter: letter.offset)
        if letters:
            rows = [_letter_row(part.partition_id, letter, forward=self._forward) for letter in letters]
            connection.execute(insert(dead_letter), rows)
        offsets = {letter.offset for letter in refused}
        replays = [
            (label.offset, label.replay)
            for label in part.labels
            if label.replay is not None and label.offset not in offsets
        ]
        note_outcomes(connection, part.partition_id, replays, letters)
        return letters


def _resolve(part: LabelRange, vocabularies: Vocabularies) -> Iterator[UnpinnedLabel | DeadLetter]:
    for item in part.labels:
        try:
            yield _unpinned(part.partition_id, item, vocabularies)
        except InvalidMessage as err:
            yield item.refused(err.reason, str(err))


def _unpinned(partition_id: int, item: DeliveredLabel, vocabularies: Vocabularies) -> UnpinnedLabel:
    message = item.message
    return UnpinnedLabel(
        message.review_id,
        message.task,
        resolve_label(message.label, vocabularies.get(message.task)),
        message.annotator,
        SOURCE,
        item.labelled_at,
        record_id(partition_id, item.offset),
    )


def _letter_row(partition_id: int, letter: DeadLetter, *, forward: bool) -> dict[str, Any]:
    return {
        "record": record_id(partition_id, letter.offset),
        "stage": letter.stage,
        "error": letter.reason,
        "message": letter.message,
        "raw": letter.raw,
        "key": letter.key,
        "received_at": letter.received_at,
        "timestamp_ms": letter.timestamp_ms,
        "to_forward": forward,
        **cut_columns(letter),
    }
