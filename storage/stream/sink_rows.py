"""The rows that a sink publishes, read in steps of bounded size: by record behind its position, or by mark.

The records of a partition become visible in their order, as the partition's position moves in the transaction
that writes their rows (I1). What is read behind a sink's position is therefore complete.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from reviews.record_id import MAX_OFFSET
from reviews.scored_row import SCHEMA_VERSION, Change, ScoredRow

MAX_ROWS = 4_000
"""Reviews, withdrawals and marks that are read at once, each."""
MAX_BYTES = 16 * 1024 * 1024
"""Of the texts that are read at once; one text may have more alone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Reviews after the bound of bytes never leave the server; the first one does however long it is.
_ROWS = f"""
SELECT n.record, n.review_id, n.text, n.product, n.source, n.published_at, coalesce(n.stars_given, n.stars),
       n.timestamp_ms, p.task, p.adapter_id, p.label, p.confidence, p.probabilities, p.margin, p.entropy,
       p.truncated, p.scored_at, n.attributes
  FROM (SELECT r.*, sum(octet_length(r.text)) OVER (ORDER BY r.record) AS bytes
          FROM (SELECT record, review_id, text, product, source, published_at, stars, stars_given,
                       timestamp_ms, attributes
                  FROM {{source}} ORDER BY record LIMIT {MAX_ROWS}) r) n
  LEFT JOIN prediction p ON p.record = n.record
 WHERE n.bytes <= {MAX_BYTES} OR n.bytes = octet_length(n.text)
 ORDER BY n.record, p.task
"""  # noqa: S608  nothing but names and numbers
_BEHIND = text(_ROWS.format(source="review WHERE record >= :first AND record < :next"))
# What was withdrawn meanwhile is not published again.
_OF_RECORDS = text(_ROWS.format(source="published_review WHERE record = ANY(:records)"))
_WITHDRAWN = text(f"""
SELECT record, review_id, timestamp_ms FROM withdrawal
 WHERE record >= :first AND record < :next ORDER BY record LIMIT {MAX_ROWS}
""")  # noqa: S608  the same
_MARKED = text(f"""
SELECT id, record, task, reason, review_id FROM sink_change
 WHERE sink_id = :sink AND record >= :first AND record < :next ORDER BY record, id LIMIT {MAX_ROWS}
""")  # noqa: S608  the same
_LABELLED = text("SELECT DISTINCT record FROM label WHERE record >= :first AND record <= :last")
_CONSENSUS = text("SELECT record, task, label FROM label_consensus WHERE record = ANY(:records)")
_ADAPTER = text("SELECT version, labels FROM adapter WHERE id = :id")


class Place(NamedTuple):
    """The partition of some records, and the moment at which their rows are read.

    Attributes:
        topic: Kafka's topic.
        partition: Kafka's partition.
        as_of: The database's clock before anything is read (UTC).
    """

    topic: str
    partition: int
    as_of: datetime


class Step(NamedTuple):
    """What is published in one go.

    Attributes:
        rows: In the order in which they are published.
        next_record: Every record between the position and this one is among the rows, or has none.
        marks: Record and id of the marks that are settled by it.
    """

    rows: list[ScoredRow]
    next_record: int
    marks: list[tuple[int, int]]


class _Mark(NamedTuple):
    id: int
    record: int
    task: str
    reason: Change
    review_id: str | None

    @property
    def is_erasure(self) -> bool:
        return self.review_id is not None


class SinkRowReader:
    """Reads rows for sinks; an adapter is looked up once, as it never changes."""

    def __init__(self) -> None:
        self._adapters: dict[int, tuple[str, tuple[str, ...]]] = {}

    def read(self, connection: Connection, sink_id: int, place: Place, span: range) -> Step:
        """The next rows of a partition, then rows before them that were marked since they were published.

        Args:
            connection: In the transaction that moves the position.
            sink_id: Whose marks.
            place: Of the partition.
            span: Its records from the sink's position to what workers have stored.
        """
        # A row that is read after its mark has the change in it, so that both are settled by one message.
        early = _marks(connection, sink_id, span)
        rows, next_record = self._behind(connection, place, span)
        late = _marks(connection, sink_id, range(span.start & ~MAX_OFFSET, span.start))
        changed, settled = self._changed(connection, place, late)
        # An erased review may have other versions that were published: its mark waits until it is behind.
        settled += [
            (mark.record, mark.id) for mark in early if mark.record < next_record and not mark.is_erasure
        ]
        return Step([*rows, *changed], next_record, settled)

    def _behind(self, connection: Connection, place: Place, span: range) -> tuple[list[ScoredRow], int]:
        if not span:
            return [], span.start
        within = {"first": span.start, "next": span.stop}
        found = connection.execute(_BEHIND, within).all()
        next_record = found[-1][0] + 1 if found else span.stop
        withdrawn = connection.execute(_WITHDRAWN, {**within, "next": next_record}).all()
        if len(withdrawn) == MAX_ROWS:  # there may be more of them: the others wait for the next step
            next_record = withdrawn[-1].record + 1
            found = [row for row in found if row[0] < next_record]
        said = _human_labels_among(connection, [row[0] for row in found])
        rows = [self._row(connection, place, row, said) for row in found if row[8] is not None]
        rows += [_withdrawal(place, *row) for row in withdrawn]
        return sorted(rows, key=_record) if withdrawn else rows, next_record

    def _changed(
        self, connection: Connection, place: Place, marks: Sequence[_Mark]
    ) -> tuple[list[ScoredRow], list[tuple[int, int]]]:
        if not marks:
            return [], []
        records = sorted({mark.record for mark in marks})
        found = connection.execute(_OF_RECORDS, {"records": records}).all()
        # Marks behind the last row that was read stay, as it may be the bound of bytes that left them out.
        settled = [mark for mark in marks if not found or mark.record <= found[-1][0]]
        said = _human_labels(connection, records)
        latest = {(mark.record, mark.task): mark for mark in marks}
        rows = [
            self._row(connection, place, row, said, mark)
            for row in found
            if (mark := latest.get((row[0], row[8]))) is not None
        ]
        rows += [
            _tombstone(place, mark.record, mark.review_id) for mark in settled if mark.review_id is not None
        ]
        return rows, [(mark.record, mark.id) for mark in settled]

    def _row(
        self,
        connection: Connection,
        place: Place,
        row: Sequence[Any],
        said: Mapping[tuple[int, str], str | None],
        mark: _Mark | None = None,
    ) -> ScoredRow:
        record, review_id, body, product, source, published_at, stars, timestamp_ms = row[:8]
        task, adapter_id, label, confidence, probabilities, margin, entropy, truncated, scored_at = row[8:17]
        version, labels = self._adapter(connection, adapter_id)
        return ScoredRow.of(
            {
                "schema_version": SCHEMA_VERSION,
                "change": mark.reason if mark else "scored",
                "event_id": f"{record}/{version}/{mark.id}" if mark else f"{record}/{version}",
                "as_of": place.as_of,
                "record": record,
                "review_id": review_id,
                "text": body,
                "text_left_out": False,
                "product": product,
                "source": source,
                "stars": stars,
                "published_at": published_at,
                "attributes": row[17],
                "task": task,
                "label": label,
                "confidence": confidence,
                "probabilities": dict(zip(labels, probabilities, strict=True)),
                "margin": margin,
                "entropy": entropy,
                "truncated": truncated,
                "adapter_version": version,
                "scored_at": scored_at,
                "human_label": said.get((record, task)),
                "withdrawn_at": None,
                "kafka_topic": place.topic,
                "kafka_partition": place.partition,
                "kafka_offset": record & MAX_OFFSET,
                "kafka_timestamp_ms": timestamp_ms if timestamp_ms >= 0 else None,
            }
        )

    def _adapter(self, connection: Connection, adapter_id: int) -> tuple[str, tuple[str, ...]]:
        known = self._adapters.get(adapter_id)
        if known is None:
            row = connection.execute(_ADAPTER, {"id": adapter_id}).one()
            known = self._adapters[adapter_id] = (row.version, tuple(row.labels))
        return known


def _marks(connection: Connection, sink_id: int, records: range) -> list[_Mark]:
    given = {"sink": sink_id, "first": records.start, "next": records.stop}
    return [_Mark(*row) for row in connection.execute(_MARKED, given)]


def _withdrawal(place: Place, record: int, review_id: str, timestamp_ms: int) -> ScoredRow:
    return ScoredRow(
        change="withdrawn",
        event_id=str(record),
        as_of=place.as_of,
        record=record,
        review_id=review_id,
        withdrawn_at=_EPOCH + timedelta(milliseconds=timestamp_ms),
        kafka_topic=place.topic,
        kafka_partition=place.partition,
        kafka_offset=record & MAX_OFFSET,
        kafka_timestamp_ms=timestamp_ms,
    )


def _tombstone(place: Place, record: int, review_id: str) -> ScoredRow:
    return ScoredRow(
        change="erased",
        event_id=f"{record}/erased",
        as_of=place.as_of,
        record=record,
        review_id=review_id,
        kafka_topic=place.topic,
        kafka_partition=place.partition,
        kafka_offset=record & MAX_OFFSET,
    )


def _record(row: ScoredRow) -> int:
    return row.record


def _human_labels_among(
    connection: Connection, records: Sequence[int]
) -> Mapping[tuple[int, str], str | None]:
    """As `_human_labels`, for neighbours in a partition: few of them have labels, which one look finds."""
    if not records:
        return {}
    span = {"first": records[0], "last": records[-1]}
    return _human_labels(connection, list(connection.execute(_LABELLED, span).scalars()))


def _human_labels(connection: Connection, records: Sequence[int]) -> Mapping[tuple[int, str], str | None]:
    """What people agree on, by record and task."""
    if not records:
        return {}
    rows = connection.execute(_CONSENSUS, {"records": list(records)})
    return {(record, task): label for record, task, label in rows}
