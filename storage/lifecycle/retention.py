"""Deletes what is older than it is kept, a little at a time, and lets PostgreSQL use the room again.

Deleting never goes before ingest: a step is a short transaction that waits for no lock and rests for several
times as long as it worked. What is deleted once more after a crash is gone already, so that nothing waits for
the disk at a commit.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import psycopg
import structlog
from sqlalchemy import Connection, text

from reviews.errors import Exhausted, ReviewLoopError
from reviews.retry import Retry
from storage.database import Database, set_in_session, without_transaction
from storage.learning.leases import Lease, LeaseStore
from storage.lifecycle.aged import StepDone, Sweep, sweeps
from storage.lifecycle.settings import RetentionSettings
from storage.lifecycle.shrinking import MOVED_TABLES, move_pages, pieces, plan_move, renew_indexes

log = structlog.get_logger()

LEASE = "retention"
"""Under this lease one process at a time deletes what is aged."""
_LEASE_SECONDS = 600.0
_RENEW_SECONDS = 60.0
_ROWS_A_STEP = 1_000
_FEWEST_ROWS = 50
_LONGEST_PAUSE_SECONDS = 10.0
_OUTAGE_SECONDS = 600.0
_WORTH_A_VACUUM = 1_000  # rows; autovacuum takes care of less
# A step gives up rather than let others wait; nobody waits for its commit to reach the disk.
_GENTLY = "; ".join(
    f"SET LOCAL {limit}"
    for limit in ("lock_timeout = '500ms'", "statement_timeout = '10s'", "synchronous_commit = off")
)
_VACUUM_DELAY_MS = "2"  # as autovacuum's: after a few pages it sleeps
_NOW = text("SELECT clock_timestamp()")
_SIZES = text(
    "SELECT name, pg_total_relation_size(name::regclass) FROM unnest(CAST(:tables AS text[])) AS t (name)"
)


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What was deleted, or would be.

    Attributes:
        rows: How many rows, by table; only tables that had any.
        bytes_before: The size of these tables with their indexes before, by table; empty in a dry run.
        bytes_after: The same afterwards.
        is_complete: Whether everything that is aged is gone; not where it was told to stop.
        unvacuumed: Tables whose room PostgreSQL was not told to use again, and why.
    """

    rows: Mapping[str, int]
    bytes_before: Mapping[str, int] = field(default_factory=dict)
    bytes_after: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = True
    unvacuumed: tuple[str, ...] = ()


class Stopped(ReviewLoopError):
    """It was told to stop; what was done is done."""


class Retention:
    """Does the deletion.

    Args:
        database: Where from; its user has to own the tables, or to have the role of ``db roles --keeper``.
        settings: What is kept for how long.
        wait: Waits for so many seconds; true if the job has to stop.
        progress: Told how many rows are deleted so far.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        database: Database,
        settings: RetentionSettings,
        *,
        wait: Callable[[float], bool],
        progress: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._wait = wait
        self._progress = progress
        self._clock = clock
        self._rows_a_step = _ROWS_A_STEP
        self._patience = Retry(
            "retention_waits",
            "retention_goes_on",
            longest_seconds=_LONGEST_PAUSE_SECONDS,
            wait=wait,
            outage_seconds=_OUTAGE_SECONDS,
            note=self._take_less,
            clock=clock,
        )

    def rehearse(self) -> RetentionReport:
        """What a run would delete now; nothing is changed.

        Labels are counted for texts that are gone already, and not for those that would go.

        Raises:
            Unavailable: If the database does not answer.
        """
        rows = Counter[str]()
        for sweep in self._sweeps():
            self._go_through(sweep, sweep.count, rows)
        return RetentionReport(rows)

    def run(self) -> RetentionReport:
        """Delete everything that is aged, and vacuum the tables that it was in.

        Raises:
            LeaseHeld: If another process is at it; says which.
            Unavailable: If the database does not answer for too long, or somebody holds locks for as long.
        """
        rows = Counter[str]()
        is_complete = True
        with self._alone() as stay_alone:
            before = self._sizes()
            try:
                for sweep in self._sweeps():
                    self._go_through(sweep, sweep.step, rows, stay_alone)
            except Stopped:
                is_complete = False
            unvacuumed = tuple(self._vacuum(rows)) if is_complete else ()
            after = self._sizes()
        log.info("retention_done", complete=is_complete, **rows)
        tables = sorted(rows)
        return RetentionReport(
            {table: rows[table] for table in tables},
            {table: before[table] for table in tables},
            {table: after[table] for table in tables},
            is_complete,
            unvacuumed,
        )

    def shrink(self) -> RetentionReport:
        """Give free room of the two big tables back to the disk; takes as long as writing the moved rows.

        Raises:
            LeaseHeld: If another process deletes or shrinks.
            ReviewLoopError: If the user does not own the tables.
        """
        moved = Counter[str]()
        is_complete = True
        with self._alone() as stay_alone:
            before = self._sizes()
            try:
                for table in MOVED_TABLES:
                    self._move(table, moved, stay_alone)
                    renew_indexes(self._database, table, stay_alone)
            except Stopped:
                is_complete = False
            after = self._sizes()
        first, last = ({table: size[table] for table in MOVED_TABLES} for size in (before, after))
        return RetentionReport(moved, first, last, is_complete)

    def _move(self, table: str, moved: Counter[str], stay_alone: Callable[[], None]) -> None:
        vacuum(self._database, table)
        with self._database.begin() as connection:
            plan = plan_move(connection, table)
        for first, end in pieces(plan):
            stay_alone()
            began = self._clock()
            moved[table] += self._patience(partial(self._move_piece, table, first, end))
            self._progress(moved.total())
            self._rest(began)
        if plan.first < plan.pages:
            vacuum(self._database, table)

    def _move_piece(self, table: str, first: int, end: int) -> int:
        with self._database.begin() as connection:
            connection.exec_driver_sql(_GENTLY)
            return move_pages(connection, table, first, end)

    def _rest(self, began: float) -> None:
        """Let others work for as long as the settings say.

        Raises:
            Stopped: If it was told to stop meanwhile.
        """
        share = self._settings.busy_share
        if self._wait((self._clock() - began) * (1 - share) / share):
            raise Stopped("Told to stop.")

    def _sweeps(self) -> Iterable[Sweep]:
        now: datetime = self._patience(lambda: self._database.fetch_value(_NOW))
        return sweeps(self._settings.cutoffs(now))

    def _go_through(
        self,
        sweep: Sweep,
        act: Callable[[Connection, int], StepDone],
        rows: Counter[str],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        def once() -> StepDone:
            with self._database.begin() as connection:
                connection.exec_driver_sql(_GENTLY)
                return act(connection, self._rows_a_step)

        while True:
            before()
            began = self._clock()
            done = self._patience(once)
            sweep.cursor = done.cursor
            rows.update(done.rows)
            self._progress(rows.total())
            if done.is_last:
                return
            self._rest(began)

    def _take_less(self, err: Exception | None) -> None:
        """A step that took too long has fewer rows the next time."""
        if isinstance(err, Exhausted):
            self._rows_a_step = max(_FEWEST_ROWS, self._rows_a_step // 2)

    @contextmanager
    def _alone(self) -> Iterator[Callable[[], None]]:
        """Hold the lease; what comes out keeps it, and is to be called now and then.

        Two processes would do no harm, but twice the work.
        """
        leases = LeaseStore(self._database)
        with leases.alone(LEASE, _LEASE_SECONDS, "Aged data is being deleted") as lease:
            renewed_at = self._clock()

            def keep() -> None:
                nonlocal renewed_at
                if self._clock() - renewed_at > _RENEW_SECONDS:
                    renewed_at = self._clock()
                    self._patience(lambda: _renew(leases, lease))

            yield keep

    def _sizes(self) -> dict[str, int]:
        rows = self._database.fetch(_SIZES, {"tables": list(SHRINKING_TABLES)})
        return {row[0]: row[1] for row in rows}

    def _vacuum(self, rows: Mapping[str, int]) -> Iterator[str]:
        """Let the room of deleted rows be used again, and cut off what is empty at a file's end."""
        for table in sorted(name for name, count in rows.items() if count >= _WORTH_A_VACUUM):
            try:
                refusals = vacuum(self._database, table)
            except ReviewLoopError as err:  # autovacuum does it later
                refusals = [str(err)]
            if refusals:
                log.warning("retention_not_vacuumed", table=table, reason=refusals[0])
                yield f"{table}: {refusals[0]}"


SHRINKING_TABLES = (
    "review", "withdrawal", "prediction", "prediction_history", "embedding", "dead_letter", "label",
    "label_task", "label_skip", "label_action", "training_item", "drift_report", "audit_log",
)  # fmt: skip
"""What retention deletes from."""


def vacuum(database: Database, table: str) -> list[str]:
    """Vacuum a table slowly, beside whatever else goes on; the server's warnings, such as missing rights.

    An empty end of the file is cut off, which takes a lock that PostgreSQL gives up as soon as anybody waits
    for it.

    Args:
        database: Where to.
        table: A name of ours.
    """
    warnings: list[str] = []
    with without_transaction(database, waits=False) as connection:
        driver: psycopg.Connection[object] = connection.connection.dbapi_connection  # type: ignore[assignment]
        driver.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        set_in_session(connection, "vacuum_cost_delay", _VACUUM_DELAY_MS)
        connection.exec_driver_sql(f"VACUUM (TRUNCATE, PARALLEL 0) {table}")
    return warnings


def _renew(leases: LeaseStore, lease: Lease) -> None:
    leases.renew(lease, _LEASE_SECONDS)
