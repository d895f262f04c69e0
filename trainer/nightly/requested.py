"""Runs that people ask for: a schedule shows that it is there, takes their requests, and starts the runs."""

import time
from collections.abc import Callable, Sequence

import structlog

from reviews.errors import ReviewLoopError
from reviews.retry import Outage
from storage.learning.leases import Lease, LeaseStore, schedule_lease
from storage.learning.run_requests import RunRequest, RunRequestStore
from trainer.errors import RunStopped

log = structlog.get_logger()
_SIGN_SECONDS = 10.0
_LEASE_SECONDS = 3 * _SIGN_SECONDS


class Requests:
    """What a schedule does for runs that people ask for. It looks often, so a look is one statement.

    Args:
        store: Where requests are.
        leases: Where a schedule shows that it is there; of several for one task, one is seen.
        tasks: Whose requests are taken.
        holder: This process, for people.
        start: Does the run of a request to its end.
        clock: Seconds, from any beginning.
    """

    def __init__(
        self,
        store: RunRequestStore,
        leases: LeaseStore,
        tasks: Sequence[str],
        *,
        holder: str,
        start: Callable[[RunRequest], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._leases = leases
        self._tasks = tuple(tasks)
        self._holder = holder
        self._start = start
        self._clock = clock
        self._shown_at: float | None = None
        self._held: dict[str, Lease] = {}
        self._outage = Outage("requests_not_seen", "requests_seen_again")

    def look(self, *, is_busy: bool) -> RunRequest | None:
        """A request that is to be run now; while the schedule is busy none, and they wait longer.

        A database that does not answer is an event in the log: the next look comes soon.
        """
        try:
            self._show()
            if is_busy:
                self._store.give_time(self._tasks, self._holder)
                found = None
            else:
                found = self._store.take(self._tasks, self._holder)
        except ReviewLoopError as err:
            self._outage.failed(err)
            return None
        self._outage.ended()
        return found

    def run(self, request: RunRequest) -> None:
        """The run of a request that was taken; if it does not begin, the request says why."""
        log.info("requested_run_begins", task=request.task, request=request.id, by=request.requested_by)
        error = "The schedule failed; its log says why."
        try:
            self._start(request)
        except RunStopped:
            error = "The schedule was stopped before the run began."
        except ReviewLoopError as err:
            log.warning("run_failed", task=request.task, error=str(err))
            error = str(err)
        except Exception:
            log.exception("run_failed", task=request.task)
        # Of a request that became a run this changes nothing.
        try:
            self._store.fail(request.id, error)
        except ReviewLoopError as err:  # it expires by itself
            log.warning("request_not_closed", request=request.id, error=str(err))

    def end(self) -> None:
        """Show that this schedule is there no more."""
        for lease in self._held.values():
            try:
                self._leases.release(lease)
            except ReviewLoopError as err:  # it ends by itself
                log.warning("lease_not_given_back", lease=lease.name, error=str(err))

    def _show(self) -> None:
        """Take or keep the lease that shows this schedule, now and then."""
        now = self._clock()
        if self._shown_at is not None and now - self._shown_at < _SIGN_SECONDS:
            return
        for task in self._tasks:
            held = self._held.pop(task, None)
            if held is None or not self._leases.renew(held, _LEASE_SECONDS):
                held = self._leases.take(schedule_lease(task), self._holder, _LEASE_SECONDS)
            if held is not None:
                self._held[task] = held
        self._shown_at = now
