"""Requests for training runs: a person asks, a schedule takes the request and does the run.

At most one request of a task is open. It becomes a run within the time that it has, or expires: a schedule
that is at other work gives it more time, so what expires had no schedule to take it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from reviews.errors import ReviewLoopError, WrongUse
from reviews.fields import checked_reason
from storage.database import Database
from storage.learning.leases import training_lease
from storage.schema.learning import lease, run_request

WAITING_SECONDS = 120.0
"""How long a request waits for a schedule, and a taken one for its run to begin."""

RequestState = Literal["waiting", "taken", "expired", "begun", "failed"]
_NOT_TAKEN = "No schedule took it in time: 'reviewloop up' or 'reviewloop trainer schedule' starts one."
_NOT_BEGUN = "The schedule that took it did not begin the run in time; its log says why."

# The clock is read when the row is locked, not when the transaction began.
_CLOSE_EXPIRED = text(
    "UPDATE run_request SET closed_at = clock_timestamp(), error = CASE WHEN taken_at IS NULL "
    "THEN :not_taken ELSE :not_begun END "
    "WHERE task = :task AND closed_at IS NULL AND expires_at <= clock_timestamp()"
)
_TAKE = text(
    "UPDATE run_request SET taken_at = clock_timestamp(), taken_by = :holder, "
    "expires_at = clock_timestamp() + make_interval(secs => :seconds) WHERE id = ("
    "SELECT id FROM run_request WHERE closed_at IS NULL AND taken_at IS NULL AND task = ANY(:tasks) "
    "AND expires_at > clock_timestamp() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"
)
_GIVE_TIME = text(
    "UPDATE run_request SET expires_at = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE closed_at IS NULL AND task = ANY(:tasks) AND (taken_at IS NULL OR taken_by = :holder) "
    "AND expires_at > clock_timestamp() "
    "AND expires_at < clock_timestamp() + make_interval(secs => :seconds / 2)"
)
_BEGIN = text(
    "UPDATE run_request SET run_id = :run, closed_at = clock_timestamp() "
    "WHERE id = :request AND task = :task AND closed_at IS NULL AND taken_at IS NOT NULL RETURNING id"
)
_FAIL = text(
    "UPDATE run_request SET error = :error, closed_at = clock_timestamp() "
    "WHERE id = :request AND closed_at IS NULL"
)


class RunRefused(ReviewLoopError):
    """No run can be asked for now: another one is asked for, or at work."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that somebody asked for.

    Attributes:
        id: Grows with time.
        task: Whose adapter is to be trained.
        requested_by: Who asked.
        reason: Why, in a sentence.
        requested_at: When (UTC, the database's clock).
        expires_at: When it ends if nothing happens.
        taken_by: The schedule that took it; None while none did.
        run: The run that it became.
        error: Why it became none, in a sentence.
        state: ``waiting`` for a schedule, ``taken`` by one, ``begun``, ``failed``, or ``expired``.
    """

    id: int
    task: str
    requested_by: str
    reason: str
    requested_at: datetime
    expires_at: datetime
    taken_by: str | None
    run: int | None
    error: str | None
    state: RequestState

    @property
    def is_open(self) -> bool:
        """Whether it may still become a run."""
        return self.state in {"waiting", "taken"}


class RunRequestStore:
    """Requests, from asking to the run.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, task: str, requested_by: str, reason: str) -> RunRequest:
        """Ask for a run of a task.

        Args:
            task: Whose adapter is to be trained.
            requested_by: Who asks.
            reason: Why, in a sentence; it is kept.

        Raises:
            WrongUse: If the reason is empty.
            RunRefused: If a run is at work, or another request is open; says whose.
        """
        values = {"task": task, "requested_by": requested_by, "reason": checked_reason(reason)}
        expires_at = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, WAITING_SECONDS)
        statement = insert(run_request).values(**values, expires_at=expires_at).returning(run_request.c.id)
        with self._database.begin() as connection:
            _require_no_run(connection, task)
            connection.execute(
                _CLOSE_EXPIRED, {"task": task, "not_taken": _NOT_TAKEN, "not_begun": _NOT_BEGUN}
            )
            try:
                number = connection.execute(statement).scalar_one()
            except IntegrityError as err:
                raise RunRefused(f"{self._who_asked(task)} Nothing was changed.") from err
            return _read(connection.execute(_requests().where(run_request.c.id == number)).one())

    def latest(self, task: str) -> RunRequest | None:
        """The latest request of a task; None before the first."""
        query = _requests().where(run_request.c.task == task).order_by(run_request.c.id.desc()).limit(1)
        row = self._database.fetch_one(query)
        return _read(row) if row else None

    def of_run(self, run: int) -> RunRequest | None:
        """The request that became a run; None where nobody asked for it."""
        row = self._database.fetch_one(_requests().where(run_request.c.run_id == run))
        return _read(row) if row else None

    def take(self, tasks: tuple[str, ...], holder: str) -> RunRequest | None:
        """The oldest waiting request of some tasks, which is the caller's from now on; None without one."""
        values = {"tasks": list(tasks), "holder": holder, "seconds": WAITING_SECONDS}
        number: int | None = self._database.fetch_value(_TAKE, values)
        if number is None:
            return None
        return _read(self._database.fetch(_requests().where(run_request.c.id == number))[0])

    def give_time(self, tasks: tuple[str, ...], holder: str) -> None:
        """Let requests wait longer: those of some tasks that nobody took, and the caller's own."""
        values = {"tasks": list(tasks), "holder": holder, "seconds": WAITING_SECONDS}
        self._database.execute(_GIVE_TIME, values)

    def fail(self, request: int, error: str) -> None:
        """Record why a request became no run; nothing is changed if it did."""
        self._database.execute(_FAIL, {"request": request, "error": error})

    def _who_asked(self, task: str) -> str:
        found = self.latest(task)
        if found is None or not found.is_open:  # it ended just now
            return f"Somebody else asked for a run of the task '{task}' at this moment: look again."
        return (
            f"{found.requested_by} asked for a run of the task '{task}' already, at "
            f"{found.requested_at:%H:%M:%S} UTC: '{found.reason}'."
        )


def begin(connection: Connection, request: int, task: str, run: int) -> None:
    """Record that a request became a run, in the transaction that begins the run.

    Raises:
        WrongUse: If it expired meanwhile, or is another's; the transaction has to end.
    """
    values = {"request": request, "task": task, "run": run}
    if connection.execute(_BEGIN, values).scalar() is None:
        raise WrongUse(f"The request {request} is not open any more: no run was begun.")


def _require_no_run(connection: Connection, task: str) -> None:
    held = select(lease.c.holder).where(
        lease.c.name == training_lease(task), lease.c.expires_at > func.clock_timestamp()
    )
    holder = connection.execute(held).scalar()
    if holder is not None:
        raise RunRefused(
            f"A run of the task '{task}' is at work ({holder}): wait for its end. Nothing was changed."
        )


def _requests() -> Select[Any]:
    columns = run_request.c
    is_over = (columns.expires_at <= func.clock_timestamp()).label("is_over")
    return select(
        columns.id, columns.task, columns.requested_by, columns.reason, columns.requested_at,
        columns.expires_at, columns.taken_by, columns.run_id, columns.closed_at, columns.error, is_over,
    )  # fmt: skip


def _read(row: Row[Any]) -> RunRequest:
    error = row.error
    if row.closed_at is None and row.is_over:  # the next request closes it
        error = _NOT_TAKEN if row.taken_by is None else _NOT_BEGUN
    state: RequestState = "waiting" if row.taken_by is None else "taken"
    if row.run_id is not None:
        state = "begun"
    elif error is not None:
        state = "expired" if error in {_NOT_TAKEN, _NOT_BEGUN} else "failed"
    return RunRequest(
        row.id, row.task, row.requested_by, row.reason, row.requested_at, row.expires_at, row.taken_by,
        row.run_id, error, state,
    )  # fmt: skip
