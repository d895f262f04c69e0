"""When runs begin: every night by a cron in UTC, and before it when labels or drift ask for it.

Jobs are declared here and kept nowhere: what must outlast the process is in ``training_run``, and two
schedulers at once are harmless, since a run needs the task's lease.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from reviews.errors import ReviewLoopError, WrongUse
from reviews.retry import backoff_seconds
from storage.training_triggers import Pending
from trainer.nightly.settings import NightlySettings
from trainer.nightly.triggers import Trigger, due
from trainer.nightly.weekdays import by_name

log = structlog.get_logger()

NIGHT, LOOK = "night", "look"
_LONGEST_REST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """Pauses after failures in a row, and the end of the one at present."""

    pauses: Iterator[float]
    until: datetime


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
    ) -> None:
        self._tasks = tuple(tasks)
        self._settings = settings
        self._start = start
        self._pending = pending
        self._began = began
        self._is_at_work = is_at_work
        self._now = now
        self._unchecked = set(tasks)
        self._rests: dict[str, _Rest] = {}
        self._cron = cron_in_utc(settings.cron)

    def night(self) -> None:
        """A run of every task."""
        for task in self._tasks:
            self._run(task, "nightly")

    def look(self) -> None:
        """A run of every task that something asks for; at first, also of those that missed their night."""
        for task in self._tasks:
            try:
                trigger = self._wanted(task)
            except ReviewLoopError as err:
                log.warning("schedule_cannot_look", task=task, error=str(err))
                continue
            if trigger is not None:
                self._run(task, trigger)

    def declare(self, scheduler: BaseScheduler) -> None:
        """Give both jobs to a scheduler: late ones are made up for once, and none runs beside itself.

        The first look comes at once.
        """
        common = {
            "misfire_grace_time": self._settings.misfire_grace_seconds,
            "coalesce": True,
            "max_instances": 1,
        }
        every = IntervalTrigger(seconds=max(1, round(self._settings.poll_seconds)), timezone=UTC)
        scheduler.add_job(self.night, self._cron, id=NIGHT, **common)
        scheduler.add_job(self.look, every, id=LOOK, next_run_time=self._now(), **common)

    def run(self, stopping: Event) -> None:
        """Start runs until asked to stop; the one at work is waited for."""
        # One thread: a night and a run that labels asked for come one after the other.
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        self.declare(scheduler)
        scheduler.start()
        try:
            stopping.wait()
        finally:
            scheduler.shutdown(wait=True)

    def _wanted(self, task: str) -> Trigger | None:
        rest = self._rests.get(task)
        if (rest is not None and self._now() < rest.until) or self._is_at_work(task):
            return None
        if task in self._unchecked:
            grace = timedelta(seconds=self._settings.misfire_grace_seconds)
            is_missed = missed_night(self._settings.cron, self._began(task), self._now(), grace)
            self._unchecked.remove(task)
            if is_missed:
                log.info("night_made_up_for", task=task)
                return "nightly"
        return due(self._pending(task), self._settings)

    def _run(self, task: str, trigger: Trigger) -> None:
        """One run; whatever becomes of it, the schedule goes on.

        A run that fails before it is written down asks for another at each look, so looks make longer and
        longer pauses.
        """
        log.info("run_begins", task=task, trigger=trigger)
        try:
            self._start(task, trigger)
        except ReviewLoopError as err:
            log.warning("run_failed", task=task, error=str(err))
        except Exception:
            log.exception("run_failed", task=task)
        else:
            self._rests.pop(task, None)
            return
        pauses = (
            self._rests[task].pauses
            if task in self._rests
            else backoff_seconds(_LONGEST_REST_SECONDS, first=self._settings.poll_seconds)
        )
        self._rests[task] = _Rest(pauses, self._now() + timedelta(seconds=next(pauses)))


def cron_in_utc(cron: str) -> CronTrigger:
    """The trigger of a cron expression; in UTC, since an hour of a zone with summer time comes twice a year.

    Raises:
        WrongUse: If it is none.
    """
    fields = cron.split()
    try:
        weekdays = [by_name(field) for field in fields[4:5]]
        return CronTrigger.from_crontab(" ".join([*fields[:4], *weekdays, *fields[5:]]), timezone=UTC)
    except ValueError as err:
        raise WrongUse(
            f"'{cron}' (trainer.nightly.cron) is no cron expression ({err}): give minute, hour, day, month "
            "and weekday, for example '0 2 * * *'."
        ) from err


def next_night(cron: str, now: datetime) -> datetime | None:
    """When the next night begins after a moment (UTC); None if never.

    Raises:
        WrongUse: If the expression is none.
    """
    found: datetime | None = cron_in_utc(cron).get_next_fire_time(None, now)
    return found


def missed_night(cron: str, began: datetime | None, now: datetime, grace: timedelta) -> bool:
    """Whether a night should have begun within the grace, and no run has begun since: nobody was there.

    Args:
        cron: When nights begin.
        began: When the last run began; None before the first.
        now: In UTC.
        grace: How late a night may begin.

    Raises:
        WrongUse: If the expression is none.
    """
    since = now - grace
    if began is not None:
        since = max(since, began + timedelta.resolution)
    night = next_night(cron, since)
    return night is not None and night <= now
