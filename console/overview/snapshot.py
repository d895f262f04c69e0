"""What the overview shows at a moment: live numbers of some seconds ago, charts of a minute ago."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from broker.topics import TopicEndsReader
from console.overview.background import BackgroundValue
from console.overview.kafka_watch import KafkaLag, KafkaWatch
from console.overview.quality import MeasuredQuality, StretchQuality, measure_quality
from console.overview.samples import DailySamples, StreamSample, TaskLabels
from console.parts import ConsoleParts
from console.remembered import Remembered
from pages import charts
from pages.picture import DrawnPicture
from reviews.adapter import Activation, AdapterVersion, before
from reviews.drift import DriftReport, StoredReview
from reviews.errors import WrongUse
from reviews.label_set import LabelSet, called_now
from reviews.training_run import TrainingRun
from storage.adapters.registry import AdapterStore
from storage.drift_reports import DriftReportStore
from storage.labels.label_sets import LabelSetStore
from storage.learning.leases import LeaseStore, schedule_lease
from storage.learning.runs import TrainingRunStore
from storage.queries.overview import (
    LostOffsets,
    OverviewStore,
    QueueState,
    StoredTotals,
    StoringDelays,
    StoringRate,
)
from storage.stream.letters_by_reason import ReasonCount, count_reasons
from storage.stream.partitions import PartitionStore
from storage.stream.sinks import SinkLag, sink_lags
from storage.windows import WindowStore

RATE_SECONDS = 60
DELAY_SECONDS = 900
DAYS = 42
EXAMPLES = 3
_LIVE_SECONDS = 2.0
_DAILY_SECONDS, _LONGEST_DAILY_SECONDS = 60.0, 3600.0
_FIRST_DAILY_WAIT_SECONDS = 3.0  # libraries are imported, days are read
_FIRST_KAFKA_WAIT_SECONDS = 0.3
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LiveNumbers:
    """What changes by the second.

    Attributes:
        task: Of which task.
        now: The database's clock (UTC).
        activation: The active adapter's; None before the first.
        is_zero_shot: Whether that adapter was made from descriptions of the labels alone.
        may_roll_back: Whether another adapter was active before.
        totals: How much is stored.
        rate: How fast.
        delays: From publishing to the row.
        backlog: What Kafka has beyond that.
        letters: Dead letters that wait, by reason.
        gaps: Offsets that were lost.
        sinks: How far each topic is behind that rows are published to.
        queue: The annotation queue.
        drift: The latest drift report; None before the first.
        examples: Reviews of what is new in it.
        run: The last training run that ended; None before the first.
        running: The run at work; None where none is.
        has_schedule: Whether a schedule is there that begins runs by itself.
        next_run: When it begins the nightly one (UTC); None where that is never.
    """

    task: str
    now: datetime
    activation: Activation | None
    is_zero_shot: bool
    may_roll_back: bool
    totals: StoredTotals
    rate: StoringRate
    delays: StoringDelays
    backlog: KafkaLag
    letters: list[ReasonCount]
    gaps: LostOffsets
    sinks: list[SinkLag]
    queue: QueueState
    drift: DriftReport | None
    examples: list[StoredReview]
    run: TrainingRun | None
    running: TrainingRun | None
    has_schedule: bool
    next_run: datetime | None


@dataclass(frozen=True, slots=True)
class MixRow:
    """One label's share of the stream.

    Attributes:
        label: Its name.
        colour: Its colour in the chart.
        reference: Of the first reviews since the promotion.
        week: Of the last seven days.
        today: Of today; None where nothing came.
    """

    label: str
    colour: str
    reference: float
    week: float
    today: float | None


@dataclass(frozen=True, slots=True)
class DailyNumbers:
    """What changes by the day.

    Attributes:
        at: When it was computed (UTC).
        quality: Macro-F1 on audit labels, and the expectation.
        mix: Each label's share.
        records: How many records came on each day, today last.
        quality_chart: The course of macro-F1.
        mix_chart: The labels of each day.
        records_chart: The records of each day.
    """

    at: datetime
    quality: MeasuredQuality
    mix: list[MixRow]
    records: list[int]
    quality_chart: DrawnPicture
    mix_chart: DrawnPicture
    records_chart: DrawnPicture


class Overview:
    """The overview of one task, shared by everybody who looks at it.

    Args:
        parts: Of the console.
        task: Whose numbers.
        watch: Asks Kafka; shared by all tasks.
    """

    def __init__(self, parts: ConsoleParts, task: str, watch: KafkaWatch) -> None:
        self._parts = parts
        self._task = task
        self._watch = watch
        self._store = OverviewStore(parts.database, parts.kafka.labels_topic)
        self._adapters = AdapterStore(parts.database)
        self._samples = DailySamples(self._store, task)
        self._live: Remembered[LiveNumbers] = Remembered(_LIVE_SECONDS)
        self._daily = BackgroundValue(self._read_daily, _DAILY_SECONDS, _LONGEST_DAILY_SECONDS)

    def live(self) -> LiveNumbers:
        """The live numbers, some seconds old at most.

        Raises:
            Unavailable: If the database does not answer.
        """
        return self._live.get(self._task, self._read_live)

    def daily(self) -> DailyNumbers | None:
        """Charts and quality, computed beside the pages; None at first, and before there is an adapter."""
        return self._daily.get(_FIRST_DAILY_WAIT_SECONDS)

    def _read_live(self) -> LiveNumbers:
        database = self._parts.database
        history = self._adapters.history(self._task)
        rate = self._store.rate(RATE_SECONDS)
        midnight = rate.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        reports = DriftReportStore(database).latest(self._task, limit=1)
        runs = TrainingRunStore(database).history(self._task, limit=2)
        return LiveNumbers(
            task=self._task,
            now=rate.now,
            activation=history[0] if history else None,
            is_zero_shot=bool(history) and self._adapters.find(history[0].version).is_zero_shot,
            may_roll_back=_may_roll_back(history),
            totals=self._store.totals(),
            rate=rate,
            delays=self._store.delays(DELAY_SECONDS),
            backlog=self._watch.look(_FIRST_KAFKA_WAIT_SECONDS),
            letters=count_reasons(database),
            gaps=self._store.gaps(),
            sinks=sink_lags(database, self._parts.kafka.labels_topic),
            queue=self._store.queue(self._task, midnight),
            drift=reports[0] if reports else None,
            examples=self._examples(reports[0]) if reports else [],
            run=next((run for run in runs if run.finished_at is not None), None),
            running=next((run for run in runs if run.finished_at is None), None),
            has_schedule=LeaseStore(database).holder(schedule_lease(self._task)) is not None,
            next_run=next_run(self._parts.nightly_cron, rate.now),
        )

    def _examples(self, report: DriftReport) -> list[StoredReview]:
        wanted = list(report.attribution.get("examples", []))[:EXAMPLES]
        found = WindowStore(self._parts.database).by_record(self._task, wanted) if wanted else {}
        return [found[record] for record in wanted if record in found]

    def _read_daily(self) -> DailyNumbers | None:
        active = WindowStore(self._parts.database).active(self._task)
        if active is None:
            return None
        now = datetime.now(UTC)
        declared = LabelSetStore(self._parts.database).declared(self._task)
        labels = task_labels(active.labels, self._adapters.list_versions(self._task), declared)
        days = self._samples.days(now, DAYS, labels)
        audited = self._store.audited(self._task)
        quality = measure_quality(audited, days, active.version, labels, days[-1].begins + _DAY)
        reference = self._samples.since(active.activated_at, self._parts.drift.reference_reviews, labels)
        axis = charts.TimeAxis([day.begins + _DAY / 2 for day in days], active.activated_at, None, _DAY)
        plain = charts.TimeAxis(axis.times, days[0].begins, None, _DAY)
        records = [day.records for day in days]
        shares = [dict(zip(labels.ordered, day.shares(), strict=True)) for day in days]
        points = [_point(week) for week in quality.course]
        return DailyNumbers(
            now,
            quality,
            _mix(labels.ordered, reference, days),
            records,
            charts.quality_over_time(plain, quality.expected, points, "Macro-F1").drawn(),
            charts.shares_over_time(axis, shares, labels.ordered, "Labels of each day").drawn(),
            charts.counts_over_time(plain, records, "Records a day").drawn(),
        )


class Overviews:
    """The overview of each task; nothing is read before somebody looks.

    Args:
        parts: Of the console.
    """

    def __init__(self, parts: ConsoleParts) -> None:
        self._watch = KafkaWatch(
            parts.topics,
            lambda: TopicEndsReader(parts.kafka),
            PartitionStore(parts.database).list_positions,
        )
        self._of_task = {task: Overview(parts, task, self._watch) for task in parts.tasks}

    def of(self, task: str | None) -> Overview:
        """The overview of a task; of the first one where none is named.

        Raises:
            WrongUse: If workers score for no such task.
        """
        if task is None:
            return next(iter(self._of_task.values()))
        if task not in self._of_task:
            raise WrongUse(f"Workers score for no task '{task}': see consumer.tasks in the settings.")
        return self._of_task[task]

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._watch.close()


def task_labels(
    ordered: Sequence[str], adapters: Sequence[AdapterVersion], label_set: LabelSet | None = None
) -> TaskLabels:
    """The labels of a task and of all of its adapters, as they are called now."""
    names = {name for adapter in adapters for name in adapter.labels}
    return TaskLabels(
        tuple(dict.fromkeys(called_now(ordered, label_set))),
        {adapter.version: called_now(adapter.labels, label_set) for adapter in adapters},
        dict(zip(names, called_now(list(names), label_set), strict=True)),
    )


def next_run(cron: str, now: datetime) -> datetime | None:
    """When the schedule begins the next nightly run (UTC); None where none comes within fifty years."""
    return next(CronSim(cron, now.astimezone(UTC)), None)


def _may_roll_back(history: Sequence[Activation]) -> bool:
    try:
        before(history)
    except WrongUse:
        return False
    return True


def _point(week: StretchQuality) -> tuple[datetime, float, float, float]:
    """The middle of a week, and its macro-F1 with both ends of the interval."""
    audited = week.audited
    return week.begins + (week.ends - week.begins) / 2, audited.macro_f1, audited.low, audited.high


def _mix(labels: Sequence[str], reference: StreamSample, days: Sequence[StreamSample]) -> list[MixRow]:
    """Each label's shares; those of a week are of the days' samples, each day by its number of records."""
    week = days[-7:]
    total = sum(day.records for day in week if len(day.predicted))
    of_week = sum((day.shares() * day.records for day in week), 0 * reference.shares()) / max(1, total)
    usual, today = reference.shares(), days[-1].shares()
    return [
        MixRow(
            label,
            charts.class_colour(place),
            float(usual[place]),
            float(of_week[place]),
            float(today[place]) if len(days[-1].predicted) else None,
        )
        for place, label in enumerate(labels)
    ]
