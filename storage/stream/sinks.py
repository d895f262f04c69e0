"""Sinks: the database is their outbox. A position per partition moves when the sink's topic has its rows.

The process that forwards a partition holds the row of its position locked until the topic has acknowledged:
others pass over it, and when the holder dies the lock goes with its connection. What changes in a row after
it was published is marked (`sink_change`) in the transaction that changes it; the mark goes in the same way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, text

from reviews.errors import Unavailable
from reviews.record_id import OFFSET_BITS
from reviews.scored_row import ScoredRow
from storage.database import Database
from storage.stream.sink_rows import Place, SinkRowReader, Step

LOCK_SECONDS = 60
"""A forwarder that is frozen for longer than this loses its partition; sending has to be over much sooner."""
MOST_COUNTED = 10_000
"""Marks are counted up to this number."""
_WAIT_SECONDS = 0.1

_FIND = text("SELECT id, is_open FROM sink WHERE topic = :topic")
_ADD = text("INSERT INTO sink (topic) VALUES (:topic) ON CONFLICT DO NOTHING")
_TRANSACTION = text("SELECT pg_current_xact_id()")
# Whether every transaction has ended that began before this one.
_IS_PAST = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) > CAST(CAST(:xid AS text) AS xid8)")
_STREAMS = f"""
SELECT *, id::bigint << {OFFSET_BITS} AS base FROM stream_partition WHERE topic <> :labels_topic
"""  # noqa: S608  nothing but the constant above
_PLACE = text(f"""
INSERT INTO sink_position (sink_id, stream_partition_id, next_record)
SELECT :sink, s.id, s.base + CASE WHEN :latest THEN s.next_offset ELSE s.start_offset END
  FROM ({_STREAMS}) s
 WHERE NOT EXISTS (SELECT FROM sink_position q WHERE q.sink_id = :sink AND q.stream_partition_id = s.id)
 ORDER BY s.id
    ON CONFLICT DO NOTHING
""")  # noqa: S608  nothing but the constants above
_OPEN = text("UPDATE sink SET is_open = true WHERE id = :sink")
_HAS_WORK = f"""(
    q.next_record < (s.id::bigint << {OFFSET_BITS}) + s.next_offset
    OR EXISTS (SELECT FROM sink_change c
                WHERE c.sink_id = q.sink_id
                  AND c.record >= s.id::bigint << {OFFSET_BITS} AND c.record < q.next_record))"""
# The partition that has waited longest among those that nobody is at.
_CLAIM = text(f"""
SELECT q.stream_partition_id, q.next_record, (s.id::bigint << {OFFSET_BITS}) + s.next_offset AS stored,
       s.topic, s.partition
  FROM sink_position q JOIN stream_partition s ON s.id = q.stream_partition_id
 WHERE q.sink_id = :sink AND {_HAS_WORK}
 ORDER BY q.moved_at, q.stream_partition_id LIMIT 1 FOR UPDATE OF q SKIP LOCKED
""")  # noqa: S608  nothing but the constants above
# Behind the claim: the time is later than everything that the holder before read.
_PATIENCE = text(
    f"SELECT set_config('idle_in_transaction_session_timeout', '{LOCK_SECONDS}s', true), clock_timestamp()"
)
# Fails where the server has ended this session, for example because this process was frozen.
_STILL_HELD = text("SELECT 1 AS still_held")
_MOVE = text("""
UPDATE sink_position SET next_record = :next, moved_at = clock_timestamp()
 WHERE sink_id = :sink AND stream_partition_id = :partition AND next_record = :expected
""")
_SETTLE = text("""
DELETE FROM sink_change c
 USING unnest(CAST(:records AS bigint[]), CAST(:ids AS bigint[])) AS sent (record, id)
 WHERE c.sink_id = :sink AND c.record = sent.record AND c.id = sent.id
""")
_MARK = text("""
INSERT INTO sink_change (sink_id, record, task, reason)
SELECT s.id, changed.record, :task, :reason
  FROM unnest(CAST(:records AS bigint[])) AS changed (record) CROSS JOIN sink s
""")
_MARK_ERASED = text("""
INSERT INTO sink_change (sink_id, record, task, reason, review_id)
SELECT s.id, erased.record, '', 'erased', erased.review_id
  FROM unnest(CAST(:records AS bigint[]), CAST(:review_ids AS text[])) AS erased (record, review_id)
 CROSS JOIN sink s
""")
_UNPUBLISHED = text("SELECT stream_partition_id, min(next_record) FROM sink_position GROUP BY 1")
# Partitions that no forwarder has seen yet count from their beginning.
_LAG = text(f"""
SELECT k.topic, k.created_at, k.is_open,
       coalesce(sum(s.next_offset + s.base - coalesce(q.next_record, s.base + s.start_offset)), 0)::bigint
           AS records,
       extract(epoch FROM clock_timestamp() - min(oldest.received_at))::float AS seconds,
       (SELECT count(*) FROM (SELECT FROM sink_change c WHERE c.sink_id = k.id LIMIT {MOST_COUNTED}) marks)
           AS changes,
       max(q.moved_at) AS moved_at
  FROM sink k
  LEFT JOIN ({_STREAMS}) s ON true
  LEFT JOIN sink_position q ON q.sink_id = k.id AND q.stream_partition_id = s.id
  LEFT JOIN LATERAL (
        SELECT r.received_at FROM review r
         WHERE r.record >= q.next_record AND r.record < s.base + s.next_offset
         ORDER BY r.record LIMIT 1) oldest ON true
 GROUP BY k.id ORDER BY k.topic
""")  # noqa: S608  nothing but the constants above
_REMOVE = text("DELETE FROM sink WHERE topic = :topic")


class SinkLag(NamedTuple):
    """How far a sink is behind what is stored.

    Attributes:
        topic: Where its rows go.
        created_at: When it was set up (UTC).
        is_open: Whether it has begun.
        records: Records between its positions and the stored offsets; not all of them are reviews.
        seconds: Since the oldest review among them was received; None where there is none.
        changes: Marked rows, up to :data:`MOST_COUNTED`.
        moved_at: When a position moved last (UTC); None before the first.
    """

    topic: str
    created_at: datetime
    is_open: bool
    records: int
    seconds: float | None
    changes: int
    moved_at: datetime | None


class SinkStore:
    """One sink: its positions, and the rows behind them.

    Args:
        database: Where the rows are.
        topic: Where they go; it identifies the sink.
        labels_topic: The topic of the labels, whose records are no reviews.
        start: Whether a new sink begins with all that is stored, or with what comes from now on.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(
        self, database: Database, topic: str, labels_topic: str, start: Literal["earliest", "latest"]
    ) -> None:
        self._database = database
        self._topic = topic
        self._labels_topic = labels_topic
        self._start = start
        self._rows = SinkRowReader()
        self._id: int | None = None

    def open(self, patience_seconds: float = 30.0) -> None:
        """Set the sink up where it is new, and give it the partitions that it does not have yet.

        A transaction that began before there was a sink marks no changes for it. A new sink therefore begins
        when all of them have ended.

        Raises:
            Unavailable: If one of them is still there after so many seconds; try again.
        """
        found = self._database.fetch_one(_FIND, {"topic": self._topic})
        if found is None:
            self._database.execute(_ADD, {"topic": self._topic})
            found = self._database.fetch_one(_FIND, {"topic": self._topic})
        if found is None:
            raise Unavailable(f"The sink '{self._topic}' was removed at this moment.", "database")
        self._id, is_open = found.id, found.is_open
        if not is_open:
            self._wait_for_earlier_transactions(patience_seconds)
        with self._database.begin() as connection:
            latest = not is_open and self._start == "latest"
            given = {"sink": self._id, "labels_topic": self._labels_topic, "latest": latest}
            connection.execute(_PLACE, given)
            if not is_open:
                connection.execute(_OPEN, {"sink": self._id})

    def forward(self, publish: Callable[[Sequence[ScoredRow]], None]) -> int | None:
        """Publish the next rows of one partition; None where there are none that others are not at.

        The position moves when ``publish`` has returned; a crash in between publishes the same rows once
        more, before any later row of the partition.

        Args:
            publish: Returns when the topic has the rows, in this order.

        Returns:
            How many rows; 0 where records had none.

        Raises:
            Exception: What ``publish`` raises; nothing has moved then.
        """
        sink = {"sink": self._require_id()}
        with self._database.begin() as connection:
            claim = connection.execute(_CLAIM, sink).one_or_none()
            if claim is None:
                return None
            _, as_of = connection.execute(_PATIENCE).one()
            place = Place(claim.topic, claim.partition, as_of)
            span = range(claim.next_record, claim.stored)
            step = self._rows.read(connection, sink["sink"], place, span)
            if step.rows:
                connection.execute(_STILL_HELD)
                publish(step.rows)
            self._settle(connection, {**sink, "partition": claim.stream_partition_id}, span, step)
        return len(step.rows)

    def lag(self) -> SinkLag | None:
        """How far this sink is behind; None before it is set up."""
        return next(
            (lag for lag in sink_lags(self._database, self._labels_topic) if lag.topic == self._topic), None
        )

    def _settle(self, connection: Connection, sink: Mapping[str, Any], span: range, step: Step) -> None:
        moved = {**sink, "expected": span.start, "next": step.next_record}
        if connection.execute(_MOVE, moved).rowcount != 1:
            raise Unavailable(
                f"The sink '{self._topic}' was removed or moved while it forwarded.", "database"
            )
        if step.marks:
            records, ids = zip(*step.marks, strict=True)
            given = {"sink": sink["sink"], "records": list(records), "ids": list(ids)}
            connection.execute(_SETTLE, given)

    def _require_id(self) -> int:
        if self._id is None:
            raise RuntimeError("The sink is opened before it forwards.")
        return self._id

    def _wait_for_earlier_transactions(self, patience_seconds: float) -> None:
        own = str(self._database.fetch_value(_TRANSACTION))
        deadline = time.monotonic() + patience_seconds
        while not self._database.fetch_value(_IS_PAST, {"xid": own}):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The sink '{self._topic}' cannot begin yet: a transaction has been at work in the "
                    "database since before it was set up.",
                    "database",
                )
            time.sleep(_WAIT_SECONDS)


def sink_lags(database: Database, labels_topic: str) -> list[SinkLag]:
    """How far each sink is behind, by topic; sinks that are in no settings any more among them."""
    return [SinkLag(*row) for row in database.fetch(_LAG, {"labels_topic": labels_topic})]


def remove_sink(database: Database, topic: str) -> bool:
    """Forget a sink, with its positions and marks; False where there is none. Its topic stays as it is."""
    return database.execute(_REMOVE, {"topic": topic}) == 1


def mark_rescored(connection: Connection, task: str, records: Sequence[int]) -> None:
    """Let every sink publish these rows again, in the transaction that exchanged their predictions."""
    if records:
        given = {"records": list(records), "task": task, "reason": "rescored"}
        connection.execute(_MARK, given)


def mark_erased(connection: Connection, records: Mapping[int, str]) -> None:
    """Let every sink publish tombstones, in the transaction that deletes the reviews.

    Args:
        connection: In that transaction.
        records: Review ids by record: one record of the review, in each partition that had a version of it.
    """
    if records:
        given = {"records": list(records), "review_ids": list(records.values())}
        connection.execute(_MARK_ERASED, given)


def unpublished_from(connection: Connection) -> dict[int, int]:
    """The least position of all sinks in each partition: rows from there on are not published everywhere."""
    return {partition: record for partition, record in connection.execute(_UNPUBLISHED)}  # noqa: C416  rows are no pairs to mypy
