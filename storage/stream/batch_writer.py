"""The one transaction of the main path: positions move and rows appear together, or neither does."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from reviews.batch import DeadLetter, PartitionRange, ScoredReview, record_id
from reviews.errors import ReviewLoopError
from storage.copying import PREDICTION_COPY, PREDICTION_TYPES, copy_rows, prediction_values
from storage.database import Database, end_frozen_writers
from storage.errors import Blocked
from storage.schema import adapter
from storage.stream.dead_letters import cut_columns, note_replays
from storage.stream.partitions import advance

_REVIEW_COPY = (
    "COPY review (record, review_id, text, product, source, stars, published_at, received_at, timestamp_ms, "
    "stars_given, stated_published_at) FROM STDIN (FORMAT BINARY)"
)
_REVIEW_TYPES = (
    "int8", "text", "text", "text", "text", "int2", "timestamptz", "timestamptz", "int8", "float8",
    "timestamptz",
)  # fmt: skip
_EMBEDDING_COPY = "COPY embedding (record, task, adapter_id, reason, vector) FROM STDIN (FORMAT BINARY)"
_EMBEDDING_TYPES = ("int8", "text", "int4", "text", "bytea")
_SHADOW_COPY = (
    "COPY prediction_history (record, task, adapter_id, label, confidence, probabilities, margin, entropy, "
    "truncated, scored_at, reason) FROM STDIN (FORMAT BINARY)"
)
_SHADOW_TYPES = (*PREDICTION_TYPES, "text")
_DEAD_LETTER_COPY = (
    "COPY dead_letter (record, stage, error, message, raw, key, received_at, timestamp_ms, raw_full_bytes, "
    "raw_sha256, key_full_bytes, key_sha256, to_forward) FROM STDIN (FORMAT BINARY)"
)
_DEAD_LETTER_TYPES = (
    "int8", "text", "text", "text", "bytea", "bytea", "timestamptz", "int8",
    "int8", "text", "int8", "text", "bool",
)  # fmt: skip


_Records = Sequence[tuple[int, ScoredReview]]


class BatchWriter:
    """Stores scored batches with an exactly-once effect (invariants I1, I2 and I4).

    Args:
        database: Where to.
        forward_dead_letters: Whether dead letters are marked to be told of on their Kafka topic as well.
    """

    def __init__(self, database: Database, *, forward_dead_letters: bool = False) -> None:
        self._database = database
        self._forward = forward_dead_letters
        self._adapter_ids: dict[str, int] = {}

    def write(self, ranges: Sequence[PartitionRange]) -> frozenset[int]:
        """Store every range whose position is still the expected one, all in one transaction.

        Args:
            ranges: At most one per partition.

        Returns:
            The ids of the partitions that somebody else moved meanwhile; nothing of theirs was written.

        Raises:
            Unavailable: If the database does not answer; the transaction may have been committed all the
                same, which a repeated call finds out by compare-and-set.
            Unstorable: If the database refuses the values of a record, so that nothing was written.
            ReviewLoopError: If a prediction names an adapter that is not registered.
        """
        return self._write(ranges, keep=True)

    def rehearse(self, ranges: Sequence[PartitionRange]) -> None:
        """Store the ranges and take it back at once, to learn whether the database would do it.

        Raises:
            Unavailable: As :meth:`write` would.
            Unstorable: As :meth:`write` would.
        """
        self._write(ranges, keep=False)

    def _write(self, ranges: Sequence[PartitionRange], *, keep: bool) -> frozenset[int]:
        try:
            return self._transact(ranges, keep=keep)
        except Blocked:
            end_frozen_writers(self._database)  # then the next attempt finds the way free
            raise

    def _transact(self, ranges: Sequence[PartitionRange], *, keep: bool) -> frozenset[int]:
        with self._database.begin() as connection:
            # 1. Positions, in one order for all workers, so that two of them never wait for each other.
            owned = [
                part
                for part in sorted(ranges, key=lambda part: part.partition_id)
                if advance(connection, part.partition_id, part.expected, part.next)
            ]
            # 2. Rows of the ranges that are ours.
            self._copy_rows(connection, owned)
            # 3. The commit makes both visible at once.
            if not keep:
                connection.rollback()
        return frozenset(part.partition_id for part in ranges) - {part.partition_id for part in owned}

    def _copy_rows(self, connection: Connection, ranges: Sequence[PartitionRange]) -> None:
        scored_at = datetime.now(UTC)
        records = [
            (record_id(part.partition_id, scored.offset), scored)
            for part in ranges
            for scored in part.reviews
        ]
        predictions = list(self._prediction_rows(connection, records, scored_at))
        beside = [item for item in records if item[1].kept or item[1].shadows]
        shadows = list(self._shadow_rows(connection, beside, scored_at))
        embeddings = list(self._embedding_rows(connection, beside))
        copy_rows(connection, _REVIEW_COPY, _REVIEW_TYPES, _review_rows(records))
        copy_rows(connection, PREDICTION_COPY, PREDICTION_TYPES, predictions)
        if shadows:
            copy_rows(connection, _SHADOW_COPY, _SHADOW_TYPES, shadows)
        if embeddings:
            copy_rows(connection, _EMBEDDING_COPY, _EMBEDDING_TYPES, embeddings)
        if any(part.dead_letters for part in ranges):
            rows = _dead_letter_rows(ranges, forward=self._forward)
            copy_rows(connection, _DEAD_LETTER_COPY, _DEAD_LETTER_TYPES, rows)
        note_replays(connection, ranges)

    def _prediction_rows(
        self, connection: Connection, records: "_Records", scored_at: datetime
    ) -> Iterator[tuple[Any, ...]]:
        for record, scored in records:
            for answer in scored.predictions:
                adapter_id = self._adapter_id(connection, answer.adapter_version)
                yield prediction_values(record, adapter_id, answer, scored_at)

    def _shadow_rows(
        self, connection: Connection, records: "_Records", scored_at: datetime
    ) -> Iterator[tuple[Any, ...]]:
        for record, scored in records:
            for answer in scored.shadows:
                adapter_id = self._adapter_id(connection, answer.adapter_version)
                yield (*prediction_values(record, adapter_id, answer, scored_at), "shadow")

    def _embedding_rows(self, connection: Connection, records: "_Records") -> Iterator[tuple[Any, ...]]:
        for record, scored in records:
            for kept in scored.kept:
                adapter_id = self._adapter_id(connection, kept.adapter_version)
                yield record, kept.task, adapter_id, kept.reason, kept.vector

    def _adapter_id(self, connection: Connection, version: str) -> int:
        known = self._adapter_ids.get(version)
        if known is None:
            known = connection.execute(select(adapter.c.id).where(adapter.c.version == version)).scalar()
            if known is None:
                raise ReviewLoopError(
                    f"The adapter '{version}' is not registered: add it with 'reviewloop adapters add DIR'."
                )
            self._adapter_ids[version] = known
        return known


def _review_rows(records: "_Records") -> Iterator[tuple[Any, ...]]:
    for record, scored in records:
        stars, stars_given = scored.stars, None
        if isinstance(stars, float):  # not whole: rounded, halves up, and kept beside it
            stars, stars_given = int(stars + 0.5), stars
        yield (
            record,
            scored.review_id,
            scored.text,
            scored.product,
            scored.source,
            stars,
            scored.published_at,
            scored.received_at,
            scored.timestamp_ms,
            stars_given,
            scored.stated_published_at,
        )


def _dead_letter_rows(ranges: Sequence[PartitionRange], *, forward: bool) -> Iterator[tuple[Any, ...]]:
    for part in ranges:
        for letter in part.dead_letters:
            yield (record_id(part.partition_id, letter.offset), *_dead_letter_values(letter), forward)


def _dead_letter_values(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.stage,
        letter.reason,
        letter.message,
        letter.raw,
        letter.key,
        letter.received_at,
        letter.timestamp_ms,
        *cut_columns(letter).values(),
    )
