"""The schedule of runs: nightly by a cron in UTC, and earlier after enough labels or drift.

Jobs are declared here and stored nowhere: what must outlast the process is in ``training_run``, and two
schedulers at once are harmless, since a run needs the task's lease.

Cron expressions are read by cronsim, which follows Debian's cron: where both day of month and weekday are
given, either is enough. APScheduler's own trigger wants both, and counts weekdays from Monday.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, Literal, NamedTuple

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger
from cronsim import CronSim, CronSimError

from reviews.errors import ReviewLoopError, WrongUse
from reviews.retry import Outage, backoff_seconds
from storage.learning.run_requests import RunRequest
from storage.learning.runs import Pending
from trainer.errors import RunStopped
from trainer.nightly.requested import Requests
from trainer.settings import NightlySettings

Trigger = Literal["manual", "nightly", "labels", "drift", "requested", "first-reviews"]
log = structlog.get_logger()
NIGHTLY, LOOK, UPKEEP = "nightly", "look", "upkeep"
_REQUESTS_SECONDS = 2.0
_LONGEST_REST_SECONDS = 3600.0
_CRON_FIELDS = 5


class Upkeep(NamedTuple):
    """A job beside the runs, such as deleting aged data.

    Attributes:
        name: Of the job, in the log.
        cron: When, in UTC.
        setting: That has this expression, for the message about a wrong one.
        do: Does it to its end, in a thread that no run waits for.
    """

    name: str
    cron: str
    setting: str
    do: Callable[[], None]


class Schedule:
    """Starts runs of some tasks, one after the other.

    Args:
        tasks: Whose adapters are trained.
        settings: When.
        start: Does a run to its end.
        pending: What came in since a task's last run.
        began: When a task's last run began; None before the first.
        is_at_work: Whether a trainer holds a task's lease.
        now: The time, in UTC.
        requests: Of people, for runs now; None: there are none.
        upkeep: Jobs beside the runs.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        settings: NightlySettings,
        start: Callable[[str, Trigger], None],
        pending: Callable[[str], Pending],
        *,
        began: Callable[[str], datetime | None],
        is_at_work: Callable[[str], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        requests: Requests | None = None,
        upkeep: Sequence[Upkeep] = (),
    ) -> None:
        self._tasks = tuple(tasks)
        self._settings = settings
        self._start = start
        self._pending = pending
        self._began = began
        self._is_at_work = is_at_work
        self._now = now
        self._unchecked = set(tasks)
        # After failures in a row: further pauses, and the end of the present one.
        self._rests: dict[str, tuple[Iterator[float], datetime]] = {}
        self._outages = {
            task: Outage("schedule_cannot_look", "schedule_looks_again", task=task) for task in self._tasks
        }
        self._cron = CronTrigger(settings.cron)
        self._upkeep = [(job, CronTrigger(job.cron, job.setting)) for job in upkeep]
        self._stopping = Event()
        self._requests = requests
        self._is_busy = False

    def nightly(self) -> None:
        """A run of every task."""
        for task in self._tasks:
            self._run(task, "nightly")

    def look(self) -> None:
        """A run of every task that something asks for; the first look also makes up for a missed run."""
        for task in self._tasks:
            try:
                trigger = self._wanted(task)
            except ReviewLoopError as err:
                self._outages[task].failed(err)
                continue
            self._outages[task].ended()
            if trigger is not None:
                self._run(task, trigger)

    def declare(self, scheduler: BaseScheduler) -> None:
        """Give both jobs to a scheduler: late ones are made up for once, and none runs beside itself.

        The first look comes at once, and each further one is declared when the one before it has ended: a
        job that falls due while it still runs would be skipped by the scheduler, with a warning each time.
        """
        scheduler.add_job(self.nightly, self._cron, id=NIGHTLY, max_instances=1, **self._lateness())
        self._declare_look(scheduler, self._now())
        for job, trigger in self._upkeep:
            scheduler.add_job(
                self._maintain, trigger, args=(job,), id=job.name, max_instances=1, executor=UPKEEP,
                **self._lateness(),
            )  # fmt: skip

    def run(self, stopping: Event) -> None:
        """Start runs until asked to stop; the one at work is waited for, and no other begins."""
        self._stopping = stopping
        # The scheduler's own messages are events here, and go into the log as all others do.
        logging.getLogger("apscheduler").addHandler(logging.NullHandler())
        # One thread: runs come one after the other, whatever asked for them.
        threads = {"default": ThreadPoolExecutor(1), UPKEEP: ThreadPoolExecutor(1)}
        scheduler = BackgroundScheduler(timezone=UTC, executors=threads)
        scheduler.add_listener(_log_skipped, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED)
        self.declare(scheduler)
        scheduler.start()
        try:
            while not stopping.wait(_REQUESTS_SECONDS):
                self._take_request(scheduler)
        finally:
            scheduler.shutdown(wait=True)
            if self._requests is not None:
                self._requests.end()

    def _take_request(self, scheduler: BaseScheduler) -> None:
        """Let the thread of all runs do the run that somebody asks for, if it is free."""
        if self._requests is None:
            return
        request = self._requests.look(is_busy=self._is_busy)
        if request is not None:
            self._is_busy = True
            scheduler.add_job(self._run_request, args=(request,), misfire_grace_time=None)

    def _run_request(self, request: RunRequest) -> None:
        self._is_busy = True
        try:
            if self._requests is not None and not self._stopping.is_set():
                self._requests.run(request)
        finally:
            self._is_busy = False

    def _declare_look(self, scheduler: BaseScheduler, at: datetime) -> None:
        def look() -> None:
            try:
                self.look()
            finally:
                if not self._stopping.is_set():
                    pause = timedelta(seconds=self._settings.poll_seconds)
                    self._declare_look(scheduler, self._now() + pause)

        trigger = DateTrigger(at, timezone=UTC)
        scheduler.add_job(look, trigger, id=LOOK, max_instances=1, replace_existing=True, **self._lateness())

    def _maintain(self, job: Upkeep) -> None:
        """One job beside the runs; whatever becomes of it, the schedule goes on."""
        if self._stopping.is_set():
            return
        log.info("upkeep_begins", job=job.name)
        try:
            job.do()
        except ReviewLoopError as err:
            log.warning("upkeep_failed", job=job.name, error=str(err))
        except Exception:
            log.exception("upkeep_failed", job=job.name)

    def _lateness(self) -> dict[str, Any]:
        return {"misfire_grace_time": self._settings.misfire_grace_seconds, "coalesce": True}

    def _wanted(self, task: str) -> Trigger | None:
        if (task in self._rests and self._now() < self._rests[task][1]) or self._is_at_work(task):
            return None
        if task in self._unchecked:
            grace = timedelta(seconds=self._settings.misfire_grace_seconds)
            is_missed = missed_run(self._settings.cron, self._began(task), self._now(), grace)
            self._unchecked.remove(task)
            if is_missed:
                log.info("missed_run_made_up_for", task=task)
                return "nightly"
        return due(self._pending(task), self._settings)

    def _run(self, task: str, trigger: Trigger) -> None:
        """One run; whatever becomes of it, the schedule goes on.

        A run that fails before it is written down asks for another at each look, so looks make longer and
        longer pauses. Nothing begins after the process was asked to stop.
        """
        if self._stopping.is_set():
            return
        log.info("run_begins", task=task, trigger=trigger)
        self._is_busy = True
        try:
            self._start(task, trigger)
        except RunStopped:
            log.info("run_stopped", task=task)
            return
        except ReviewLoopError as err:
            log.warning("run_failed", task=task, error=str(err))
        except Exception:
            log.exception("run_failed", task=task)
        else:
            self._rests.pop(task, None)
            return
        finally:
            self._is_busy = False
        first = backoff_seconds(_LONGEST_REST_SECONDS, first=self._settings.poll_seconds)
        pauses, _ = self._rests.get(task, (first, None))
        self._rests[task] = (pauses, self._now() + timedelta(seconds=next(pauses)))


def due(pending: Pending, settings: NightlySettings) -> Trigger | None:
    """What asks for a run now; None: nothing does.

    A run that waits or fails counts: its trigger does not ask again before the nightly run.
    """
    if pending.has_first_reviews:
        return "first-reviews"
    if settings.run_on_drift and pending.is_drifting:
        return "drift"
    if settings.min_new_labels and pending.new_labels >= settings.min_new_labels:
        return "labels"
    return None


class CronTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires as cron would, in UTC, since an hour of a zone with summer time comes twice a year.

    Raises:
        WrongUse: If it is no cron expression.
    """

    def __init__(self, cron: str, setting: str = "trainer.nightly.cron") -> None:
        # cron itself knows Sunday as 0 and as 7; as the end of a range the name means 7.
        self._cron = cron.upper().replace("-SUN", "-7")
        why = _why_no_cron(self._cron)
        if why:
            raise WrongUse(
                f"'{cron}' ({setting}) is no cron expression ({why}): give minute, hour, day, "
                "month and weekday, for example '0 2 * * *'."
            )

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """The first moment not before ``now`` and after ``previous``; None if fifty years have none."""
        # cronsim counts from the second after the one that it is given.
        after = now if now.microsecond else now - timedelta(seconds=1)
        if previous is not None:
            after = max(after, previous)
        return next(CronSim(self._cron, after.astimezone(UTC)), None)


def next_run(cron: str, now: datetime) -> datetime | None:
    """When the next nightly run begins after a moment (UTC); None if never.

    Raises:
        WrongUse: If it is no cron expression.
    """
    found: datetime | None = CronTrigger(cron).get_next_fire_time(None, now)
    return found


def missed_run(cron: str, began: datetime | None, now: datetime, grace: timedelta) -> bool:
    """Whether a nightly run should have begun within the grace, and none has begun since.

    Raises:
        WrongUse: If it is no cron expression.
    """
    since = now - grace
    if began is not None:
        since = max(since, began + timedelta.resolution)
    due_at = next_run(cron, since)
    return due_at is not None and due_at <= now


def _log_skipped(event: JobEvent) -> None:
    log.warning("schedule_skipped", job=event.job_id, detail="The one before still runs, or it is too late.")


def _why_no_cron(expression: str) -> str:
    """What is wrong with a cron expression; empty where nothing is."""
    fields = len(expression.split())
    if fields != _CRON_FIELDS:
        return f"it has {fields} fields, not {_CRON_FIELDS}"
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as err:
        return str(err)
    return ""
