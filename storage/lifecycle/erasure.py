"""Erasure of reviews: asked for once, and done step by step.

Each stage is a number of transactions that may be repeated, and is left in the transaction that ends it. So
an erasure may be killed at any moment: the process that continues it begins where the last commit ended. A
review's own rows go last, because its text leads to the copies elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Connection, text

from reviews.erasure import MOST_REVIEWS, ErasureReceipt, Stage, erased_hash
from reviews.errors import WrongUse
from reviews.fields import checked_reason
from reviews.record_id import MAX_OFFSET, OFFSET_BITS
from storage.database import Database
from storage.learning.leases import Lease, LeaseStore, require_held
from storage.lifecycle.aged import TABLES_OF_A_REVIEW, delete_records
from storage.lifecycle.receipts import ReceiptStore, note_rows, unknown_erasure
from storage.lifecycle.traces import clean_remarks, clean_reports, letter_step, note_holding_adapters
from storage.stream.partitions import CHECK_ALWAYS
from storage.stream.sinks import mark_erased

log = structlog.get_logger()

LEASE = "erasure"
_LEASE_SECONDS = 120.0
_IDS_AT_ONCE = 200
_RECORDS_AT_ONCE = 500
_REPORTS_AT_ONCE = 50
_TABLES = (*TABLES_OF_A_REVIEW, "label_action", "training_item")
_TABLES_BY_ID = ("withdrawal", "waiting_label")

_BEGIN = text("INSERT INTO erasure (requested_by, reason) VALUES (:by, :reason) RETURNING id")
_SUBJECTS = text("""
INSERT INTO erasure_review (erasure_id, hash, review_id)
SELECT :erasure, hash, review_id
  FROM unnest(CAST(:hashes AS bytea[]), CAST(:ids AS text[])) AS given (hash, review_id)
""")
# Every position is locked, in the order in which writers lock them: who wrote before is found, and who writes
# afterwards compares.
_LOCK_POSITIONS = text("SELECT id, next_offset FROM stream_partition ORDER BY id FOR UPDATE")
_GUARD = text("""
UPDATE stream_partition s SET erased_until = greatest(s.erased_until, given.until)
  FROM unnest(CAST(:partitions AS integer[]), CAST(:untils AS bigint[])) AS given (id, until)
 WHERE s.id = given.id
""")
_POSITIONS = text("""
INSERT INTO erasure_position (erasure_id, stream_partition_id, next_offset)
SELECT :erasure, id, next_offset
  FROM unnest(CAST(:partitions AS integer[]), CAST(:ends AS bigint[])) AS given (id, next_offset)
""")
_STATE = text("SELECT stage, progress FROM erasure WHERE id = :erasure")
_UNFINISHED = text("SELECT id FROM erasure WHERE stage <> 'done' ORDER BY id LIMIT :limit")
# Erasure deletes the withdrawal too, so that none is found twice.
_WITHDRAWN = text("""
SELECT DISTINCT review_id FROM (
    SELECT review_id FROM withdrawal WHERE kind = ANY(:kinds) ORDER BY record LIMIT :limit) first
""")
_IDS = text(
    "SELECT review_id FROM erasure_review WHERE erasure_id = :erasure AND review_id IS NOT NULL ORDER BY hash"
)
# A version that was stored for a record of before; what is published afterwards is a new review.
_IS_BEFORE = f"""
CASE WHEN p.next_offset IS NULL THEN r.received_at <= e.requested_at
     ELSE (r.record & {MAX_OFFSET}) < p.next_offset END
"""
_VERSIONS = f"""
  FROM review r
  JOIN erasure e ON e.id = :erasure
  LEFT JOIN erasure_position p
    ON p.erasure_id = e.id AND p.stream_partition_id = CAST(r.record >> {OFFSET_BITS} AS integer)
 WHERE r.review_id = ANY(:ids) AND {_IS_BEFORE}
"""
_TRACE = text(f"""
INSERT INTO erasure_record (erasure_id, record, text_sha256)
SELECT e.id, r.record, encode(sha256(convert_to(r.text, 'UTF8')), 'hex') {_VERSIONS}
ON CONFLICT DO NOTHING
""")
_TRACE_RUNS = text("""
INSERT INTO erasure_run (erasure_id, run_id)
SELECT DISTINCT r.erasure_id, i.run_id FROM erasure_record r JOIN training_item i ON i.record = r.record
 WHERE r.erasure_id = :erasure AND r.record = ANY(:records)
ON CONFLICT DO NOTHING
""")
_NEXT_RECORDS = text("""
SELECT record FROM erasure_record WHERE erasure_id = :erasure AND record > :after ORDER BY record LIMIT :limit
""")
_OF_RECORDS = text("SELECT record, review_id FROM review WHERE record = ANY(:records)")
_TEXTS = text("""
SELECT DISTINCT r.text FROM review r WHERE r.review_id = ANY(:ids)
""")
# The days (UTC) of rows in an export: when reviews and labels were received, and predictions made.
_DAYS = text("""
WITH version AS (SELECT record, received_at FROM review WHERE review_id = ANY(:ids))
SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM version
 UNION
SELECT to_char(p.scored_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM prediction p JOIN version USING (record)
 UNION
SELECT to_char(l.received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM label l JOIN version USING (record)
""")
_SCORED = text("""
SELECT DISTINCT p.scored_at FROM prediction p JOIN erasure_record e ON e.record = p.record
 WHERE e.erasure_id = :erasure
""")
_RECORDS = text("SELECT record FROM erasure_record WHERE erasure_id = :erasure")
_LEFT = text(f"SELECT count(*) {_VERSIONS}")
_BY_ID = "DELETE FROM {table} WHERE review_id = ANY(:ids)"
_MOVE = text("UPDATE erasure SET stage = :stage, progress = 0 WHERE id = :erasure")
_PROGRESS = text("UPDATE erasure SET progress = :progress WHERE id = :erasure")
_FORGET_IDS = text("UPDATE erasure_review SET review_id = NULL WHERE erasure_id = :erasure")
_FINISH = text("UPDATE erasure SET stage = 'done', finished_at = clock_timestamp() WHERE id = :erasure")


class ErasureStore:
    """Takes requests and does them.

    Args:
        database: Where everything is.
        after_step: Called after each committed step; for tests.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, after_step: Callable[[str], None] = lambda _: None) -> None:
        self._database = database
        self._after_step = after_step

    def request(self, review_ids: Sequence[str], by: str, reason: str, ends: Mapping[int, int] | None) -> int:
        """Ask for an erasure; its number. From now on nothing of these reviews is stored any more.

        Args:
            review_ids: Whose.
            by: Who asks.
            reason: Why, in a sentence.
            ends: Where each stored partition ends in Kafka now; None: unknown, then Kafka's time decides what
                came before.

        Raises:
            WrongUse: If there are none, or too many at once.
        """
        ids = sorted(set(review_ids))
        if not 0 < len(ids) <= MOST_REVIEWS:
            raise WrongUse(f"Name 1 to {MOST_REVIEWS:,} reviews; {len(ids):,} were given.")
        with self._database.begin() as connection:
            number: int = connection.execute(
                _BEGIN, {"by": by, "reason": checked_reason(reason)}
            ).scalar_one()
            hashes = [erased_hash(one) for one in ids]
            connection.execute(_SUBJECTS, {"erasure": number, "hashes": hashes, "ids": ids})
            guard_positions(connection, number, ends)
        self._after_step("requested")
        return number

    def unfinished(self) -> list[int]:
        """Erasures that something is left to do for in the database, the oldest first."""
        return list(self._database.fetch_values(_UNFINISHED, {"limit": _IDS_AT_ONCE}))

    def withdrawn(self, *, only_tombstones: bool) -> list[str]:
        """Reviews that their publisher took back and that are not erased yet, some at once."""
        given = {
            "kinds": ["tombstone"] if only_tombstones else ["tombstone", "delete"],
            "limit": _IDS_AT_ONCE,
        }
        return list(self._database.fetch_values(_WITHDRAWN, given))

    def days(self, number: int) -> list[str]:
        """The days (UTC) whose files of an export may hold a stored version; none once all are deleted."""
        found: set[str] = set()
        for some in _parts(self._ids(number), _IDS_AT_ONCE):
            found.update(self._database.fetch_values(_DAYS, {"ids": some}))
        return sorted(found)

    def proceed(self, number: int) -> ErasureReceipt:
        """Do what is left of an erasure.

        Raises:
            LeaseHeld: If another process is at an erasure.
            LeaseLost: If it went to another process meanwhile, which continues it.
            WrongUse: If there is none of that number.
        """
        with LeaseStore(self._database).alone(LEASE, _LEASE_SECONDS, "Reviews are being erased") as lease:
            stages: Mapping[Stage, Callable[[int, Lease], None]] = {
                "requested": self._trace,
                "traced": self._scrub,
                "scrubbed": self._delete,
                "deleted": self._finish,
            }
            while (do := stages.get(self._state(number).stage)) is not None:
                do(number, lease)
        return ReceiptStore(self._database, self._after_step).close(number)

    def _trace(self, number: int, lease: Lease) -> None:
        """Which records the reviews have, and which runs used them."""
        ids = self._ids(number)
        for some in _parts(ids, _IDS_AT_ONCE):
            with self._step(number, lease, "traced_some") as connection:
                connection.execute(_TRACE, {"erasure": number, "ids": some})
        for records in self._records(number):
            with self._step(number, lease, "traced_runs") as connection:
                connection.execute(_TRACE_RUNS, {"erasure": number, "records": records})
        with self._step(number, lease, "traced") as connection:
            connection.execute(_MOVE, {"erasure": number, "stage": "traced"})

    def _scrub(self, number: int, lease: Lease) -> None:
        """Copies of ids and texts beside the reviews' own rows."""
        ids = self._ids(number)
        first: int | None = self._state(number).progress
        while first is not None:
            for some in _parts(ids, _IDS_AT_ONCE):
                with self._step(number, lease, "scrubbed_letters") as connection:
                    texts = self._texts(connection, some)
                    gone, following = letter_step(connection, first, some, texts)
                    note_rows(connection, number, "dead_letter", gone)
                    is_last_part = some[-1] == ids[-1]
                    if is_last_part and following is not None:
                        connection.execute(_PROGRESS, {"erasure": number, "progress": following})
            first = following
        for some in _parts(ids, _IDS_AT_ONCE):
            with self._step(number, lease, "scrubbed_remarks") as connection:
                texts = self._texts(connection, some)
                note_holding_adapters(connection, number, texts)
                for table, entries in clean_remarks(connection, some, texts):
                    note_rows(connection, number, table, entries)
            self._scrub_reports(number, lease, some)
        with self._step(number, lease, "scrubbed") as connection:
            connection.execute(_MOVE, {"erasure": number, "stage": "scrubbed"})

    def _scrub_reports(self, number: int, lease: Lease, ids: Sequence[str]) -> None:
        after: int | None = 0
        while after is not None:
            with self._step(number, lease, "scrubbed_reports") as connection:
                scored = list(connection.execute(_SCORED, {"erasure": number}).scalars())
                records = frozenset(connection.execute(_RECORDS, {"erasure": number}).scalars())
                texts = self._texts(connection, ids)
                changed, after = clean_reports(
                    connection, records, texts, scored, after=after, limit=_REPORTS_AT_ONCE
                )
                note_rows(connection, number, "drift_report", changed)

    def _delete(self, number: int, lease: Lease) -> None:
        """The reviews' own rows, and what else goes by their number or id."""
        for records in self._records(number):
            with self._step(number, lease, "deleted_records") as connection:
                self._delete_records(connection, number, records)
        for some in _parts(self._ids(number), _IDS_AT_ONCE):
            with self._step(number, lease, "deleted_ids") as connection:
                for table in _TABLES_BY_ID:
                    gone = connection.execute(text(_BY_ID.format(table=table)), {"ids": some}).rowcount
                    note_rows(connection, number, table, gone)
        with self._step(number, lease, "deleted") as connection:
            connection.execute(_MOVE, {"erasure": number, "stage": "deleted"})

    def _finish(self, number: int, lease: Lease) -> None:
        """Look once more: rescoring may have written what it had read before. Then the ids are forgotten."""
        for records in self._records(number):
            with self._step(number, lease, "looked_again") as connection:
                connection.execute(_TRACE_RUNS, {"erasure": number, "records": records})
                self._delete_records(connection, number, records)
        ids = self._ids(number)
        with self._step(number, lease, "finished") as connection:
            if connection.execute(_LEFT, {"erasure": number, "ids": ids}).scalar():
                connection.execute(_MOVE, {"erasure": number, "stage": "requested"})
                return
            connection.execute(_FORGET_IDS, {"erasure": number})
            connection.execute(_FINISH, {"erasure": number})
        log.info("reviews_erased", erasure=number, reviews=len(ids))

    def _delete_records(self, connection: Connection, number: int, records: list[int]) -> None:
        found = connection.execute(_OF_RECORDS, {"records": records}).all()
        # Every sink that has published a version publishes a tombstone: one in each partition.
        one_each = {(row.record >> OFFSET_BITS, row.review_id): row.record for row in found}
        mark_erased(connection, {record: review_id for (_, review_id), record in one_each.items()})
        for table, rows in delete_records(connection, records, _TABLES).items():
            note_rows(connection, number, table, rows)

    def _state(self, number: int) -> Any:
        """The stage of an erasure, and how far it is within the stage."""
        row = self._database.fetch_one(_STATE, {"erasure": number})
        if row is None:
            raise unknown_erasure(number)
        return row

    def _ids(self, number: int) -> list[str]:
        return list(self._database.fetch_values(_IDS, {"erasure": number}))

    def _texts(self, connection: Connection, ids: Sequence[str]) -> list[str]:
        return list(connection.execute(_TEXTS, {"ids": list(ids)}).scalars())

    def _records(self, number: int) -> Iterator[list[int]]:
        after = -1
        while True:
            given = {"erasure": number, "after": after, "limit": _RECORDS_AT_ONCE}
            records = list(self._database.fetch_values(_NEXT_RECORDS, given))
            if not records:
                return
            yield records
            after = records[-1]

    @contextmanager
    def _step(self, number: int, lease: Lease, name: str) -> Iterator[Connection]:
        """One transaction of an erasure, under its lease."""
        LeaseStore(self._database).renew(lease, _LEASE_SECONDS)
        with self._database.begin() as connection:
            require_held(connection, lease)
            yield connection
        log.debug("erasure_step", erasure=number, step=name)
        self._after_step(name)


def guard_positions(connection: Connection, number: int, ends: Mapping[int, int] | None) -> None:
    """Let every partition compare what comes with the erased ids, as far as it was before the erasure.

    Args:
        connection: In the transaction that writes the erasure.
        number: The erasure.
        ends: As of :meth:`ErasureStore.request`.
    """
    positions = {row.id: row.next_offset for row in connection.execute(_LOCK_POSITIONS)}
    known = (
        {}
        if ends is None
        else {one: max(ends.get(one, 0), at) for one, at in positions.items() if one in ends}
    )
    untils = [known.get(one, CHECK_ALWAYS) for one in positions]
    connection.execute(_GUARD, {"partitions": list(positions), "untils": untils})
    given = {"erasure": number, "partitions": list(known), "ends": list(known.values())}
    connection.execute(_POSITIONS, given)


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(ids), size):
        yield list(ids[first : first + size])
