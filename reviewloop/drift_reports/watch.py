"""Follows newly stored reviews with the online detector, and reports when they differ from the reference."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from drift.online import Alarm, Detector
from drift.online_scores import WIDTHS
from drift.settings import DriftSettings
from drift.strata import longest_season
from reviewloop.drift_reports.reporter import Reporter
from reviews.drift import ActiveAdapter, DriftReport
from storage.drift_reports import DriftReportStore
from storage.windows import Positions, WindowStore

log = structlog.get_logger()

_AT_ONCE = 2_000
_BEHIND = timedelta(microseconds=1)
_RUN_BITS = 6


class DriftWatch:
    """Watches one task over all partitions and workers, in the order in which rows were stored.

    It stores no state: the reference is the first reviews since the promotion, and each start replays the
    stream from there, or from the last alarm. When the first day and the first week have passed, it starts
    again with them as the reference.

    Args:
        windows: Reads the stored rows.
        reports: Knows the alarms that were raised.
        reporter: Makes a report of each alarm.
        settings: The detector's, and how long a reference is.
        task: The task.
    """

    def __init__(
        self,
        windows: WindowStore,
        reports: DriftReportStore,
        reporter: Reporter,
        settings: DriftSettings,
        task: str,
    ) -> None:
        self._windows = windows
        self._reports = reports
        self._reporter = reporter
        self._settings = settings
        self._task = task
        self._active: ActiveAdapter | None = None
        self._detector: Detector | None = None
        self._season = timedelta(0)
        self._positions: Positions = {}
        self._times: list[datetime] = []

    def step(self) -> tuple[int, list[DriftReport]]:
        """Look once at what is new.

        Returns:
            How many reviews that were, and a report for each alarm.

        Raises:
            WrongUse: If no adapter is active.
            Unavailable: If the database does not answer; the next call continues.
        """
        active = self._reporter.active()
        if self._detector is None or active != self._active:
            self._detector = None  # if the start fails, no old reference is compared with new reviews
            self._detector = self._start(active)
            if self._detector is None:
                return 0, []
        fresh, self._positions = self._windows.new_reviews(active, self._positions, _AT_ONCE)
        if not fresh:
            return 0, []
        seen = self._detector.seen
        alarms = self._detector.update(self._reporter.as_rows(fresh, active))
        passed = self._season_by(fresh[-1].scored_at, active)
        times = [*self._times, *(review.scored_at for review in fresh)]
        first = seen - len(self._times)  # the stream's place of times[0]
        self._times = times[-2 * WIDTHS[-1] :]
        try:
            reports = [self._report(alarm, times, first) for alarm in alarms]
        except BaseException:
            self._detector = None  # the stream is replayed from the last alarm that was stored
            raise
        if passed > self._season:
            self._detector = None  # the reference now covers a whole day, or a whole week
        return len(fresh), reports

    def _start(self, active: ActiveAdapter) -> Detector | None:
        """A detector with this adapter's reference; None while the reference is too short."""
        is_new, self._active, self._times = active != self._active, active, []
        last_scored = self._windows.last_scored(active) or active.activated_at
        self._season = self._season_by(last_scored, active)
        span = self._reporter.reference(active, last_scored)
        if (count := self._windows.count(span)) < self._settings.reference_reviews:
            if is_new:  # once, not at every look
                log.info(
                    "drift_reference_grows",
                    task=self._task,
                    reviews=count,
                    wanted=self._settings.reference_reviews,
                )
            return None
        # Runs of neighbouring reviews, so that the threshold allows for bursts.
        sample = self._windows.sample(span, self._settings.sample_reviews, _RUN_BITS)
        reference = self._reporter.as_rows(sample, active)
        detector = Detector(reference, self._settings.watch, self._settings.seed)
        last = self._last_alarm(span.since, span.until)
        if last is not None:
            span = replace(span, until=last.windows.until)
            detector.be_silent()
        self._positions = self._windows.positions(span)
        log.info("drift_watch_began", task=self._task, adapter=active.version, reference=len(reference))
        return detector

    def _season_by(self, moment: datetime, active: ActiveAdapter) -> timedelta:
        return longest_season(moment - active.activated_at, self._settings.reference_days)

    def _last_alarm(self, since: datetime, until: datetime) -> DriftReport | None:
        for report in self._reports.latest(self._task, "drift"):
            windows = report.windows
            is_ours = (windows.reference_since, windows.reference_until) == (since, until)
            if is_ours and report.measures.get("alarm"):
                return report
        return None

    def _report(self, alarm: Alarm, times: list[datetime], first: int) -> DriftReport:
        end = alarm.after_reviews - first - 1
        begin = max(0, end + 1 - alarm.width)
        values = {
            "kind": alarm.kind,
            "feature": alarm.feature,
            "window_reviews": alarm.width,
            "strengths": {name: round(strength, 3) for name, strength in alarm.strengths.items()},
        }
        return self._reporter.report(
            times[begin], times[end] + _BEHIND, values, wants_alert=True, wants_training=True
        )
