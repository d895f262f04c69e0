"""What an export reads: rows behind positions, and how far positions may move.

Reviews, predictions and withdrawals are rows of records. A partition's rows become visible in the order of
their offsets (storage/stream/stream_writer.py), so that everything before a stored offset is there and stays.

Labels have ids that are given before they commit. What is settled is known by their transactions: one that is
older than every transaction in progress gets no more rows.

A rescoring job replaces predictions of records that may have been exported before. Its predictions are
exported together once it has ended, since then it writes no more; until then a record that is exported comes
without them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b, sha256
from typing import Any

from sqlalchemy import Connection, text

from reviews.errors import ReviewLoopError
from reviews.export import ExportedAdapter, StreamEnd
from reviews.record_id import OFFSET_BITS
from storage.arrow import ArrowReader
from storage.database import Database

_WINDOW_OFFSETS = 1_000_000  # a statement reads at most so many, so that none holds a snapshot for long

# The first partition that was ever read, which no retention removes, names the database wherever it is moved.
_IDENTITY = text("""
SELECT concat_ws('|', cluster_id, topic_id, partition, extract(epoch FROM created_at))
  FROM stream_partition ORDER BY id LIMIT 1
""")
_ENDS = text("SELECT id, topic, partition, start_offset, next_offset FROM stream_partition ORDER BY id")
_ADAPTERS = text("SELECT id, version, labels FROM adapter ORDER BY id")
_ENDED_JOBS = text("SELECT id FROM rescore_job WHERE state <> 'running' ORDER BY id")
# The first transaction that may still write labels, the next one of the server, and the last that wrote one.
# In progress are those of this database that hold their own number, which the server's locks tell everybody;
# the snapshot is taken before the locks are read. A replica knows only those of the whole server.
_SETTLED = text("""
WITH server AS MATERIALIZED (
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next),
in_progress AS (
SELECT min(CASE WHEN number < next THEN number ELSE number - (1::bigint << 32) END) AS oldest
  FROM server,
       LATERAL (SELECT next >> 32 << 32 | transactionid::text::bigint AS number
                  FROM pg_locks
                 WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
                   AND virtualtransaction IN (
                         SELECT virtualtransaction FROM pg_locks
                          WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()))
               ) AS numbered)
SELECT CASE WHEN pg_is_in_recovery() THEN server.oldest ELSE least(next, in_progress.oldest) END, next,
       (SELECT max(transaction_id) FROM label)
  FROM server, in_progress
""")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")
_WITHOUT_TIME_OUT = text("SET LOCAL idle_in_transaction_session_timeout = 0")
_ALIVE = text("SELECT 1")

_IN_RANGE = "record >= {first} AND record < {next}"
_REVIEWS = f"""
SELECT record, review_id, text, product, source, coalesce(stars_given, stars::double precision) AS stars,
       published_at, stated_published_at, received_at,
       CASE WHEN timestamp_ms >= 0 THEN timestamp_ms * 1000 END AS kafka_timestamp,
       attributes::text AS attributes
  FROM review WHERE {_IN_RANGE} ORDER BY record
"""  # noqa: S608  numbers alone are put in
_PREDICTIONS = f"""
SELECT record, task, adapter_id, label, confidence, probabilities, margin, entropy, truncated, scored_at,
       rescore_job_id AS rescore_job
  FROM prediction WHERE {_IN_RANGE} AND {{rescored}} ORDER BY record, task
"""  # noqa: S608  the same
_WITHDRAWALS = f"""
SELECT record, review_id, kind, received_at, timestamp_ms * 1000 AS kafka_timestamp
  FROM withdrawal WHERE {_IN_RANGE} ORDER BY record
"""  # noqa: S608  the same
_LABELS = """
SELECT l.transaction_id AS transaction, l.id AS label_id, l.record, r.review_id, l.task, l.label,
       l.annotator, l.source, l.labelled_at, l.received_at, l.seconds
  FROM label l LEFT JOIN review r ON r.record = l.record
 WHERE (l.transaction_id, l.id) > ({transaction}, {label}) AND l.transaction_id < {settled}
 ORDER BY l.transaction_id, l.id
"""


class ExportSource:
    """Reads what is to be exported.

    Args:
        database: Where from; a replica will do.
        arrow: A connection to the same database.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, arrow: ArrowReader) -> None:
        self._database = database
        self._arrow = arrow

    def identity(self) -> str | None:
        """What tells this database from others, also after a restore or an upgrade; None: it is empty."""
        found = self._database.fetch_value(_IDENTITY)
        return None if found is None else sha256(found.encode()).hexdigest()[:16]

    def ends(self) -> list[StreamEnd]:
        """Every partition that was ever read, with its stored offset."""
        return [StreamEnd(*row) for row in self._database.fetch(_ENDS)]

    def adapters(self) -> list[ExportedAdapter]:
        """Every adapter, by its number."""
        return [
            ExportedAdapter(row.id, row.version, tuple(row.labels)) for row in self._database.fetch(_ADAPTERS)
        ]

    def ended_jobs(self) -> list[int]:
        """Rescoring jobs that write no more."""
        return list(self._database.fetch_values(_ENDED_JOBS))

    def settled_transaction(self, written: int) -> int:
        """The first transaction that may still write labels.

        Args:
            written: The transaction of the last label that was exported.

        Raises:
            ReviewLoopError: If labels were written by another server, whose transactions had other numbers.
        """
        settled, next_, newest = self._database.fetch(_SETTLED)[0]
        if written >= next_ or (newest is not None and newest >= next_):
            raise ReviewLoopError(
                "The database was restored on another server: its labels carry transactions that are still "
                "to come. Export to a new target, after: UPDATE label SET transaction_id = 0 WHERE "
                "transaction_id >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint."
            )
        return int(settled)

    def reviews(self, stream: StreamEnd, first: int) -> Iterator[Any]:
        """Record batches of every version from an offset on, in order."""
        return self._by_record(_REVIEWS, stream, first)

    def withdrawals(self, stream: StreamEnd, first: int) -> Iterator[Any]:
        """Record batches of the withdrawals from an offset on, in order."""
        return self._by_record(_WITHDRAWALS, stream, first)

    def predictions(self, stream: StreamEnd, first: int, jobs: Sequence[int]) -> Iterator[Any]:
        """Record batches of the predictions from an offset on, in order.

        Args:
            stream: Of which partition, and how far.
            first: The first offset.
            jobs: The rescoring jobs whose predictions come with them; those of others come with their job.
        """
        listed = f"rescore_job_id IS NULL OR rescore_job_id = ANY('{{{','.join(map(str, jobs))}}}')"
        return self._by_record(_PREDICTIONS, stream, first, rescored=f"({listed})")

    def rescored(self, stream: StreamEnd, job: int) -> Iterator[Any]:
        """Record batches of the predictions that a rescoring job wrote, in order of their records."""
        return self._by_record(
            _PREDICTIONS, stream, stream.start_offset, rescored=f"rescore_job_id = {job:d}"
        )

    def labels(self, transaction: int, label: int, settled: int) -> Iterator[Any]:
        """Record batches of answers, in the order of their transactions and ids.

        Args:
            transaction: The transaction of the last one that was exported.
            label: Its id.
            settled: The first transaction that may still write.
        """
        return self._arrow.read(_LABELS.format(transaction=transaction, label=label, settled=settled))

    def _by_record(self, query: str, stream: StreamEnd, first: int, **parts: str) -> Iterator[Any]:
        base = stream.partition_id << OFFSET_BITS
        for start in range(first, stream.next_offset, _WINDOW_OFFSETS):
            end = min(start + _WINDOW_OFFSETS, stream.next_offset)
            yield from self._arrow.read(query.format(first=base | start, next=base | end, **parts))


class ExportLock:
    """That no other export from this database writes to a target.

    Args:
        connection: In the transaction that holds it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def require_held(self) -> None:
        """Make sure that the lock was not lost with its connection.

        Raises:
            Unavailable: If it was.
        """
        self._connection.execute(_ALIVE)


@contextmanager
def exclusive(database: Database, target: str) -> Iterator[ExportLock]:
    """Hold a lock on a target, by its name; it ends with this process at the latest.

    Raises:
        ReviewLoopError: If another export holds it.
    """
    key = int.from_bytes(blake2b(target.encode(), digest_size=8).digest(), "big", signed=True)
    with database.begin() as connection:
        connection.execute(_WITHOUT_TIME_OUT)
        if not connection.execute(_TRY_LOCK, {"key": key}).scalar():
            raise ReviewLoopError(f"Another export to {target} is at work: wait for its end.")
        yield ExportLock(connection)
