"""Windows of the scored stream, and the stored drift report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from reviews.queue_item import NewItem
from reviews.stream_records import KeepReason

Verdict = Literal["stable", "drift", "unknown"]
_STRATEGY = "drift"
_TOP_PRIORITY = 1.0


@dataclass(frozen=True, slots=True)
class Windows:
    """What is compared; each names an evaluation, and none is computed twice. Times are scoring times, UTC.

    Attributes:
        task: The task.
        reference_since: When the active adapter was promoted.
        reference_until: The end of the reference, exclusive.
        since: The beginning of the window.
        until: Its end, exclusive.
    """

    task: str
    reference_since: datetime
    reference_until: datetime
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class DriftReport:
    """One evaluation.

    Attributes:
        windows: What was compared.
        reviews: How many reviews the window has; of very many an estimate, as ``measures["is_estimate"]``
            says.
        verdict: ``unknown`` where there are too few reviews to say.
        measures: Findings, course and expectations, as plain JSON values.
        attribution: What makes up the shift and what to label next, as plain JSON values.
        id: Its number; None before it is stored.
        created_at: When it was stored; None before that.
        alerted_at: When its alert was sent; None if it was not, or not yet.
        wants_alert: Whether an alert is to be sent, if it says drift.
        wants_training: Whether the trainer is to begin a run because of it, if it says drift.
    """

    windows: Windows
    reviews: int
    verdict: Verdict
    measures: Mapping[str, Any] = field(default_factory=dict)
    attribution: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    created_at: datetime | None = None
    alerted_at: datetime | None = None
    wants_alert: bool = False
    wants_training: bool = False

    @property
    def counted(self) -> str:
        """How many reviews the window has, in words; of very many the number is an estimate."""
        return f"{'about ' if self.measures.get('is_estimate') else ''}{self.reviews:,}"

    @property
    def to_label(self) -> tuple[int, ...]:
        """Records to label next because of the drift, in this order."""
        return tuple(self.attribution.get("to_label", ()))


def to_queue(report: DriftReport, count: int) -> list[NewItem]:
    """At most so many items of the annotation queue, the first with the greatest priority.

    Args:
        report: With the verdict ``drift``; any other has none.
        count: How many are wanted.
    """
    records = report.to_label[:count]
    return [
        NewItem(record, report.windows.task, "drift", _STRATEGY, _TOP_PRIORITY - rank / (10 * len(records)))
        for rank, record in enumerate(records)
    ]


@dataclass(frozen=True, slots=True)
class Span:
    """What one adapter scored between two moments.

    Attributes:
        task: The task.
        adapter_id: The adapter's number in the database.
        since: The first moment, inclusive (UTC, scoring time).
        until: The last moment, exclusive.
    """

    task: str
    adapter_id: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class ActiveAdapter:
    """The active adapter of a task.

    Attributes:
        task: The task.
        adapter_id: Its number in the database.
        version: Its public name.
        labels: Its labels in the order of the probabilities.
        activated_at: Since when it is active.
        called: What each of its labels is called now, where the labels of the task changed since.
    """

    task: str
    adapter_id: int
    version: str
    labels: tuple[str, ...]
    activated_at: datetime
    called: tuple[str, ...] = ()


class StoredReview(NamedTuple):
    """One scored review, as drift and selection look at it.

    Attributes:
        record: The number that names it.
        review_id: The publisher's id.
        text: The body.
        product: What is reviewed.
        source: Where it comes from.
        published_at: When it was published.
        scored_at: When it was scored.
        probabilities: In the adapter's order of labels.
        truth: The label that people agreed on where the audit asked them; None where it did not, or they do
            not agree.
        vector: The embedding as little-endian float16; None where it was not kept.
        kept: Why it was kept.
        draw_weight: How much it counts among what the audit drew, in (0, 1]: what was drawn with a greater
            chance counts less.
    """

    record: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    published_at: datetime
    scored_at: datetime
    probabilities: list[float]
    truth: str | None
    vector: bytes | None
    kept: KeepReason | None = None
    draw_weight: float = 1.0


class PredictedLabel(NamedTuple):
    """What was predicted of one review.

    Attributes:
        label: The label.
        probabilities: In the adapter's order of labels.
    """

    label: str
    probabilities: list[float]


class AuditedPrediction(NamedTuple):
    """What people and an adapter said of one review that the audit drew.

    Attributes:
        truth: What people agree on.
        label: What was predicted.
        probabilities: In the adapter's order of labels.
        draw_weight: How much it counts, in (0, 1]: what was drawn with a greater chance counts less.
        scored_at: When it was predicted.
    """

    truth: str
    label: str
    probabilities: list[float]
    draw_weight: float
    scored_at: datetime


class Course(NamedTuple):
    """What happened in one stretch of time.

    Attributes:
        starts_at: When it began.
        label: One of the labels.
        reviews: How many reviews got it.
        confidence: The mean confidence.
        characters: The mean length of the texts.
    """

    starts_at: datetime
    label: str
    reviews: int
    confidence: float
    characters: float
