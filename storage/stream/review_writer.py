"""Scored reviews into rows, in the one transaction of their stream."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from reviews.errors import ReviewLoopError
from reviews.record_id import record_id
from reviews.stream_records import PartitionRange, ScoredReview
from storage.copying import JSONB_VERSION, PREDICTION_COPY, PREDICTION_TYPES, copy_rows, prediction_values
from storage.database import Database
from storage.schema.adapters import adapter
from storage.stream.stream_writer import StreamWriter

_REVIEW_COPY = (
    "COPY review (record, review_id, text, product, source, stars, published_at, received_at, timestamp_ms, "
    "stars_given, stated_published_at, attributes) FROM STDIN (FORMAT BINARY)"
)
_REVIEW_TYPES = (
    "int8", "text", "text", "text", "text", "int2", "timestamptz", "timestamptz", "int8", "float8",
    "timestamptz", "bytea",  # the last one is JSONB as it is sent
)  # fmt: skip
_EMBEDDING_COPY = "COPY embedding (record, task, adapter_id, reason, vector) FROM STDIN (FORMAT BINARY)"
_EMBEDDING_TYPES = ("int8", "text", "int4", "text", "bytea")
_SHADOW_COPY = (
    "COPY prediction_history (record, task, adapter_id, label, confidence, probabilities, margin, entropy, "
    "truncated, scored_at, reason) FROM STDIN (FORMAT BINARY)"
)
_SHADOW_TYPES = (*PREDICTION_TYPES, "text")

_Records = Sequence[tuple[int, ScoredReview]]


class ReviewWriter(StreamWriter[ScoredReview]):
    """Stores scored reviews: each as a review with a prediction per task, or as a dead letter."""

    def __init__(self, database: Database, *, forward_dead_letters: bool = False) -> None:
        super().__init__(database, forward_dead_letters=forward_dead_letters)
        self._adapter_ids: dict[str, int] = {}

    def _store(
        self, connection: Connection, ranges: list[PartitionRange[ScoredReview]]
    ) -> list[PartitionRange[ScoredReview]]:
        scored_at = datetime.now(UTC)
        records = [
            (record_id(part.partition_id, scored.review.offset), scored)
            for part in ranges
            for scored in part.accepted
        ]
        predictions = list(self._prediction_rows(connection, records, scored_at))
        few = [item for item in records if item[1].kept or item[1].shadows]
        shadows = list(self._shadow_rows(connection, few, scored_at))
        embeddings = list(self._embedding_rows(connection, few))
        copy_rows(connection, _REVIEW_COPY, _REVIEW_TYPES, _review_rows(records))
        copy_rows(connection, PREDICTION_COPY, PREDICTION_TYPES, predictions)
        if shadows:
            copy_rows(connection, _SHADOW_COPY, _SHADOW_TYPES, shadows)
        if embeddings:
            copy_rows(connection, _EMBEDDING_COPY, _EMBEDDING_TYPES, embeddings)
        return ranges

    def _about(self, row: ScoredReview) -> tuple[str, int]:
        return row.review.message.id, row.review.arrived_ms

    def _prediction_rows(
        self, connection: Connection, records: _Records, scored_at: datetime
    ) -> Iterator[tuple[Any, ...]]:
        for record, scored in records:
            for prediction in scored.predictions:
                adapter_id = self._adapter_id(connection, prediction.adapter_version)
                yield prediction_values(record, adapter_id, prediction, scored_at)

    def _shadow_rows(
        self, connection: Connection, records: _Records, scored_at: datetime
    ) -> Iterator[tuple[Any, ...]]:
        for record, scored in records:
            for prediction in scored.shadows:
                adapter_id = self._adapter_id(connection, prediction.adapter_version)
                yield (*prediction_values(record, adapter_id, prediction, scored_at), "shadow")

    def _embedding_rows(self, connection: Connection, records: _Records) -> Iterator[tuple[Any, ...]]:
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


def _review_rows(records: Iterable[tuple[int, ScoredReview]]) -> Iterator[tuple[Any, ...]]:
    for record, scored in records:
        review = scored.review
        message = review.message
        stars, stars_given = message.stars, None
        if isinstance(stars, float):  # not whole: rounded, halves up, and kept beside it
            stars, stars_given = int(stars + 0.5), stars
        yield (
            record,
            message.id,
            message.text,
            message.product,
            message.source,
            stars,
            review.event_time,
            review.received_at,
            review.arrived_ms,  # the column timestamp_ms
            stars_given,
            review.stated_at,
            None if review.attributes is None else JSONB_VERSION + review.attributes,
        )
