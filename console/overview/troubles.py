"""What is wrong, in words, with what to do: the first thing that an owner reads."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal, NamedTuple

from console.drift_reports.wording import headline
from console.overview.snapshot import DailyNumbers, LiveNumbers

Level = Literal["bad", "warn"]

_LONG_TO_CLEAR_SECONDS = 600
_STUCK_SECONDS = 60
_LATE_SINK_SECONDS = 300
_RECENT = timedelta(days=1)
_FEW_AUDIT_LABELS = 100
_MANY_LETTERS_SHARE = 0.01
_WEEKS_BELOW = 2


class Trouble(NamedTuple):
    """Something that needs a person.

    Attributes:
        level: ``bad`` where the product does not do its work, or does it badly; ``warn`` where it will.
        what: What is wrong, in a sentence.
        remedy: What to do, in a sentence.
        href: Where to look; empty where a page does not help.
    """

    level: Level
    what: str
    remedy: str
    href: str = ""


def find_troubles(live: LiveNumbers, daily: DailyNumbers | None) -> list[Trouble]:
    """All that is wrong, the worst first."""
    found = [
        *_stream(live),
        *_sinks(live),
        *_letters(live),
        *_drift(live),
        *_training(live),
        *_quality(daily),
    ]
    return sorted(found, key=lambda trouble: trouble.level != "bad")


def _stream(live: LiveNumbers) -> Iterator[Trouble]:
    if live.activation is None:
        yield Trouble(
            "bad",
            f"No adapter is active for the task '{live.task}': workers cannot score reviews.",
            "'reviewloop adapters zero-shot --activate' makes one from descriptions of the labels, "
            "'reviewloop adapters add DIR --activate' takes a trained one; or upload it.",
            "/adapters",
        )
    backlog = live.backlog
    if backlog.problem:
        yield Trouble(
            "bad",
            f"Kafka does not answer: {backlog.problem}",
            "Stored rows are shown, lag is unknown. 'reviewloop doctor' repeats the steps of the connection.",
        )
    if backlog.records and _is_stuck(live):
        yield Trouble(
            "bad",
            f"{backlog.records:,} records wait, and no worker stores any.",
            "Start a worker ('reviewloop consume', or 'reviewloop up'), or read its log: it may wait for a "
            "service, or for an adapter that it can load.",
        )
    elif backlog.records and _falls_behind(live):
        yield Trouble(
            "warn",
            f"{backlog.records:,} records wait: they come faster than they are stored, or as fast.",
            "Start more workers, at most one a partition, or find out what slows them down: "
            "'reviewloop doctor'.",
        )
    if live.gaps.gaps and live.gaps.latest is not None:
        is_recent = live.now - live.gaps.latest < _RECENT
        yield Trouble(
            "bad" if is_recent else "warn",
            f"{live.gaps.records:,} records were lost to Kafka's retention, the last ones found "
            f"{live.gaps.latest:%Y-%m-%d %H:%M} UTC.",
            "Publish them again if the source still has them, and let the topic keep records for longer than "
            "workers may stand still.",
        )


def _sinks(live: LiveNumbers) -> Iterator[Trouble]:
    for sink in live.sinks:
        if sink.seconds is not None and sink.seconds > _LATE_SINK_SECONDS:
            yield Trouble(
                "warn",
                f"The sink '{sink.topic}' is {sink.records:,} records behind what is stored.",
                "Start 'reviewloop sink run', or read its log: the topic may refuse what it sends. Where "
                f"nobody wants the rows any more, 'reviewloop sink remove {sink.topic}' forgets it.",
            )


def _is_stuck(live: LiveNumbers) -> bool:
    last = live.rate.last_stored
    is_old = last is None or (live.now - last).total_seconds() > _STUCK_SECONDS
    return is_old and not live.backlog.stored_per_second


def _falls_behind(live: LiveNumbers) -> bool:
    if live.backlog.stored_per_second is None or live.backlog.is_small:
        return False
    seconds = live.backlog.seconds_to_clear
    return seconds is None or seconds > _LONG_TO_CLEAR_SECONDS


def _letters(live: LiveNumbers) -> Iterator[Trouble]:
    waiting = sum(count.letters for count in live.letters)
    recent = [count for count in live.letters if live.now - count.latest_at < _RECENT]
    if not recent:
        return
    worst = max(recent, key=lambda count: count.letters)
    is_many = waiting > _MANY_LETTERS_SHARE * max(1, live.totals.records)
    yield Trouble(
        "bad" if is_many else "warn",
        f"{waiting:,} dead letters wait, and more came today: above all '{worst.reason}'.",
        "Look at one of each reason: correct what the publisher sends, then replay or discard them.",
        "/dead-letters",
    )


def _drift(live: LiveNumbers) -> Iterator[Trouble]:
    report = live.drift
    if report is None or report.verdict != "drift" or live.activation is None:
        return
    if report.measures.get("adapter") == live.activation.version:
        yield Trouble(
            "bad",
            headline(report),
            "Read the examples, and let the new reviews be labelled: the next run trains on them.",
            f"/drift/{report.id}",
        )


def _training(live: LiveNumbers) -> Iterator[Trouble]:
    if live.run is not None and live.run.state == "failed":
        yield Trouble(
            "bad",
            f"The last training run failed: {live.run.error}",
            "The active adapter goes on serving. Correct the cause and start a run.",
            f"/runs/{live.run.id}",
        )
    if not live.has_schedule:
        yield Trouble(
            "warn",
            "No schedule is running: no training run begins by itself.",
            "Start 'reviewloop trainer schedule', or 'reviewloop up' for everything on one machine.",
            "/runs",
        )
    if live.queue.open_items == 0 and live.activation is not None:
        yield Trouble(
            "warn",
            "No review waits to be labelled: the classifier learns nothing new.",
            "A training run queues the next ones; let one run, or queue the new reviews of a drift report.",
            "/runs",
        )


def _quality(daily: DailyNumbers | None) -> Iterator[Trouble]:
    if daily is None:
        return
    active = daily.quality.active
    if active is None or active.labels < _FEW_AUDIT_LABELS:
        labels = active.labels if active else 0
        yield Trouble(
            "warn",
            f"Only {labels} audit labels say how good the active adapter is.",
            f"Label items of the audit: from {_FEW_AUDIT_LABELS} on, the interval becomes useful.",
            "/label",
        )
        return
    course = [week.audited for week in daily.quality.course]
    if len(course) > _WEEKS_BELOW and max(week.high for week in course[-_WEEKS_BELOW:]) < course[0].low:
        yield Trouble(
            "bad",
            f"Macro-F1 on audit labels fell: {course[-1].macro_f1:.0%} in the last week, "
            f"{course[0].macro_f1:.0%} in the first one shown.",
            "Look at the last drift report, and roll back if the fall began with a promotion.",
            "/adapters",
        )
