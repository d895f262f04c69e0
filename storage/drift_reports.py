"""Drift reports: each evaluation once, and an outbox of those that are to be announced."""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from sqlalchemy import Row, Select, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from reviews.drift import DriftReport, Windows
from reviews.errors import ReviewLoopError
from storage.database import Database
from storage.schema.drift_reports import drift_report

_ALERT_LOCK = 0x416C65727473  # one process at a time announces drift, and nothing twice
_SLOW_SECONDS = 600
_columns = drift_report.c
_WINDOWS = (_columns.task, _columns.reference_since, _columns.reference_until, _columns.since, _columns.until)

Announce = Callable[[DriftReport], None]


class DriftReportStore:
    """Keeps reports.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, windows: Windows) -> DriftReport | None:
        """The report of these very windows, where there is one."""
        query = _reports().where(*_are(windows))
        row = self._database.fetch_one(query)
        return _read(row) if row else None

    def add(self, report: DriftReport) -> DriftReport:
        """Keep a report, or the one of the same windows that is there, with what either calls for."""
        windows = dict(zip((column.name for column in _WINDOWS), astuple(report.windows), strict=True))
        values = {
            **windows,
            "reviews": report.reviews,
            "verdict": report.verdict,
            "measures": dict(report.measures),
            "attribution": dict(report.attribution),
            "wants_alert": report.wants_alert,
            "wants_training": report.wants_training,
        }
        adding = upsert(drift_report).values(values)
        calls = ("wants_alert", "wants_training")
        either = {name: or_(_columns[name], adding.excluded[name]) for name in calls}
        with self._database.begin() as connection:
            connection.execute(
                adding.on_conflict_do_update(constraint="drift_report_windows_key", set_=either)
            )
            row = connection.execute(_reports().where(*_are(report.windows))).one()
        return _read(row)

    def get(self, report_id: int) -> DriftReport | None:
        """The report with this number; None where there is none."""
        row = self._database.fetch_one(_reports().where(_columns.id == report_id))
        return _read(row) if row else None

    def latest(
        self,
        task: str | None = None,
        verdict: str | None = None,
        limit: int | None = 20,
        before: int | None = None,
    ) -> list[DriftReport]:
        """Reports, the newest first.

        Args:
            task: Only of this task.
            verdict: Only with this verdict.
            limit: At most so many; None for all.
            before: Only those with smaller numbers.
        """
        query = _reports().order_by(_columns.id.desc()).limit(limit)
        if task is not None:
            query = query.where(_columns.task == task)
        if verdict is not None:
            query = query.where(_columns.verdict == verdict)
        if before is not None:
            query = query.where(_columns.id < before)
        return [_read(row) for row in self._database.fetch(query)]

    def announce(self, announce: Announce, limit: int = 10) -> int:
        """Announce drift that people have to know of and do not yet, the newest first, each at least once.

        The row is the outbox: its mark is set when ``announce`` has returned. A process that is killed before
        that announces it again, and one that starts anew does not.

        Args:
            announce: Returns when everybody knows; an error leaves this report for later, and no other.
            limit: At most so many.

        Returns:
            How many; 0 also while another process is at it.

        Raises:
            ReviewLoopError: The first error, after all were tried.
        """
        announced, failed = 0, []
        with self._database.begin() as connection:
            if not connection.execute(select(func.pg_try_advisory_xact_lock(_ALERT_LOCK))).scalar():
                return 0
            # It holds that lock alone, and a slow webhook may take longer than a worker's transaction should.
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_SLOW_SECONDS}s'"))
            due = _reports().where(
                _columns.verdict == "drift", _columns.wants_alert, _columns.alerted_at.is_(None)
            )
            for row in connection.execute(due.order_by(_columns.id.desc()).limit(limit)).all():
                try:
                    announce(_read(row))
                    self._mark(row.id)
                    announced += 1
                except ReviewLoopError as err:
                    failed.append(err)
        if failed:
            raise failed[0]
        return announced

    def _mark(self, report_id: int) -> None:
        """In a transaction of its own: what goes wrong later does not take this mark back."""
        statement = update(drift_report).where(_columns.id == report_id).values(alerted_at=func.now())
        self._database.execute(statement)


def _reports() -> Select[Any]:
    return select(drift_report)


def _are(windows: Windows) -> Any:
    return (column == value for column, value in zip(_WINDOWS, astuple(windows), strict=True))


def _read(row: Row[Any]) -> DriftReport:
    return DriftReport(
        Windows(row.task, row.reference_since, row.reference_until, row.since, row.until),
        row.reviews,
        row.verdict,
        row.measures,
        row.attribution,
        row.id,
        row.created_at,
        row.alerted_at,
        row.wants_alert,
        row.wants_training,
    )
