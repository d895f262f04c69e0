"""What is older than its kind is kept, found and deleted in small steps that an index leads to.

A sweep goes through one kind of data. Each of its steps is one short transaction and looks at a bounded
number of rows: in a partition of the stream records are in the order of their receipt, and everything else
has an index by its time or is numbered in its order. A step that is done again, after a crash or in a second
process, finds what is left.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, text

from reviews.queue_item import AUDIT
from reviews.record_id import OFFSET_BITS
from storage.lifecycle.settings import Cutoffs
from storage.stream.sinks import unpublished_from

_PARTITIONS = text("SELECT id FROM stream_partition WHERE id > :after ORDER BY id LIMIT 1")
_ORDER = "({0}.published_at, {0}.timestamp_ms, {0}.received_at, {0}.record)"
# The next versions of a partition: whether they are aged; whether they stay all the same, as a label keeps
# them, or as they are newer than a version that stays and would then be shown as the current one; and the
# versions that they are newer than, which go together with them.
_NEXT_TEXTS = text(f"""
SELECT r.record, r.received_at < :texts AS is_aged,
       r.received_at >= :labelled AND EXISTS (SELECT FROM label l WHERE l.record = r.record)
           OR coalesce(older.stays, false) AS stays,
       coalesce(older.records, '{{}}') AS older
  FROM (SELECT record, review_id, published_at, timestamp_ms, received_at FROM review
         WHERE record >= :first AND record < :next ORDER BY record LIMIT :limit) r
  LEFT JOIN LATERAL (
        SELECT array_agg(o.record) AS records,
               bool_or(o.received_at >= :texts
                       OR o.received_at >= :labelled
                      AND EXISTS (SELECT FROM label l WHERE l.record = o.record)) AS stays
          FROM review o
         WHERE r.received_at < :texts AND o.review_id = r.review_id
           AND {_ORDER.format("o")} < {_ORDER.format("r")}
       ) older ON true
 ORDER BY r.record
""")  # noqa: S608  nothing but names of columns
_NEXT_EMBEDDINGS = text("""
SELECT e.record, coalesce(r.received_at < :cutoff, true) AS is_aged
  FROM (SELECT record FROM embedding
         WHERE record >= :first AND record < :next ORDER BY record LIMIT :limit) e
  LEFT JOIN review r ON r.record = e.record
 ORDER BY e.record
""")
# A withdrawal stays as long as a version that it may have taken back.
_NEXT_WITHDRAWALS = text("""
SELECT w.record, w.received_at < :cutoff AS is_aged,
       EXISTS (SELECT FROM review r WHERE r.review_id = w.review_id) AS stays
  FROM (SELECT record, review_id, received_at FROM withdrawal
         WHERE record >= :first AND record < :next ORDER BY record LIMIT :limit) w
 ORDER BY w.record
""")
_OF_RECORDS = "DELETE FROM {table} WHERE record = ANY(:records)"
# The finished items, and who passed on them. What the audit drew stays with its text: it says which labels
# are a random draw.
_IS_FINISHED = f"state <> 'open' AND state_changed_at < :cutoff AND reason <> '{AUDIT}'"
_FINISHED = f"""
WITH aged AS (
    SELECT record, task FROM label_task WHERE {_IS_FINISHED} ORDER BY state_changed_at LIMIT :limit),
skips AS (
    DELETE FROM label_skip s USING aged WHERE s.record = aged.record AND s.task = aged.task)
DELETE FROM label_task q USING aged
 WHERE q.record = aged.record AND q.task = aged.task AND q.state <> 'open'
"""  # noqa: S608  constants
_COUNT_FINISHED = f"SELECT FROM label_task WHERE {_IS_FINISHED} LIMIT :limit"
_OLD_DATASETS = """
  FROM training_run t JOIN training_item i ON i.run_id = t.id
 WHERE t.finished_at < :cutoff AND t.activation_id IS NULL LIMIT :limit
"""
_DATASETS = f"DELETE FROM training_item WHERE ctid = ANY(ARRAY(SELECT i.ctid {_OLD_DATASETS}))"  # noqa: S608
_BY_TIME = """
DELETE FROM {table}
 WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {time} < :cutoff AND {condition} ORDER BY {time} LIMIT :limit))
"""
_COUNT_BY_TIME = "SELECT FROM {table} WHERE {time} < :cutoff AND {condition} LIMIT :limit"
_BY_NUMBER = """
SELECT t.id, t.{time} < :cutoff AS is_aged, {condition} AS goes
  FROM (SELECT * FROM {table} WHERE id > :after ORDER BY id LIMIT :limit) t ORDER BY t.id
"""
COUNTED_ROWS = 1_000_000
"""Where a dry run stops counting rows that an index by time leads to."""


@dataclass(slots=True)
class StepDone:
    """What one step did, or would do.

    Attributes:
        rows: How many rows went, by table.
        looked_at: How many rows it looked at.
        cursor: Where the next step begins.
        is_last: Whether nothing is left for this sweep.
    """

    rows: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0
    cursor: Any = None
    is_last: bool = False


class Sweep(Protocol):
    """Goes through one kind of data.

    Attributes:
        name: What it deletes, in a word or two.
        cursor: Where the next step begins: the last one's, once that is committed.
    """

    name: str
    cursor: Any

    def step(self, connection: Connection, limit: int) -> StepDone:
        """Delete what is aged among the next rows, at most so many, in the given transaction."""

    def count(self, connection: Connection, limit: int) -> StepDone:
        """What such a step would delete."""


def sweeps(cutoffs: Cutoffs) -> Iterator[Sweep]:
    """What there is to be done; the texts come late, so that each kind has had its own rule before."""
    yield from _by_time_alone(cutoffs)
    if cutoffs.embeddings is not None:
        yield EmbeddingSweep(cutoffs.embeddings)
    if cutoffs.texts is not None and cutoffs.labelled_texts is not None:
        yield TextSweep(cutoffs)
        yield WithdrawalSweep(cutoffs.texts)
    if cutoffs.labels is not None:
        yield NumberSweep("labels", "label", "received_at", cutoffs.labels)
    elif cutoffs.labelled_texts is not None:  # given in the moment in which the text went
        gone = "(SELECT r.record FROM review r WHERE r.record = t.record) IS NULL"
        yield NumberSweep("labels without a text", "label", "received_at", cutoffs.labelled_texts, gone)


def _by_time_alone(cutoffs: Cutoffs) -> Iterator[Sweep]:
    """What has a time of its own."""
    for name, table, time, cutoff, condition in (
        ("predictions", "prediction", "scored_at", cutoffs.predictions, "true"),
        ("history of predictions", "prediction_history", "kept_at", cutoffs.history, "true"),
        ("dead letters", "dead_letter", "received_at", cutoffs.dead_letters, "NOT to_forward"),
        ("actions of annotators", "label_action", "acted_at", cutoffs.queue, "true"),
    ):
        if cutoff is not None:
            named = {"table": table, "time": time, "condition": condition}
            delete, find = _BY_TIME.format(**named), _COUNT_BY_TIME.format(**named)
            yield StatementSweep(name, table, delete, find, cutoff)
    for name, table, delete, find, cutoff in (
        ("finished queue items", "label_task", _FINISHED, _COUNT_FINISHED, cutoffs.queue),
        ("datasets of runs", "training_item", _DATASETS, f"SELECT {_OLD_DATASETS}", cutoffs.datasets),
    ):
        if cutoff is not None:
            yield StatementSweep(name, table, delete, find, cutoff)
    for table, time, cutoff in (
        ("drift_report", "created_at", cutoffs.drift_reports),
        ("audit_log", "decided_at", cutoffs.audit_log),
    ):
        if cutoff is not None:
            yield NumberSweep(table.replace("_", " "), table, time, cutoff)


class RecordSweep:
    """Rows by record: partition of the stream by partition, each from its beginning until what is younger."""

    name = ""
    _counted = ""  # the table by whose name a dry run counts

    def __init__(self) -> None:
        self.cursor: tuple[int, int] = (0, 0)  # a partition's id, and its next record
        self._unpublished: Mapping[int, int] = {}

    def step(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`."""
        return self._step(connection, limit, deletes=True)

    def count(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`."""
        return self._step(connection, limit, deletes=False)

    def _step(self, connection: Connection, limit: int, *, deletes: bool) -> StepDone:
        partition, first = self.cursor
        if first >= (partition + 1) << OFFSET_BITS or partition == 0:
            found = connection.execute(_PARTITIONS, {"after": partition}).scalar()
            if found is None:
                return StepDone(is_last=True)
            partition, first = found, found << OFFSET_BITS
            self._unpublished = unpublished_from(connection)
        end = self._end(partition)
        rows = self._next(connection, {"first": first, "next": end, "limit": limit})
        done = StepDone(looked_at=len(rows))
        is_through = len(rows) < limit or not rows[-1].is_aged
        done.cursor = (partition, (partition + 1) << OFFSET_BITS if is_through else rows[-1].record + 1)
        if records := self._going(rows):
            done.rows = (
                self._delete(connection, records) if deletes else Counter({self._counted: len(records)})
            )
        return done

    def _end(self, partition: int) -> int:
        """Where the sweep of a partition ends at the latest: what a sink has not published yet stays."""
        return self._unpublished.get(partition, (partition + 1) << OFFSET_BITS)

    def _next(self, connection: Connection, place: Mapping[str, int]) -> Sequence[Any]:
        """The next rows, in order of record: ``record`` and ``is_aged``."""
        raise NotImplementedError

    def _going(self, rows: Sequence[Any]) -> list[int]:
        """The records of those that go."""
        return [row.record for row in rows if row.is_aged]

    def _delete(self, connection: Connection, records: list[int]) -> Counter[str]:
        raise NotImplementedError


class TextSweep(RecordSweep):
    """Reviews, with all that belongs to them and has no rule of its own."""

    name = "texts"
    _counted = "review"

    def __init__(self, cutoffs: Cutoffs) -> None:
        super().__init__()
        self._times = {"texts": cutoffs.texts, "labelled": cutoffs.labelled_texts}
        own_rule = {
            "prediction": cutoffs.predictions,
            "prediction_history": cutoffs.history,
            "label": cutoffs.labels,
        }
        kept = {table for table, cutoff in own_rule.items() if cutoff is not None}
        self._tables = [table for table in TABLES_OF_A_REVIEW if table not in kept]

    def _next(self, connection: Connection, place: Mapping[str, int]) -> Sequence[Any]:
        return connection.execute(_NEXT_TEXTS, {**place, **self._times}).all()

    def _going(self, rows: Sequence[Any]) -> list[int]:
        going = [row for row in rows if row.is_aged and not row.stays and all(map(self._is_out, row.older))]
        return sorted({record for row in going for record in (row.record, *row.older)})

    def _is_out(self, record: int) -> bool:
        """Whether every sink has published it."""
        return record < self._end(record >> OFFSET_BITS)

    def _delete(self, connection: Connection, records: list[int]) -> Counter[str]:
        return delete_records(connection, records, self._tables)


TABLES_OF_A_REVIEW = (
    "review",
    "prediction",
    "prediction_history",
    "embedding",
    "label_task",
    "label_skip",
    "label_studio_annotation",
    "label",
)
"""Whose rows belong to one version of a review, by the column ``record``."""


def delete_records(connection: Connection, records: list[int], tables: Sequence[str]) -> Counter[str]:
    """Delete what these tables have of some records; how many rows, by table."""
    gone = {
        table: connection.execute(text(_OF_RECORDS.format(table=table)), {"records": records}).rowcount
        for table in tables
    }
    return Counter({table: rows for table, rows in gone.items() if rows})


class EmbeddingSweep(RecordSweep):
    """Embeddings, by the receipt of their review."""

    name = "embeddings"
    _counted = "embedding"

    def __init__(self, cutoff: datetime) -> None:
        super().__init__()
        self._cutoff = cutoff

    def _next(self, connection: Connection, place: Mapping[str, int]) -> Sequence[Any]:
        return connection.execute(_NEXT_EMBEDDINGS, {**place, "cutoff": self._cutoff}).all()

    def _delete(self, connection: Connection, records: list[int]) -> Counter[str]:
        return delete_records(connection, records, ("embedding",))


class WithdrawalSweep(RecordSweep):
    """Withdrawals of which no version is left."""

    name = "withdrawals"
    _counted = "withdrawal"

    def __init__(self, cutoff: datetime) -> None:
        super().__init__()
        self._cutoff = cutoff

    def _next(self, connection: Connection, place: Mapping[str, int]) -> Sequence[Any]:
        return connection.execute(_NEXT_WITHDRAWALS, {**place, "cutoff": self._cutoff}).all()

    def _going(self, rows: Sequence[Any]) -> list[int]:
        return [row.record for row in rows if row.is_aged and not row.stays]

    def _delete(self, connection: Connection, records: list[int]) -> Counter[str]:
        return delete_records(connection, records, ("withdrawal",))


class StatementSweep:
    """Rows that one statement deletes, at most so many at a time, as long as it finds any.

    Args:
        name: What it deletes.
        table: From which table.
        delete: The statement, with ``:cutoff`` and ``:limit``.
        find: A SELECT of such rows with the same parameters.
        cutoff: What is older goes.
    """

    def __init__(self, name: str, table: str, delete: str, find: str, cutoff: datetime) -> None:
        self.name = name
        self.cursor: Any = None
        self._table = table
        self._delete = text(delete)
        self._count = text(f"SELECT count(*) FROM ({find}) aged")  # noqa: S608  statements of ours
        self._cutoff = cutoff

    def step(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`."""
        gone = connection.execute(self._delete, {"cutoff": self._cutoff, "limit": limit}).rowcount
        return StepDone(Counter({self._table: gone} if gone else {}), gone, is_last=gone == 0)

    def count(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`; one step counts all, up to :data:`COUNTED_ROWS`."""
        del limit
        given = {"cutoff": self._cutoff, "limit": COUNTED_ROWS}
        found = connection.execute(self._count, given).scalar_one()
        return StepDone(Counter({self._table: found} if found else {}), found, is_last=True)


class NumberSweep:
    """Rows that are numbered in the order of their time."""

    def __init__(self, name: str, table: str, time: str, cutoff: datetime, condition: str = "true") -> None:
        self.name = name
        self.cursor = 0
        self._table = table
        self._cutoff = cutoff
        self._next = text(_BY_NUMBER.format(table=table, time=time, condition=condition))
        self._delete = text(f"DELETE FROM {table} WHERE id = ANY(:ids)")  # noqa: S608  a name of ours

    def step(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`."""
        done, ids = self._look(connection, limit)
        if ids:
            done.rows[self._table] = connection.execute(self._delete, {"ids": ids}).rowcount
        return done

    def count(self, connection: Connection, limit: int) -> StepDone:
        """See :class:`Sweep`."""
        done, ids = self._look(connection, limit)
        if ids:
            done.rows[self._table] = len(ids)
        return done

    def _look(self, connection: Connection, limit: int) -> tuple[StepDone, list[int]]:
        given = {"after": self.cursor, "limit": limit, "cutoff": self._cutoff}
        rows = connection.execute(self._next, given).all()
        is_last = len(rows) < limit or not rows[-1].is_aged
        done = StepDone(looked_at=len(rows), cursor=rows[-1].id if rows else self.cursor, is_last=is_last)
        return done, [row.id for row in rows if row.is_aged and row.goes]
